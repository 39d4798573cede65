"""Checks of the machine itself: interpreter, profile, folder, disk, camera."""

import platform
import shutil
import tempfile
from pathlib import Path

from devices.config import Settings, read_profile
from devices.doctor.finding import Finding, cure_of
from devices.hardware import Choice, choose_profile, look
from edge.errors import ShelfsightError

LEAST_FREE_BYTES = 50_000_000
SCANT_FREE_BYTES = 500_000_000

_TASKS = frozenset({"shelf-camera", "shelf-camera-low-power"})
"""Profiles of what a machine is for, which suit several kinds of machine."""


def check_python(_settings: Settings) -> Finding:
    """Name the interpreter and the machine."""
    return Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def check_profile(settings: Settings, root: Path = Path("/")) -> Finding:
    """Choose a profile by looking at the machine, and compare it with the one that the settings name."""
    choice = choose_profile(look(root))
    cure = f'write profile = "{choice.profile}" into {settings.data / "device.toml"}'
    looks = f"this is {choice.because}: {choice.profile}"
    if settings.profile == choice.profile:
        return Finding("profile", "ok", looks)
    if settings.profile is not None:
        if settings.profile in _TASKS or settings.profile.endswith(".toml"):
            return Finding("profile", "ok", f"the settings name {settings.profile}; by its looks {looks}")
        found = f"the settings name {settings.profile}, and {looks}"
        return Finding("profile", "warning", found, f"{cure}, unless you know better")
    if _is_served(settings, choice):
        return Finding("profile", "ok", f"{looks}; the settings name none, and run it as that does")
    return Finding("profile", "warning", f"{looks}; the settings name none", cure)


def _is_served(settings: Settings, choice: Choice) -> bool:
    """Tell whether the settings already use of the machine what the chosen profile would."""
    wanted = read_profile(choice.profile, settings)
    return (wanted.delegates, wanted.threads) == (settings.delegates, settings.threads)


def check_data(settings: Settings) -> Finding:
    """Try whether the device folder can be written."""
    folder = settings.data
    if not folder.exists():
        return Finding("data", "warning", f"{folder} is not there yet", "shelfsight enroll URL CODE makes it")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"doctor")
    except OSError as error:
        return Finding(
            "data",
            "fault",
            f"{folder} cannot be written ({(error.strerror or 'no reason').lower()})",
            "give this user the folder, or name another with --data",
        )
    return Finding("data", "ok", f"{folder} can be written")


def check_disk(settings: Settings) -> Finding:
    """Measure the free space where releases are kept."""
    folder = next(path for path in [settings.data, *settings.data.absolute().parents] if path.exists())
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:.1f} GB free"
    if free < LEAST_FREE_BYTES:
        return Finding("disk", "fault", found, f"free some space on the disk of {folder}")
    if free < SCANT_FREE_BYTES:
        return Finding("disk", "warning", found, "a large release may not fit: free some space")
    return Finding("disk", "ok", found)


def check_camera(settings: Settings, number: int) -> Finding:
    """Take one frame from camera `number`, and compare its size with what the settings ask for."""
    from devices.camera import OpenCVCamera

    try:
        camera = OpenCVCamera(number, width=settings.camera_width, height=settings.camera_height)
        try:
            height, width, _ = camera.read().picture.shape
        finally:
            camera.close()
    except ShelfsightError as error:
        return Finding("camera", "fault", str(error), cure_of(error))
    found = f"camera {number} gives {width}×{height} pixels"
    if (width, height) == (settings.camera_width, settings.camera_height):
        return Finding("camera", "ok", found)
    wanted = f"{settings.camera_width}×{settings.camera_height} were asked for"
    cure = "it is answered all the same; write a size that it has as camera_width and camera_height"
    return Finding("camera", "warning", f"{found}, and {wanted}", cure)
