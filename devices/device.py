"""A device as a whole: told everything, it has two verbs, see and sync."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devices.config import Settings
from devices.enrollment import clock_lead_s, device_info, read_enrollment
from edge.disk import write_atomically
from edge.errors import (
    BadSetting,
    Incompatible,
    KeepRelease,
    NotEnrolled,
    ServerUnreachable,
    ShelfsightError,
    StepBack,
    StorageUnusable,
    TrialFailed,
)
from edge.image import Picture
from edge.installation import Installation
from edge.matcher import Answer, Matcher, check_golden
from edge.model import choose_variant
from edge.release_files import read_manifest

if TYPE_CHECKING:
    from edge.outbox import Outbox
    from edge.transport import Transport

LAST_SYNC_FILE = "last_sync.json"
OUTBOX_FILE = "outbox.db"
BATCH = 500


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one sync did. Sizes are bytes, times seconds; `error` is the code of what went wrong, if it did.

    `clock_lead_s` says how far this device's clock is ahead of the server's.
    """

    at: str
    offered: int | None = None
    installed: int | None = None
    current: int | None = None
    bytes_received: int = 0
    files: int = 0
    seconds: float = 0.0
    delivered: int = 0
    waiting: int = 0
    next_poll_s: float = 60.0
    clock_lead_s: float | None = None
    error: str | None = None
    message: str = ""


