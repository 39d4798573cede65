"""Which profile a machine is given, by small copies of what real ones show of themselves."""

from pathlib import Path

import pytest

from devices.config import profile_names
from devices.hardware import Choice, choose_profile, look


def machine(
    root: Path,
    *,
    processor: str,
    cores: int = 4,
    board: str = "",
    memory_kb: int | None = 3_900_000,
    environment: dict[str, str] | None = None,
) -> Choice:
    """Write what such a machine shows of itself below `root`, look at it and choose."""
    if memory_kb is not None:
        write(root / "proc/meminfo", f"MemTotal:       {memory_kb} kB\nMemFree:          123456 kB\n")
    if board:
        write(root / "proc/device-tree/model", f"{board}\0")
    return choose_profile(look(root, machine=processor, cores=cores, environment=environment or {}))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def plug(bus: Path, **identity: str) -> None:
    """Put a device on a bus, beside one that says nothing of itself."""
    (bus / "usb1").mkdir(parents=True)
    for name, text in identity.items():
        write(bus / "2-1" / name, f"{text}\n")


@pytest.mark.parametrize(
    ("processor", "board", "memory_kb", "profile"),
    [
        ("x86_64", "", 8_000_000, "kiosk-x86"),
        ("x86_64", "", 900_000, "kiosk-x86"),
        ("i686", "", 2_000_000, "kiosk-x86"),
        ("aarch64", "Raspberry Pi 5 Model B Rev 1.0", 8_245_000, "raspberry-pi-5"),
        ("aarch64", "Raspberry Pi Compute Module 5 Rev 1.0", 2_000_000, "raspberry-pi-5"),
        ("aarch64", "Raspberry Pi 4 Model B Rev 1.4", 900_000, "raspberry-pi-4"),
        ("armv7l", "Raspberry Pi 400 Rev 1.0", 3_900_000, "raspberry-pi-4"),
        ("aarch64", "Raspberry Pi Zero 2 W Rev 1.0", 430_000, "shelf-camera-low-power"),
        ("aarch64", "Raspberry Pi 3 Model B Plus Rev 1.3", 930_000, "shelf-camera-low-power"),
        ("aarch64", "Freescale i.MX8MQ Phanbell", 1_000_000, "coral-dev-board"),
        ("aarch64", "NVIDIA Jetson Orin Nano Developer Kit", 7_800_000, "jetson-orin-nano"),
        ("aarch64", "Pine64 RockPro64 v2.1", 3_900_000, "raspberry-pi-4"),
        ("riscv64", "", None, "raspberry-pi-4"),
    ],
)
def test_a_machine_is_known_by_its_board_processor_and_memory(
    processor: str, board: str, memory_kb: int | None, profile: str, tmp_path: Path
) -> None:
    choice = machine(tmp_path, processor=processor, board=board, memory_kb=memory_kb)
    assert choice.profile == profile
    assert (board or processor) in choice.because
    assert "4 cores" in choice.because
    assert "\0" not in choice.because


@pytest.mark.parametrize(("vendor", "product"), [("1a6e", "089a"), ("18d1", "9302")])
def test_a_coral_stick_decides_whatever_it_is_plugged_into(vendor: str, product: str, tmp_path: Path) -> None:
    plug(tmp_path / "sys/bus/usb/devices", idVendor=vendor, idProduct=product)
    choice = machine(tmp_path, processor="aarch64", board="Raspberry Pi 5 Model B Rev 1.0")
    assert choice.profile == "coral-usb"
    assert choice.because.startswith("a Coral stick on the USB bus of a Raspberry Pi 5")


def test_a_coral_card_is_driven_as_the_stick_is(tmp_path: Path) -> None:
    plug(tmp_path / "sys/bus/pci/devices", vendor="0x1ac1", device="0x089a")
    assert machine(tmp_path, processor="x86_64").because == (
        "a Coral card on the PCI bus of an x86_64 computer with 4 cores and 4.0 GB"
    )


def test_another_device_on_the_bus_is_no_coral(tmp_path: Path) -> None:
    plug(tmp_path / "sys/bus/usb/devices", idVendor="18d1", idProduct="4ee1")  # a phone of the same vendor
    plug(tmp_path / "sys/bus/pci/devices", vendor="0x1ac1", device="0x0001")
    assert machine(tmp_path, processor="x86_64").profile == "kiosk-x86"


def test_a_jetson_without_a_board_name_is_known_by_its_system(tmp_path: Path) -> None:
    write(tmp_path / "etc/nv_tegra_release", "# R36 (release), REVISION: 4.0\n")
    assert machine(tmp_path, processor="aarch64", cores=6).because == "a Jetson with 6 cores and 4.0 GB"


def test_android_is_known_by_its_environment(tmp_path: Path) -> None:
    choice = machine(tmp_path, processor="aarch64", environment={"ANDROID_ROOT": "/system"})
    assert choice == Choice("android-phone", "an Android aarch64 with 4 cores and 4.0 GB")


def test_a_machine_that_shows_nothing_is_given_a_profile_all_the_same(tmp_path: Path) -> None:
    hardware = look(tmp_path, machine="aarch64", cores=1, environment={})
    assert (hardware.memory_mb, hardware.board, hardware.coral) == (None, "", "")
    assert choose_profile(hardware).because.startswith("an aarch64 computer with 1 core, of no kind")


def test_this_machine_is_given_a_profile_that_exists() -> None:
    hardware = look()
    assert hardware.cores >= 1
    assert choose_profile(hardware).profile in profile_names()
