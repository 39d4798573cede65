"""Builds an offline install folder for a device: `make wheelhouse ARCH=x86_64|aarch64`.

    dist/wheelhouse-aarch64/
      install.sh        looks at the folder and the machine, and installs there without a network
      wheelhouse.json   what it was made for, and how
      SHA256SUMS        of everything beside it
      wheels/           Shelfsight, Annoy as it was compiled here, and wheels of what else a device needs

Annoy has no wheels of its own and compiles itself for the CPU it is built on, so it is compiled here for
every CPU of its kind; for another kind than this machine's, with Debian's cross compiler. Everything else
comes as a wheel, in the versions of requirements.lock. The folder is for the Python that builds it.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from devices.built_for import features_needed
from edge.elf import machine_of

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
ARCHITECTURES = ("x86_64", "aarch64")
EXTRAS = "camera,kiosk"

PORTABLE = (
    "-O3",
    "-std=c++14",
    # Annoy's own -fno-associative-math would forbid vectors here, where it has no code of its own for them.
    "-ffast-math",
    "-fpermissive",
    "-frecord-gcc-switches",  # so that `shelfsight doctor` can read what it was compiled for
)
"""How Annoy is compiled: for every CPU, without `-march=native`; and without its threads, for which it would
need a younger glibc, and of which one is used."""

# Which wheels may be taken, by the glibc that they need: Debian 11 has 2.31, Ubuntu 20.04 too.
_MANYLINUX = ("2_28", "2_27", "2_26", "2_24", "2_17", "2_12", "2_5")
_OLD_NAMES = ("manylinux2014", "manylinux2010", "manylinux1")
_GLIBC = re.compile(rb"GLIBC_2\.(\d+)\0")
_GLIBC_TAG = re.compile(r"manylinux_2_(\d+)_")


class NotBuilt(Exception):
    """The folder could not be built; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a wheelhouse was made for; as `wheelhouse.json` holds it.

    `glibc` is the least version that the device's C library must have.
    """

    version: str
    machine: str
    python: str
    extras: str
    glibc: str
    annoy: str


def build(machine: str, out: Path) -> Made:
    """Build the folder `out` for devices with the processor `machine`, once all of it is ready.

    Raises:
        NotBuilt: a compiler is missing, something did not compile, or a wheel is not what it should be.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wheelhouse-", dir=out.parent) as scratch:
        folder = Path(scratch) / "new"
        wheels = folder / "wheels"
        wheels.mkdir(parents=True)
        say("building the wheel of Shelfsight")
        own = build_own(Path(scratch) / "source", wheels)
        say(f"compiling Annoy for every {machine} CPU")
        annoy = compile_annoy(machine, wheels)
        say("fetching the wheels of everything else")
        fetch(machine, wheels, f"{own}[{EXTRAS}]")
        say("checking what was fetched, and that it is all that is needed")
        check_wheels(machine, wheels)
        check_complete(machine, wheels)
        made = Made(
            version=own.name.split("-")[1],
            machine=machine,
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            extras=EXTRAS,
            glibc=least_glibc(wheels),
            annoy=f"{annoy.name.split('-')[1]} compiled with {' '.join(PORTABLE)}",
        )
        finish(folder, made)
        shutil.rmtree(out, ignore_errors=True)
        folder.rename(out)
    return made


def build_own(source: Path, wheels: Path) -> Path:
    """Build the wheel of Shelfsight from a copy, in which nothing of an earlier build is left.

    The models that the cloud starts from stay away, 20 MB: a device gets its own with its release.

    Raises:
        NotBuilt: it does not build.
    """
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name in ("edge", "converter", "cloud", "devices"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.tflite"))
    run_pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(source))
    (wheel,) = wheels.glob("shelfsight-*.whl")
    return wheel


def compile_annoy(machine: str, wheels: Path) -> Path:
    """Compile Annoy for every CPU of the kind `machine` into `wheels`, and return its wheel.

    Raises:
        NotBuilt: there is no compiler for that kind, it fails, or its result needs more than any CPU has.
    """
    environment = {**os.environ, "ANNOY_COMPILER_ARGS": ",".join(PORTABLE), **compiler_for(machine)}
    # Without the cache, in which pip keeps what was compiled for this machine's own CPU.
    arguments = ("--no-deps", "--no-cache-dir", "--no-binary", "annoy", "--wheel-dir", str(wheels))
    run_pip("wheel", *arguments, pinned("annoy"), environment=environment)
    found = sorted(wheels.glob(f"annoy-*-linux_{machine}.whl"))
    if not found:
        raise NotBuilt(f"Annoy was not compiled for {machine}: look at _PYTHON_HOST_PLATFORM and CC")
    with unpacked(found[0]) as folder:
        for library in folder.glob("annoy/*.so"):
            if features_needed(library):
                raise NotBuilt(f"{library.name} was compiled for this machine's CPU: look at CFLAGS")
    return found[0]


def compiler_for(machine: str) -> Mapping[str, str]:
    """Return what the environment must hold so that setuptools compiles for `machine`; nothing for this one.

    Raises:
        NotBuilt: the cross compiler is not installed.
    """
    if machine == platform.machine():
        return {}
    kind = f"{machine}-linux-gnu"
    if shutil.which(f"{kind}-g++") is None:
        package = f"g++-{kind.replace('_', '-')}"
        raise NotBuilt(
            f"there is no {kind}-g++ to compile Annoy for {machine} on {platform.machine()}: "
            f"apt-get install {package}, or build on a machine of that kind"
        )
    return {
        "CC": f"{kind}-gcc",
        "CXX": f"{kind}-g++",
        "LDSHARED": f"{kind}-g++ -shared",
        "SETUPTOOLS_EXT_SUFFIX": f".cpython-{sys.version_info.major}{sys.version_info.minor}-{kind}.so",
        "_PYTHON_HOST_PLATFORM": f"linux-{machine}",
    }


