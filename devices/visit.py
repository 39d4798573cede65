"""One visit to the server: tell how the device is, deliver its events, take what is offered."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from devices.delivery import deliver
from devices.enrollment import Enrollment, clock_lead_s, device_info, read_enrollment
from devices.execution_report import last_execution
from devices.learning import send_photos, settle, tell_proposals, waiting_proposals
from devices.sync_report import Refusal, SyncReport, last_sync, utc_now
from devices.upkeep import look_after
from edge.delegates import delegate_order
from edge.errors import KeepRelease, ServerUnreachable, ShelfsightError, StepBack, TrialFailed, TryLater
from edge.heartbeat import HeartbeatAnswer
from edge.installation import Installation
from edge.release import Release
from edge.updater import Updater

if TYPE_CHECKING:
    from devices.device import Device

_TRIAL_CODES = frozenset({TrialFailed.code, *(kind.code for kind in TrialFailed.__subclasses__())})

Progress = Callable[[int, int], None]
"""Told (bytes that are here, bytes in all) of a release on its way."""


def visit(device: "Device", progress: Progress | None = None) -> SyncReport:
    """Visit the server of `device` once.

    Raises:
        NotEnrolled, AccessDenied: a person has to enroll this device.
        TryLater: the server cannot be reached or is busy.
        StorageUnusable: the device folder cannot be written.
    """
    enrollment = read_enrollment(device.settings.data)
    try:
        return _Visit(device, enrollment).go(progress)
    except ShelfsightError:
        device.line.close()
        raise


class _Visit:
    """The steps of one visit, which share a connection."""

    def __init__(self, device: "Device", enrollment: Enrollment) -> None:
        self._device = device
        self._enrollment = enrollment
        self._kept = device.line.is_open
        self._transport = device.line.open(enrollment)
        self._received_before = self._transport.bytes_received
        self._path = f"/v1/devices/{enrollment.device_id}"
        self._late: TryLater | None = None

    def go(self, progress: Progress | None) -> SyncReport:
        report, wanted = self._greet()
        settle(self._device, wanted.settled)
        # Before the release, so that a download that keeps breaking holds no event back; and after it, to
        # tell what came of it.
        tell_proposals(self._device)
        delivered = self._deliver()
        report = self._update(report, wanted, progress)
        settle(self._device, {})  # a release that is new here may have what was taught here
        delivered += self._deliver()
        send_photos(self._device, self._transport, self._path)
        report = self._tell_late(report)
        if report.installed is not None:
            # So that the people who wait for it see it now and not a poll later, and this device hears of
            # what it was taught itself.
            settle(self._device, self._heartbeat()[1].settled)
        return replace(
            report,
            delivered=delivered,
            waiting=self._device.waiting(),
            current=self._device.installation.current_version(),
            bytes_received=self._transport.bytes_received - self._received_before,
        )

    def _deliver(self) -> int:
        """Send what waits in the outbox; a server that does not take it now keeps no release away."""
        if self._late is not None:
            return 0
        try:
            with self._device.outbox() as outbox:
                return deliver(outbox, self._transport, f"{self._path}/events", self._device.line)
        except TryLater as error:
            self._late = error
            return 0

    def _tell_late(self, report: SyncReport) -> SyncReport:
        """Say in the report that the events are late, and come no sooner than the server asked for."""
        if self._late is None:
            return report
        wait = max(report.next_poll_s, self._late.retry_after or 0.0)
        if report.error is not None:
            return replace(report, next_poll_s=wait)
        return replace(report, next_poll_s=wait, error=self._late.code, message=str(self._late))

    def _greet(self) -> tuple[SyncReport, HeartbeatAnswer]:
        """Begin with a heartbeat; on a line from an earlier visit twice, if need be.

        The server closes one that nobody used for a while, and may do so just now.
        """
        try:
            return self._heartbeat()
        except ServerUnreachable:
            if not self._kept:
                raise
            self._device.line.close()
            self._transport = self._device.line.open(self._enrollment)
            self._received_before = 0
            return self._heartbeat()

    def _heartbeat(self) -> tuple[SyncReport, HeartbeatAnswer]:
        """Tell the server how this device is; hear what it offers and when to come again."""
        current = self._device.installation.current_version()
        body = {"release": current, "status": self._health()}
        answer = self._transport.post_json(f"{self._path}/heartbeat", body)
        wanted = HeartbeatAnswer.from_record(answer, usual_poll_s=self._device.settings.poll_interval_s)
        report = SyncReport(
            at=utc_now(),
            offered=wanted.offered,
            next_poll_s=wanted.next_poll_s,
            clock_lead_s=clock_lead_s(wanted.server_time),
            shadow=wanted.shadow,
            hints=dict(wanted.hints),
        )
        return report, wanted

    def _health(self) -> dict[str, object]:
        settings, installation = self._device.settings, self._device.installation
        last, execution = last_sync(settings.data), last_execution(settings.data)
        return {
            **device_info(settings),
            "variant": execution.variant if execution else None,
            "runtime": execution.runtime if execution else None,
            "delegate": execution.delegate if execution else None,
            "wanted": execution.wanted if execution else None,
            "assortment": _assortment(installation),
            "starts": installation.starts(),
            "outbox": self._device.waiting(),
            "dropped": self._device.dropped(),
            "floor": installation.floor(),
            "set_aside": sorted(installation.set_aside()),
            "last_error": last.error if last else None,
            "disk_free": shutil.disk_usage(settings.data).free,
            "proposals": waiting_proposals(self._device),
        }

    def _update(self, report: SyncReport, wanted: HeartbeatAnswer, progress: Progress | None) -> SyncReport:
        """Take what is offered; a refusal leaves the release in use, and the report names it."""
        settings, here = self._device.settings, self._device.installation
        with self._device.trial() as trial:
            if wanted.offered not in (None, here.current_version(), here.proven_version()):
                trial.start()  # it is ready when the files are here
            updater = Updater(
                here,
                self._transport,
                device_class=settings.device_class,
                targets=frozenset(each.target for each in delegate_order(settings.delegates)),
                variant=settings.variant,
                merge=trial.merge,
                prepare=trial.prepare,
                trial=trial.try_out,
            )
            try:
                done = updater.update(
                    wanted.offered, assortment=wanted.assortment, shadow=wanted.shadow, progress=progress
                )
            except (KeepRelease, StepBack) as error:
                look_after(self._device, updater, self._enrollment.device_id)
                self._tell_refusal(report.offered, error)
                refusal = self._refusal(report.offered, error)
                return replace(report, error=error.code, message=str(error), refused=refusal)
            look_after(self._device, updater, self._enrollment.device_id)
        if done.installed is not None:
            told = {"bytes": done.bytes_received, "files": done.files, "seconds": round(done.seconds, 3)}
            self._device.record("installed", {"release": done.installed, **told})
        return replace(report, installed=done.installed, files=done.files)

    def _tell_refusal(self, offered: int | None, error: ShelfsightError) -> None:
        # A device polls every minute: the same refusal of the same offer is worth one event, not 1440 a day.
        before = last_sync(self._device.settings.data)
        if before is None or (before.offered, before.error) != (offered, error.code):
            data = {"release": offered, "error": error.code, "message": str(error)}
            self._device.record("failed", data)

    def _refusal(self, offered: int | None, error: ShelfsightError) -> Refusal:
        """Say what was refused; what was refused before keeps its time, and the code of its trial.

        For what failed its trial is set aside, and refused from then on as something that failed before.
        """
        before = last_sync(self._device.settings.data)
        known = before.refused if before is not None else None
        if known is not None and known.release == offered:
            reminded = error.code == TrialFailed.code and known.error in _TRIAL_CODES
            if reminded or known.error == error.code:
                return known
        current = self._device.installation.current_version()
        return Refusal(utc_now(), offered, error.code, str(error), current)


def _assortment(installation: Installation) -> str | None:
    """Say of which store the products of the release in use are; None where there is none."""
    try:
        return Release.from_bytes((installation.current() / "release.json").read_bytes()).assortment
    except (ShelfsightError, OSError):
        return None
