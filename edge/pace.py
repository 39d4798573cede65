"""How fast an answer must come: every wait for the server's bytes is measured, in the head as in the body.

A server that sends a byte now and then never lets a socket's timeout run out. Here all the time that is spent
waiting counts, and so few bytes in so much of it, or all the time that one answer may take, end the request.
"""

import io
import time
from collections.abc import Callable
from typing import Any

from edge.errors import Slow


class Pace:
    """Measure the waits of one request at a time.

    `timeout_s` bounds one silence; fewer than `least_rate` bytes a second over `window_s` seconds of waiting
    are too few.
    """

    def __init__(self, timeout_s: float, least_rate: float, window_s: float) -> None:
        self._timeout_s = timeout_s
        self._least_rate = least_rate
        self._usual_window_s = window_s
        self.begin("nothing", None)

    def begin(self, what: str, limit_s: float | None, *, silence_s: float | None = None) -> None:
        """Begin with a request for `what`; all its waits together may take `limit_s` seconds.

        With `silence_s` nothing but a longer silence than that ends it: some answers have no end.
        """
        self._what = what
        self._left = float("inf") if limit_s is None else limit_s
        self._window_s = self._usual_window_s if silence_s is None else float("inf")
        self._silence_s = self._timeout_s if silence_s is None else silence_s
        self._waited, self._arrived = 0.0, 0

    def read(self, connection: Any, raw: Any, buffer: Any) -> int | None:
        """Read what there is into `buffer`, waiting for it no longer than is left.

        `raw` is the unbuffered file of the socket `connection`.

        Raises:
            Slow: The server drips, or takes too long.
            TimeoutError: It is silent.
        """
        connection.settimeout(max(0.001, min(self._silence_s, self._left)))
        began = time.monotonic()
        try:
            count: int | None = raw.readinto(buffer)
        except TimeoutError:
            self._check(time.monotonic() - began, 0)
            raise
        self._check(time.monotonic() - began, count or 0)
        return count

    def _check(self, waited: float, arrived: int) -> None:
        self._waited += waited
        self._arrived += arrived
        self._left -= waited
        if self._left <= 0:
            raise Slow(f"{self._what} takes longer than it may: try again on a better connection.")
        if self._waited < self._window_s:
            return
        if self._arrived < self._least_rate * self._waited:
            raise Slow(
                f"{self._what} brings {self._arrived / self._waited:.0f} bytes a second, "
                f"fewer than {self._least_rate:.0f}: try again on a better connection."
            )
        self._waited, self._arrived = 0.0, 0


def paced(pace: Pace, response_class: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes the responses of `response_class`, with every byte read at a pace, the head's too."""

    def make(connection: Any, *args: Any, **named: Any) -> Any:
        response = response_class(connection, *args, **named)
        response.fp = io.BufferedReader(_Paced(pace, connection, response.fp.detach()))
        return response

    return make


class _Paced(io.RawIOBase):
    def __init__(self, pace: Pace, connection: Any, raw: Any) -> None:
        self._pace = pace
        self._connection = connection
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        return self._pace.read(self._connection, self._raw, buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._raw.close()
