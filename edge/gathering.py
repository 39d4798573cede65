"""Bring the files of a release into its staging folder: linked, merged, or fetched, in this order."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from edge.budget import Budget
from edge.compaction import merge_segments
from edge.disk import sha256_file, storage_error
from edge.errors import (
    CutShort,
    HashMismatch,
    Incompatible,
    NoSpace,
    StepBack,
    StorageUnusable,
    TrialFailed,
    WrongRange,
)
from edge.installation import Installation
from edge.release import FileEntry, Release
from edge.release_files import delete, is_entry, part_path, rename
from edge.transport import Transport

Progress = Callable[[int, int], None]
"""Told (bytes that are here, bytes in all) of the files being fetched."""

Merge = Callable[[Sequence[tuple[Path, str]], Path], None]
"""Writes the merge of segments into a file, as `edge.compaction.merge_segments` does."""

_INDEX_TO_BASE = 10  # an Annoy file takes six to nine times the bytes of its base segment
_SPARE_BYTES = 1024 * 1024
_SPENT = "spent"


class Gathering:
    """Gather files into staging folders; `free_bytes` tells how much room a folder has."""

    def __init__(
        self,
        installation: Installation,
        transport: Transport,
        *,
        free_bytes: Callable[[Path], int] | None = None,
        merge: Merge = merge_segments,
    ) -> None:
        self._installation = installation
        self._transport = transport
        self._free_bytes = free_bytes or _free_bytes
        self._merge = merge

    def gather(
        self, release: Release, needed: Sequence[FileEntry], progress: Progress | None, *, indexed: bool
    ) -> int:
        """Gather the `needed` files of a release; return how many were fetched.

        Room for all of it is looked for first, for the index too unless the release is `indexed` already.

        Raises:
            HashMismatch: The server holds other bytes than were signed.
            NoSpace, StorageUnusable: The disk cannot hold it.
            TryLater: The transfer broke, or cost too much; what came is kept.
            AccessDenied: The server does not know this device any more.
        """
        missing = self._installation.link_known(release, needed)
        self._check_space(release, missing, indexed=indexed)
        missing = tuple(entry for entry in missing if not self._merged(release, entry))
        self._fetch(release, missing, progress)
        return len(missing)

    def _check_space(self, release: Release, missing: Sequence[FileEntry], *, indexed: bool) -> None:
        staging = self._installation.staging(release.version)
        held = sum(_size(part_path(staging, entry)) for entry in missing)
        index = 0 if indexed else _INDEX_TO_BASE * release.file(release.segments[0]).size
        needed = sum(entry.size for entry in missing) - held + index + _SPARE_BYTES
        free = self._free_bytes(staging)
        if needed > free:
            raise NoSpace(
                f"release {release.version} needs {needed} more bytes, and the disk of "
                f"{self._installation.folder} has {free} free: free some space there."
            )

    def _merged(self, release: Release, entry: FileEntry) -> bool:
        """Make a file out of segments that are here, if its signed recipe says how; tell whether it is there.

        Whatever goes wrong, the file is fetched instead.
        """
        folders = self._installation.folders()
        sources = [_held(name, folders) for name in entry.merge]
        found = [(path, name) for path, name in zip(sources, entry.merge, strict=True) if path is not None]
        if not found or len(found) < len(entry.merge):
            return False
        target = self._installation.staging(release.version) / entry.sha256
        with suppress(StepBack, Incompatible, TrialFailed):
            self._merge(found, target)
        if is_entry(target, entry):
            return True
        delete(target)
        return False

    def _fetch(self, release: Release, missing: Sequence[FileEntry], progress: Progress | None) -> None:
        staging = self._installation.staging(release.version)
        total = sum(entry.size for entry in missing)
        budget = Budget(staging / _SPENT, sum(entry.size for entry in release.files) + release.merged_size)
        done = 0
        try:
            for entry in missing:
                part = part_path(staging, entry)
                budget.check(entry.size - _size(part))
                if not self._fetched(part, entry, budget, _from(done, total, progress)):
                    delete(part)  # a part may be of other bytes; the whole is asked for once more
                    if not self._fetched(part, entry, budget, _from(done, total, progress)):
                        delete(part)
                        raise HashMismatch(
                            f"{self._transport.base_url} holds other bytes for file {entry.sha256} of "
                            f"release {release.version} than were signed: publish it again."
                        )
                rename(part, staging / entry.sha256)
                done += entry.size
        finally:
            with suppress(NoSpace, StorageUnusable):  # the error that ended the transfer is the one to tell
                budget.keep()

    def _fetched(self, part: Path, entry: FileEntry, budget: Budget, tell: Callable[[int], None]) -> bool:
        """Fetch a file, again while it breaks off with something gained; tell if it is what was signed."""
        while True:
            held = _size(part)
            try:
                self._download(part, entry, budget, tell)
            except (CutShort, WrongRange) as error:
                if _size(part) == held:
                    raise  # nothing came: coming back later is better than asking again
                budget.fail(error)
            else:
                return sha256_file(part) == entry.sha256

    def _download(self, part: Path, entry: FileEntry, budget: Budget, tell: Callable[[int], None]) -> None:
        arrived = _size(part)
        tell(arrived)

        def count(received: int) -> None:
            nonlocal arrived
            arrived += received
            tell(arrived)
            budget.take(received)

        self._transport.download(f"/v1/files/{entry.sha256}", part, size=entry.size, progress=count)


def _held(name: str, folders: Sequence[Path]) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError as error:
        raise storage_error(error, folder) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _from(done: int, total: int, progress: Progress | None) -> Callable[[int], None]:
    def tell(arrived: int) -> None:
        if progress is not None:
            progress(done + arrived, total)

    return tell
