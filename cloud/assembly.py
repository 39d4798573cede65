"""Assembles a release out of a model and the catalog: segments, golden photos, manifest.

No TensorFlow, no database, no keys: the reference photos are embedded by the very code and the very file that
the devices will run, and the golden photos are answered by the very matcher. What comes out is a `Release`
and the bytes of its files; `cloud.publishing` signs it, `cloud.evaluation` measures it.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cloud.catalog import ReferencePhoto
from cloud.embed import Progress, embed_references, fitted_pictures
from cloud.embeddings import EmbeddingCache
from cloud.golden import choose_golden
from cloud.photos import PhotoStorage
from edge.disk import storage_error, write_atomically
from edge.errors import BadModel, NoRelease, SegmentBroken
from edge.matcher import Matcher, prepare_release_folder
from edge.model import Model, Variant
from edge.products import Product
from edge.recipe import IndexRecipe
from edge.release import FileEntry, Release
from edge.segments import Content, SegmentStack, encode_base, encode_delta, quantize_rows

DELTA_SHARE: Final = 0.25  # deltas together may weigh this much of a base before a new base is made
MOST_DELTAS: Final = 20  # a new device fetches them one by one


@dataclass(frozen=True, slots=True)
class RefusedPhoto:
    """A reference photo that could not be embedded, and why; the others go on."""

    sku: str
    sha256: str
    reason: str


@dataclass(frozen=True, slots=True)
class EmbeddedCatalog:
    """The catalog in the vectors of one embedding space, and what it took to get there.

    `vectors` are those of its photos by their SHA-256, float32 (D,), before they became rows of the content.
    """

    content: Content
    vectors: Mapping[str, NDArray[np.float32]] = field(repr=False)
    embedded: int
    reused: int
    refused: tuple[RefusedPhoto, ...]


@dataclass(frozen=True, slots=True)
class Previous:
    """The release that devices have now, and the folder with its hash-named files."""

    release: Release
    files: Path


@dataclass(frozen=True, slots=True)
class Assembled:
    """A release that is ready to be signed: its manifest, and the bytes of every file in it by SHA-256."""

    release: Release
    files: Mapping[str, bytes]


def embed_catalog(
    model: Model,
    variant: Variant,
    *,
    products: Iterable[Product],
    references: Sequence[ReferencePhoto],
    photos: PhotoStorage,
    cache: EmbeddingCache,
    progress: Progress | None = None,
) -> EmbeddedCatalog:
    """Embed every reference photo with one model file; known embeddings are taken from the cache.

    Products without a usable photo stay in the content: devices know them and cannot recognize them yet.

    Raises:
        ModelBroken: the model file does not load, or answers with NaN.
        RuntimeMissing: there is no TFLite runtime here.
        StorageUnusable: the cache cannot be read or written.
    """
    embedded = embed_references(
        model,
        variant,
        fitted_pictures(photos, (reference.sha256 for reference in references), model.input_size),
        cache=cache,
        progress=progress,
    )
    known = embedded.vectors
    rows: dict[str, list[NDArray[np.float32]]] = {}
    refused: list[RefusedPhoto] = []
    for reference in references:
        if reference.sha256 in known:
            rows.setdefault(reference.sku, []).append(known[reference.sha256])
        else:
            reason = embedded.refused[reference.sha256]
            refused.append(RefusedPhoto(reference.sku, reference.sha256, reason))
    by_sku = {product.sku: product for product in products}
    content = Content(
        space=model.space,
        dimension=model.dimension,
        scale=model.row_scale,
        products=by_sku,
        rows={
            sku: quantize_rows(np.stack(vectors), model.row_scale)
            for sku, vectors in sorted(rows.items())
            if sku in by_sku
        },
    )
    return EmbeddedCatalog(content, known, embedded.made, len(known) - embedded.made, tuple(refused))


def make_release(
    version: int,
    model: Model,
    variants: Sequence[Variant],
    content: Content,
    *,
    certificate: bytes | None = None,
    previous: Previous | None = None,
    recipe: IndexRecipe | None = None,
    created: datetime | None = None,
) -> Assembled:
    """Make release `version` out of files of a model and the embedded catalog; it has no golden photos yet.

    `variants` are the files with the decisions that they get. With a `previous` release of the same embedding
    space a small change becomes a delta segment.

    Raises:
        NoRelease: the catalog has no row, so nothing could be recognized.
        BadModel: a file is not what model.json says.
    """
    if not any(len(rows) for rows in content.rows.values()):
        raise NoRelease(
            "the catalog has no usable reference photo: add some with `shelfsight-cloud catalog import`"
        )
    networks = {variant.sha256: model_bytes(model, variant) for variant in variants}
    segments = _make_segments(content, previous)
    certificates = {hashlib.sha256(certificate).hexdigest(): certificate} if certificate is not None else {}
    roles = {"model": networks, "segment": segments, "certificate": certificates}
    release = Release(
        version=version,
        created=(created or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        space=model.space,
        dimension=model.dimension,
        input_size=model.input_size,
        row_scale=model.row_scale,
        model=model.name,
        variants=tuple(replace(variant, file=variant.sha256) for variant in variants),
        segments=tuple(segments),
        merged_sha256=hashlib.sha256(encode_base(content)).hexdigest(),
        recipe=recipe or IndexRecipe(),
        golden=(),
        files=tuple(
            FileEntry(sha256, len(data), role)
            for role, files in roles.items()
            for sha256, data in files.items()
        ),
    )
    return Assembled(release, {**networks, **segments, **certificates})


def with_golden(
    assembled: Assembled,
    candidates: Iterable[tuple[str, bytes]],
    *,
    previous: Previous | None = None,
    answering: Collection[str] | None = None,
) -> Assembled:
    """Let the assembled release itself answer candidates (sku, photo bytes), and add the best as golden.

    Those that the `previous` release has are kept as long as they are answered rightly. `answering` names
    the variants that are asked, and have to answer alike, the first of the release among them; None: all.

    Raises:
        ModelBroken, RuntimeMissing, Incompatible: a network file does not run here.
        StorageUnusable, NoSpace: the temporary folder cannot be written.
    """
    held = {golden.photo for golden in previous.release.golden} if previous is not None else set()
    names = [each.name for each in assembled.release.variants if answering is None or each.name in answering]
    with TemporaryDirectory(prefix="shelfsight-golden-") as scratch:
        folder = write_release_folder(assembled, Path(scratch))
        chosen = choose_golden([Matcher.open(folder, variant=name) for name in names], candidates, held)
    photos = {golden.photo: photo for golden, photo in chosen}
    entries = tuple(FileEntry(sha256, len(photo), "golden") for sha256, photo in photos.items())
    release = replace(
        assembled.release,
        golden=tuple(golden for golden, _ in chosen),
        files=assembled.release.files + entries,
    )
    return Assembled(release, {**assembled.files, **photos})


def write_release_folder(assembled: Assembled, folder: Path) -> Path:
    """Write what a device has after installing this release: manifest, files, Annoy index. Return the folder.

    Raises:
        StorageUnusable: the folder cannot be written.
        NoSpace: the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error
    for sha256, data in assembled.files.items():
        write_atomically(folder / sha256, data)
    write_atomically(folder / "release.json", assembled.release.to_bytes())
    prepare_release_folder(folder)
    return folder


