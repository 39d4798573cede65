"""Tells each device when to come by again: seldom enough for the server to bear all of them."""

import threading
import time
from collections.abc import Callable
from typing import Final

from cloud.fleet import Fleet
from cloud.hints import Listeners
from cloud.offers import Offers

USUAL_S: Final = 60.0
"""Devices add their own jitter."""

LISTENING_S: Final = 120.0
"""Of a device that hears of releases at once; more would look like silence in the console."""

_VISITS_PER_S: Final = 200.0
_COUNTED_FOR_S: Final = 10.0
_MANY_WAITING: Final = 50


class Pace:
    """When devices are to come by. Safe between threads."""

    def __init__(
        self,
        fleet: Fleet,
        offers: Offers,
        listeners: Listeners,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what it depends on; `waiting` may be set to what tells how many requests wait for a thread."""
        self._fleet, self._offers, self._listeners, self._clock = fleet, offers, listeners, clock
        self.waiting: Callable[[], int] = lambda: 0
        self._counting = threading.Lock()
        self._devices, self._counted = 0, float("-inf")

    def next_poll_s(self, device: str) -> float:
        """Return when a device is to come by again, in seconds.

        A minute; two where it hears of releases anyhow and no rollout counts on being told how it fares. A
        fleet that would be too many a second comes less often, and while many wait each comes half as often.

        Raises:
            StorageUnusable: the database refused.
        """
        hears = self._listeners.has(device) and not self._offers.are_counted
        bearable = self._count() / _VISITS_PER_S
        burden = 2.0 if self.waiting() > _MANY_WAITING else 1.0
        return round(burden * max(LISTENING_S if hears else USUAL_S, bearable), 1)

    def _count(self) -> int:
        if self._clock() - self._counted > _COUNTED_FOR_S and self._counting.acquire(blocking=False):
            try:
                self._devices, self._counted = self._fleet.count(), self._clock()
            finally:
                self._counting.release()
        return self._devices
