"""Hears at once that there is something new: server-sent events or MQTT, beside the poll that is the truth.

A hint only rings the sync loop awake. Whatever a hint says, or whoever says it, the worst that it can do is a
poll that was not needed, and not many of them.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from urllib.parse import urlsplit

from devices.bell import Bell
from devices.config import Settings
from devices.enrollment import Enrollment
from devices.hint import Hint
from devices.hints_mqtt import mqtt_hints
from devices.waits import backoff_wait_s
from edge.errors import BadSetting, ShelfsightError, TryLater

SILENCE_S = 60.0
"""A line on which not even a sign of life came for so long is dead. The server gives one every 15 seconds."""

MISSED_SPREAD_S = 5.0
"""After a line was broken, a hint may have been missed: the device polls within so many seconds."""

BURST = 5
REFILL_S = 10.0
"""So many hints that prove empty wake the loop at once; after that, one every `REFILL_S` seconds. One that
proves true, since a release came, is not counted: who publishes every five seconds is kept up with."""

TRIES = 3
"""After so many lines in a row that broke at once, the next visit takes the other way, where there is one."""

_LIVED_S = 30.0


class Hints:
    """Listen where the server says that there are hints, in a thread of its own, and ring `bell`.

    A line that breaks is made anew, with full jitter; nothing of it ever reaches the poll.
    """

    def __init__(self, settings: Settings, bell: Bell, chance: random.Random) -> None:
        self._settings = settings
        self._bell = bell
        self._chance = chance
        self._bucket = _Bucket(BURST, REFILL_S)
        self._listener: _Listener | None = None
        self._current: int | None = None
        self._distrusted: set[str] = set()

    def point(self, enrollment: Enrollment, hints: Mapping[str, object], current: int | None) -> None:
        """Listen where `hints` (of `edge.heartbeat`) says; of release `current` no hint is needed."""
        if current != self._current:
            self._bucket.fill()  # only a release that came does this: no liar can
        self._current = current
        wanted = (enrollment, self._chosen(hints))
        listener = self._listener
        if listener is not None and listener.wanted == wanted and listener.is_alive():
            return
        self.close()
        if wanted[1] is not None:
            self._listener = _Listener(self, enrollment, wanted[1])
            self._listener.start()

    def close(self) -> None:
        """Listen no more; the line itself ends with the next sign of life on it."""
        if self._listener is not None:
            self._listener.closed.set()
            self._listener = None

    @property
    def chance(self) -> random.Random:
        """The dice of the waits."""
        return self._chance

    @property
    def settings(self) -> Settings:
        """The settings of the device."""
        return self._settings

    def heard(self, hint: Hint) -> None:
        """Ring, unless the device has that release already; the whole fleet must not come at once."""
        if hint.version is not None and self._current is not None and hint.version <= self._current:
            return
        wait = self._chance.uniform(0.0, hint.spread_s)
        self._bell.ring(max(wait, self._bucket.take()))

    def _chosen(self, hints: Mapping[str, object]) -> tuple[str, object] | None:
        order = {"auto": ("mqtt", "sse"), "off": ()}.get(self._settings.hints, (self._settings.hints,))
        ways = [way for way in order if way in hints]
        if self._settings.hints == "auto":
            ways = [way for way in ways if way != "mqtt" or _has_mqtt()]
        trusted = [way for way in ways if way not in self._distrusted]
        if not trusted:
            self._distrusted.clear()
        return next(((way, hints[way]) for way in trusted or ways), None)

    def distrust(self, way: str) -> None:
        """Take another way, if there is one: this one does not lead to the server from here."""
        self._distrusted.add(way)


class _Listener(threading.Thread):
    """Hold one line open, from one address, until it is closed."""

    def __init__(self, hints: Hints, enrollment: Enrollment, chosen: tuple[str, object]) -> None:
        super().__init__(name="hints", daemon=True)
        self.closed = threading.Event()
        self.wanted = (enrollment, chosen)
        self._hints = hints

    def run(self) -> None:
        failures, broken = 0, False
        while not self.closed.is_set():
            began, retry_after = time.monotonic(), None
            try:
                self._listen(broken)
            except TryLater as error:
                retry_after = error.retry_after
            except ShelfsightError:
                pass  # the poll meets it too, and tells of it
            failures = 1 if time.monotonic() - began > _LIVED_S else failures + 1
            broken = True
            if failures == TRIES:
                self._hints.distrust(self.wanted[1][0])
            self.closed.wait(backoff_wait_s(failures, retry_after, self._hints.chance))

    def _listen(self, broken: bool) -> None:
        def stands() -> None:
            if broken:
                self._hints.heard(Hint(None, MISSED_SPREAD_S))

        for hint in self._lines(stands):
            if self.closed.is_set():
                return
            self._hints.heard(hint)

    def _lines(self, stands: Callable[[], None]) -> Iterator[Hint]:
        enrollment, (way, place) = self.wanted
        if way == "sse":
            return sse_hints(enrollment, place, stands)
        return mqtt_hints(place, self._hints.settings, enrollment.device_id, stands, self.closed)


class _Bucket:
    """Let `burst` through at once and one every `refill_s` seconds after; tell the wait of each other."""

    def __init__(self, burst: int, refill_s: float) -> None:
        self._burst, self._refill_s = burst, refill_s
        self._left, self._at = float(burst), time.monotonic()

    def fill(self) -> None:
        self._left = float(self._burst)

    def take(self) -> float:
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) / self._refill_s)
        self._at = now
        if self._left < 1:
            # Nothing is taken: whatever else is heard meanwhile is answered by the same poll.
            return (1 - self._left) * self._refill_s
        self._left -= 1
        return 0.0


def sse_hints(enrollment: Enrollment, address: object, stands: Callable[[], None]) -> Iterator[Hint]:
    """Give the hints of the server-sent events at `address`, which a heartbeat named.

    `stands` is called when the first byte is there.

    Raises:
        BadSetting: It is an address of another machine, which gets no token of ours.
        TryLater, AccessDenied: No line, or it broke.
    """
    from edge.event_stream import read_events
    from edge.transport import Transport

    base, path = sse_place(enrollment.url, address)
    with Transport(base, token=enrollment.token) as transport:
        for event in read_events(_noticed(transport.listen(path, silence_s=SILENCE_S), stands)):
            if event.kind == "release":
                yield Hint.read(event.data)


def _noticed(pieces: Iterator[bytes], stands: Callable[[], None]) -> Iterator[bytes]:
    for number, piece in enumerate(pieces):
        if number == 0:
            stands()
        yield piece


def sse_place(server: str, address: object) -> tuple[str, str]:
    """Split `address`, a path on `server` or an address of the same machine, into a server and a path there.

    Raises:
        BadSetting: It is neither.
    """
    if isinstance(address, str) and address.startswith("/") and not address.startswith("//"):
        return server, address
    own = urlsplit(server)
    try:
        other = urlsplit(address if isinstance(address, str) else "")
        same = other.hostname == own.hostname and other.username is None and other.port != 0
    except ValueError:
        same = False
    if not same or other.scheme not in ("http", "https") or (own.scheme, other.scheme) == ("https", "http"):
        raise BadSetting(f"hints from {str(address)[:80]!r} are not from {server}: none are taken from there")
    return f"{other.scheme}://{other.netloc}", other.path


def _has_mqtt() -> bool:
    return find_spec("paho") is not None
