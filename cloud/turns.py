"""Gives devices their turn to fetch a release, so that ten thousand that want it at once all get it soon.

A visit that brings a release is some ten requests. If more devices begin one than the server can answer, all
of them wait, give up and begin again, and nobody gets anything: a queue at the door is faster than a crowd in
it. Who is not on yet hears when it is, and keeps what it has until then.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

A_SECOND: Final = 50.0
"""So many devices begin to fetch a release in a second; ten thousand have begun after some three minutes."""

AT_ONCE: Final = 250
"""So many may begin together: a fleet of that size never waits."""

_EARLY: Final = 0.15
"""By what share of its wait a device may come early: devices add a jitter of a tenth."""
_NOW_S: Final = 0.05


class Turns:
    """Whose turn it is. Safe between threads; what is forgotten by a restart is only who waits how long."""

    def __init__(
        self,
        *,
        a_second: float = A_SECOND,
        at_once: int = AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._a_second, self._at_once, self._clock = a_second, at_once, clock
        self._lock = threading.Lock()
        self._given: dict[str, tuple[int, float]] = {}  # device: (version, from when on)
        self._last = float("-inf")

    def wait_s(self, device: str, version: int) -> float:
        """Return in how many seconds the device may fetch release `version`: 0.0 now, and from then on."""
        with self._lock:
            moment = self._clock()
            given, begins = self._given.get(device, (None, 0.0))
            if given != version:
                self._last = max(self._last, moment - self._at_once / self._a_second) + 1 / self._a_second
                begins = moment + (1 - _EARLY) * max(0.0, self._last - moment)
                self._given[device] = version, begins
            wait = (begins - moment) / (1 - _EARLY)
            return wait if wait > _NOW_S else 0.0

    def forget(self, device: str) -> None:
        """Forget the turn of a device that has what it came for."""
        with self._lock:
            self._given.pop(device, None)
