"""What bringing one release may cost: bytes, seconds and tries, counted over restarts where they cost money.

A server that is broken, or means ill, must not be able to use up a shop's data plan: what is refused after it
was fetched is fetched again at the next poll, and polls come every minute.
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from edge.disk import write_atomically
from edge.errors import OutOfBudget, TransferBroken

MOST_SECONDS = 900.0
"""How long one update may download before the device turns to its other work; the next visit goes on."""

MOST_TRIES = 8
"""How often one update asks again for what broke off on its way."""

_TIMES = 2
_SPARE_BYTES = 1024 * 1024

Clock = Callable[[], float]


class Budget:
    """Count what bringing one release costs; `path` is the file that keeps the bytes of the day.

    The bytes may be twice those that the release has, and a megabyte, in a day of this device's calendar.
    """

    def __init__(
        self,
        path: Path,
        release_bytes: int,
        *,
        seconds: float = MOST_SECONDS,
        tries: int = MOST_TRIES,
        clock: Clock = time.monotonic,
    ) -> None:
        """Read what was spent today."""
        self._path = path
        self._most_bytes = _TIMES * release_bytes + _SPARE_BYTES
        self._spent = _spent_today(path)
        self._clock, self._seconds = clock, seconds
        self._end = clock() + seconds
        self._tries = tries

    def check(self, coming: int) -> None:
        """Refuse before anything is asked for what cannot be paid: `coming` is the bytes that are missing.

        Raises:
            OutOfBudget: It is too much for today.
        """
        if self._spent and self._spent + coming > self._most_bytes:
            raise OutOfBudget(
                f"{self._spent} bytes came today for one release that is not here yet, and {coming} more "
                f"would be over the {self._most_bytes} it may take: publish it again, or wait for tomorrow."
            )

    def take(self, received: int) -> None:
        """Count bytes that arrived.

        Raises:
            OutOfBudget: The bytes of the day or the time of this update are used up.
        """
        self._spent += received
        if self._spent > self._most_bytes:
            raise OutOfBudget(
                f"one release took {self._spent} bytes today, more than the {self._most_bytes} it may: "
                "look at the server, or wait for tomorrow."
            )
        if self._clock() > self._end:
            raise OutOfBudget(
                f"the download took the {self._seconds:.0f} s that one update may: it goes on at the next."
            )

    def fail(self, error: TransferBroken) -> None:
        """Count a transfer that broke.

        Raises:
            OutOfBudget: It was the last that this update may try again.
        """
        self._tries -= 1
        if self._tries <= 0:
            raise OutOfBudget(f"the download broke off again and again; last so: {error}") from error

    def keep(self) -> None:
        """Bring what was spent to the disk.

        Raises:
            NoSpace, StorageUnusable: It cannot be written.
        """
        if self._spent != _spent_today(self._path):
            record = {"day": _today(), "bytes": self._spent}
            write_atomically(self._path, json.dumps(record).encode() + b"\n")


def _spent_today(path: Path) -> int:
    try:
        record: object = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return 0
    if not isinstance(record, dict) or record.get("day") != _today():
        return 0
    spent = record.get("bytes")
    return spent if isinstance(spent, int) and spent > 0 else 0


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
