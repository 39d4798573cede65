"""The rhythm of syncing: when to come again, and how to leave a server in trouble alone."""

import random
import threading
from collections.abc import Callable

from devices.device import Device
from devices.sync_report import SyncReport
from edge.errors import ShelfsightError, TryLater

JITTER = 0.1
"""A poll comes up to this share early or late, so that devices started together drift apart."""

FIRST_BACKOFF_S = 2.0
LONGEST_BACKOFF_S = 600.0


def poll_wait_s(next_poll_s: float, chance: random.Random) -> float:
    """Choose the wait before the next poll, in seconds: what the server asked for, within the jitter."""
    return next_poll_s * chance.uniform(1 - JITTER, 1 + JITTER)


def backoff_wait_s(failures: int, retry_after: float | None, chance: random.Random) -> float:
    """Choose the wait after so many `failures` in a row, in seconds.

    Full jitter (Brooker, "Exponential Backoff And Jitter", 2015): anything from nothing to a bound that
    doubles, so that a thousand devices do not come back at once. Never sooner than the server asked for.
    """
    bound = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures, 30))
    asked = retry_after or 0.0
    return asked + chance.uniform(0.0, bound)


def sync_until(
    stop: threading.Event,
    device: Device,
    *,
    said: Callable[[SyncReport], None],
    failed: Callable[[ShelfsightError, float], None],
    chance: random.Random | None = None,
) -> None:
    """Sync again and again until `stop` is set; a sync that has begun is finished first.

    `said` is told of every sync that reached the server, `failed` of the others with the wait in seconds that
    follows. A failure that needs a person is waited out too: when the person has mended it, the device goes
    on by itself.
    """
    chance = chance or random.Random()
    failures = 0
    while not stop.is_set():
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
        stop.wait(wait)
