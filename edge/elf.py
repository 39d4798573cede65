"""Which processor a shared library was made for, read from its first bytes: nothing of it is run."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MACHINES: Final = {
    3: "i386",
    8: "mips",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    43: "sparc64",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}
_HEADER: Final = 20
_OWN: Final = Path("/proc/self/exe")
# What loaders search, and folders of Debian's kind beneath them, such as /usr/lib/aarch64-linux-gnu.
_FOLDERS: Final = ("/lib", "/usr/lib", "/usr/local/lib", "/lib64", "/usr/lib64")


def machine_of(library: Path) -> str | None:
    """Name the processor that a library or program was made for; None for what is neither.

    Raises:
        OSError: the file cannot be read.
    """
    with library.open("rb") as file:
        header = file.read(_HEADER)
    if len(header) < _HEADER or not header.startswith(b"\x7fELF"):
        return None
    number = int.from_bytes(header[18:20], "big" if header[5] == 2 else "little")
    return _MACHINES.get(number, f"processor {number}")


def find_library(name: str) -> Path | None:
    """Find the file of a library by its path, or by its name where loaders look; None: there is none there.

    A loader may know more folders than these: who finds nothing has not shown that there is nothing.
    """
    if "/" in name:
        return Path(name) if Path(name).is_file() else None
    return next((path for folder in _folders() if (path := folder / name).is_file()), None)


def why_not_here(name: str) -> str | None:
    """Say why a process like this one cannot load the library of this name; None: nothing speaks against it.

    It is held against the running program and not the kernel: a Raspberry Pi with a kernel of 64 bits may run
    programs of 32.
    """
    path = find_library(name)
    if path is None:
        return f"{name} is not there" if "/" in name else None
    try:
        made_for, here = machine_of(path), machine_of(_OWN)
    except OSError as error:
        return f"{path} cannot be read ({(error.strerror or 'no reason').lower()})"
    if made_for is None:
        return f"{path} is no shared library"
    return f"{path} is made for {made_for}, and this is {here}" if made_for != here else None


def _folders() -> Iterator[Path]:
    for text in os.environ.get("LD_LIBRARY_PATH", "").split(":"):
        if text:
            yield Path(text)
    for text in _FOLDERS:
        folder = Path(text)
        yield folder
        yield from sorted(folder.glob("*-linux-gnu*"))
