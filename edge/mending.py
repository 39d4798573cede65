"""Fetch again what rotted of the releases on this disk, and put it in its place while it is in use."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.disk import write_atomically
from edge.errors import HashMismatch, ServerUnreachable
from edge.gathering import Gathering
from edge.installation import Installation, Prepare
from edge.release import FileEntry, Release
from edge.release_files import (
    INDEX_FILES,
    LEFT_OUT,
    MANIFEST,
    SEAL,
    delete,
    held_files,
    is_entry,
    left_out,
    link,
    read_manifest,
    seal,
    write_left_out,
)
from edge.scrubbing import INDEX, Rotten
from edge.transport import Transport

_MOST_MANIFEST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Mended:
    """What was mended: the release, and the names of its files."""

    release: int
    files: tuple[str, ...]


class Mending:
    """Mend the releases of one installation; `needed` says which of a release's files this device needs."""

    def __init__(
        self,
        installation: Installation,
        transport: Transport,
        gathering: Gathering,
        *,
        prepare: Prepare,
        needed: Callable[[Release], tuple[FileEntry, ...]],
    ) -> None:
        self._installation = installation
        self._transport = transport
        self._gathering = gathering
        self._prepare = prepare
        self._needed = needed

    def mend_all(self) -> tuple[Mended, ...]:
        """Mend what the scrub found rotten, the release in use first; return what was.

        Raises:
            HashMismatch: The server holds other bytes than were signed.
            NoSpace, StorageUnusable: The disk fails.
            TryLater, AccessDenied: as for every transfer.
        """
        mended: dict[int, list[str]] = {}
        for rotten in self._installation.rotten():
            if self._mend(rotten):
                mended.setdefault(rotten.release, []).append(rotten.name)
        return tuple(Mended(release, tuple(names)) for release, names in mended.items())

    def _mend(self, rotten: Rotten) -> bool:
        """Mend one file; False where it is beyond mending: then a step back takes the release out of use."""
        folder = self._installation.release_folder(rotten.release)
        staging = self._installation.staging(rotten.release)
        if rotten.name == MANIFEST:
            ready = self._fetch_manifest(folder, staging)
        else:
            release = read_manifest(folder)
            if release is None:
                return False
            if rotten.name == INDEX:
                ready = self._build_index(release, folder, staging)
            else:
                ready = self._fetch_file(release, rotten.name, folder)
        if ready:
            self._installation.mend(rotten)
        delete(staging)
        return ready

    def _fetch_manifest(self, folder: Path, staging: Path) -> bool:
        sealed = seal(folder)
        if sealed is None:
            return False
        data = self._transport.get_bytes(f"/v1/files/{sealed}", max_bytes=_MOST_MANIFEST_BYTES)
        if data is None:
            raise ServerUnreachable(f"{self._transport.base_url} has no manifest {sealed} any more.")
        if hashlib.sha256(data).hexdigest() != sealed:
            raise HashMismatch(f"{self._transport.base_url} holds another manifest than {sealed}.")
        write_atomically(staging / MANIFEST, data)
        return True

    def _fetch_file(self, release: Release, name: str, folder: Path) -> bool:
        wanted = [entry for entry in self._needed(release) if entry.sha256 == name]
        if wanted:
            self._gathering.gather(release, wanted, None, indexed=True)
            return True
        # It is of a network that this device does not run any more: it does without.
        delete(folder / name)
        write_left_out(folder, left_out(folder) | {name})
        return True

    def _build_index(self, release: Release, folder: Path, staging: Path) -> bool:
        """Build it beside, out of the release's own files; those must be sound, or are to be mended first."""
        held = held_files(release, folder)
        if not all(is_entry(folder / entry.sha256, entry) for entry in held):
            return False
        for name in (MANIFEST, SEAL, LEFT_OUT, *(entry.sha256 for entry in held)):
            if (folder / name).exists():
                delete(staging / name)
                link(folder / name, staging / name)
        for name in INDEX_FILES:
            delete(staging / name)
        self._prepare(staging)
        return True
