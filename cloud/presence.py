"""Remembers who came by, and writes it down once a second for all of them in one transaction.

Of ten thousand devices 167 come by each second: a transaction of its own for each, brought to the disk,
would be most of the server's work. A server that is killed loses what it heard in its last second, and hears
it again at the next visit.
"""

import logging
import threading
from collections.abc import Mapping
from typing import Any, Final

from cloud.fleet import Fleet, Sighted
from cloud.times import now
from edge.errors import ShelfsightError

_EVERY_S: Final = 1.0
_log = logging.getLogger(__name__)


class Presence:
    """Who came by since it was last written down. Safe between threads; written at once until `start`."""

    def __init__(self, fleet: Fleet, *, every_s: float = _EVERY_S) -> None:
        self._fleet, self._every_s = fleet, every_s
        self._waiting: dict[str, Sighted] = {}
        self._taking, self._writing = threading.Lock(), threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def seen(self, device: str, release: int | None, status: Mapping[str, Any]) -> None:
        """Remember that a device was here, what it runs and what it says of itself.

        Raises:
            StorageUnusable: it is written at once, and the database refused.
        """
        with self._taking:
            self._waiting[device] = Sighted(device, now(), release, status)
        if self._thread is None:
            self.flush()

    def flush(self) -> None:
        """Write down who came by.

        Raises:
            StorageUnusable: the database refused; it is kept for the next time.
        """
        with self._writing:
            with self._taking:
                waiting, self._waiting = self._waiting, {}
            try:
                self._fleet.saw(waiting.values())
            except BaseException:
                with self._taking:
                    self._waiting = waiting | self._waiting
                raise

    def start(self) -> None:
        """Begin to write it down once a second, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, and write down who came by last."""
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stopped.wait(self._every_s)
            try:
                self.flush()
            except ShelfsightError as error:
                _log.error("who came by could not be written down: %s", error)
