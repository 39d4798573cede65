"""Publishes a release: catalog and model become files, a manifest, a signature, an offer, in that order.

A kill at any point leaves the devices with what they had. Files come first, named by their hashes;
the signature makes them a release; the record and the offer come last. Publishing again after a kill makes
the next version: a number that may have been signed is never used twice.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from cloud import signing
from cloud.assembly import (
    Assembled,
    EmbeddedCatalog,
    Previous,
    RefusedPhoto,
    make_release,
    says_nothing_new,
    with_golden,
)
from cloud.catalog import Catalog
from cloud.embed import Progress
from cloud.fitting import FittedCatalog, fit_catalog
from cloud.golden import golden_candidates
from cloud.proposals import Proposals
from cloud.releases import PublishedRelease, Releases
from cloud.rollouts import Rollouts
from cloud.shipping import LeftOut, Shipment, ShippedFile, choose_files
from cloud.workspace import Workspace
from edge.certificate import DEFAULT_TOLERANCE
from edge.disk import only_one, sha256_file, write_atomically
from edge.errors import KeepRelease
from edge.model import Model
from edge.release import Release


@dataclass(frozen=True, slots=True)
class Publication:
    """What `publish` did: the release that is current now, whether it is new, and what went into it.

    `embedded` photos were embedded just now, `reused` ones before; `refused` ones are not in the release.
    The decision was fitted to `calibration_photos` labeled photos of the shop; 0: it is the model's own.
    `match_confidence` (0..1) is what a match needs on a device that runs the first of the `files`, which is
    one for the CPU; `left_out` files were asked for and are not shipped.
    """

    release: PublishedRelease
    changed: bool
    embedded: int
    reused: int
    refused: tuple[RefusedPhoto, ...]
    calibration_photos: int
    match_confidence: float
    files: tuple[ShippedFile, ...]
    left_out: tuple[LeftOut, ...]


def publish(
    workspace: Workspace,
    model: Model,
    *,
    targets: Collection[str] = (),
    tolerance: float = DEFAULT_TOLERANCE,
    offline_keys: Path | None = None,
    percent: float = 100.0,
    wrong_rate: float | None = None,
    progress: Progress | None = None,
) -> Publication:
    """Publish the catalog as it is now with `model`, and offer it to `percent` of the stable channel.

    The model's files of the `targets` are shipped (`cloud.shipping`), if none of them lost more than
    `tolerance` points of recall. Where nothing that devices would notice has changed since the last release,
    none is made. A catalog with enough photos of the split `validation` gets decisions that are fitted to
    them (`cloud.fitting`). With a `wrong_rate` (above 0, below 1) a match needs the confidence at which at
    most this share of the matches is wrong; without it what the decision says. `offline_keys` is the folder
    of the targets key, by default the workspace's own.

    Raises:
        NoRelease: the catalog has no usable reference photo.
        BadModel: a model file is missing or another one than model.json says, or there is none for a target.
        BadNetwork: a model file that devices could not run.
        NotCertified: a model file that was not shown to be the same network.
        ModelBroken, RuntimeMissing, Incompatible: the model does not run here.
        BadSetting: a percentage that is not one, or a rate of wrong answers that was not calibrated.
        StorageUnusable: a key, the database or a folder cannot be used; devices keep what they have.
        NoSpace: the disk is full; devices keep what they have.
    """
    sessions = workspace.sessions()
    catalog, releases, rollouts = (
        Catalog(sessions, workspace.photo_storage()),
        Releases(sessions),
        Rollouts(sessions),
    )
    keys = offline_keys or workspace.keys
    with only_one(workspace.repository / ".publishing", f"another publish is at work in {workspace.data}"):
        # Looked at before the long work: a key on a stick is easily forgotten.
        signing.check_publishing_keys(workspace.metadata, keys, workspace.keys)
        shipment = choose_files(model, targets, tolerance)
        latest = releases.latest()
        previous = _open_previous(workspace, latest)
        fitted = fit_catalog(
            model, shipment, catalog, wrong_rate=wrong_rate, cache_folder=workspace.cache, progress=progress
        )
        assembled = make_release(
            _next_version(workspace, latest),
            model,
            fitted.variants,
            fitted.embedded.content,
            certificate=shipment.certificate,
            previous=previous,
        )
        if latest and previous and says_nothing_new(assembled.release, previous.release):
            if rollouts.get(latest.version) is None:  # the last publish was killed just before its offer
                rollouts.start(latest.version, percent)
            _settle_proposals(workspace, sessions, latest.version, fitted.embedded)
            return _publication(latest, shipment, fitted, changed=False)
        assembled = with_golden(
            assembled,
            golden_candidates(
                catalog.reference_photos(), catalog.photos, previous.release if previous else None
            ),
            previous=previous,
            answering={variant.name for variant in shipment.runnable},
        )
        manifest = assembled.release.to_bytes()
        _write_files(workspace.files, {**assembled.files, hashlib.sha256(manifest).hexdigest(): manifest})
        name = f"releases/{assembled.release.version}.json"
        signing.add_target(workspace.metadata, keys, name, manifest, online_keys=workspace.keys)
        published = _describe(assembled, manifest, fitted.embedded, previous)
        releases.record(published)
        _settle_proposals(workspace, sessions, published.version, fitted.embedded)
        rollouts.start(published.version, percent)
        return _publication(published, shipment, fitted, changed=True)


def _settle_proposals(
    workspace: Workspace, sessions: sessionmaker[Session], version: int, embedded: EmbeddedCatalog
) -> None:
    """Note which products that devices proposed are in a release: from it on, they let go of their own."""
    skus = {sku for sku, rows in embedded.content.rows.items() if len(rows)}
    proposals = Proposals(sessions, workspace.proposed_photo_storage())
    proposals.published(version, embedded.vectors.keys(), skus)


def _publication(
    release: PublishedRelease, shipment: Shipment, fitted: FittedCatalog, *, changed: bool
) -> Publication:
    return Publication(
        release=release,
        changed=changed,
        embedded=fitted.embedded.embedded,
        reused=fitted.embedded.reused,
        refused=fitted.embedded.refused,
        calibration_photos=fitted.calibration_photos,
        match_confidence=fitted.variants[0].decision.match_confidence,
        files=shipment.files,
        left_out=shipment.left_out,
    )


def _open_previous(workspace: Workspace, latest: PublishedRelease | None) -> Previous | None:
    """Open what was published last; a manifest that was lost or damaged costs the devices a new base."""
    if latest is None:
        return None
    try:
        data = (workspace.files / latest.sha256).read_bytes()
        return Previous(Release.from_bytes(data), workspace.files)
    except (OSError, KeepRelease):
        return None


def _next_version(workspace: Workspace, latest: PublishedRelease | None) -> int:
    signed = [int(Path(name).stem) for name in signing.target_names(workspace.metadata)]
    return max([latest.version if latest else 0, *signed]) + 1


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for left_behind in folder.glob(".*.tmp"):  # by a publish that was killed; only one is at work here
        left_behind.unlink(missing_ok=True)
    for sha256, data in files.items():
        path = folder / sha256
        # What is there is read again: a file that the disk has spoiled is mended on the way.
        if not path.exists() or sha256_file(path) != sha256:
            write_atomically(path, data)


def _describe(
    assembled: Assembled, manifest: bytes, embedded: EmbeddedCatalog, previous: Previous | None
) -> PublishedRelease:
    release = assembled.release
    files = release.needed_files(frozenset({"cpu"}))
    held = {entry.sha256 for entry in previous.release.files} if previous else set()
    return PublishedRelease(
        version=release.version,
        created=datetime.fromisoformat(release.created),
        sha256=hashlib.sha256(manifest).hexdigest(),
        model=release.model,
        space=release.space,
        products=len(embedded.content.products),
        rows=sum(len(rows) for rows in embedded.content.rows.values()),
        files=len(release.files),
        size=len(manifest) + sum(entry.size for entry in files),
        new_bytes=len(manifest) + sum(entry.size for entry in files if entry.sha256 not in held),
    )
