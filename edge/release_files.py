"""Check, link, move and delete the files of releases, with the disk's failures said in our words."""

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.disk import sha256_file, storage_error, sync_folder, write_atomically
from edge.errors import BadManifest, FormatTooNew, HashMismatch, StorageUnusable
from edge.release import FileEntry, Release

MANIFEST = "release.json"
LEFT_OUT = "left_out"
"""Name of the list, inside a release, of the files that it was installed without."""
SEAL = "seal"
"""Name of the file, inside a release, with the SHA-256 of its manifest as it was signed (JSON text)."""
INDEX_FILES = ("index.ann", "index.cells", "index.json")
"""What a device builds itself, the record last: it names the hashes of the others."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TICK_NS = 20_000_000  # two writes within 10 ms may leave the same times: the kernel's clock ticks so slowly


def opened_segments(release: Release, folder: Path) -> tuple[str, ...]:
    """Name the segments from which the release in `folder` answers: the whole base alone, if it is here."""
    base = release.whole_base
    return (base.sha256,) if base is not None and (folder / base.sha256).exists() else release.segments


def part_path(staging: Path, entry: FileEntry) -> Path:
    """Return where a file grows while it is downloaded."""
    return staging / f"{entry.sha256}.part"


def is_entry(path: Path, entry: FileEntry) -> bool:
    """Tell whether the file at `path` is there and is what the entry says; an unreadable one is not."""
    try:
        return path.is_file() and path.stat().st_size == entry.size and sha256_file(path) == entry.sha256
    except (OSError, StorageUnusable):
        return False


class Hashed:
    """Remember, for the length of one update, the files that were read and found to be what they should be.

    A file is known again by device, inode, size, and the times of its last write and last change; any other
    stamp means reading it again. The time of change is the kernel's, and nobody sets it back.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[int, ...], str] = {}

    def is_entry(self, path: Path, entry: FileEntry) -> bool:
        """Tell what `is_entry` does, without reading what was read before and has not changed since."""
        before = _stamp(path)
        if before is not None and self._found.get(before) == entry.sha256:
            return True
        if not is_entry(path, entry):
            return False
        settled = before is not None and time.time_ns() - before[-1] > _TICK_NS
        if before is not None and settled and _stamp(path) == before:
            self._found[before] = entry.sha256
        return True


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Return what tells a file from any other and from itself before a write; None where nothing does."""
    try:
        found = path.stat()
    except OSError:
        return None
    if found.st_nlink < 2:
        return None  # a copy: this may be FAT, whose clock stands still for two seconds
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def check_files(release: Release, folder: Path, needed: Iterable[FileEntry], hashed: Hashed) -> None:
    """Check those files of the release that are `needed`; one that is not what was signed is deleted.

    Raises:
        HashMismatch: A file is missing, or is not what was signed.
        StorageUnusable: A wrong file cannot be deleted.
    """
    for entry in needed:
        path = folder / entry.sha256
        if not hashed.is_entry(path, entry):
            delete(path)
            raise HashMismatch(
                f"file {entry.sha256} of release {release.version} is missing or not what was signed; "
                "it will be fetched again."
            )


def left_out(folder: Path) -> frozenset[str]:
    """Return the hashes of the files that a release was installed without, as this device does not run them.

    A list that the disk has spoiled names none: then those files are missing, and an update brings them.
    """
    try:
        names: object = json.loads((folder / LEFT_OUT).read_bytes())
    except (OSError, ValueError, RecursionError):
        return frozenset()
    return frozenset(str(name) for name in names) if isinstance(names, list) else frozenset()


def write_left_out(folder: Path, names: Iterable[str]) -> None:
    """Say which files a release does without; a whole release has no such list.

    Raises:
        NoSpace, StorageUnusable: The disk fails; the list is as it was.
    """
    listed = sorted(names)
    if listed:
        write_atomically(folder / LEFT_OUT, json.dumps(listed).encode() + b"\n")
    elif (folder / LEFT_OUT).exists():
        delete(folder / LEFT_OUT)
        sync_folder(folder)


def read_manifest(folder: Path) -> Release | None:
    """Read the manifest of an installed release, None if it cannot be."""
    try:
        return Release.from_bytes((folder / MANIFEST).read_bytes())
    except (OSError, BadManifest, FormatTooNew):
        return None


def is_sealed(folder: Path) -> bool:
    """Tell whether the manifest is the one that was signed; one that an older Shelfsight left has no seal."""
    found = seal(folder)
    try:
        return found is None or found == sha256_file(folder / MANIFEST)
    except StorageUnusable:
        return False


def seal(folder: Path) -> str | None:
    """Return the SHA-256 that the manifest of an installed release must have, None if it is not known."""
    try:
        found: object = json.loads((folder / SEAL).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, str) and _SHA256.fullmatch(found) else None


def held_files(release: Release, folder: Path) -> tuple[FileEntry, ...]:
    """List the files that an installed release must have: not those that it was installed without."""
    base = release.whole_base
    whole = (base,) if base is not None and (folder / base.sha256).exists() else ()
    # Without a whole base no segment can be done without, whatever a spoiled list says.
    spared = left_out(folder) - (frozenset() if whole else frozenset(release.segments))
    return tuple(
        entry
        for entry in (*release.files, *whole)
        if entry.sha256 not in spared or (folder / entry.sha256).exists()
    )


def is_whole(folder: Path) -> bool:
    """Tell whether an installed release is what was signed, and its index what was built here.

    Files that it was installed without are not missed.
    """
    release = read_manifest(folder)
    return (
        release is not None
        and is_sealed(folder)
        and all(is_entry(folder / entry.sha256, entry) for entry in held_files(release, folder))
        and index_is_whole(folder)
    )


def index_is_whole(folder: Path) -> bool:
    """Tell whether the index of an installed release is what was built here, by the hashes of its record."""
    try:
        said: object = json.loads((folder / "index.json").read_bytes())
        if not isinstance(said, dict) or said.get("sha256") != sha256_file(folder / "index.ann"):
            return False
        cells = said.get("cells_sha256")
        return cells is None or cells == sha256_file(folder / "index.cells")
    except (OSError, ValueError, RecursionError, StorageUnusable):
        return False


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the disk knows no hard links (FAT).

    Raises:
        NoSpace, StorageUnusable: Neither was possible.
    """
    try:
        try:
            target.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, target)
    except OSError as error:
        raise storage_error(error, target) from error


def rename(source: Path, target: Path) -> None:
    """Move a folder in one step, and bring the step to the disk.

    Raises:
        NoSpace, StorageUnusable: It was not possible; nothing moved.
    """
    try:
        source.rename(target)
    except OSError as error:
        raise storage_error(error, target) from error
    sync_folder(target.parent)
    sync_folder(source.parent)


def delete(path: Path) -> None:
    """Delete a file, or a folder with all that is in it; fine if it is not there.

    Raises:
        StorageUnusable: It was not possible.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error


def sync_file(path: Path) -> None:
    """Bring a file's bytes to the disk.

    Raises:
        NoSpace, StorageUnusable: The disk fails.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise storage_error(error, path) from error


@contextmanager
def file_lock(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold an exclusive lock that the kernel drops when the process dies; give whether it was got.

    Raises:
        NoSpace, StorageUnusable: The lock file cannot be created.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise storage_error(error, path) from error
    try:
        got = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            got = False
        yield got
    finally:
        os.close(handle)
