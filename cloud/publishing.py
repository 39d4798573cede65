"""Publishes a release: catalog and model become files, a manifest, a signature, an offer, in that order.

A kill at any point leaves the devices with what they had. Files come first, named by their hashes;
the signature makes them a release; the record and the offer come last. Publishing again after a kill makes
the next version: a number that may have been signed is never used twice.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cloud import signing
from cloud.assembly import (
    Assembled,
    EmbeddedCatalog,
    Previous,
    RefusedPhoto,
    embed_catalog,
    make_release,
    same_answers,
    shipped_variants,
)
from cloud.catalog import Catalog, ReferencePhoto
from cloud.embed import Progress, embed_queries, fitted_pictures
from cloud.embeddings import EmbeddingCache
from cloud.golden import golden_candidates
from cloud.releases import PublishedRelease, Releases
from cloud.rollouts import Rollouts
from cloud.thresholds import FittedDecision, fit_decision, may_ask
from cloud.workspace import Workspace
from edge.disk import only_one, sha256_file, write_atomically
from edge.errors import KeepRelease
from edge.model import Model
from edge.release import Release


@dataclass(frozen=True, slots=True)
class Publication:
    """What `publish` did: the release that is current now, whether it is new, and what went into it.

    `embedded` photos were embedded just now, `reused` ones before; `refused` ones are not in the release.
    The decision was fitted to `calibration_photos` labeled photos of the shop; 0: it is the model's own.
    `match_confidence` (0..1) is what a match needs on a device that runs the model's first file.
    """

    release: PublishedRelease
    changed: bool
    embedded: int
    reused: int
    refused: tuple[RefusedPhoto, ...]
    calibration_photos: int
    match_confidence: float


def publish(
    workspace: Workspace,
    model: Model,
    *,
    offline_keys: Path | None = None,
    percent: float = 100.0,
    wrong_rate: float | None = None,
    progress: Progress | None = None,
) -> Publication:
    """Publish the catalog as it is now with `model`, and offer it to `percent` of the stable channel.

    Where nothing that devices would notice has changed since the last release, none is made. A catalog with
    enough photos of the split `validation` gets a decision that is fitted to them (`cloud.thresholds`).
    With a `wrong_rate` (above 0, below 1) a match needs the confidence at which at most this share of the
    matches is wrong; without it what the decision says. `offline_keys` is the folder of the targets key, by
    default the workspace's own.

    Raises:
        NoRelease: the catalog has no usable reference photo.
        BadModel: a model file is missing or another one than model.json says.
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
        latest = releases.latest()
        previous = _open_previous(workspace, latest)
        references = catalog.reference_photos()
        embedded, fitted = _embed(workspace, catalog, references, model, progress)
        decided = _decided(model, fitted, wrong_rate)
        assembled = make_release(
            _next_version(workspace, latest),
            decided,
            embedded.content,
            golden=golden_candidates(references, catalog.photos, previous.release if previous else None),
            previous=previous,
        )
        if latest and previous and same_answers(assembled.release, previous.release):
            if rollouts.get(latest.version) is None:  # the last publish was killed just before its offer
                rollouts.start(latest.version, percent)
            return _publication(latest, False, embedded, fitted, decided)
        manifest = assembled.release.to_bytes()
        _write_files(workspace.files, {**assembled.files, hashlib.sha256(manifest).hexdigest(): manifest})
        name = f"releases/{assembled.release.version}.json"
        signing.add_target(workspace.metadata, keys, name, manifest, online_keys=workspace.keys)
        published = _describe(assembled, manifest, embedded, previous)
        releases.record(published)
        rollouts.start(published.version, percent)
        return _publication(published, True, embedded, fitted, decided)


def _publication(
    release: PublishedRelease,
    changed: bool,
    embedded: EmbeddedCatalog,
    fitted: FittedDecision | None,
    decided: Model,
) -> Publication:
    return Publication(
        release=release,
        changed=changed,
        embedded=embedded.embedded,
        reused=embedded.reused,
        refused=embedded.refused,
        calibration_photos=len(fitted.photos) if fitted else 0,
        match_confidence=shipped_variants(decided)[0].decision.match_confidence,
    )


def _embed(
    workspace: Workspace,
    catalog: Catalog,
    references: Sequence[ReferencePhoto],
    model: Model,
    progress: Progress | None,
) -> tuple[EmbeddedCatalog, FittedDecision | None]:
    """Embed the catalog with the model's first file, and fit that file's decision where photos allow it.

    Photos that the decision was fitted to are no references: it would not hold for what they find.
    """
    variant = shipped_variants(model)[0]
    with EmbeddingCache(workspace.cache) as cache:

        def embed(photos: Sequence[ReferencePhoto]) -> EmbeddedCatalog:
            return embed_catalog(
                model,
                variant,
                products=catalog.products(),
                references=photos,
                photos=catalog.photos,
                cache=cache,
                progress=progress,
            )

        embedded = embed(references)
        asked = may_ask(references, _named(model, "fitted_validation"))
        pictures = fitted_pictures(catalog.photos, (photo.sha256 for photo in asked), model.input_size)
        queries = embed_queries(model, variant, pictures, cache=cache, progress=progress)
        fitted = fit_decision(references, embedded.vectors, queries.vectors, _named(model, "fitted_skus"))
        if fitted is None:
            return embedded, None
        kept = [reference for reference in references if reference not in fitted.photos]
        return replace(embedded, content=embed(kept).content), fitted


def _named(model: Model, what: str) -> frozenset[str]:
    """Return the products or photos that the network was fitted to, as far as the model folder says so."""
    named = model.extra.get(what)
    return frozenset(str(sku) for sku in named) if isinstance(named, list) else frozenset()


def _decided(model: Model, fitted: FittedDecision | None, wrong_rate: float | None) -> Model:
    """Return the model with the decisions of this release.

    The fitted one goes to the file that it was measured on; the retailer's rate of wrong answers to all that
    are shipped.
    """
    shipped = shipped_variants(model)
    variants = []
    for variant in model.variants:
        decision = fitted.decision if fitted is not None and variant == shipped[0] else variant.decision
        if wrong_rate is not None and variant in shipped:
            decision = replace(decision, match_confidence=decision.match_confidence_for(wrong_rate))
        variants.append(replace(variant, decision=decision))
    return replace(model, variants=tuple(variants))


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
        size=len(manifest) + sum(entry.size for entry in release.files),
        new_bytes=len(manifest) + sum(entry.size for entry in release.files if entry.sha256 not in held),
    )
