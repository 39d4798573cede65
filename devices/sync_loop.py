"""The rhythm of syncing: when to come again, and how to leave a server in trouble alone."""

import random
import threading
from collections.abc import Callable
from contextlib import suppress

from devices.bell import Bell
from devices.device import Device
from devices.enrollment import read_enrollment
from devices.hints import Hints
from devices.sync_report import SyncReport
from devices.waits import backoff_wait_s, poll_wait_s
from edge.errors import ShelfsightError, TryLater


def sync_until(
    bell: Bell,
    device: Device,
    *,
    said: Callable[[SyncReport], None],
    failed: Callable[[ShelfsightError, float], None],
    chance: random.Random | None = None,
) -> None:
    """Sync again and again until `bell` is stopped; a sync that has begun is finished first.

    Between two syncs it waits as the server said, or until a hint rings the bell; after a failure no hint
    makes it come sooner. `said` is told of every sync that reached the server, `failed` of the others with
    the wait in seconds that follows. A failure that needs a person is waited out too: when the person has
    mended it, the device goes on by itself.
    """
    chance = chance or random.Random()
    hints = Hints(device.settings, bell, chance)
    failures = 0
    while not bell.stopped:
        bell.hush()  # whatever was rung until now, this sync answers
        try:
            report = device.sync()
        except TryLater as error:
            failures += 1
            wait = backoff_wait_s(failures, error.retry_after, chance)
            failed(error, wait)
        except ShelfsightError as error:
            failures += 1
            wait = max(backoff_wait_s(failures, None, chance), device.settings.poll_interval_s)
            failed(error, wait)
        else:
            failures = 0
            wait = poll_wait_s(report.next_poll_s, chance)
            said(report)
            with suppress(ShelfsightError):  # it was enrolled a moment ago; else the next sync tells
                hints.point(read_enrollment(device.settings.data), report.hints, report.current)
        bell.wait(wait, deaf=failures > 0)
    hints.close()


def sync_beside(bell: Bell, device: Device, *, failed: Callable[[ShelfsightError, float], None]) -> None:
    """Sync in a thread of its own until `bell` is stopped, if this device is enrolled."""
    if device.device_id() is None:
        return
    threading.Thread(
        target=sync_until,
        args=(bell, device),
        kwargs={"said": lambda report: None, "failed": failed},
        name="sync",
        daemon=True,
    ).start()
