"""The releases on this disk: which is in use, which came before, which is on trial, and which never again.

    releases/<version>/   release.json, files named by their sha256, index.ann, index.json; whole or absent.
                          `left_out` lists the files that this device does without, because it runs others;
                          `seal` is the hash of release.json, `mended` is there where rotten files came again
    incoming/<version>/   a release on its way here; what is in it is kept over restarts
    current tried proven confirmed floor set_aside starts scrub     one value each, see `edge.ledger`

A kill at any byte leaves a release in use that is whole and was confirmed. Things are made ready under
`incoming/`, brought to the disk, and then named by one rename; the rest is put in order by `recover`.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edge.carrying import carry_file, carry_index
from edge.disk import storage_error, sync_folder, write_atomically
from edge.errors import (
    FixSetup,
    Incompatible,
    NoRelease,
    NoSpace,
    SegmentBroken,
    ShelfsightError,
    StepBack,
    StorageUnusable,
    TrialFailed,
    TryLater,
)
from edge.ledger import Ledger, is_marked_confirmed, mark_confirmed
from edge.matcher import prepare_release_folder
from edge.release import FileEntry, Release
from edge.release_files import (
    INDEX_FILES,
    LEFT_OUT,
    MANIFEST,
    SEAL,
    check_files,
    delete,
    file_lock,
    is_whole,
    read_manifest,
    rename,
    sync_file,
    write_left_out,
)
from edge.scrubbing import INDEX, Rotten, Scrubbed, forget_rotten, known_rotten, scrub_step

KEPT = 2
"""How many good releases stay on the disk: the one in use and the one to step back to."""

STARTS = 3
"""After so many starts in a row that came to no answer, a device goes back to the release before."""

Trial = Callable[[Path], None]
"""Tries the release in a folder, and raises what is wrong with it."""

Prepare = Callable[[Path], None]
"""Makes a folder with a manifest and files ready to be opened: builds the index."""

_MENDED = "mended"  # its time says when a release in use last got back what had rotted
_VERSION = re.compile(r"[1-9][0-9]{0,15}")
_DISCARDED = ".discarded-"


class Installation:
    """Keep the releases of one device in its data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ledger = Ledger(folder)
        self._releases = folder / "releases"
        self._incoming = folder / "incoming"
        self._lock_owner: int | None = None

    # What is here ----------------------------------------------------------------------------------------

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

    # A release arrives -----------------------------------------------------------------------------------

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

    def link_known(
        self, release: Release, needed: Sequence[FileEntry] | None = None
    ) -> tuple[FileEntry, ...]:
        """Put the files that this disk already holds into the staging folder, and return those it does not.

        Only the `needed` files are looked for; None means all of the release. Held files become hard links to
        those of other releases, so they take no space; each is hashed first. What other, unfinished releases
        brought is taken over, their `.part` files too, and they are thrown away.

        Raises:
            NoSpace, StorageUnusable: The disk fails.
        """
        staging = self.staging(release.version)
        wanted = release.files if needed is None else needed
        installed, unfinished = self.folders(), self._unfinished()
        missing = tuple(entry for entry in wanted if not carry_file(entry, staging, installed, unfinished))
        for version in self._versions(self._incoming, whole=False):
            if version != release.version:
                self._discard(self._incoming / str(version))
        return missing

    def install(
        self,
        release: Release,
        release_bytes: bytes,
        needed: Sequence[FileEntry] | None = None,
        *,
        prepare: Prepare = prepare_release_folder,
    ) -> Path:
        """Make the staged release one of this disk's releases; it is not yet in use. Return its folder.

        Every file that is `needed` (None: all of them) is hashed, the others are noted as left out, the index
        is built by `prepare`, everything is brought to the disk, then renamed. `prepare` finds the index of
        another release in the folder, where one was built over the same base by the same recipe; it may use
        that or write its own, and raises what `edge.matcher.prepare_release_folder` does.

        Raises:
            HashMismatch: A file is missing or not what was signed; it is deleted, the others are kept.
            SegmentBroken: The segments do not merge as signed, and there is a whole base to do without them:
                install it anew with that among the `needed`.
            TrialFailed: The release cannot be made ready; it is set aside, and not to be fetched again.
            NoSpace, StorageUnusable: The disk fails; nothing is installed.
        """
        final = self._release(release.version)
        if release.version in self._good() or self._is_proven(release.version, release_bytes):
            return final
        staging = self.staging(release.version)
        wanted = release.files if needed is None else needed
        check_files(release, staging, wanted)
        names = {entry.sha256 for entry in wanted}
        for path in staging.iterdir():
            if path.name not in names:
                delete(path)
        write_left_out(staging, {entry.sha256 for entry in release.files} - names)
        write_atomically(staging / MANIFEST, release_bytes)
        write_atomically(staging / SEAL, json.dumps(hashlib.sha256(release_bytes).hexdigest()).encode())
        carry_index(release, staging, self.folders())
        self._prepare(release, staging, prepare)
        for path in staging.iterdir():
            sync_file(path)
        sync_folder(staging)
        self._made(self._releases)
        if final.exists():
            self._discard(final)
        rename(staging, final)
        return final

    def lacking(self, release: Release, needed: Sequence[FileEntry]) -> tuple[FileEntry, ...]:
        """Return those of the `needed` files that an installed release has not; only sizes are compared."""
        folder = self._release(release.version)
        return tuple(entry for entry in needed if _size(folder / entry.sha256) != entry.size)

    def complete(self, release: Release, needed: Sequence[FileEntry]) -> None:
        """Move staged files into an installed release that lacks them: this device runs other ones by now.

        They are hashed and named one by one. A kill leaves the release as it was, or with a file more; it
        answered without them and goes on so.

        Raises:
            HashMismatch: A file is missing or not what was signed; it is deleted, the release is as it was.
            NoSpace, StorageUnusable: The disk fails; the release is as it was.
        """
        staging, folder = self.staging(release.version), self._release(release.version)
        brought = self.lacking(release, needed)
        check_files(release, staging, brought)
        for entry in brought:
            sync_file(staging / entry.sha256)
        with self._changing():
            for entry in brought:
                rename(staging / entry.sha256, folder / entry.sha256)
            spared = {entry.sha256 for entry in release.files} - {entry.sha256 for entry in needed}
            write_left_out(folder, (name for name in spared if not (folder / name).exists()))
            self._discard(staging)

    def try_out(self, version: int, trial: Trial) -> None:
        """Put an installed release on trial; if `trial` is content with its folder, it comes into use.

        One that is proven comes into use without another trial. If the process dies in the trial, `recover`
        sets the release aside at the next start.

        Raises:
            TrialFailed: The trial refused it; it is set aside, deleted, and not to be fetched again.
            FixSetup, NoSpace, TryLater: The device, not the release, is at fault; the release waits for the
                next try.
        """
        with self._trial_begun(version):
            if version != self.proven_version():
                self._on_trial(version, trial)
            self._confirm(version)

    def prove(self, version: int, trial: Trial) -> None:
        """Put an installed release on trial as `try_out` does, but keep it out of use: it answers beside.

        There is one proven release at most; the one before is forgotten.

        Raises:
            TrialFailed, FixSetup, NoSpace, TryLater: as `try_out`.
        """
        if version in (self.proven_version(), self.current_version()):
            return
        with self._trial_begun(version):
            self._on_trial(version, trial)
            with self._changing():
                self._ledger.set_proven(version)
                self._ledger.set_tried(None)
                self._collect_garbage()

    def disprove(self, version: int, reason: str) -> None:
        """Set a proven release aside that did not answer as it should beside the one in use.

        Raises:
            NoSpace, StorageUnusable: The disk fails.
        """
        with self.lock():
            if version == self.proven_version():
                self._reject(version, reason)

    # A program starts ------------------------------------------------------------------------------------

    def begin_start(self) -> bool:
        """Note that a program starts that is to answer; tell whether the release in use has to be left.

        True, and nothing noted, when `STARTS` starts of it came to no answer and there is one to go back to:
        then `step_back` and begin again.

        Raises:
            NoSpace, StorageUnusable: It cannot be noted.
        """
        version = self.current_version()
        if version is None:
            return False
        failed = self._ledger.starts(version)
        if failed >= STARTS and len(self._good()) > 1:
            return True
        self._ledger.set_starts(version, failed + 1)
        return False

    def starts(self) -> int:
        """Return how many starts in a row of programs that use this release came to no answer."""
        version = self.current_version()
        return 0 if version is None else self._ledger.starts(version)

    def end_start(self) -> None:
        """Note that the program answers.

        Raises:
            NoSpace, StorageUnusable: It cannot be noted.
        """
        self._ledger.set_starts(0, 0)

    # Files at rest ---------------------------------------------------------------------------------------

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

    def folders(self) -> list[Path]:
        """Return the folders of the releases here, newest first."""
        return [self._release(version) for version in reversed(self._versions(self._releases))]

    def release_folder(self, version: int) -> Path:
        """Return where an installed release lies."""
        return self._release(version)

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

    # When something went wrong ---------------------------------------------------------------------------

    def recover(self) -> int | None:
        """Put the disk in order after a kill; call it when a device starts.

        A release whose trial began and did not end is set aside; one that was confirmed but not yet brought
        into use is; leftovers are removed. Returns the version set aside, if one was. Does nothing while
        another process is updating.

        Raises:
            NoSpace, StorageUnusable: The disk fails.
        """
        if not self.folder.is_dir():
            return None
        try:
            with self.lock():
                return self._recover()
        except TryLater:
            return None

    def step_back(self, reason: str, *, failed: int | None = None) -> int | None:
        """Leave the release in use, which does not work, for the last good one; return the version of that.

        `failed` is the version that was found not to work, if the caller knows; should another one be in use
        by now, nothing changes. If the failing release is still what was signed, it is set aside for
        `reason`; if the disk spoiled it, it is only taken out of use, and the next update mends it.

        Raises:
            NoSpace, StorageUnusable: The disk fails.
        """
        with self._changing():
            current = self.current_version()
            if current is None or (failed is not None and failed != current):
                return current
            if is_whole(self._release(current)):
                self._ledger.add_set_aside(current, reason)
            else:
                self._take_out(current)
            before = self.current_version()
            self._ledger.set_current(before)
            return before

    # Inside ----------------------------------------------------------------------------------------------

    def _prepare(self, release: Release, staging: Path, prepare: Prepare) -> None:
        base = release.whole_base
        try:
            prepare(staging)
        except (StepBack, Incompatible, TrialFailed) as error:
            if isinstance(error, SegmentBroken) and base is not None and not (staging / base.sha256).exists():
                raise
            # The bytes are the signed ones, so fetching them again would change nothing.
            self._reject(release.version, str(error))
            raise _failed(error)(
                f"release {release.version} cannot be made ready and is set aside "
                f"({str(error).rstrip('.')}); the release before it stays in use."
            ) from error

    def _on_trial(self, version: int, trial: Trial) -> None:
        try:
            trial(self._release(version))
        except (FixSetup, NoSpace, TryLater, KeyboardInterrupt):
            self._ledger.set_tried(None)
            raise
        except ShelfsightError as error:
            self._reject(version, str(error))
            raise _failed(error)(
                f"release {version} failed its trial and is set aside ({str(error).rstrip('.')}); "
                "the release before it stays in use."
            ) from error

    @contextmanager
    def _trial_begun(self, version: int) -> Iterator[None]:
        """Note that a trial begins; a disk that fills up must not look like one that was not survived."""
        try:
            self._ledger.set_tried(version)
            yield
        except (NoSpace, StorageUnusable):
            tried = self._ledger.tried()
            if tried is not None and tried not in self.confirmed():
                with suppress(NoSpace, StorageUnusable):
                    self._ledger.set_tried(None)
            raise

    def _is_proven(self, version: int, release_bytes: bytes) -> bool:
        """Tell whether this very release is proven, and nothing of it has rotted since."""
        folder = self._release(version)
        try:
            same = version == self.proven_version() and (folder / MANIFEST).read_bytes() == release_bytes
        except OSError:
            return False
        return same and is_whole(folder)

    def _release(self, version: int) -> Path:
        return self._releases / str(version)

    def _good(self) -> frozenset[int]:
        return frozenset(self.confirmed()) - self.set_aside()

    def _confirm(self, version: int) -> None:
        with self._changing():
            # The mark decides: once it is on the disk, a kill between these lines is mended by `recover`.
            mark_confirmed(self._release(version))
            self._ledger.raise_floor(version)
            self._ledger.set_confirmed(frozenset(self.confirmed()))
            self._ledger.set_current(version)
            self._ledger.set_tried(None)
            if self._ledger.proven() == version:
                self._ledger.set_proven(None)
            self._collect_garbage()

    def _reject(self, version: int, reason: str) -> None:
        with self._changing():
            self._ledger.add_set_aside(version, reason)
            self._ledger.set_tried(None)
            self._discard(self._release(version))
            self._discard(self._incoming / str(version))

    def _recover(self) -> int | None:
        tried = self._ledger.tried()
        rejected = None
        if tried is not None and tried in self.confirmed():
            self._confirm(tried)
        elif tried is not None and tried != self.proven_version():
            self._reject(tried, "the device stopped in the middle of its trial")
            rejected = tried
        elif (self.folder / "tried").exists():
            self._ledger.set_tried(None)
        with self._changing():
            self._collect_garbage()
        return rejected

    def _collect_garbage(self) -> None:
        """Remove what no step from here could need."""
        current, proven = self.current_version(), self.proven_version()
        if proven is None and (self.folder / "proven").exists():
            self._ledger.set_proven(None)
        here = self._versions(self._releases, whole=False)
        older = sorted(version for version in self._good() if version != current)
        kept = {version for version in older[-(KEPT - 1) :] if version >= self._rollback_floor(current)}
        waiting = set(here) - set(self.confirmed()) - self.set_aside() - {proven}
        least = max(self.floor(), proven or 0)
        newest = max((version for version in waiting if version >= least), default=None)
        for version in here:
            if version not in kept | {current, proven, newest}:
                self._discard(self._release(version))
        for version in self._versions(self._incoming, whole=False):
            if version < self.floor() or version in self.set_aside():
                self._discard(self._incoming / str(version))
        for path in (*self._incoming.glob(f"{_DISCARDED}*"), *self._ledger.leftovers()):
            delete(path)

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

    def _take_out(self, version: int) -> None:
        """Make a spoiled release one that is still to come, so that its good files need not be fetched."""
        self._ledger.set_confirmed(self._ledger.confirmed() - {version})
        arriving = self._made(self._incoming) / str(version)
        if arriving.exists():
            self._discard(arriving)
        rename(self._release(version), arriving)

    def _discard(self, folder: Path) -> None:
        """Delete a folder so that a kill never leaves half of it under its name."""
        if not folder.exists():
            return
        aside = self._made(self._incoming) / f"{_DISCARDED}{folder.parent.name}-{folder.name}"
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


def _failed(error: ShelfsightError) -> type[TrialFailed]:
    """Return as what a release is refused: by the very kind, where its trial said how it failed."""
    return type(error) if isinstance(error, TrialFailed) else TrialFailed


def _size(path: Path) -> int | None:
    """Return how many bytes a file has, None if it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _changed(path: Path) -> int:
    """Return when a file was changed, in nanoseconds; 0 if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
