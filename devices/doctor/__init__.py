"""What a device needs, checked one by one, each with its cure: `shelfsight doctor`.

Nothing that is compiled is loaded into this process: what may kill one is tried in a process of its own
(`devices.probe`), so that the doctor lives to tell.
"""

from collections.abc import Callable, Iterator
from typing import Final

from devices.config import Settings
from devices.doctor.answers import check_delegates, check_release
from devices.doctor.finding import Finding, cure_of
from devices.doctor.libraries import check_annoy, check_libraries, check_numpy, check_runtime
from devices.doctor.machine import check_camera, check_data, check_disk, check_profile, check_python
from devices.doctor.server import (
    check_clock,
    check_enrollment,
    check_outbox,
    check_server,
    check_sync,
    check_tls,
)
from edge.errors import ShelfsightError

__all__ = ["CHECKS", "Finding", "examine"]

CHECKS: Final[tuple[tuple[str, Callable[[Settings], Finding | list[Finding]]], ...]] = (
    ("python", check_python),
    ("profile", check_profile),
    ("libraries", check_libraries),
    ("numpy", check_numpy),
    ("annoy", check_annoy),
    ("runtime", check_runtime),
    ("data", check_data),
    ("disk", check_disk),
    ("clock", check_clock),
    ("enrollment", check_enrollment),
    ("tls", check_tls),
    ("server", check_server),
    ("sync", check_sync),
    ("release", check_release),
    ("delegates", check_delegates),
    ("outbox", check_outbox),
)
"""Every check with the name of what it finds first, in the order in which a person would mend it."""


def examine(settings: Settings, camera: int | None = None) -> Iterator[Finding]:
    """Check everything this device needs, one finding at a time; nothing on it is changed.

    A camera is tried where its number is given, for only one program can have it.
    """
    for name, check in CHECKS:
        try:
            found = check(settings)
        except ShelfsightError as error:
            found = Finding(name, "fault", str(error), cure_of(error))
        yield from [found] if isinstance(found, Finding) else found
    if camera is not None:
        yield check_camera(settings, camera)
