"""One line of hints to the server, and many to the devices of the store."""

import json
import queue
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from flask import Response

from devices.enrollment import Enrollment
from devices.hint import Hint
from devices.hints import sse_hints
from devices.waits import backoff_wait_s
from edge.errors import ShelfsightError

MOST_LISTENERS = 32
ALIVE_S = 15.0
_FORGOTTEN_S = 600.0  # without a heartbeat of any device there is nobody to listen for


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the server gives hints, and the token of the device that was told so."""

    address: object
    token: str


class Fanout:
    """Listen once, as the device that came by last, and tell all devices that listen here."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._listeners: set[queue.Queue[bytes]] = set()
        self._source: _Source | None = None
        self._asked_at = 0.0
        self._thread: threading.Thread | None = None

    def take_over(self, answer: bytes, path: str, token: str) -> bytes:
        """Take the server's hints out of the answer to a heartbeat, and put our own at `path` in their place.

        An answer that is none, or has no hints, is left as it is. A broker is reached by each device itself,
        so where there are events too, the devices are sent to those.
        """
        try:
            record = json.loads(answer)
            address = record["hints"]["sse"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return answer
        with self._lock:
            self._source, self._asked_at = _Source(address, token), time.monotonic()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._listen, name="hints", daemon=True)
                self._thread.start()
        return json.dumps({**record, "hints": {"sse": path}}).encode()

    def listen(self) -> Response:
        """Answer a device that wants to hear hints."""
        with self._lock:
            if len(self._listeners) >= MOST_LISTENERS:
                return Response(status=503, headers={"Retry-After": "60"})
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return Response(self._lines(), mimetype="text/event-stream", headers=headers)

    def _lines(self) -> Iterator[bytes]:
        mine: queue.Queue[bytes] = queue.Queue(16)
        with self._lock:
            self._listeners.add(mine)
        try:
            yield b": listening\n\n"
            while True:
                try:
                    yield mine.get(timeout=ALIVE_S)
                except queue.Empty:
                    yield b": alive\n\n"
        finally:
            with self._lock:
                self._listeners.discard(mine)

    def _tell(self, hint: Hint) -> None:
        event = (
            f"event: release\ndata: {json.dumps({'version': hint.version, 'spread_s': hint.spread_s})}\n\n"
        )
        with self._lock:
            for each in self._listeners:
                if not each.full():  # then it has enough to wake up for
                    each.put_nowait(event.encode())

    def _listen(self) -> None:
        chance, failures, broken = random.Random(), 0, False

        def stands() -> None:
            if broken:
                self._tell(Hint(None, 5.0))

        while True:
            with self._lock:
                source = self._source
                if source is None or time.monotonic() - self._asked_at > _FORGOTTEN_S:
                    self._thread = None
                    return
            began, retry_after = time.monotonic(), None
            try:
                for hint in sse_hints(Enrollment(self._url, "", source.token), source.address, stands):
                    self._tell(hint)
            except ShelfsightError as error:
                retry_after = getattr(error, "retry_after", None)
            failures = 1 if time.monotonic() - began > ALIVE_S else failures + 1
            broken = True
            time.sleep(backoff_wait_s(failures, retry_after, chance))
