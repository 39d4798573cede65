"""A file on its way here: grows by appending, and keeps what reached the disk when the transfer is cut."""

import os
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType

from edge.disk import storage_error, sync_folder
from edge.errors import ShelfsightError

_SYNC_EVERY = 8 * 1024 * 1024  # bytes that a power cut may cost


class PartFile:
    """Append to the file at `path`, of which `size` bytes are to come; use it in a `with` block.

    What was appended is brought to the disk every few megabytes and when the block ends, however it ends.
    """

    def __init__(self, path: Path, size: int) -> None:
        """Open the file, created empty if there is none.

        A file longer than `size` is not a part of it, and is emptied.

        Raises:
            NoSpace, StorageUnusable: The file cannot be opened or written.
        """
        self._path = path
        self._unsynced = 0
        try:
            self._file: FileIO = path.open("ab", buffering=0)
            self.held = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise storage_error(error, path) from error
        if self.held > size:
            self.restart()

    def __enter__(self) -> "PartFile":
        if not self.held:
            try:
                sync_folder(self._path.parent)  # bytes that no name leads to could not be gone on with
            except ShelfsightError:
                self._file.close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._sync()
            else:
                with suppress(OSError):  # the error that ended the transfer is the one to tell
                    os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def restart(self) -> None:
        """Forget what was held.

        Raises:
            StorageUnusable: The file cannot be emptied.
        """
        try:
            self._file.truncate(0)
        except OSError as error:
            raise storage_error(error, self._path) from error
        self.held = 0

    def append(self, piece: bytes) -> None:
        """Write the next bytes.

        Raises:
            NoSpace: The disk is full; what fitted is kept.
            StorageUnusable: The disk fails.
        """
        view = memoryview(piece)
        try:
            while view:
                written = self._file.write(view)
                self.held += written
                self._unsynced += written
                view = view[written:]
        except OSError as error:
            raise storage_error(error, self._path) from error
        if self._unsynced >= _SYNC_EVERY:
            self._sync()

    def _sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise storage_error(error, self._path) from error
        self._unsynced = 0
