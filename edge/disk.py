"""Files that are whole or absent, whenever the power fails."""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp

from edge.errors import NoSpace, ShelfsightError, StorageUnusable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace the file at `path` by `data`, so that a kill at any byte leaves the old file or the new one.

    The bytes are written beside it under a hidden name (`.NAME.*.tmp`), brought to the disk and renamed over
    it, and the rename is brought to the disk too. The temporary file is private until `mode` is set, so that
    a key is never readable by others.

    Raises:
        NoSpace: the disk is full; `path` is as it was.
        StorageUnusable: the folder is missing or must not be written; `path` is as it was.
    """
    try:
        handle, name = mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise storage_error(error, path) from error
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise storage_error(error, path) from error
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Bring the names in the folder `path` to the disk: until then a power cut may undo a rename.

    Raises:
        StorageUnusable: the folder cannot be opened or brought to the disk.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise storage_error(error, path) from error


def sha256_file(path: Path) -> str:
    """Compute the SHA-256 of the file at `path`, as 64 lower-case hex digits.

    Raises:
        StorageUnusable: the file is missing or must not be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise storage_error(error, path) from error


def storage_error(error: OSError, path: Path) -> ShelfsightError:
    """Say what the operating system refused at `path`: `NoSpace` for a full disk, else `StorageUnusable`."""
    if error.errno in _FULL:
        return NoSpace(f"no space left on the disk of {path}: free some and try again")
    reason = error.strerror or type(error).__name__
    return StorageUnusable(
        f"{path} cannot be used ({reason.lower()}): check that it exists and who may use it"
    )


@contextmanager
def only_one(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file at `path`, so that one process at a time does what `what` names; it ends with it.

    Raises:
        StorageUnusable: another process holds it, or the file cannot be opened.
        NoSpace: the disk is full.
    """
    try:
        handle = path.open("a")
    except OSError as error:
        raise storage_error(error, path) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageUnusable(f"{what}: wait until it has ended") from error
        yield
