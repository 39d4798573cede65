"""A release that answers beside the one in use, unseen: only how often the two agree is told.

Think of an understudy who speaks every line under their breath in the wings. The audience hears nothing of
it, the play never waits, and who cannot keep up leaves lines out. It is the server that puts a release there
(`edge.heartbeat`), and a later visit that calls it on stage or sends it home.
"""

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Final

from devices.camera import fit_frame
from devices.config import Settings
from devices.execution import Execution, Running
from devices.sync_report import last_sync, utc_now
from edge.delegates import delegate_order
from edge.errors import NextDelegate, ShelfsightError, SkipPhoto, StepBack, TrialFailed
from edge.image import Picture
from edge.installation import Installation
from edge.matcher import Answer

TOLD_EVERY_S: Final = 600.0
"""So often it is told how the two agree, if anything was answered."""

MOST_WAITING: Final = 2
"""Photos that wait for the second answer; what comes while so many wait is left out."""

_LOOK_EVERY_S: Final = 5.0
_IDLE_S: Final = 1.0
_AGAIN_S: Final = 300.0
_LOWEST_PRIORITY: Final = 19
_ITS_FAULT: Final = (StepBack, NextDelegate, TrialFailed)


@dataclass(slots=True)
class Agreement:
    """How often two releases agreed, since when: `ms` and `ms_before` are sums of milliseconds."""

    release: int
    against: int
    since: str
    answers: int = 0
    same_verdict: int = 0
    same_sku: int = 0
    unknown: int = 0
    unknown_before: int = 0
    ms: float = 0.0
    ms_before: float = 0.0
    left_out: int = 0

    def add(self, before: Answer, answer: Answer) -> None:
        """Count one photo that both have answered."""
        self.answers += 1
        self.same_verdict += before.verdict == answer.verdict
        self.same_sku += _product(before) == _product(answer)
        self.unknown += answer.verdict == "unknown"
        self.unknown_before += before.verdict == "unknown"
        self.ms = round(self.ms + answer.timings.total_ms, 3)
        self.ms_before = round(self.ms_before + before.timings.total_ms, 3)


class Shadow:
    """Answers the photos of one device once more, by a release that is proven and not in use.

    `offer` may be called by any thread and never waits. The rest is done by one thread of the lowest
    priority, which is there only while the server wants a release to run in shadow. At most two photos wait;
    the second network runs on one core, and by nothing that the first one could need.
    """

    def __init__(
        self,
        settings: Settings,
        installation: Installation,
        record: Callable[[str, Mapping[str, object]], None],
        *,
        told_every_s: float = TOLD_EVERY_S,
        look_every_s: float = _LOOK_EVERY_S,
    ) -> None:
        """Take the device's settings and releases, and what writes an event."""
        order = delegate_order(settings.delegates)
        plain = tuple(each.name for each in order if not each.isolated)
        # A file for an accelerator is of no use here.
        variant = None if order[0].isolated else settings.variant
        self._settings = replace(settings, delegates=plain, variant=variant, threads=1)
        self._installation, self._record = installation, record
        self._told_every_s, self._look_every_s = told_every_s, look_every_s
        self._photos: queue.Queue[tuple[bytes | Picture, Answer]] = queue.Queue(MOST_WAITING)
        self._looked = float("-inf")
        self._wanted: int | None = None
        self._left_out = 0
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def offer(self, photo: bytes | Picture, answer: Answer) -> None:
        """Have a photo that was just answered answered once more, later, if a release is in shadow."""
        if time.monotonic() - self._looked > self._look_every_s:
            self._wanted, self._looked = self._look(), time.monotonic()
        if self._wanted is None or self._wanted <= answer.release:
            return
        try:
            self._photos.put_nowait((photo, answer))
        except queue.Full:
            self._left_out += 1
            return
        with self._starting:
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop, and tell what was counted."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> int | None:
        """Return the release that the server wants in shadow, if it is proven here."""
        proven = self._installation.proven_version()
        if proven is None:
            return None
        last = last_sync(self._settings.data)
        return proven if last is not None and last.shadow and last.offered == proven else None

    # In the thread of the shadow: ------------------------------------------------------------------------

    def _run(self) -> None:
        _step_behind()
        release = self._wanted
        running: Running | None = None
        told = Told(self._record, self._told_every_s)
        try:
            while not self._stopped.is_set() and release is not None and self._wanted == release:
                try:
                    photo, before = self._photos.get(timeout=_IDLE_S)
                except queue.Empty:
                    told.tell_if_due()
                    if time.monotonic() - self._looked > self._look_every_s:
                        self._wanted, self._looked = self._look(), time.monotonic()
                    continue
                if running is None:
                    running = Execution(self._settings, taught=True).open(self._installation.proven())
                answer = self._answer(running, photo)
                if answer is not None:
                    left_out, self._left_out = self._left_out, 0
                    told.add(before, answer, left_out)
        except _ITS_FAULT as error:
            if release is not None:
                self._condemn(release, error)
        except ShelfsightError:
            # Something of this device, which is no release's fault: it is tried again after a while.
            self._wanted, self._looked = None, time.monotonic() + _AGAIN_S
        finally:
            with suppress(ShelfsightError):
                told.tell()
            if running is not None:
                running.close()
            with self._starting:
                self._thread = None

    def _answer(self, running: Running, photo: bytes | Picture) -> Answer | None:
        top = self._settings.top
        try:
            if isinstance(photo, bytes):
                return running.ask(lambda matcher: matcher.match_photo(photo, top=top))
            return running.ask(lambda matcher: matcher.match(photo, top=top, fit=fit_frame))
        except SkipPhoto:
            return None

    def _condemn(self, release: int, error: ShelfsightError) -> None:
        """Set a release aside that does not work after all: nobody has seen anything of it."""
        self._wanted = None
        with suppress(ShelfsightError):
            self._installation.disprove(release, str(error))
        with suppress(ShelfsightError):
            self._record("failed", {"release": release, "error": error.code, "message": str(error)})


class Told:
    """Counts how two releases agree, and tells it from time to time."""

    def __init__(self, record: Callable[[str, Mapping[str, object]], None], every_s: float) -> None:
        self._record, self._every_s = record, every_s
        self._counts: Agreement | None = None
        self._began = time.monotonic()

    def add(self, before: Answer, answer: Answer, left_out: int) -> None:
        """Count one photo, and the `left_out` ones before it.

        Raises:
            StorageUnusable, NoSpace: it is time to tell, and the outbox cannot be written.
        """
        if self._counts is not None and self._counts.against != before.release:
            self.tell()
        if self._counts is None:
            self._counts, self._began = Agreement(answer.release, before.release, utc_now()), time.monotonic()
        self._counts.add(before, answer)
        self._counts.left_out += left_out
        self.tell_if_due()

    def tell_if_due(self) -> None:
        """Tell what was counted when its time has come.

        Raises:
            StorageUnusable, NoSpace: the outbox cannot be written.
        """
        if time.monotonic() - self._began >= self._every_s:
            self.tell()

    def tell(self) -> None:
        """Tell what was counted, if anything was.

        Raises:
            StorageUnusable, NoSpace: the outbox cannot be written.
        """
        counts, self._counts = self._counts, None
        if counts is not None:
            self._record("shadowed", asdict(counts))


def _product(answer: Answer) -> str | None:
    """Name the product that an answer is sure of."""
    return answer.candidates[0].product.sku if answer.verdict == "match" and answer.candidates else None


def _step_behind() -> None:
    """Give this thread what others leave over; the threads that it starts inherit that."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