def fetch(machine: str, wheels: Path, requirement: str) -> None:
    """Fetch the wheels that `requirement` needs on `machine` into `wheels`, in the pinned versions.

    Raises:
        NotBuilt: the package index has no such wheel, or cannot be reached.
    """
    arguments = ("--dest", str(wheels), "--find-links", str(wheels), "--constraint", str(LOCK))
    run_pip("download", *arguments, *target(machine), requirement)


def check_wheels(machine: str, wheels: Path) -> None:
    """Look into every wheel whether its libraries are for `machine`.

    Raises:
        NotBuilt: one is not.
    """
    for wheel in sorted(wheels.glob("*.whl")):
        with unpacked(wheel) as folder:
            for library in [*folder.rglob("*.so"), *folder.rglob("*.so.*")]:
                made_for = machine_of(library)
                if made_for != machine:
                    raise NotBuilt(
                        f"{library.name} of {wheel.name} is made for {made_for}, not for {machine}"
                    )


def check_complete(machine: str, wheels: Path) -> None:
    """Let pip plan the installation on `machine` from these wheels alone.

    Raises:
        NotBuilt: something is missing.
    """
    with tempfile.TemporaryDirectory() as nowhere:
        arguments = ("--dry-run", "--no-index", "--find-links", str(wheels), "--target", nowhere)
        run_pip("install", *arguments, *target(machine), f"shelfsight[{EXTRAS}]")


def target(machine: str) -> tuple[str, ...]:
    """Return the options by which pip plans for `machine` and this version of Python."""
    tags = [f"manylinux_{glibc}_{machine}" for glibc in _MANYLINUX]
    tags += [f"{name}_{machine}" for name in _OLD_NAMES] + [f"linux_{machine}"]
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    python = ("--implementation", "cp", "--python-version", version, "--abi", f"cp{version}", "--abi", "abi3")
    platforms = [part for tag in tags for part in ("--platform", tag)]
    return ("--only-binary", ":all:", *python, "--abi", "none", *platforms)


def least_glibc(wheels: Path) -> str:
    """Return the least version of glibc that all of these wheels run with."""
    least = 17
    for wheel in wheels.glob("*.whl"):
        # A wheel may name several; the lowest holds for all of it.
        named = [int(number) for number in _GLIBC_TAG.findall(wheel.name)]
        if named:
            least = max(least, min(named))
        elif "-linux_" in wheel.name:
            with unpacked(wheel) as folder:
                for library in folder.rglob("*.so"):
                    least = max(least, *(int(each) for each in _GLIBC.findall(library.read_bytes())))
    return f"2.{least}"


def finish(folder: Path, made: Made) -> None:
    """Add the installer and the record of what it was made for, and then the sums of everything."""
    shutil.copy(ROOT / "tools" / "install.sh", folder / "install.sh")
    (folder / "install.sh").chmod(0o755)
    (folder / "wheelhouse.json").write_text(json.dumps(asdict(made), indent=2) + "\n")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files
    ]
    (folder / "SHA256SUMS").write_text("".join(sums))


def pinned(name: str) -> str:
    """Return the requirement of the distribution `name` as requirements.lock has it."""
    return next(line.strip() for line in LOCK.read_text().splitlines() if line.startswith(f"{name}=="))


def unpacked(wheel: Path) -> "_Unpacked":
    """Give the content of a wheel as a folder for a while."""
    return _Unpacked(wheel)


class _Unpacked:
    def __init__(self, wheel: Path) -> None:
        self._wheel = wheel
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> Path:
        with zipfile.ZipFile(self._wheel) as archive:
            archive.extractall(self._folder.name)
        return Path(self._folder.name)

    def __exit__(self, *_how: object) -> None:
        self._folder.cleanup()


def run_pip(*arguments: str, environment: Mapping[str, str] | None = None) -> None:
    """Run this Python's pip.

    Raises:
        NotBuilt: it fails; its last lines are told.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        arguments[0],
        "--quiet",
        *arguments[1:],
    ]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if run.returncode:
        said = [line for line in run.stderr.splitlines() if not line.startswith("WARNING: Location")]
        raise NotBuilt(f"pip {arguments[0]} failed:\n" + "\n".join(said[-15:]))


def say(text: str) -> None:
    """Tell a person what goes on."""
    print(text, flush=True)


def main() -> None:
    """Build the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Build an offline install folder for a device.")
    parser.add_argument("--arch", choices=ARCHITECTURES, required=True, help="the device's processor")
    parser.add_argument("--out", type=Path, help="[default: dist/wheelhouse-ARCH]")
    arguments = parser.parse_args()
    out: Path = arguments.out or ROOT / "dist" / f"wheelhouse-{arguments.arch}"
    try:
        made = build(arguments.arch, out)
    except NotBuilt as error:
        sys.exit(f"no wheelhouse: {error}")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    count = len(list(out.glob("wheels/*.whl")))
    say(
        f"{out}: {count} wheels, {size / 1e6:.0f} MB, for {made.machine}, Python {made.python}, glibc "
        f"{made.glibc} or newer; copy it to the device and run its install.sh there"
    )


if __name__ == "__main__":
    main()
