"""The release that answers, and the next one, which is opened beside it and takes over between two answers.

Think of it as a relay race: the next runner is up to speed before the baton changes hands. Opening a release
takes from tens of milliseconds to seconds, and nobody who holds a product up to a camera waits for that.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from devices.execution import Running
from edge.errors import ShelfsightError, TryLater

Edition = tuple[int | None, int]
"""What `Installation.edition` says: another one whenever other files are in use."""

PAUSE_S: Final = 1.0
"""Who asks after such a pause is in no stream of answers, and rather waits a moment for the newest."""

PATIENCE_S: Final = 0.2
"""The longest such a moment."""

_AGAIN_S: Final = 60.0  # after which a release is tried once more that could not be opened
_TURN_S: Final = 0.0005  # the longest that one thread keeps the interpreter from another, while one is opened


class LiveRelease:
    """Gives the release that answers now. What it gives is used by one thread at a time, which sees to that.

    Only `open_next` may be called at any time, by any thread.
    """

    def __init__(
        self, open_release: Callable[[Running | None], Running | None], edition: Callable[[], Edition]
    ) -> None:
        """Take what opens the current release beside another one, and what says which that is.

        `open_release` is given what is open, to take over what they have in common, and returns None when
        that is the current release after all.
        """
        self._open_release = open_release
        self._edition = edition
        self._lock = threading.Lock()
        self._running: Running | None = None
        self._opened: Edition = (None, 0)
        self._asked = 0.0
        self._opener: threading.Thread | None = None
        self._next: tuple[Running, Edition] | None = None
        self._failed: tuple[Edition, float] | None = None
        self._in_the_way = False

    def current(self) -> Running:
        """Return the release that answers; the first is opened now, every later one beside it.

        Raises:
            ShelfsightError: as `open_release`, when nothing is open that could go on.
        """
        self._take_over()
        edition = self._edition()
        if self._running is not None and edition != self._opened:
            self.open_next()
            if time.monotonic() - self._asked > PAUSE_S:
                self.wait(PATIENCE_S)
            self._take_over()
            if self._in_the_way:
                self.leave()
        if self._running is None:
            self._open_now()
        self._asked = time.monotonic()
        assert self._running is not None, "it was opened, or the reason raised"
        return self._running

    def open_next(self, *, again: bool = False) -> None:
        """Begin to open the release in use, if it is another than the one that answers, and return at once.

        `again`: also if it is the same, to have it run by what another release has just let go.
        """
        with self._lock:
            if self._running is None or self._opener is not None or self._next is not None:
                return
            edition = self._edition()
            if edition == self._opened and not again:
                return
            if self._failed is not None:
                failed, at = self._failed
                if failed == edition and time.monotonic() - at < _AGAIN_S:
                    return
            self._failed = (edition, time.monotonic())  # until it has worked
            self._opener = threading.Thread(
                target=self._open_beside, args=(self._running, edition), name="release opener", daemon=True
            )
            self._opener.start()

    def leave(self) -> None:
        """Let go of the release that answers; the next time it is opened anew, or the one that is then."""
        if self._running is not None:
            self._running.close()
        self._running = None
        self._in_the_way = False

    def _open_now(self) -> None:
        self.wait(None)
        self._take_over()
        while self._running is None:
            edition = self._edition()
            opened = self._open_release(None)
            if opened is not None:
                self._running, self._opened = opened, self._edition_of(opened, edition)

    def _open_beside(self, running: Running, edition: Edition) -> None:
        try:
            with TURNS.short():
                opened = self._open_release(running)
            with self._lock:
                if opened is None:
                    self._opened = self._edition()
                else:
                    self._next = opened, self._edition_of(opened, edition)
                self._failed = None
        except TryLater:
            self._in_the_way = running.matcher.embedder.delegate in running.accelerators
        except ShelfsightError:
            pass  # the release that is open goes on answering
        finally:
            with self._lock:
                self._opener = None

    def _edition_of(self, opened: Running, edition: Edition) -> Edition:
        """Name what was opened: not the `edition` that was to be, if that one did not work."""
        return edition if opened.matcher.release.version == edition[0] else self._edition()

    def _take_over(self) -> None:
        """Let the next release answer, if it is open."""
        with self._lock:
            if self._next is None:
                return
            before = self._running
            (self._running, self._opened), self._next = self._next, None
        if before is not None:
            # To end the process of a delegate takes a while, and the next answer is waited for.
            retiring = threading.Thread(target=self._retire, args=(before, self._running), daemon=True)
            retiring.start()

    def _retire(self, before: Running, running: Running) -> None:
        before.close(running)
        if running.waits:
            self.open_next(again=True)

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the next release is open, if one is being opened; at most `seconds`."""
        with self._lock:
            opener = self._opener
        if opener is not None:
            opener.join(seconds)


class _Turns:
    """Lets threads take short turns while anybody in this process does long work beside the answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = 0
        self._usual = sys.getswitchinterval()

    @contextmanager
    def short(self) -> Iterator[None]:
        """Keep no answer waiting at every step for as long as Python's threads usually take their turns."""
        with self._lock:
            if not self._wanted:
                self._usual = sys.getswitchinterval()
                sys.setswitchinterval(_TURN_S)
            self._wanted += 1
        try:
            yield
        finally:
            with self._lock:
                self._wanted -= 1
                if not self._wanted:
                    sys.setswitchinterval(self._usual)


TURNS: Final = _Turns()
