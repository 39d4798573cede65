"""A device as a whole: told everything, it has two verbs, see and sync."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from devices.camera import fit_frame
from devices.config import OUTBOX_FILE, Settings
from devices.enrollment import read_enrollment
from devices.execution import Execution, Running
from devices.execution_report import last_execution, remember_execution
from devices.line import Line
from devices.live import TURNS, LiveRelease
from devices.shadow import Shadow
from devices.sync_report import Refusal, SyncReport, remember_refusal, remember_sync, utc_now
from devices.trial import Trial
from edge.errors import (
    Incompatible,
    NextDelegate,
    NoSpace,
    NotEnrolled,
    ShelfsightError,
    StepBack,
    StorageUnusable,
    TrialCrashed,
    TrialFailed,
)
from edge.image import Picture
from edge.installation import Installation
from edge.ledger import CHANCES
from edge.local_products import LocalProducts
from edge.matcher import Answer, Matcher

if TYPE_CHECKING:
    from edge.outbox import Outbox

T = TypeVar("T")


class Device:
    """One device and its folder. Opening it is cheap: the release is opened when something is first seen.

    Safe to call from several threads; pictures are answered one at a time.
    """

    def __init__(self, settings: Settings, *, tells: bool = True) -> None:
        """Take the settings; `tells` is whether it tells and remembers by what it runs its network.

        Programs that stay do; a command that answers and goes says nothing about the device.
        """
        self.settings = settings
        self._tells = tells
        self.installation = Installation(settings.data)
        self._execution = Execution(settings, taught=True)
        self._live = LiveRelease(self._open_release, self.installation.edition)
        self._local = LocalProducts(settings.data)
        self._seeing = threading.Lock()
        self._syncing = threading.Lock()
        self._opening = threading.Lock()
        self.line = Line()
        self._outbox: Outbox | None = None
        self._shadow = Shadow(settings, self.installation, self.record)

    # See ------------------------------------------------------------------------------------------------

    def see(self, photo: bytes | Picture, *, top: int | None = None) -> Answer:
        """Answer a photo (encoded bytes) or a picture (decoded, uint8 RGB) from the current release.

        `top` candidates at most; None: as many as the settings say. When the delegate that runs the network
        dies, hangs or answers with nothing usable, the next one answers this very photo, and that is told.

        Raises:
            SkipPhoto: this photo cannot be answered.
            NoRelease: nothing is installed.
            RuntimeMissing: no TFLite runtime runs here.
            StepBack, KeepRelease: the release does not work here, and there is no older one to go back to.
            NextDelegate: a delegate died, and nothing else on this device can run the network.
        """
        return self.see_all([photo], top=top)[0]

    def see_all(self, photos: Sequence[bytes | Picture], *, top: int | None = None) -> list[Answer]:
        """Answer many photos or pictures, such as all slots of a shelf, on all cores; otherwise as `see`."""
        count = self.settings.top if top is None else top
        with self._seeing:
            running = self._current()
            before = running.matcher
            try:
                answers = running.ask_all([_question(photo, count) for photo in photos])
            except (NextDelegate, StepBack):
                # The next photo opens the release anew, or the one before, if its golden photos fail too.
                self._live.leave()
                raise
            if running.matcher is not before:
                self._tell_fallback(running)
        if self._tells:
            for photo, answer in zip(photos, answers, strict=True):
                self._shadow.offer(photo, answer)
        return answers

    def ask(self, question: Callable[[Matcher], T]) -> T:
        """Ask the current release's matcher something, with the next delegate where this one fails.

        Raises:
            NoRelease, RuntimeMissing, StepBack, KeepRelease, NextDelegate: as `see`.
        """
        with self._seeing:
            return self._current().ask(question)

    def matcher(self) -> Matcher:
        """Open the current release, if it is not open yet, and give the matcher that answers from it.

        Raises:
            NoRelease, RuntimeMissing, StepBack, KeepRelease: as `see`.
        """
        with self._seeing:
            return self._current().matcher

    def _current(self) -> Running:
        running = self._live.current()
        if running.learned != self._local.edition():
            running.take_local()
        return running

    def _open_release(self, before: Running | None) -> Running | None:
        """Open the current release, or the last good one before it when it does not answer as it should.

        None: that is the one `before`, which is open.
        """
        while True:
            folder = self.installation.current()
            failing = self.installation.current_version()
            try:
                running = self._execution.open(folder, before=before)
            except (StepBack, TrialFailed, Incompatible) as error:
                back = self.installation.step_back(str(error), failed=failing)
                if failing is not None and (back is None or back < failing):  # no update came in between
                    told = {"release": failing, "to": back, "error": error.code, "message": str(error)}
                    self.record("rolled_back", told)
                if back is None:
                    raise
                if before is not None and back == before.matcher.release.version:
                    return None
            else:
                with suppress(NoSpace, StorageUnusable):
                    self.installation.end_start()
                self._tell_fallback(running)
                return running

    def _tell_fallback(self, running: Running) -> None:
        """Tell the server, once, that the device runs its network by something else than was wanted.

        A disk that cannot be written keeps nobody from an answer; it is told at another time then.
        """
        if running.passed_over or not self._tells:  # another program of this device tells
            return
        report, before = running.report(), last_execution(self.settings.data)
        if report == before:
            return
        with suppress(ShelfsightError):
            if report.fell_back and not report.is_same_fallback(before):
                self.record("fell_back", report.to_event())
            remember_execution(self.settings.data, report)

    def trial(self) -> Trial:
        """Give what makes a release ready and tries whether this device can answer from it, to be closed."""
        return Trial(self.settings, self.installation.current)

    def try_release(self, folder: Path) -> None:
        """Try whether this device can answer from the release in `folder`, which is not in use yet.

        Raises:
            ShelfsightError: as `Trial.try_out`.
        """
        with self.trial() as trial:
            trial.try_out(folder)

    def close_shadow(self) -> None:
        """Stop answering by a release in shadow, and tell what was counted until now."""
        self._shadow.close()

    # Events ---------------------------------------------------------------------------------------------

    def record(self, kind: str, data: Mapping[str, object]) -> None:
        """Write an event to the outbox; it is on the disk when this returns.

        Raises:
            StorageUnusable, NoSpace: the outbox cannot be written.
        """
        from edge.events import new_event

        with self.outbox() as outbox:
            # Before it is enrolled a device goes by its own name; the server knows who brings an event.
            outbox.add(new_event(self.device_id() or self.settings.name, kind, data))

    def waiting(self) -> int:
        """Count the events that the server has not taken yet."""
        if not (self.settings.data / OUTBOX_FILE).exists():
            return 0
        with self.outbox() as outbox:
            return len(outbox)

    def dropped(self) -> dict[str, int]:
        """Count the events that a full outbox lost, by kind."""
        if not (self.settings.data / OUTBOX_FILE).exists():
            return {}
        with self.outbox() as outbox:
            return dict(outbox.dropped())

    def device_id(self) -> str | None:
        """Give the id that the server knows this device by, None before it is enrolled."""
        try:
            return read_enrollment(self.settings.data).device_id
        except (NotEnrolled, StorageUnusable):
            return None

    @contextmanager
    def outbox(self) -> Iterator["Outbox"]:
        """Give the outbox for the length of a `with` block.

        Raises:
            StorageUnusable, NoSpace: it cannot be used.
        """
        from edge.outbox import Outbox

        # It stays open: closing it brings SQLite's log home, which costs more than ten events.
        with self._opening:
            if self._outbox is None:
                self._outbox = Outbox(self.settings.data / OUTBOX_FILE)
        yield self._outbox

    # Sync -----------------------------------------------------------------------------------------------

    def recover(self, *, answers: bool = False) -> int | None:
        """Put the disk in order after a crash; give the version that was set aside, None if none was.

        Called once at the start of a program that syncs. A release is set aside when the device stopped
        `CHANCES` times in a row in its trial; until then the next sync tries it again. A program that
        `answers` counts its starts in the same way, until it has opened a release: one that lets it die
        before it answers is left for the release before, without any network.
        """
        failed = None
        with suppress(NoSpace):  # a full disk is put in order when there is room, and answers meanwhile
            failed = self.installation.recover()
        while answers and self._must_step_back():
            leaving = self.installation.current_version()
            why = f"{CHANCES} starts in a row came to no answer"
            back = self.installation.step_back(why, failed=leaving)
            told = {"release": leaving, "to": back, "error": StepBack.code, "message": why}
            self.record("rolled_back", told)
        if failed is not None:
            current = self.installation.current_version()
            why = f"the device stopped in {CHANCES} trials of release {failed} in a row"
            told = {"release": failed, "to": current, "error": TrialCrashed.code, "message": why}
            self.record("rolled_back", told)
            with suppress(NoSpace, StorageUnusable):
                refusal = Refusal(utc_now(), failed, TrialCrashed.code, why, current)
                remember_refusal(self.settings.data, refusal)
        return failed

    def _must_step_back(self) -> bool:
        try:
            return self.installation.begin_start()
        except (NoSpace, StorageUnusable):
            return False  # a disk that cannot be written must not keep the device from answering

    def sync(self, *, progress: Callable[[int, int], None] | None = None) -> SyncReport:
        """Tell the server how this device is, take what it offers, deliver the events.

        An offer that is refused leaves the release that is installed, and the events are delivered all the
        same; the report then names the error. `progress` is told (bytes so far, bytes in all) of a download.

        Raises:
            NotEnrolled, AccessDenied: a person has to enroll this device.
            TryLater: the server cannot be reached or is busy.
            StorageUnusable: the device folder cannot be written.
        """
        from devices.visit import visit

        with self._syncing, TURNS.short():
            at, began = utc_now(), time.monotonic()
            try:
                report = visit(self, progress)
            except ShelfsightError as error:
                current = self.installation.current_version()
                failed = SyncReport(at, current=current, error=error.code, message=str(error))
                remember_sync(self.settings.data, replace(failed, waiting=self.waiting()))
                raise
            report = replace(report, reached=at, seconds=round(time.monotonic() - began, 3))
            remember_sync(self.settings.data, report)
            # If a release came, it is open when this returns; the one before goes on answering meanwhile.
            self._live.open_next()
            self._live.wait()
            return report


def _question(photo: bytes | Picture, top: int) -> Callable[[Matcher], Answer]:
    def ask(matcher: Matcher) -> Answer:
        if isinstance(photo, bytes):
            return matcher.match_photo(photo, top=top)
        return matcher.match(photo, top=top, fit=fit_frame)

    return ask