class Device:
    """One device and its folder. Opening it is cheap: the release is opened when something is first seen.

    Safe to call from several threads; pictures are answered one at a time.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.installation = Installation(settings.data)
        self._matcher: Matcher | None = None
        self._opened: int | None = None
        self._seeing = threading.Lock()
        self._syncing = threading.Lock()

    # See ------------------------------------------------------------------------------------------------

    def see(self, photo: bytes | Picture, *, top: int | None = None) -> Answer:
        """Answer a photo (encoded bytes) or a picture (decoded, uint8 RGB) from the current release.

        `top` candidates at most; None: as many as the settings say.

        Raises:
            SkipPhoto: this photo cannot be answered.
            NoRelease: nothing is installed.
            RuntimeMissing: no TFLite runtime runs here.
            StepBack, KeepRelease: the release does not work here, and there is no older one to go back to.
        """
        count = self.settings.top if top is None else top
        with self._seeing:
            matcher = self._current_matcher()
            if isinstance(photo, bytes):
                return matcher.match_photo(photo, top=count)
            return matcher.match(photo, top=count)

    def matcher(self) -> Matcher:
        """Open the current release, if it is not open yet, and give the matcher that answers from it.

        Raises:
            NoRelease, RuntimeMissing, StepBack, KeepRelease: as `see`.
        """
        with self._seeing:
            return self._current_matcher()

    def _current_matcher(self) -> Matcher:
        if self._matcher is None or self._opened != self.installation.current_version():
            self._matcher = None  # so that two releases are never in memory at once
            self._matcher = self._open_release()
            self._opened = self._matcher.release.version
        return self._matcher

    def _open_release(self) -> Matcher:
        """Open the current release, or the last good one before it when it does not answer as it should."""
        while True:
            folder = self.installation.current()
            failing = self.installation.current_version()
            try:
                return self._open_checked(folder)
            except (StepBack, TrialFailed, Incompatible) as error:
                back = self.installation.step_back(str(error), failed=failing)
                if failing is not None and (back is None or back < failing):  # no update came in between
                    told = {"release": failing, "to": back, "error": error.code, "message": str(error)}
                    self.record("rolled_back", told)
                if back is None:
                    raise

    def _open_checked(self, folder: Path) -> Matcher:
        """Open the release in `folder` and see whether it answers its golden photos on this machine."""
        release = read_manifest(folder)
        if release is not None and self.settings.variant is not None:
            # A mistyped setting must not look like a fault of the release, which would be set aside for it.
            choose_variant(release.variants, self.settings.variant, f"release {release.version}", BadSetting)
        matcher = Matcher.open(folder, variant=self.settings.variant, threads=self.settings.threads)
        check_golden(matcher, folder)
        return matcher

    def _try(self, folder: Path) -> None:
        self._open_checked(folder)

    # Events ---------------------------------------------------------------------------------------------

    def record(self, kind: str, data: Mapping[str, object]) -> None:
        """Write an event to the outbox; it is on the disk when this returns.

        Raises:
            StorageUnusable, NoSpace: the outbox cannot be written.
        """
        from edge.events import new_event

        with self._outbox() as outbox:
            # Before it is enrolled a device goes by its own name; the server knows who brings an event.
            outbox.add(new_event(self.device_id() or self.settings.name, kind, data))

    def waiting(self) -> int:
        """Count the events that the server has not taken yet."""
        if not (self.settings.data / OUTBOX_FILE).exists():
            return 0
        with self._outbox() as outbox:
            return len(outbox)

    def device_id(self) -> str | None:
        """Give the id that the server knows this device by, None before it is enrolled."""
        try:
            return read_enrollment(self.settings.data).device_id
        except (NotEnrolled, StorageUnusable):
            return None

    @contextmanager
    def _outbox(self) -> Iterator["Outbox"]:
        from edge.outbox import Outbox

        outbox = Outbox(self.settings.data / OUTBOX_FILE)
        try:
            yield outbox
        finally:
            outbox.close()

    # Sync -----------------------------------------------------------------------------------------------

    def recover(self) -> int | None:
        """Set aside a release whose trial was cut short by a crash; give its version, None if there was none.

        Called once at the start of a program that syncs.
        """
        failed = self.installation.recover()
        if failed is not None:
            self.record(
                "rolled_back",
                {
                    "release": failed,
                    "to": self.installation.current_version(),
                    "error": "trial_failed",
                    "message": f"release {failed} was on trial when the device stopped",
                },
            )
        return failed

    def sync(self, *, progress: Callable[[int, int], None] | None = None) -> SyncReport:
        """Tell the server how this device is, take what it offers, deliver the events.

        An offer that is refused leaves the release that is installed, and the events are delivered all the
        same; the report then names the error. `progress` is told (bytes so far, bytes in all) of a download.

        Raises:
            NotEnrolled, AccessDenied: a person has to enroll this device.
            TryLater: the server cannot be reached or is busy.
            StorageUnusable: the device folder cannot be written.
        """
        with self._syncing:
            before = last_sync(self.settings.data)
            began = time.monotonic()
            try:
                report = self._sync(before, progress)
            except ShelfsightError as error:
                at = _now()
                failed = SyncReport(at, error=error.code, message=str(error), waiting=self.waiting())
                self._remember(replace(failed, current=self.installation.current_version()))
                raise
            report = replace(report, seconds=round(time.monotonic() - began, 3))
            self._remember(report)
            return report

    def _sync(self, before: SyncReport | None, progress: Callable[[int, int], None] | None) -> SyncReport:
        from edge.transport import Transport

        enrollment = read_enrollment(self.settings.data)
        with Transport(enrollment.url, token=enrollment.token) as transport:
            report = self._heartbeat(transport, enrollment.device_id)
            report = self._update(transport, report, before, progress)
            delivered = self._deliver(transport, enrollment.device_id)
            return replace(
                report,
                delivered=delivered,
                waiting=self.waiting(),
                current=self.installation.current_version(),
                bytes_received=transport.bytes_received,
            )

    def _heartbeat(self, transport: "Transport", device_id: str) -> SyncReport:
        """Tell the server how this device is; hear what it offers and when to come again."""
        current = self.installation.current_version()
        answer = transport.post_json(
            f"/v1/devices/{device_id}/heartbeat", {"release": current, "status": self._health()}
        )
        if not isinstance(answer, dict):
            raise ServerUnreachable(
                f"{transport.base_url} answers a heartbeat with {answer!r}: is it Shelfsight?"
            )
        offered, poll = answer.get("offered_release"), answer.get("next_poll_s")
        return SyncReport(
            at=_now(),
            offered=offered if _is_whole(offered) else None,
            next_poll_s=_within(poll, 1.0, 86_400.0, self.settings.poll_interval_s),
            clock_lead_s=clock_lead_s(answer.get("server_time")),
        )

    def _health(self) -> dict[str, object]:
        last = last_sync(self.settings.data)
        return {
            **device_info(self.settings),
            "outbox": self.waiting(),
            "floor": self.installation.floor(),
            "set_aside": sorted(self.installation.set_aside()),
            "last_error": last.error if last else None,
            "disk_free": shutil.disk_usage(self.settings.data).free,
        }

    def _update(
        self,
        transport: "Transport",
        report: SyncReport,
        before: SyncReport | None,
        progress: Callable[[int, int], None] | None,
    ) -> SyncReport:
        from edge.updater import Updater

        try:
            updater = Updater(
                self.installation, transport, device_class=self.settings.device_class, trial=self._try
            )
            done = updater.update(report.offered, progress=progress)
        except (KeepRelease, StepBack) as error:
            self._tell_refusal(report, before, error)
            return replace(report, error=error.code, message=str(error))
        if done.installed is not None:
            self.record(
                "installed",
                {
                    "release": done.installed,
                    "bytes": done.bytes_received,
                    "files": done.files,
                    "seconds": round(done.seconds, 3),
                },
            )
        return replace(report, installed=done.installed, files=done.files)

    def _tell_refusal(self, report: SyncReport, before: SyncReport | None, error: ShelfsightError) -> None:
        # A device polls every minute: the same refusal of the same offer is worth one event, not 1440 a day.
        if before is not None and (before.offered, before.error) == (report.offered, error.code):
            return
        self.record("failed", {"release": report.offered, "error": error.code, "message": str(error)})

    def _deliver(self, transport: "Transport", device_id: str) -> int:
        """Send what waits in the outbox, batch after batch, and forget what the server took."""
        delivered = 0
        with self._outbox() as outbox:
            while batch := outbox.batch(BATCH):
                answer = transport.post_json(
                    f"/v1/devices/{device_id}/events", {"events": [event.to_record() for event in batch]}
                )
                accepted, refused = _settled(answer, {event.id for event in batch})
                # What the server refuses now it refuses for ever: keeping it would block those behind it.
                outbox.acknowledge(accepted | refused)
                delivered += len(accepted)
                if not accepted | refused:
                    raise ServerUnreachable(
                        f"{transport.base_url} took none of {len(batch)} events: look at the server's log"
                    )
        return delivered

    def _remember(self, report: SyncReport) -> None:
        if not self.settings.data.is_dir():
            return  # never enrolled: there is no device here yet whose memory it could be
        write_atomically(self.settings.data / LAST_SYNC_FILE, json.dumps(asdict(report)).encode())


def last_sync(data: Path) -> SyncReport | None:
    """Recall the last sync of the device in the folder `data`; None when there was none that can be read."""
    try:
        record: Any = json.loads((data / LAST_SYNC_FILE).read_bytes())
        return SyncReport(**record)
    except (OSError, ValueError, TypeError):
        return None  # only a memory: losing it costs nothing


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _settled(answer: object, sent: set[str]) -> tuple[set[str], set[str]]:
    """Read which of the events that were `sent` the server took, and which it will never take."""
    if not isinstance(answer, dict):
        return set(), set()
    accepted, refused = answer.get("accepted"), answer.get("refused")
    never = (
        [event.get("id") for event in refused if isinstance(event, dict)] if isinstance(refused, list) else []
    )
    return sent & _texts(accepted), sent & _texts(never)


def _texts(values: object) -> set[str]:
    return {value for value in values if isinstance(value, str)} if isinstance(values, list) else set()


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _within(value: object, low: float, high: float, default: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    return min(max(float(value), low), high)
