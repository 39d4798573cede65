"""Bring the newest release: `edge.trust` says what is signed, `edge.release` whether this device wants it.

What is signed gives hash and length of a release's manifest; the manifest gives those of every other file.
The bytes come through `edge.transport`. Two things TUF does not know are ours: a floor of versions, which
holds even when the local metadata is lost, and a floor of time, the signed date of the newest release here.
A refusal, whatever it is, leaves the release in use as it was.
"""

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge.compaction import merge_segments
from edge.disk import sha256_file, write_atomically
from edge.errors import (
    BadManifest,
    HashMismatch,
    Incompatible,
    Rollback,
    SegmentBroken,
    ServerUnreachable,
    ShelfsightError,
    TrialFailed,
)
from edge.gathering import Gathering, Merge, Progress
from edge.installation import Installation, Prepare, Trial
from edge.matcher import Matcher, check_golden, prepare_release_folder
from edge.mending import Mended, Mending
from edge.model import choose_variant
from edge.release import FileEntry, Release, check_offer, check_version
from edge.release_files import MANIFEST, opened_segments, read_manifest
from edge.transport import Transport
from edge.trust import Trust


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """Tell what an update did: the version installed now or None, the version in use, and what it cost.

    `bytes_received` counts everything that came over the wire, metadata too; `files` the files fetched. With
    files and nothing `installed` or `proven` now, the release in use got what it lacked.
    """

    installed: int | None
    current: int | None
    bytes_received: int
    files: int
    seconds: float
    proven: int | None = None


class Updater:
    """Bring offered releases into an installation, from the server that `transport` speaks to.

    `device_class` is what releases may restrict themselves to. Of the network files only those are fetched
    that this device runs: variants of the `targets` (None: all) and for the CPU, and the one that is named by
    `variant`. `free_bytes` tells how much room a folder has. `merge` makes a file out of segments, `prepare`
    makes a release ready, and `trial` is what it must pass (its golden photos, answered by this device's own
    code); whoever has processes to spare runs these three there.
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
        merge: Merge = merge_segments,
        prepare: Prepare = prepare_release_folder,
        trial: Trial | None = None,
    ) -> None:
        self._installation = installation
        self._transport = transport
        self._trust = Trust(installation.folder, transport)
        self._gathering = Gathering(installation, transport, free_bytes=free_bytes, merge=merge)
        self._device_class = device_class
        self._targets = targets
        self._variant = variant
        self._prepare = prepare
        self._trial = trial or (lambda folder: check_golden(Matcher.open(folder, variant=variant), folder))

    def update(
        self,
        offered: int | None,
        *,
        assortment: str = "",
        shadow: bool = False,
        progress: Progress | None = None,
    ) -> UpdateReport:
        """Install the offered version and bring it into use; None or the version in use costs no request.

        A release is offered for one `assortment`, the products of one store; empty is the whole catalog. One
        offered as a `shadow` is proven and kept out of use; offered again without, it comes into use without
        another file or trial.

        But where this device runs other network files than it did, the release in use is given those first.
        A download that was cut goes on where it ended at the next call.

        Raises:
            BadSignature, HashMismatch, Freeze, Rollback, BadManifest, FormatTooNew, Incompatible,
            NoSpace, TrialFailed: The offer is refused; the release in use stays.
            ServerUnreachable, ServerBusy, TransferBroken, OutOfBudget, TryLater: Not now; what came is kept.
            AccessDenied, NotEnrolled, StorageUnusable, RuntimeMissing: A person has to see to it.
        """
        here = self._installation
        began, counted = time.monotonic(), self._transport.bytes_received
        taken, files = None, 0
        with here.lock():
            here.recover()
            if offered in (None, here.current_version()) or (shadow and offered == here.proven_version()):
                files = self._complete(progress)
            else:
                assert offered is not None, "None is in the tuple above"
                files = self._take(offered, assortment, shadow, progress)
                taken = offered
        return UpdateReport(
            installed=None if shadow else taken,
            current=here.current_version(),
            bytes_received=self._transport.bytes_received - counted,
            files=files,
            seconds=time.monotonic() - began,
            proven=taken if shadow else None,
        )

    def repair(self) -> tuple[Mended, ...]:
        """Mend what a scrub found rotten, by fetching or building it again; return what was mended.

        Whoever answers meanwhile goes on with what is mapped. What another release holds is not fetched.

        Raises:
            HashMismatch, NoSpace, StorageUnusable, TryLater, AccessDenied: as `update`; what is not mended
                yet stays known.
        """
        if not self._installation.rotten():
            return ()
        mending = Mending(
            self._installation,
            self._transport,
            self._gathering,
            prepare=self._prepare,
            needed=self._needed,
        )
        with self._installation.lock():
            return mending.mend_all()

    def _take(self, version: int, assortment: str, shadow: bool, progress: Progress | None) -> int:
        try:
            return self._bring(version, assortment, shadow, progress)
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
        needed = self._needed(release)
        lacking = here.lacking(release, needed)
        if not lacking:
            return 0
        files = self._gathering.gather(release, lacking, progress, indexed=True)
        here.complete(release, needed)
        return files

    def _needed(self, release: Release) -> tuple[FileEntry, ...]:
        """List what this device needs of an installed release, by the segments that it answers from."""
        folder = self._installation.release_folder(release.version)
        whole = opened_segments(release, folder) != release.segments
        return release.needed_files(self._targets, self._variant, whole=whole)

    def _bring(self, version: int, assortment: str, shadow: bool, progress: Progress | None) -> int:
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
        files = self._install(release, manifest, progress)
        (here.prove if shadow else here.try_out)(version, self._trial)
        return files

    def _install(self, release: Release, manifest: bytes, progress: Progress | None) -> int:
        """Gather and install a release; where its segments do not merge as signed, by its whole base."""
        files = 0
        write_atomically(self._installation.staging(release.version) / MANIFEST, manifest)
        for whole in (False, True):
            needed = release.needed_files(self._targets, self._variant, whole=whole)
            files += self._gathering.gather(release, needed, progress, indexed=False)
            try:
                self._installation.install(release, manifest, needed, prepare=self._prepare)
                break
            except SegmentBroken:
                continue  # which is raised only where there is a whole base that was not tried
        return files

    # Trust -----------------------------------------------------------------------------------------------

    def _manifest(self, version: int, assortment: str) -> bytes:
        current = self._installation.current_version()
        release = read_manifest(self._installation.current()) if current is not None else None
        made = datetime.fromisoformat(release.created) if release is not None else None
        signed = self._trust.manifest_of(version, assortment, not_before=made)
        staged = self._installation.staging(version) / MANIFEST
        if staged.is_file() and sha256_file(staged) == signed.sha256:
            return staged.read_bytes()  # an update that was cut short brought it
        data = self._transport.get_bytes(f"/v1/files/{signed.sha256}", max_bytes=signed.length)
        if data is None:
            raise ServerUnreachable(
                f"{self._transport.base_url} lacks the manifest of release {version}: publish it again."
            )
        if len(data) != signed.length or hashlib.sha256(data).hexdigest() != signed.sha256:
            raise HashMismatch(f"the manifest of release {version} is not the signed one: publish it again.")
        return data
