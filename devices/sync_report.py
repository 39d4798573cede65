"""What a sync did, and the memory of the last one."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edge.disk import write_atomically

LAST_SYNC_FILE = "last_sync.json"


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


def remember_sync(data: Path, report: SyncReport) -> None:
    """Keep the report as the last one of the device in the folder `data`; `reached` outlives a failure.

    Raises:
        StorageUnusable, NoSpace: it cannot be written.
    """
    if data.is_dir():  # else it was never enrolled: there is no device here yet whose memory it could be
        if report.reached is None and (before := last_sync(data)) is not None:
            report = replace(report, reached=before.reached)
        write_atomically(data / LAST_SYNC_FILE, json.dumps(asdict(report)).encode())


def last_sync(data: Path) -> SyncReport | None:
    """Recall the last sync of the device in the folder `data`; None when there was none that can be read."""
    try:
        record: Any = json.loads((data / LAST_SYNC_FILE).read_bytes())
        return SyncReport(**record)
    except (OSError, ValueError, TypeError):
        return None  # only a memory: losing it costs nothing
