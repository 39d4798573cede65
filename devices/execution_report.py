"""By what a device runs its network, and the memory of it: so that one fallback is told once."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge.disk import write_atomically

EXECUTION_FILE = "execution.json"


@dataclass(frozen=True, slots=True)
class ExecutionReport:
    """What answers on a device, and why it is not what was wanted.

    Attributes:
        release: Version of the release that answers.
        wanted: The delegate that is tried first.
        delegate: The one that really runs the network.
        variant: The name of the file that it runs.
        runtime: The runtime's name and version.
        failed: The delegate that failed, None if what was wanted runs.
        error: The code of that failure.
        message: Why each of those that were tried before does not run it.
    """

    release: int
    wanted: str
    delegate: str
    variant: str
    runtime: str
    failed: str | None = None
    error: str | None = None
    message: str = ""

    @property
    def fell_back(self) -> bool:
        """Whether the device runs by something else than was wanted."""
        return self.delegate != self.wanted

    def to_event(self) -> dict[str, object]:
        """Return what a `fell_back` event tells."""
        return {
            "wanted": self.wanted,
            "used": self.delegate,
            "delegate": self.failed,
            "error": self.error,
            "message": self.message,
            "variant": self.variant,
            "runtime": self.runtime,
            "release": self.release,
        }

    def is_same_fallback(self, other: "ExecutionReport | None") -> bool:
        """Tell whether this was told already by `other`: messages and releases may change meanwhile."""
        if other is None:
            return False
        ours = (self.wanted, self.delegate, self.failed, self.error)
        return ours == (other.wanted, other.delegate, other.failed, other.error)


def remember_execution(data: Path, report: ExecutionReport) -> None:
    """Keep the report as the last one of the device in the folder `data`.

    Raises:
        StorageUnusable, NoSpace: it cannot be written.
    """
    if data.is_dir():
        write_atomically(data / EXECUTION_FILE, json.dumps(asdict(report)).encode())


def last_execution(data: Path) -> ExecutionReport | None:
    """Recall by what the device in the folder `data` ran last; None when that is not known."""
    try:
        record: Any = json.loads((data / EXECUTION_FILE).read_bytes())
        return ExecutionReport(**record)
    except (OSError, ValueError, TypeError):
        return None  # only a memory: losing it costs one event more
