"""What kind of machine this is, by looking at it, and which profile that suggests, with the reason."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Vendor and product on the USB bus: before libedgetpu has given the stick its firmware, and after.
_CORAL_USB = frozenset({("1a6e", "089a"), ("18d1", "9302")})
_CORAL_PCI = ("0x1ac1", "0x089a")
_CORAL_BOARDS = ("phanbell", "coral dev board")  # the Dev Board's tree of devices says Phanbell
_SMALL_MEMORY_MB = 1500.0
_X86 = frozenset({"x86_64", "amd64", "i686", "i386"})


@dataclass(frozen=True, slots=True)
class Hardware:
    """What was seen of a machine.

    Attributes:
        machine: the processor as the kernel calls it, such as `x86_64` or `aarch64`.
        cores: how many this process may use.
        memory_mb: main memory, 10**6 bytes; None where the kernel does not say.
        board: the name of a board, such as `Raspberry Pi 5 Model B Rev 1.0`; empty where there is none.
        coral: where a Coral accelerator is: `usb`, `pci`, or empty.
        jetson: whether it runs NVIDIA's system for Jetson boards.
        android: whether it runs Android.
    """

    machine: str
    cores: int
    memory_mb: float | None = None
    board: str = ""
    coral: str = ""
    jetson: bool = False
    android: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """A profile, and why it suits: a phrase such as `a Raspberry Pi 5 with 4 cores and 8.3 GB`."""

    profile: str
    because: str


def look(
    root: Path = Path("/"),
    *,
    machine: str | None = None,
    cores: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Hardware:
    """Look at this machine; nothing on it is changed and no library loaded.

    `root` is where `proc`, `sys` and `etc` are; `machine`, `cores` and `environment` are this machine's
    unless they are given.
    """
    board = _read(root / "proc/device-tree/model")
    environment = os.environ if environment is None else environment
    return Hardware(
        machine=machine or platform.machine(),
        cores=cores or _own_cores(),
        memory_mb=_memory_mb(root),
        board=board,
        coral=_coral(root),
        jetson=(root / "etc/nv_tegra_release").exists() or "jetson" in board.lower(),
        android="ANDROID_ROOT" in environment or (root / "system/build.prop").exists(),
    )


def choose_profile(hardware: Hardware) -> Choice:
    """Choose the profile for what was seen. What answers fastest decides: an accelerator, then the board."""
    size = _size(hardware)
    if hardware.android:
        return Choice("android-phone", f"an Android {hardware.machine} with {size}")
    if any(name in hardware.board.lower() for name in _CORAL_BOARDS):
        return Choice("coral-dev-board", f"a {hardware.board} with {size}")
    if hardware.coral:
        where = "stick on the USB" if hardware.coral == "usb" else "card on the PCI"
        return Choice("coral-usb", f"a Coral {where} bus of {_host(hardware)} with {size}")
    if hardware.jetson:
        return Choice("jetson-orin-nano", f"a {hardware.board or 'Jetson'} with {size}")
    return _by_processor(hardware, size)


def _by_processor(hardware: Hardware, size: str) -> Choice:
    because = f"{_host(hardware)} with {size}"
    if hardware.machine.lower() in _X86:
        return Choice("kiosk-x86", because)
    if hardware.board.startswith(("Raspberry Pi 5", "Raspberry Pi Compute Module 5")):
        return Choice("raspberry-pi-5", because)
    if hardware.board.startswith(("Raspberry Pi 4", "Raspberry Pi Compute Module 4")):
        return Choice("raspberry-pi-4", because)
    if hardware.memory_mb is not None and hardware.memory_mb < _SMALL_MEMORY_MB:
        return Choice("shelf-camera-low-power", f"{because}, too little for a kiosk")
    return Choice(
        "raspberry-pi-4", f"{because}, of no kind that is known: the most careful kiosk of its kind"
    )


def _host(hardware: Hardware) -> str:
    return f"a {hardware.board}" if hardware.board else f"{_article(hardware.machine)} computer"


def _article(machine: str) -> str:
    return f"{'an' if machine[:1] in 'aeix' else 'a'} {machine}"


def _size(hardware: Hardware) -> str:
    cores = "1 core" if hardware.cores == 1 else f"{hardware.cores} cores"
    return f"{cores} and {hardware.memory_mb / 1000:.1f} GB" if hardware.memory_mb else cores


def _own_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_mb(root: Path) -> float | None:
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal" and (words := rest.split()) and words[0].isdigit():
            return int(words[0]) * 1024 / 1e6
    return None


def _coral(root: Path) -> str:
    usb = root / "sys/bus/usb/devices"
    if any((_read(each / "idVendor"), _read(each / "idProduct")) in _CORAL_USB for each in _entries(usb)):
        return "usb"
    pci = root / "sys/bus/pci/devices"
    if any((_read(each / "vendor"), _read(each / "device")) == _CORAL_PCI for each in _entries(pci)):
        return "pci"
    return ""


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    """Read a small file of the kernel, which ends some of its texts with a zero byte; empty if it cannot."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""
