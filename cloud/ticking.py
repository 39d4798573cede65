"""Keeps the timestamp fresh while the server runs, so that an unattended server freezes no device."""

import logging
import threading
from datetime import timedelta
from pathlib import Path
from typing import Final

from cloud import signing
from cloud.times import now
from edge.errors import ShelfsightError

_CHECK_EVERY_S: Final = 3600.0
_DUE: Final = signing.LIFETIMES["timestamp"] / 2
_log = logging.getLogger(__name__)


class Ticker:
    """Signs snapshot and timestamp again when half of the timestamp's day is over: at the start, then hourly.

    The one background thread of the server. It needs the online keys; where they fail it says so in the log
    and tries again an hour later, while devices go on with what they have.
    """

    def __init__(self, metadata: Path, keys: Path) -> None:
        self._metadata, self._keys = metadata, keys
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tick", daemon=True)

    def start(self) -> None:
        """Begin to watch the timestamp."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, and wait until a signature that was begun is written."""
        self._stopped.set()
        self._thread.join()

    def tick_if_due(self) -> bool:
        """Sign again if the timestamp has less than half of its life left; return whether it was signed.

        It is due at once where the root in force names other keys: a change of keys was killed on the way.

        Raises:
            StorageUnusable: a key or the metadata cannot be used.
            NoSpace: the disk is full.
        """
        left: timedelta = signing.timestamp_expires(self._metadata) - now()
        if left > _DUE and signing.stands(self._metadata):
            return False
        signing.tick(self._metadata, self._keys)
        return True

    def _run(self) -> None:
        while True:
            try:
                self.tick_if_due()
            except ShelfsightError as error:
                _log.error("the timestamp could not be signed again: %s", error)
            if self._stopped.wait(_CHECK_EVERY_S):
                return
