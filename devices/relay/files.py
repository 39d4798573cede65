"""The files of releases that a relay keeps: downloaded once, hashed before each is given, bounded in bytes.

files/<sha256>      whole, as its name says when it came
parts/<sha256>      on its way here; a kill or a cut leaves what came, and the rest is asked for later
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edge.disk import sha256_file, storage_error, sync_folder
from edge.errors import HashMismatch, NoSpace, ShelfsightError
from edge.transport import Transport

IN_USE_S = 60.0
"""What was given so lately is not thrown away: it may be on its way still."""

_log = logging.getLogger(__name__)


class Files:
    """Keep files in `folder`, at most `capacity` bytes of them; what was used longest ago goes first.

    `open_upstream` opens a connection to the server; each download has its own. Safe from several threads,
    not from several processes.
    """

    def __init__(self, folder: Path, capacity: int, open_upstream: Callable[[], Transport]) -> None:
        """Make the folders, and throw away parts that are too old to be asked for again.

        Raises:
            StorageUnusable, NoSpace: The folder cannot be used.
        """
        self._files, self._parts = folder / "files", folder / "parts"
        self._capacity = capacity
        self._open_upstream = open_upstream
        self._lock = threading.Lock()
        self._flights: dict[str, _Flight] = {}
        self.downloaded = 0
        """Bytes of files that came from the server."""
        try:
            for each in (self._files, self._parts):
                each.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, folder) from error
        self._make_room(0)

    def find(self, sha256: str) -> Path | None:
        """Give the file whose bytes have this hash now, None where there is none; a rotten one is deleted.

        Raises:
            StorageUnusable: It is there and cannot be read.
        """
        path = self._files / sha256
        if not path.is_file():
            return None
        if sha256_file(path) != sha256:
            _log.warning("%s has rotted on this disk: it is fetched again", path)
            path.unlink(missing_ok=True)
            return None
        at = path.stat().st_mtime_ns
        os.utime(path, ns=(time.time_ns(), at))
        return path

    def fetch(self, sha256: str, size: int, wait_s: float) -> bool:
        """Have the file of `size` bytes downloaded, if nobody does yet, and wait for it so many seconds.

        Returns:
            Whether it is here; if not, the download goes on.

        Raises:
            NoSpace: It is larger than all that may be kept, or the disk is full.
            ShelfsightError: What else broke the download; what came of it is kept for the next one.
        """
        if size > self._capacity:
            raise NoSpace(f"a file of {size} bytes is more than this relay may keep: give it more --space")
        with self._lock:
            flight = self._flights.get(sha256)
            if flight is None:
                flight = self._flights[sha256] = _Flight(lambda: self._download(sha256, size))
                flight.start()
        if not flight.done.wait(wait_s):
            return False
        if flight.error is not None:
            raise flight.error
        return True

    def sizes(self) -> tuple[int, int]:
        """Count the whole files, and their bytes."""
        sizes = [path.stat().st_size for path in self._files.iterdir()]
        return len(sizes), sum(sizes)

    def _download(self, sha256: str, size: int) -> None:
        try:
            # It may have come between the question of this device and now, for another one.
            if self.find(sha256) is None:
                self._make_room(size)
                self._bring(sha256, size)
        finally:
            with self._lock:
                del self._flights[sha256]

    def _bring(self, sha256: str, size: int) -> None:
        part = self._parts / sha256

        def count(arrived: int) -> None:
            with self._lock:
                self.downloaded += arrived

        with self._open_upstream() as upstream:
            upstream.download(f"/v1/files/{sha256}", part, size=size, progress=count)
        if sha256_file(part) != sha256:
            part.unlink(missing_ok=True)
            raise HashMismatch(f"the server gives other bytes as {sha256}: they are not passed on")
        try:
            part.replace(self._files / sha256)
        except OSError as error:
            raise storage_error(error, part) from error
        sync_folder(self._files)

    def _make_room(self, size: int) -> None:
        """Throw away what was used longest ago, parts too, until `size` more bytes fit."""
        with self._lock:
            flying = set(self._flights)
        kept = []
        for path in (*self._files.iterdir(), *self._parts.iterdir()):
            if path.parent == self._parts and path.name in flying:
                continue
            with suppress(OSError):  # somebody else threw it away just now
                state = path.stat()
                kept.append((state.st_atime_ns, state.st_size, path))
        over = sum(length for _, length, _ in kept) + size - self._capacity
        young = time.time_ns() - int(IN_USE_S * 1e9)
        for used, length, path in sorted(kept):
            if over <= 0 or (used > young and size):
                return
            path.unlink(missing_ok=True)
            over -= length


class _Flight(threading.Thread):
    """One download, for all who ask for the file meanwhile."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(name="download", daemon=True)
        self.done = threading.Event()
        self.error: ShelfsightError | None = None
        self._work = work

    def run(self) -> None:
        try:
            self._work()
        except ShelfsightError as error:
            self.error = error
        finally:
            self.done.set()
