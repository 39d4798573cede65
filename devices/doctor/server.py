"""Checks of the way to the server: who it is, whether it is trusted, when it was last reached."""

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from devices.config import OUTBOX_FILE, Settings
from devices.doctor.finding import Finding, cure_of
from devices.enrollment import Enrollment, read_enrollment
from devices.sync_report import last_sync
from edge.errors import NotEnrolled, TryLater

CLOCK_WARNING_S = 120.0
CLOCK_FAULT_S = 3600.0
FULL_OUTBOX = 10_000
SOON = timedelta(days=14)
LATE_POLLS = 10
LONG_AGO = timedelta(days=3)
TIMEOUT_S = 5.0

EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""No device that runs this code can be at an earlier date."""

_ENROLL = "shelfsight-cloud fleet code (on the server), then here: shelfsight enroll URL CODE"
_SYNC = "shelfsight sync --once says why; shelfsight sync, without --once, is to run as a service"


def check_clock(settings: Settings) -> Finding:
    """Compare the clock with the last sync's server: signatures expire by it."""
    now = datetime.now(UTC)
    written = now.isoformat(timespec="seconds")
    cure = "set the clock, for instance: timedatectl set-ntp true"
    if now < EARLIEST:
        return Finding("clock", "fault", f"{written} cannot be", cure)
    last = last_sync(settings.data)
    lead = last.clock_lead_s if last else None
    if lead is None:
        return Finding("clock", "ok", f"{written}; not compared with a server yet")
    found = f"{abs(lead):.1f} s {'ahead of' if lead > 0 else 'behind'} the server"
    if abs(lead) > CLOCK_WARNING_S:
        return Finding("clock", "fault" if abs(lead) > CLOCK_FAULT_S else "warning", found, cure)
    return Finding("clock", "ok", found)


def check_enrollment(settings: Settings) -> Finding:
    """Look up which server this device belongs to."""
    try:
        enrollment = read_enrollment(settings.data)
    except NotEnrolled:
        return Finding("enrollment", "fault", "this device belongs to no server", _ENROLL)
    return Finding("enrollment", "ok", f"{enrollment.device_id} at {enrollment.url}")


def check_tls(settings: Settings) -> Finding | list[Finding]:
    """Look whether what is said to the server is private, and when its certificate runs out."""
    return _of_server(settings, _judge_tls)


def check_server(settings: Settings) -> Finding | list[Finding]:
    """Ask the server whether it is well."""
    return _of_server(settings, _ask_server)


def check_sync(settings: Settings) -> Finding | list[Finding]:
    """Say when the server was last reached, and what went wrong since."""
    return _of_server(settings, lambda _enrollment: _judge_sync(settings))


def check_outbox(settings: Settings) -> Finding:
    """Count the events that wait for the server."""
    from edge.outbox import Outbox

    waiting = 0
    if (settings.data / OUTBOX_FILE).exists():
        with Outbox(settings.data / OUTBOX_FILE) as outbox:
            waiting = len(outbox)
    level, cure = ("warning", "shelfsight sync --once delivers them") if waiting > FULL_OUTBOX else ("ok", "")
    return Finding("outbox", level, f"{waiting} events wait", cure)


def _of_server(settings: Settings, check: Callable[[Enrollment], Finding]) -> Finding | list[Finding]:
    """Check something of the server; nothing where none is known, which `check_enrollment` tells."""
    try:
        enrollment = read_enrollment(settings.data)
    except NotEnrolled:
        return []
    return check(enrollment)


def _judge_tls(enrollment: Enrollment) -> Finding:
    from edge.transport import Transport

    host = urlsplit(enrollment.url).hostname or ""
    try:
        with Transport(enrollment.url, timeout_s=TIMEOUT_S) as transport:
            end = transport.certificate_end()
    except TryLater as error:
        cure = "renew the server's certificate, or check its address and this device's clock"
        return Finding("tls", "fault", str(error), cure)
    if end is None:
        found = f"{enrollment.url} is plain HTTP"
        if is_near(host):
            return Finding("tls", "ok", f"{found}, to an address of your own network")
        cure = "releases are signed all the same, but events and this device's token can be read on the way: "
        return Finding("tls", "warning", found, f"{cure}put TLS before the server and enroll with https://")
    left = end - datetime.now(UTC)
    found = f"the certificate of {host} is good until {end:%Y-%m-%d}"
    if left < SOON:
        return Finding("tls", "warning", f"{found}, {left.days} days more", "renew it on the server")
    return Finding("tls", "ok", found)


def is_near(host: str) -> bool:
    """Tell whether a host is this machine or in a private network, by its address or the form of its name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".lan", ".internal", ".home.arpa", ".localhost"))
    return address.is_private  # loopback and link-local addresses too


def _ask_server(enrollment: Enrollment) -> Finding:
    from edge.transport import Transport

    try:
        with Transport(enrollment.url, timeout_s=TIMEOUT_S) as transport:
            answer = transport.get_bytes("/healthz", max_bytes=65_536)
    except TryLater as error:
        return Finding("server", "fault", str(error), cure_of(error))
    if answer is None:
        return Finding("server", "fault", f"{enrollment.url} is no Shelfsight server", "check the address")
    return Finding("server", "ok", f"{enrollment.url} answers")


def _judge_sync(settings: Settings) -> Finding:
    last = last_sync(settings.data)
    reached = last.reached if last else None
    failed = f"; the last sync failed ({last.error}: {last.message})" if last and last.error else ""
    if last is None or reached is None:
        return Finding("sync", "warning", f"the server was never reached{failed}", _SYNC)
    age = datetime.now(UTC) - datetime.fromisoformat(reached)
    found = f"the server was last reached {_words(age)} ago{failed}"
    if age > LONG_AGO:
        return Finding("sync", "fault", found, _SYNC)
    polls = LATE_POLLS * max(settings.poll_interval_s, last.next_poll_s)
    if failed or age.total_seconds() > polls:
        return Finding("sync", "warning", found, _SYNC)
    return Finding("sync", "ok", found)


def _words(age: timedelta) -> str:
    seconds = max(0.0, age.total_seconds())
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
