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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edge.carrying import carry_file, carry_index
from edge.disk import sync_folder, write_atomically
from edge.errors import (
    FixSetup,
    Incompatible,
    NoSpace,
    SegmentBroken,
    ShelfsightError,
    StepBack,
    StorageUnusable,
    TrialFailed,
    TryLater,
)
from edge.ledger import CHANCES, mark_confirmed
from edge.matcher import prepare_release_folder
from edge.release import FileEntry, Release
from edge.release_files import (
    MANIFEST,
    SEAL,
    Hashed,
    check_files,
    delete,
    is_whole,
    rename,
    sync_file,
    write_left_out,
)
from edge.shelf import DISCARDED, Shelf

KEPT = 2
"""How many good releases stay on the disk: the one in use and the one to step back to."""

Trial = Callable[[Path], None]
"""Tries the release in a folder, and raises what is wrong with it."""

Prepare = Callable[[Path], None]
"""Makes a folder with a manifest and files ready to be opened: builds the index."""


class Installation(Shelf):
    """Keep the releases of one device in its data folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._hashed = Hashed()  # in the update that is going on

    # A release arrives -----------------------------------------------------------------------------------

    def link_known(
        self, release: Release, needed: Sequence[FileEntry] | None = None
    ) -> tuple[FileEntry, ...]:
        """Put the files that this disk already holds into the staging folder, and return those it does not.

        Only the `needed` files are looked for; None means all of the release. Held files become hard links to
        those of other releases, so they take no space; each is hashed. What other, unfinished releases
        brought is taken over, their `.part` files too, and they are thrown away.

        Raises:
            NoSpace, StorageUnusable: The disk fails.
        """
        staging = self.staging(release.version)
        wanted = release.files if needed is None else needed
        self._hashed = Hashed()
        others = self.folders(), self._unfinished(), self._hashed
        missing = tuple(entry for entry in wanted if not carry_file(entry, staging, *others))
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
        check_files(release, staging, wanted, self._hashed)
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
        check_files(release, staging, brought, self._hashed)
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

        One that is proven comes into use without another trial. If the process dies in the trial, the release
        waits for the next try; `recover` sets it aside when that happened `CHANCES` times in a row.

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
                self._ledger.forget_trials()
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

        True, and nothing noted, when `CHANCES` starts of it came to no answer and there is one to go back to:
        then `step_back` and begin again.

        Raises:
            NoSpace, StorageUnusable: It cannot be noted.
        """
        version = self.current_version()
        if version is None:
            return False
        failed = self._ledger.starts(version)
        if failed >= CHANCES and len(self._good()) > 1:
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

    # When something went wrong ---------------------------------------------------------------------------

    def recover(self) -> int | None:
        """Put the disk in order after a kill; call it when a device starts.

        A release whose trial began and did not end `CHANCES` times in a row is set aside; one that was
        confirmed but not yet brought into use is; leftovers are removed. Returns the version set aside, if
        one was. Does nothing while another process is updating.

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
        except (FixSetup, NoSpace, TryLater):
            raise
        except ShelfsightError as error:
            self._reject(version, str(error))
            raise _failed(error)(
                f"release {version} failed its trial and is set aside ({str(error).rstrip('.')}); "
                "the release before it stays in use."
            ) from error

    @contextmanager
    def _trial_begun(self, version: int) -> Iterator[None]:
        """Note that a trial begins; a device at fault must not look like one that did not survive it."""
        before = self._ledger.trials(version)
        try:
            self._ledger.set_trials(version, before + 1)
            yield
        except (FixSetup, NoSpace, TryLater, KeyboardInterrupt):
            if self._ledger.trials(version) > before and version not in self.confirmed():
                self._take_back(version, before)
            raise

    def _take_back(self, version: int, trials: int) -> None:
        """Count so many trials again; on a full disk none, for that takes no room."""
        try:
            self._ledger.set_trials(version, trials)
        except (NoSpace, StorageUnusable):
            with suppress(NoSpace, StorageUnusable):
                self._ledger.forget_trials()

    def _is_proven(self, version: int, release_bytes: bytes) -> bool:
        """Tell whether this very release is proven, and nothing of it has rotted since."""
        folder = self._release(version)
        try:
            same = version == self.proven_version() and (folder / MANIFEST).read_bytes() == release_bytes
        except OSError:
            return False
        return same and is_whole(folder)

    def _confirm(self, version: int) -> None:
        with self._changing():
            # The mark decides: once it is on the disk, a kill between these lines is mended by `recover`.
            mark_confirmed(self._release(version))
            self._ledger.raise_floor(version)
            self._ledger.set_confirmed(frozenset(self.confirmed()))
            self._ledger.set_current(version)
            self._ledger.forget_trials()
            if self._ledger.proven() == version:
                self._ledger.set_proven(None)
            self._collect_garbage()

    def _reject(self, version: int, reason: str) -> None:
        with self._changing():
            self._ledger.add_set_aside(version, reason)
            self._ledger.forget_trials()
            self._discard(self._release(version))
            self._discard(self._incoming / str(version))

    def _recover(self) -> int | None:
        tried = self._ledger.tried()
        rejected = None
        if tried is not None and tried in self.confirmed():
            self._confirm(tried)
        elif tried is None or tried in self.set_aside() | {self.proven_version()}:
            self._ledger.forget_trials()
        elif self._ledger.trials(tried) >= CHANCES:
            self._reject(tried, f"the device stopped {CHANCES} times in a row in the middle of its trial")
            rejected = tried
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
        for path in (*self._incoming.glob(f"{DISCARDED}*"), *self._ledger.leftovers()):
            delete(path)

    def _take_out(self, version: int) -> None:
        """Make a spoiled release one that is still to come, so that its good files need not be fetched."""
        self._ledger.set_confirmed(self._ledger.confirmed() - {version})
        arriving = self._made(self._incoming) / str(version)
        if arriving.exists():
            self._discard(arriving)
        rename(self._release(version), arriving)


def _failed(error: ShelfsightError) -> type[TrialFailed]:
    """Return as what a release is refused: by the very kind, where its trial said how it failed."""
    return type(error) if isinstance(error, TrialFailed) else TrialFailed


def _size(path: Path) -> int | None:
    """Return how many bytes a file has, None if it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return None
