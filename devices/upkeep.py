"""Look after the releases on this device's disk: read them again now and then, and mend what rotted."""

import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from edge.disk import write_atomically
from edge.errors import ShelfsightError
from edge.release_files import MANIFEST
from edge.updater import Updater

if TYPE_CHECKING:
    from devices.device import Device

BUDGET = 64 * 1024 * 1024
"""Bytes that one visit to the server may read of releases at rest: no shopper waits for more."""

_ENDED = "scrubbed"  # its content is when the last round over all files ended
_SPREAD = 0.25


def look_after(device: "Device", updater: Updater, device_id: str) -> None:
    """Read a little more of what lies here, if that is due, and mend what was found rotten.

    A round over all files begins every `scrub_hours`, at another time on every device, and goes on from visit
    to visit. What fails now is tried at the next visit; it must not keep this one from its other work.
    """
    with suppress(ShelfsightError, OSError):
        if _is_due(device, device_id) and device.installation.scrub(BUDGET).ended:
            write_atomically(device.settings.data / _ENDED, datetime.now(UTC).isoformat().encode() + b"\n")
        for mended in updater.repair():
            device.record("repaired", {"release": mended.release, "files": list(mended.files)})
            if MANIFEST in mended.files:  # without it nobody could tell what else has rotted
                (device.settings.data / _ENDED).unlink(missing_ok=True)


def _is_due(device: "Device", device_id: str) -> bool:
    path = device.settings.data / _ENDED
    now = datetime.now(UTC)
    try:
        ended = datetime.fromisoformat(path.read_text().strip())
        age = now - ended
    except (OSError, ValueError, TypeError):
        return True  # never yet, or the note of it rotted itself
    # Drawn anew for every round, so that neither a shop's devices nor the same hour of the day meet for long.
    chance = zlib.crc32(f"{device_id} {ended.isoformat()}".encode()) / 2**32
    wait = timedelta(hours=device.settings.scrub_hours) * (1 + _SPREAD * (chance - 0.5))
    return not timedelta(0) <= age < wait  # a clock that went back says nothing about the age