def says_nothing_new(release: Release, other: Release) -> bool:
    """Say whether two releases are alike in model files, decisions, content, search and certificate.

    Golden photos do not count: they would only try the same once more.
    """
    return (
        release.merged_sha256 == other.merged_sha256
        and release.variants == other.variants
        and release.recipe == other.recipe
        and _certificates(release) == _certificates(other)
    )


def model_bytes(model: Model, variant: Variant) -> bytes:
    """Read one of the model's files.

    Raises:
        BadModel: it cannot be read, or is not the one that model.json names.
    """
    path = model.path(variant)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadModel(
            f"model file {path} cannot be read ({error.strerror}): restore the model folder"
        ) from error
    if len(data) != variant.size or hashlib.sha256(data).hexdigest() != variant.sha256:
        raise BadModel(f"model file {path} is not the one that model.json names: convert the network again")
    return data


def _certificates(release: Release) -> set[str]:
    return {entry.sha256 for entry in release.files if entry.role == "certificate"}


def _make_segments(content: Content, previous: Previous | None) -> dict[str, bytes]:
    """Return the segments in order, by SHA-256: a new base, or the previous segments and one delta more."""
    base = encode_base(content)
    carried = _carried_segments(content, previous) if previous is not None else None
    if carried is not None:
        stack, segments = carried
        delta = encode_delta(stack.content(), content)
        if delta is None:
            return segments
        deltas = sum(len(data) for data in list(segments.values())[1:]) + len(delta)
        if deltas < DELTA_SHARE * len(base) and len(segments) <= MOST_DELTAS:
            return {**segments, hashlib.sha256(delta).hexdigest(): delta}
    return {hashlib.sha256(base).hexdigest(): base}


def _carried_segments(content: Content, previous: Previous) -> tuple[SegmentStack, dict[str, bytes]] | None:
    """Open what devices hold already, or None where this content cannot be told as a change of it."""
    names = previous.release.segments
    try:
        stack = SegmentStack.open([(previous.files / name, name) for name in names])
        segments = {name: (previous.files / name).read_bytes() for name in names}
    except (SegmentBroken, OSError):
        return None  # a lost or damaged segment costs the devices a new base, not the retailer a release
    same_space = (stack.space, stack.dimension, stack.scale) == (
        content.space,
        content.dimension,
        content.scale,
    )
    return (stack, segments) if same_space else None
