"""`edge.elf`: for which processor a library was made."""

import ctypes.util
import platform
from pathlib import Path

import pytest

from edge.elf import find_library, machine_of, why_not_here


@pytest.mark.parametrize(
    ("number", "order", "machine"),
    [(62, "little", "x86_64"), (183, "little", "aarch64"), (40, "little", "arm"), (22, "big", "s390x"),
     (9999, "little", "processor 9999")],
)  # fmt: skip
def test_the_header_names_the_processor(tmp_path: Path, number: int, order: str, machine: str) -> None:
    header = bytearray(20)
    header[:6] = b"\x7fELF\x02" + (b"\x01" if order == "little" else b"\x02")
    header[18:20] = number.to_bytes(2, "little" if order == "little" else "big")
    (tmp_path / "lib.so").write_bytes(header)
    assert machine_of(tmp_path / "lib.so") == machine


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"!<arch>\n an archive, which is no shared library"])
def test_what_is_no_library_has_no_processor(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "lib.so").write_bytes(data)
    assert machine_of(tmp_path / "lib.so") is None
    assert why_not_here(str(tmp_path / "lib.so")) == f"{tmp_path / 'lib.so'} is no shared library"


def test_a_library_of_another_machine_is_told_from_one_of_this(
    library_of_another_machine: Path, foreign_delegate: Path, tmp_path: Path
) -> None:
    assert why_not_here(str(foreign_delegate)) is None
    why = why_not_here(str(library_of_another_machine))
    assert why == f"{library_of_another_machine} is made for sparc64, and this is {platform.machine()}"
    assert why_not_here(str(tmp_path / "none.so")) == f"{tmp_path / 'none.so'} is not there"


def test_a_library_is_found_by_its_name(
    library_of_another_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_library(library_of_another_machine.name) is None
    assert why_not_here(library_of_another_machine.name) is None, "a loader may know more folders"
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{library_of_another_machine.parent}")
    assert find_library(library_of_another_machine.name) == library_of_another_machine
    libc = find_library(ctypes.util.find_library("c") or "libc.so.6")
    assert libc is not None
    assert machine_of(libc) == platform.machine()
