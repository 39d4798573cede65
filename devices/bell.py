"""What a waiting loop listens for: that it is rung awake, or told to stop."""

import math
import threading
import time


class Bell:
    """Wake one waiting thread; any thread, and a signal handler, may ring or stop it."""

    def __init__(self) -> None:
        # Of a lock that its own thread may take again: a signal handler runs in the middle of `wait`.
        self._condition = threading.Condition(threading.RLock())
        self._due = math.inf
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stopped

    def ring(self, after_s: float = 0.0) -> None:
        """Wake whoever waits, or will wait, in `after_s` seconds."""
        with self._condition:
            self._due = min(self._due, time.monotonic() + after_s)
            self._condition.notify_all()

    def hush(self) -> None:
        """Forget what was rung until now."""
        with self._condition:
            self._due = math.inf

    def stop(self) -> None:
        """End every wait, now and for ever."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    def wait(self, seconds: float, *, deaf: bool = False) -> bool:
        """Wait so many seconds, or until it is rung (unless `deaf`) or stopped; tell if it was rung."""
        end = time.monotonic() + seconds
        with self._condition:
            while not self._stopped:
                until = end if deaf else min(end, self._due)
                left = until - time.monotonic()
                if left <= 0:
                    return until < end
                self._condition.wait(min(left, threading.TIMEOUT_MAX))
        return False
