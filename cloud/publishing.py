"""Publishes a release: catalog and model become files, manifests, signatures, an offer, in that order.

    catalog + model -> vectors -> for each assortment: segments, golden photos, manifest -> signed -> offered

A kill at any point leaves the devices with what they had. Files come first, named by their hashes; the
signature makes them a release; the record and the offer come last, and only then goes what no release needs
any more. Publishing again after a kill makes the next version: a number that may have been signed is never
used twice.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from cloud import signing
from cloud.assembly import (
    Assembled,
    Previous,
    RefusedPhoto,
    add_golden,
    make_release,
    says_nothing_new,
    with_content_of,
    with_golden,
)
from cloud.catalog import Catalog
from cloud.embed import Progress
from cloud.fitting import FittedCatalog, fit_catalog
from cloud.golden import golden_candidates
from cloud.keeping import KEPT_CONTENT, offerable, prune_files
from cloud.photos import PhotoStorage
from cloud.proposals import Proposals
from cloud.rehearsal import Rehearsal
from cloud.releases import PublishedRelease, Releases
from cloud.rollout_rules import Plan
from cloud.rollouts import Rollouts
from cloud.search_tuning import tune_search
from cloud.shipping import LeftOut, Shipment, ShippedFile, choose_files
from cloud.stores import WHOLE_CATALOG, Store, Stores
from cloud.workspace import Workspace
from edge.certificate import DEFAULT_TOLERANCE
from edge.disk import only_one, sha256_file, write_atomically
from edge.errors import Incompatible, KeepRelease, NoRelease, NothingRecognized, SegmentBroken
from edge.model import Model
from edge.release import FileEntry, Golden, Release
from edge.segments import Content
from edge.trust import manifest_name


@dataclass(frozen=True, slots=True)
class Publication:
    """What `publish` did: the releases that are current now, whether they are new, and what went into them.

    `releases` has one for each assortment that got a new one, or the newest, where nothing `changed`.
    `embedded` photos were embedded just now, `reused` ones before; `refused` ones are not in the release.
    The decision was fitted to `calibration_photos` labeled photos of the shop; 0: it is the model's own.
    `match_confidence` (0..1) is what a match needs on a device that runs the first of the `files`, which is
    one for the CPU; `left_out` files were asked for and are not shipped. `empty` stores sell nothing that
    has a photo: they got no release.
    """

    releases: tuple[PublishedRelease, ...]
    changed: bool
    embedded: int
    reused: int
    refused: tuple[RefusedPhoto, ...]
    calibration_photos: int
    match_confidence: float
    files: tuple[ShippedFile, ...]
    left_out: tuple[LeftOut, ...]
    empty: tuple[str, ...] = ()

    @property
    def release(self) -> PublishedRelease:
        """The release of the whole catalog, or of the first of the stores."""
        return self.releases[0]


def publish(
    workspace: Workspace,
    model: Model,
    *,
    targets: Collection[str] = (),
    tolerance: float = DEFAULT_TOLERANCE,
    offline_keys: Path | None = None,
    percent: float = 100.0,
    plan: Plan | None = None,
    wrong_rate: float | None = None,
    progress: Progress | None = None,
) -> Publication:
    """Publish the catalog as it is now with `model`, and offer it to `percent` of the devices or by a `plan`.

    Each store's devices get what is sold there. The model's files of the `targets` are shipped
    (`cloud.shipping`), if none of them lost more than `tolerance` points of recall. Where nothing that
    devices would notice has changed since the last release of an assortment, none is made, unless devices
    were moved there. A catalog with enough photos of the split `validation` gets decisions that are fitted to
    them (`cloud.fitting`). With a `wrong_rate` (above 0, below 1) a match needs the confidence at which at
    most this share of the matches is wrong; without it what the decision says. `offline_keys` is the folder
    of the targets key, by default the workspace's own.

    Raises:
        NoRelease: the catalog has no usable reference photo.
        BadModel: a model file is missing or another one than model.json says, or there is none for a target.
        BadNetwork: a model file that devices could not run.
        NotCertified: a model file that was not shown to be the same network.
        NothingRecognized: none of the photos is a match, so that no device would take the release.
        ModelBroken, RuntimeMissing, Incompatible: the model does not run here.
        BadSetting: no percentage, a canary that is no store, or a rate of wrong answers that nobody
            calibrated.
        StorageUnusable: a key, the database or a folder cannot be used; devices keep what they have.
        NoSpace: the disk is full; devices keep what they have.
    """
    with _Desk.open(workspace, offline_keys, plan or Plan.parse(percent=percent)) as desk:
        shipment = choose_files(model, targets, tolerance)
        catalog = Catalog(workspace.sessions(), workspace.photo_storage())
        fitted = fit_catalog(
            model, shipment, catalog, wrong_rate=wrong_rate, cache_folder=workspace.cache, progress=progress
        )
        with Rehearsal(model, shipment.runnable, workspace.files, workspace.cache) as rehearsal:
            maker = _Maker(desk, model, shipment, fitted, catalog.photos, rehearsal)
            made, empty = maker.make_all()
        if not made and WHOLE_CATALOG in empty:
            raise NoRelease(
                "the catalog has no usable reference photo: add some with `shelfsight-cloud catalog import`"
            )
        releases = desk.sign_and_offer(made)
        _settle_proposals(workspace, max(each.version for each in releases), fitted)
    return Publication(
        releases=releases,
        changed=bool(made),
        embedded=fitted.embedded.embedded,
        reused=fitted.embedded.reused,
        refused=fitted.embedded.refused,
        calibration_photos=fitted.calibration_photos,
        match_confidence=fitted.variants[0].decision.match_confidence,
        files=shipment.files,
        left_out=shipment.left_out,
        empty=tuple(empty),
    )


def publish_content_of(
    workspace: Workspace,
    version: int,
    *,
    offline_keys: Path | None = None,
    percent: float = 100.0,
    plan: Plan | None = None,
) -> Publication:
    """Publish what release `version` said under a new number: its models, its products, its decisions.

    Neither the catalog nor a photo is looked at; the next `publish` brings the catalog as it is then. Of each
    assortment that was released by then, what was newest at that release comes back.

    Raises:
        NoRelease: there was no such release, or its files are kept no more.
        StorageUnusable, NoSpace: as `publish`; devices keep what they have.
    """
    with _Desk.open(workspace, offline_keys, plan or Plan.parse(percent=percent)) as desk:
        wanted = {name for name, _ in desk.wanted()}
        made: list[_Made] = []
        for name, latest in sorted(desk.latest.items()):
            was = next((each for each in desk.releases.versions_of(name) if each <= version), None)
            if was is None or name not in wanted:
                continue
            old, newest = desk.previous(name, was), desk.previous(name)
            if old is None:
                raise NoRelease(
                    f"release {version} is kept no more: only of the newest {KEPT_CONTENT} is the content"
                )
            if newest and says_nothing_new(old.release, newest.release) and not desk.awaits(name):
                continue
            try:
                assembled = with_content_of(old, desk.version, name, newest)
            except (SegmentBroken, Incompatible) as error:
                raise NoRelease(f"release {version} cannot be published again: {error}") from error
            made.append(desk.write(assembled, newest, _counts_of(desk.releases.get(was, name) or latest)))
        if version not in {row.version for row in desk.releases.newest()}:
            raise NoRelease(f"release {version} was never published: `rollout status` lists those there are")
        releases = desk.sign_and_offer(made)
    return Publication(
        releases=releases,
        changed=bool(made),
        embedded=0,
        reused=0,
        refused=(),
        calibration_photos=0,
        match_confidence=_confidence(workspace, releases[0]),
        files=(),
        left_out=(),
    )


def _settle_proposals(workspace: Workspace, version: int, fitted: FittedCatalog) -> None:
    """Note which products that devices proposed this release has: from it on, they let go of their own."""
    skus = {sku for sku, rows in fitted.embedded.content.rows.items() if len(rows)}
    proposals = Proposals(workspace.sessions(), workspace.proposed_photo_storage())
    proposals.published(version, fitted.embedded.photos, skus)


@dataclass(frozen=True, slots=True)
class _Counts:
    products: int
    rows: int


@dataclass(frozen=True, slots=True)
class _Made:
    """A release whose files and manifest are written, and that nobody has signed yet."""

    manifest: bytes
    published: PublishedRelease


@dataclass(frozen=True, slots=True)
class _Desk:
    """Where one publish is at work, alone: what there is, and the steps that all ways of publishing take."""

    workspace: Workspace
    keys: Path
    plan: Plan
    stores: Stores
    releases: Releases
    rollouts: Rollouts
    latest: Mapping[str, PublishedRelease]
    awaited: Mapping[str, int]
    version: int

    @classmethod
    @contextmanager
    def open(cls, workspace: Workspace, offline_keys: Path | None, plan: Plan) -> Iterator["_Desk"]:
        sessions = workspace.sessions()
        releases, stores = Releases(sessions), Stores(sessions)
        keys = offline_keys or workspace.keys
        with only_one(
            workspace.repository / ".publishing", f"another publish is at work in {workspace.data}"
        ):
            # Looked at before the long work: a key on a stick is easily forgotten.
            signing.check_publishing_keys(workspace.metadata, keys, workspace.keys)
            rollouts = Rollouts(sessions)
            rollouts.check(plan)
            latest = releases.latest_of_each()
            yield cls(
                workspace,
                keys,
                plan,
                stores,
                releases,
                rollouts,
                latest,
                stores.awaited(),
                _next_version(workspace, latest.values()),
            )

    def wanted(self) -> list[tuple[str, Store | None]]:
        """Name the assortments that there are devices for, the whole catalog's first, with their stores."""
        whole: list[tuple[str, Store | None]] = [(WHOLE_CATALOG, None)]
        stores: list[tuple[str, Store | None]] = [(store.name, store) for store in self.stores.all()]
        return (whole if self.stores.wants_whole_catalog() else []) + stores

    def awaits(self, assortment: str) -> bool:
        """Say whether devices that came from elsewhere need a higher number than the newest of this one."""
        newest = self.latest.get(assortment)
        return newest is not None and self.awaited.get(assortment, 0) >= newest.version

    def previous(self, assortment: str, version: int | None = None) -> Previous | None:
        """Open what was published of an assortment, last or as `version`; None if it is lost or damaged."""
        row = self.latest.get(assortment) if version is None else self.releases.get(version, assortment)
        if row is None:
            return None
        try:
            data = (self.workspace.files / row.sha256).read_bytes()
            return Previous(Release.from_bytes(data), self.workspace.files)
        except (OSError, KeepRelease):
            return None

    def write_files(self, assembled: Assembled) -> None:
        """Write the files of a release, and its content as one base, for devices to fall back to."""
        whole = {assembled.release.merged_sha256: assembled.whole}
        _write_files(self.workspace.files, {**assembled.files, **whole})

    def write(self, assembled: Assembled, previous: Previous | None, counts: _Counts) -> _Made:
        """Write a release with its manifest."""
        self.write_files(assembled)
        manifest = assembled.release.to_bytes()
        published = _describe(assembled.release, manifest, previous, counts)
        _write_files(self.workspace.files, {published.sha256: manifest})
        return _Made(manifest, published)

    def sign_and_offer(self, made: Sequence[_Made]) -> tuple[PublishedRelease, ...]:
        """Sign what was made, record it, offer it, and let go of what nobody needs any more.

        Returns it, or the newest releases where nothing was made.
        """
        if not made:
            newest = max(each.version for each in self.latest.values())
            if self.rollouts.get(newest) is None:  # the last publish was killed just before its offer
                self.rollouts.start(newest, plan=self.plan)
            return tuple(each for _, each in sorted(self.latest.items()))
        published = tuple(each.published for each in made)
        offered = offerable(self.releases, self.rollouts, published)
        kept = {manifest_name(version, name) for name, versions in offered.items() for version in versions}
        signing.add_targets(
            self.workspace.metadata,
            self.keys,
            {
                manifest_name(each.published.version, each.published.assortment): each.manifest
                for each in made
            },
            online_keys=self.workspace.keys,
            keep=kept.__contains__,
        )
        self.releases.record(*published)
        self.rollouts.start(self.version, plan=self.plan)
        for each in published:
            self.stores.arrived(each.assortment, each.version)
        prune_files(self.workspace.files, self.releases, offered)
        return published


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the releases of all assortments out of one embedded catalog.

    `golden` has the golden photos of what was made by the hash of its content.
    """

    desk: _Desk
    model: Model
    shipment: Shipment
    fitted: FittedCatalog
    photos: PhotoStorage
    rehearsal: Rehearsal
    golden: dict[str, list[tuple[Golden, bytes]]] = field(default_factory=dict)

    def make_all(self) -> tuple[list[_Made], list[str]]:
        """Make a release of every assortment that needs one; return them, and those that sell nothing."""
        made: list[_Made] = []
        empty: list[str] = []
        places = self.desk.stores.places()
        for name, store in self.desk.wanted():
            content = _sold_in(self.fitted.embedded.content, store, places)
            if not any(len(rows) for rows in content.rows.values()):
                empty.append(name)
                continue
            one = self._make(name, content)
            if one is not None:
                made.append(one)
        return made, empty

    def _make(self, name: str, content: Content) -> _Made | None:
        previous = self.desk.previous(name)
        assembled = make_release(
            self.desk.version,
            self.model,
            self.fitted.variants,
            content,
            certificate=self.shipment.certificate,
            previous=previous,
            tune=tune_search,
            assortment=name,
        )
        is_new = previous is None or not says_nothing_new(assembled.release, previous.release)
        if not is_new and not self.desk.awaits(name):
            return None
        self.desk.write_files(assembled)
        # Who answers from the same content gives the same answers.
        chosen = self.golden.get(assembled.release.merged_sha256)
        if chosen is None:
            assembled, chosen = self._answered(assembled, content, previous)
            self.golden[assembled.release.merged_sha256] = chosen
        else:
            assembled = add_golden(assembled, chosen)
        rows = sum(len(each) for each in content.rows.values())
        return self.desk.write(assembled, previous, _Counts(len(content.products), rows))

    def _answered(
        self, assembled: Assembled, content: Content, previous: Previous | None
    ) -> tuple[Assembled, list[tuple[Golden, bytes]]]:
        sold = [each for each in self.fitted.references if each.sku in content.products]
        held = previous.release if previous is not None else None
        candidates = golden_candidates(sold, self.photos, held)
        whole = with_golden(assembled, candidates, self.rehearsal.matchers(assembled), previous=previous)
        if not any(golden.verdict == "match" for golden in whole.release.golden):
            place = f" for {name}" if (name := assembled.release.assortment) else ""
            raise NothingRecognized(
                f"release {self.desk.version}{place} recognizes none of its own products with model "
                f"{self.model.name}, so every device would refuse it; what devices have stays: see whether "
                "the photos are blank, dark or all the same (`shelfsight-cloud catalog check`), publish with "
                "a higher --wrong-rate, or take another --model"
            )
        return whole, [(golden, whole.files[golden.photo]) for golden in whole.release.golden]


def _sold_in(content: Content, store: Store | None, places: Mapping[str, frozenset[str]]) -> Content:
    if store is None:
        return content
    products = {
        sku: product
        for sku, product in content.products.items()
        if sku not in places or store.sells(places[sku])
    }
    return replace(
        content,
        products=products,
        rows={sku: rows for sku, rows in content.rows.items() if sku in products},
    )


def _counts_of(published: PublishedRelease) -> _Counts:
    return _Counts(published.products, published.rows)


def _confidence(workspace: Workspace, published: PublishedRelease) -> float:
    release = Release.from_bytes((workspace.files / published.sha256).read_bytes())
    return release.variants[0].decision.match_confidence


def _next_version(workspace: Workspace, latest: Iterable[PublishedRelease]) -> int:
    signed = [
        int(name.split("/")[1].removesuffix(".json")) for name in signing.target_names(workspace.metadata)
    ]
    return max([*(each.version for each in latest), *signed], default=0) + 1


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for left_behind in folder.glob(".*.tmp"):  # by a publish that was killed; only one is at work here
        left_behind.unlink(missing_ok=True)
    for sha256, data in files.items():
        path = folder / sha256
        # What is there is read again: a file that the disk has spoiled is mended on the way.
        if not path.exists() or sha256_file(path) != sha256:
            write_atomically(path, data)


def _describe(
    release: Release, manifest: bytes, previous: Previous | None, counts: _Counts
) -> PublishedRelease:
    files = release.needed_files(frozenset({"cpu"}))
    held = {entry.sha256 for entry in previous.release.files} if previous else set()
    return PublishedRelease(
        version=release.version,
        created=datetime.fromisoformat(release.created),
        sha256=hashlib.sha256(manifest).hexdigest(),
        model=release.model,
        space=release.space,
        products=counts.products,
        rows=counts.rows,
        files=len(release.files),
        size=len(manifest) + sum(entry.size for entry in files),
        new_bytes=len(manifest) + sum(entry.size for entry in files if not _is_held(entry, held)),
        assortment=release.assortment,
    )


def _is_held(entry: FileEntry, held: Collection[str]) -> bool:
    """Say whether a device has a file, or makes it of what it has."""
    return entry.sha256 in held or (bool(entry.merge) and all(each in held for each in entry.merge))
