"""Bring the newest release: `edge.trust` says what is signed, `edge.release` whether this device wants it.

What is signed gives hash and length of a release's manifest; the manifest gives those of every other file.
The bytes come through `edge.transport`. Two things TUF does not know are ours: a floor of versions, which
holds even when the local metadata is lost, and a floor of time, the signed date of the newest release here.
A refusal, whatever it is, leaves the release in use as it was.
"""

import hashlib
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge.disk import sha256_file, storage_error
from edge.errors import (
    BadManifest,
    HashMismatch,
    Incompatible,
    NoSpace,
    Rollback,
    ServerUnreachable,
    ShelfsightError,
    TrialFailed,
)
from edge.installation import Installation
from edge.matcher import Matcher, check_golden
from edge.model import choose_variant
from edge.release import FileEntry, Release, check_offer, check_version
from edge.release_files import delete, part_path, read_manifest, rename
from edge.transport import Transport
from edge.trust import Trust

Progress = Callable[[int, int], None]
"""Told (bytes that are here, bytes in all) of the files being fetched."""

_INDEX_TO_BASE = 10  # an Annoy file takes six to nine times the bytes of its base segment
_SPARE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """Tell what an update did: the version installed now or None, the version in use, and what it cost.

    `bytes_received` counts everything that came over the wire, metadata too; `files` the files fetched. With
    files and nothing `installed`, the release in use got what it lacked.
    """

    installed: int | None
    current: int | None
    bytes_received: int
    files: int
    seconds: float


