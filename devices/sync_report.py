"""What a sync did, and the memory of the last one."""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge.disk import write_atomically

LAST_SYNC_FILE = "last_sync.json"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an offered release was not taken.

    Attributes:
        at: When it was first refused so, RFC 3339 by this device's clock.
        release: The release that was offered; None where it was about what the release in use lacks.
        error: The code.
        message: The same as a sentence.
        current: The release that was in use then, and stayed.
    """

    at: str
    release: int | None
    error: str
    message: str
    current: int | None

    def stands(self, current: int | None) -> bool:
        """Tell whether no later release is in use by now than was then."""
        return (current or 0) <= (self.current or 0)


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one sync did. Sizes are bytes, times seconds.

    Attributes:
        at: When it began, RFC 3339 by this device's clock.
        offered: The release that the server offers this device.
        installed: The release that was installed just now.
        current: The release that answers from now on.
        bytes_received: Everything that came over the wire.
        files: Files of the release that were fetched.
        seconds: How long it all took.
        delivered: Events that the server took.
        waiting: Events that still wait.
        next_poll_s: When the server wants to hear from this device again.
        clock_lead_s: How far this device's clock is ahead of the server's.
        error: The code of what went wrong, None if nothing did.
        message: The same as a sentence.
        reached: When the last sync began that the server answered, which may be an earlier one.
        shadow: Whether the offered release only answers beside the one in use.
        hints: Where the server says at once that there is something new, as in `edge.heartbeat`.
        refused: What was refused just now; kept with those that follow until a later release is in use.
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
    reached: str | None = None
    shadow: bool = False
    hints: dict[str, object] = field(default_factory=dict)
    refused: Refusal | None = None


def remember_sync(data: Path, report: SyncReport) -> None:
    """Keep the report as the last one of the device in the folder `data`.

    `reached` outlives a failure, `refused` all that comes until a later release is in use.

    Raises:
        StorageUnusable, NoSpace: it cannot be written.
    """
    if data.is_dir():  # else it was never enrolled: there is no device here yet whose memory it could be
        before = last_sync(data)
        if report.reached is None and before is not None:
            report = replace(report, reached=before.reached)
        if report.refused is None and before is not None and before.refused is not None:
            stands = before.refused.stands(report.current)
            report = replace(report, refused=before.refused if stands else None)
        write_atomically(data / LAST_SYNC_FILE, json.dumps(asdict(report)).encode())


def last_sync(data: Path) -> SyncReport | None:
    """Recall the last sync of the device in the folder `data`; None when there was none that can be read."""
    try:
        record: Any = json.loads((data / LAST_SYNC_FILE).read_bytes())
        return SyncReport(**{**record, "refused": _refusal(record.get("refused"))})
    except (OSError, ValueError, TypeError, AttributeError):
        return None  # only a memory: losing it costs nothing


def remember_refusal(data: Path, refusal: Refusal) -> None:
    """Keep a refusal that no sync made: what a device found at its start.

    Raises:
        StorageUnusable, NoSpace: it cannot be written.
    """
    remember_sync(data, replace(last_sync(data) or SyncReport(refusal.at), refused=refusal))


def utc_now() -> str:
    """Write the time of this device's clock as RFC 3339 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _refusal(record: Any) -> Refusal | None:
    if record is None:
        return None
    refusal = Refusal(**record)
    if not isinstance(refusal.current, int | None):
        raise TypeError(refusal.current)
    return refusal
