"""One visit to the server: tell how the device is, deliver its events, take what is offered."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from devices.enrollment import clock_lead_s, device_info, read_enrollment
from devices.execution_report import last_execution
from devices.learning import send_photos, settle, tell_proposals, waiting_proposals
from devices.sync_report import SyncReport, last_sync
from edge.delegates import delegate_order
from edge.errors import KeepRelease, ServerUnreachable, ShelfsightError, StepBack
from edge.heartbeat import HeartbeatAnswer
from edge.transport import Transport
from edge.updater import Updater

if TYPE_CHECKING:
    from devices.device import Device

BATCH = 500
"""Events in one request, at most."""

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
    with Transport(enrollment.url, token=enrollment.token) as transport:
        return _Visit(device, transport, enrollment.device_id).go(progress)


class _Visit:
    """The steps of one visit, which share a connection."""

    def __init__(self, device: "Device", transport: Transport, device_id: str) -> None:
        self._device = device
        self._transport = transport
        self._path = f"/v1/devices/{device_id}"

    def go(self, progress: Progress | None) -> SyncReport:
        report, wanted = self._heartbeat()
        settle(self._device, wanted.settled)
        # Before the release, so that a download that keeps breaking holds no event back; and after it, to
        # tell what came of it.
        tell_proposals(self._device)
        delivered = self._deliver()
        report = self._update(report, wanted, progress)
        settle(self._device, {})  # a release that is new here may have what was taught here
        delivered += self._deliver()
        send_photos(self._device, self._transport, self._path)
        if report.installed is not None:
            self._heartbeat()  # so that the people who wait for it see it now and not a poll later
        return replace(
            report,
            delivered=delivered,
            waiting=self._device.waiting(),
            current=self._device.installation.current_version(),
            bytes_received=self._transport.bytes_received,
        )

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
            "outbox": self._device.waiting(),
            "floor": installation.floor(),
            "set_aside": sorted(installation.set_aside()),
            "last_error": last.error if last else None,
            "disk_free": shutil.disk_usage(settings.data).free,
            "proposals": waiting_proposals(self._device),
        }

    def _update(self, report: SyncReport, wanted: HeartbeatAnswer, progress: Progress | None) -> SyncReport:
        """Take what is offered; a refusal leaves the release in use, and the report names it."""
        settings = self._device.settings
        updater = Updater(
            self._device.installation,
            self._transport,
            device_class=settings.device_class,
            targets=frozenset(each.target for each in delegate_order(settings.delegates)),
            variant=settings.variant,
            trial=self._device.try_release,
        )
        try:
            done = updater.update(wanted.offered, assortment=wanted.assortment, progress=progress)
        except (KeepRelease, StepBack) as error:
            self._tell_refusal(report.offered, error)
            return replace(report, error=error.code, message=str(error))
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

    def _deliver(self) -> int:
        """Send what waits in the outbox, batch after batch, and forget what the server took."""
        delivered = 0
        with self._device.outbox() as outbox:
            while batch := outbox.batch(BATCH):
                events = [event.to_record() for event in batch]
                answer = self._transport.post_json(f"{self._path}/events", {"events": events})
                accepted, refused = _settled(answer, {event.id for event in batch})
                # What the server refuses now it refuses for ever: keeping it would block those behind it.
                outbox.acknowledge(accepted | refused)
                delivered += len(accepted)
                if not accepted | refused:
                    raise ServerUnreachable(
                        f"{self._transport.base_url} took none of {len(batch)} events: look at its log"
                    )
        return delivered


def utc_now() -> str:
    """Write the time of this device's clock as RFC 3339 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _settled(answer: object, sent: set[str]) -> tuple[set[str], set[str]]:
    """Read which of the events that were `sent` the server took, and which it will never take."""
    if not isinstance(answer, dict):
        return set(), set()
    refused = answer.get("refused")
    records = refused if isinstance(refused, list) else []
    never = [record.get("id") for record in records if isinstance(record, dict)]
    return sent & _texts(answer.get("accepted")), sent & _texts(never)


def _texts(values: object) -> set[str]:
    return {value for value in values if isinstance(value, str)} if isinstance(values, list) else set()
