"""The releases on this disk and the files of state beside them: what is here, and who may change it."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.disk import storage_error, sync_folder, write_atomically
from edge.errors import NoRelease, TryLater
from edge.ledger import Ledger, is_marked_confirmed
from edge.release_files import (
    INDEX_FILES,
    LEFT_OUT,
    MANIFEST,
    delete,
    file_lock,
    read_manifest,
    rename,
    sync_file,
)
from edge.scrubbing import INDEX, Rotten, Scrubbed, forget_rotten, known_rotten, scrub_step

_MENDED = "mended"  # its time says when a release in use last got back what had rotted
_VERSION = re.compile(r"[1-9][0-9]{0,15}")
DISCARDED = ".discarded-"
"""How the names of folders begin that are on their way out."""


class Shelf:
    """Tell which releases lie in a device's data folder, lock them, and look after their files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ledger = Ledger(folder)
        self._releases = folder / "releases"
        self._incoming = folder / "incoming"
        self._lock_owner: int | None = None

    # What is here -------------------------------------------------------------------------------------------

    def current_version(self) -> int | None:
        """Return the version in use: whole, confirmed, not set aside. None if there is none.

        If the file that names it is lost, the newest good release is in use.
        """
        good = self._good()
        named = self._ledger.current()
        if named in good:
            return named
        return max(good, default=None)

    def edition(self) -> tuple[int | None, int]:
        """Return what is another whenever other files are in use: the version, and when files came to it."""
        version = self.current_version()
        if version is None:
            return None, 0
        folder = self._release(version)
        return version, max(_changed(folder / LEFT_OUT), _changed(folder / _MENDED))

    def current(self) -> Path:
        """Return the folder of the release in use.

        Raises:
            NoRelease: None is installed.
        """
        version = self.current_version()
        if version is None:
            raise NoRelease(f"no release is installed in {self.folder}: run `shelfsight sync`.")
        return self._release(version)

    def proven_version(self) -> int | None:
        """Return the version that passed its trial here and is not to be used yet, None if there is none."""
        version = self._ledger.proven()
        if version is None or version in self.set_aside() or version in self.confirmed():
            return None
        return version if (self._release(version) / MANIFEST).is_file() else None

    def proven(self) -> Path:
        """Return the folder of the proven release.

        Raises:
            NoRelease: None is.
        """
        version = self.proven_version()
        if version is None:
            raise NoRelease(f"no release is proven in {self.folder} and not in use: wait for an offer.")
        return self._release(version)

    def floor(self) -> int:
        """Return the highest version ever confirmed here, 0 for none; it survives the loss of its file."""
        return max(self._ledger.floor(), *self._ledger.confirmed(), *self.confirmed(), 0)

    def set_aside(self) -> frozenset[int]:
        """Return the versions that failed here and are not to be fetched again."""
        return frozenset(self._ledger.set_aside())

    def set_aside_reason(self, version: int) -> str | None:
        """Return why a version was set aside, None if it was not."""
        return self._ledger.set_aside().get(version)

    def confirmed(self) -> tuple[int, ...]:
        """Return the versions on this disk that passed their trial, oldest first."""
        listed = self._ledger.confirmed()
        return tuple(
            version
            for version in self._versions(self._releases)
            if version in listed or is_marked_confirmed(self._release(version))
        )

    def folders(self) -> list[Path]:
        """Return the folders of the releases here, newest first."""
        return [self._release(version) for version in reversed(self._versions(self._releases))]

    def release_folder(self, version: int) -> Path:
        """Return where an installed release lies."""
        return self._release(version)

    # Who changes it -----------------------------------------------------------------------------------------

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only one who updates this device while the block lasts; may be nested in one thread.

        Raises:
            TryLater: Another process or thread is at it.
            StorageUnusable: The folder cannot be written.
        """
        if self._lock_owner == threading.get_ident():
            yield
            return
        with file_lock(self._made(self.folder) / "updating.lock", wait=False) as got:
            if not got:
                raise TryLater(f"another process is updating {self.folder}: try again when it is done.")
            self._lock_owner = threading.get_ident()
            try:
                yield
            finally:
                self._lock_owner = None

    def staging(self, version: int) -> Path:
        """Return the folder in which a release is made ready, created if need be.

        Raises:
            NoSpace, StorageUnusable: It cannot be created.
        """
        return self._made(self._incoming / str(version))

    # Files at rest ------------------------------------------------------------------------------------------

    def scrub(self, budget: int) -> Scrubbed:
        """Read on in the releases on this disk, about `budget` bytes, and name all that is rotten by now.

        A round goes over every file once, in as many calls as it takes.

        Raises:
            TryLater: An update is going on.
            NoSpace, StorageUnusable: The disk fails.
        """
        with self.lock():
            versions = [*self.confirmed(), self.proven_version()]
            return scrub_step(self._ledger, {v: self._release(v) for v in versions if v is not None}, budget)

    def rotten(self) -> tuple[Rotten, ...]:
        """Return what the scrub found rotten in releases that are still here, in the order of mending."""
        found = [each for each in known_rotten(self._ledger) if self.release_folder(each.release).is_dir()]
        current = self.current_version()
        return tuple(
            sorted(
                found, key=lambda each: (each.release != current, -each.release, _turn(each.name), each.name)
            )
        )

    def mend(self, rotten: Rotten) -> None:
        """Put what lies in the staging folder of the release in the place of what rotted, by rename.

        Whoever has the old file mapped keeps it; `edition` tells that there is another. The index is moved
        file by file, its record last: a kill in between leaves it as broken as it was.

        Raises:
            NoSpace, StorageUnusable: The disk fails; the release is as it was.
        """
        staging, folder = self.staging(rotten.release), self._release(rotten.release)
        names = INDEX_FILES if rotten.name == INDEX else (rotten.name,)
        staged = [name for name in names if (staging / name).exists()]
        for name in staged:
            sync_file(staging / name)
        with self._changing():
            for name in names:
                if name in staged:
                    rename(staging / name, folder / name)
                else:
                    delete(folder / name)
            forget_rotten(self._ledger, rotten)
            write_atomically(folder / _MENDED, json.dumps([*staged]).encode())

    # Inside -------------------------------------------------------------------------------------------------

    def _release(self, version: int) -> Path:
        return self._releases / str(version)

    def _good(self) -> frozenset[int]:
        return frozenset(self.confirmed()) - self.set_aside()

    def _rollback_floor(self, version: int | None) -> int:
        release = read_manifest(self._release(version)) if version is not None else None
        return release.rollback_floor if release is not None else 0

    def _versions(self, folder: Path, *, whole: bool = True) -> list[int]:
        """Return the versions with a folder in `folder`, `whole` ones have a manifest; oldest first."""
        try:
            names = [path.name for path in folder.iterdir() if path.is_dir()]
        except OSError:
            return []
        versions = [int(name) for name in names if _VERSION.fullmatch(name)]
        return sorted(v for v in versions if not whole or (folder / str(v) / MANIFEST).is_file())

    def _unfinished(self) -> list[Path]:
        return [self._incoming / str(version) for version in self._versions(self._incoming, whole=False)]

    def _discard(self, folder: Path) -> None:
        """Delete a folder so that a kill never leaves half of it under its name."""
        if not folder.exists():
            return
        aside = self._made(self._incoming) / f"{DISCARDED}{folder.parent.name}-{folder.name}"
        delete(aside)
        rename(folder, aside)
        delete(aside)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold, for moments only, the right to change the state files and to move releases."""
        with file_lock(self._made(self.folder) / "state.lock", wait=True):
            yield

    def _made(self, folder: Path) -> Path:
        try:
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                sync_folder(folder.parent)
        except OSError as error:
            raise storage_error(error, folder) from error
        return folder


def _turn(name: str) -> int:
    """Say when in a release something is mended: its manifest first, its index when all else is sound."""
    return {MANIFEST: 0, INDEX: 2}.get(name, 1)


def _changed(path: Path) -> int:
    """Return when a file was changed, in nanoseconds; 0 if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