class Updater:
    """Bring offered releases into an installation, from the server that `transport` speaks to.

    `device_class` is what releases may restrict themselves to. Of the network files only those are fetched
    that this device runs: variants of the `targets` (None: all) and for the CPU, and the one that is named by
    `variant`. `free_bytes` tells how much room a folder has; `trial` is what a release must pass (its golden
    photos, answered by this device's own code).
    """

    def __init__(
        self,
        installation: Installation,
        transport: Transport,
        *,
        device_class: str | None = None,
        targets: frozenset[str] | None = None,
        variant: str | None = None,
        free_bytes: Callable[[Path], int] | None = None,
        trial: Callable[[Path], None] | None = None,
    ) -> None:
        self._installation = installation
        self._transport = transport
        self._trust = Trust(installation.folder, transport)
        self._device_class = device_class
        self._targets = targets
        self._variant = variant
        self._free_bytes = free_bytes or _free_bytes
        self._trial = trial or (lambda folder: check_golden(Matcher.open(folder, variant=variant), folder))

    def update(
        self, offered: int | None, *, assortment: str = "", progress: Progress | None = None
    ) -> UpdateReport:
        """Install the offered version and bring it into use; None or the version in use costs no request.

        A release is offered for one `assortment`, the products of one store; empty is the whole catalog.

        But where this device runs other network files than it did, the release in use is given those first.
        A download that was cut goes on where it ended at the next call.

        Raises:
            BadSignature, HashMismatch, Freeze, Rollback, BadManifest, FormatTooNew, Incompatible,
            NoSpace, TrialFailed: The offer is refused; the release in use stays.
            ServerUnreachable, ServerBusy, TransferBroken, TryLater: Not now; what came is kept.
            AccessDenied, NotEnrolled, StorageUnusable, RuntimeMissing: A person has to see to it.
        """
        began, counted = time.monotonic(), self._transport.bytes_received
        installed, files = None, 0
        with self._installation.lock():
            self._installation.recover()
            if offered is None or offered == self._installation.current_version():
                files = self._complete(progress)
            else:
                files = self._take(offered, assortment, progress)
                installed = offered
        return UpdateReport(
            installed=installed,
            current=self._installation.current_version(),
            bytes_received=self._transport.bytes_received - counted,
            files=files,
            seconds=time.monotonic() - began,
        )

    def _take(self, version: int, assortment: str, progress: Progress | None) -> int:
        try:
            return self._bring(version, assortment, progress)
        except (Rollback, TrialFailed, Incompatible):
            # It stays where it is, maybe for long: what its own release lacks must not wait for that.
            with suppress(ShelfsightError):
                self._complete(progress)
            raise

    def _complete(self, progress: Progress | None) -> int:
        """Fetch what the release in use lacks of what this device runs; return how many files that took."""
        here = self._installation
        release = read_manifest(here.current()) if here.current_version() is not None else None
        if release is None:
            return 0
        needed = release.needed_files(self._targets, self._variant)
        lacking = here.lacking(release, needed)
        if not lacking:
            return 0
        missing = here.link_known(release, lacking)
        self._check_space(release, missing)
        self._fetch(release, missing, progress)
        here.complete(release, needed)
        return len(missing)

    def _bring(self, version: int, assortment: str, progress: Progress | None) -> int:
        here = self._installation
        # First by its number alone: what was refused once must not cost a byte at every poll.
        check_version(version, current=here.current_version(), floor=here.floor(), set_aside=here.set_aside())
        manifest = self._manifest(version, assortment)
        release = Release.from_bytes(manifest)
        if release.version != version:
            raise BadManifest(f"what is signed as release {version} says it is release {release.version}.")
        if release.assortment != assortment:
            raise BadManifest(
                f"release {version} is of assortment {release.assortment!r}, not {assortment!r} as offered."
            )
        check_offer(
            release,
            current=here.current_version(),
            floor=here.floor(),
            set_aside=here.set_aside(),
            device_class=self._device_class,
        )
        # A misspelled setting of this device must not condemn the release in its trial.
        choose_variant(release.variants, self._variant, f"release {version}", Incompatible)
        needed = release.needed_files(self._targets, self._variant)
        missing = here.link_known(release, needed)
        self._check_space(release, missing, index=_INDEX_TO_BASE * release.file(release.segments[0]).size)
        self._fetch(release, missing, progress)
        here.install(release, manifest, needed)
        here.try_out(version, self._trial)
        return len(missing)

    # Trust -----------------------------------------------------------------------------------------------

    def _manifest(self, version: int, assortment: str) -> bytes:
        current = self._installation.current_version()
        release = read_manifest(self._installation.current()) if current is not None else None
        made = datetime.fromisoformat(release.created) if release is not None else None
        signed = self._trust.manifest_of(version, assortment, not_before=made)
        data = self._transport.get_bytes(f"/v1/files/{signed.sha256}", max_bytes=signed.length)
        if data is None:
            raise ServerUnreachable(
                f"{self._transport.base_url} lacks the manifest of release {version}: publish it again."
            )
        if len(data) != signed.length or hashlib.sha256(data).hexdigest() != signed.sha256:
            raise HashMismatch(f"the manifest of release {version} is not the signed one: publish it again.")
        return data

    # Files -----------------------------------------------------------------------------------------------

    def _check_space(self, release: Release, missing: tuple[FileEntry, ...], index: int = 0) -> None:
        """Refuse what the disk cannot hold; `index` is the bytes of what is built from it here."""
        staging = self._installation.staging(release.version)
        held = sum(_size(part_path(staging, entry)) for entry in missing)
        needed = sum(entry.size for entry in missing) - held + index + _SPARE_BYTES
        free = self._free_bytes(staging)
        if needed > free:
            raise NoSpace(
                f"release {release.version} needs {needed} more bytes, and the disk of "
                f"{self._installation.folder} has {free} free: free some space there."
            )

    def _fetch(self, release: Release, missing: tuple[FileEntry, ...], progress: Progress | None) -> None:
        staging = self._installation.staging(release.version)
        total = sum(entry.size for entry in missing)
        done = 0
        for entry in missing:
            part = part_path(staging, entry)
            if not self._fetched(part, entry, _from(done, total, progress)):
                delete(part)  # a part may be of other bytes; the whole is asked for once more
                if not self._fetched(part, entry, _from(done, total, progress)):
                    delete(part)
                    raise HashMismatch(
                        f"{self._transport.base_url} holds other bytes for file {entry.sha256} of release "
                        f"{release.version} than were signed: publish it again."
                    )
            rename(part, staging / entry.sha256)
            done += entry.size

    def _fetched(self, part: Path, entry: FileEntry, tell: Callable[[int], None]) -> bool:
        arrived = _size(part)
        tell(arrived)

        def count(received: int) -> None:
            nonlocal arrived
            arrived += received
            tell(arrived)

        self._transport.download(f"/v1/files/{entry.sha256}", part, size=entry.size, progress=count)
        return sha256_file(part) == entry.sha256


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
