"""Assembles a release out of a model and the catalog: segments, golden photos, manifest.

No TensorFlow, no database, no keys: the reference photos are embedded by the very code and the very file that
the devices will run, and the golden photos are answered by the very matcher. What comes out is a `Release`
and the bytes of its files; `cloud.publishing` signs it, `cloud.evaluation` measures it.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
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
from edge.release import FileEntry, Golden, Release
from edge.segments import Content, Segment, SegmentStack, encode_base, encode_delta, quantize_rows

DELTA_SHARE: Final = 0.25  # deltas together may weigh this much of a base before they are folded into one
MOST_DELTAS: Final = (
    20  # a new device fetches them one by one, and every device reads of them in the manifest
)
LEFT_DELTAS: Final = 4  # the newest ones, which a device that missed some releases could not fold
_GROWN: Final = 1.25  # a recipe for searching is measured anew for a base that has grown so much

Tune = Callable[[Content], IndexRecipe]
"""Chooses how a base of this content is to be searched."""


@dataclass(frozen=True, slots=True)
class RefusedPhoto:
    """A reference photo that could not be embedded, and why; the others go on."""

    sku: str
    sha256: str
    reason: str


@dataclass(frozen=True, slots=True)
class EmbeddedCatalog:
    """The catalog in the vectors of one embedding space, and what it took to get there.

    `vectors` are those of its photos by their SHA-256, float32 (D,), before they became rows of the content;
    none where only rows were asked for. `photos` names the photos that became rows.
    """

    content: Content
    vectors: Mapping[str, NDArray[np.float32]] = field(repr=False)
    embedded: int
    reused: int
    refused: tuple[RefusedPhoto, ...]
    photos: frozenset[str] = field(default=frozenset(), repr=False)


@dataclass(frozen=True, slots=True)
class Previous:
    """The release that devices have now, and the folder with its hash-named files."""

    release: Release
    files: Path


@dataclass(frozen=True, slots=True)
class Assembled:
    """A release that is ready to be signed: its manifest, and the bytes of every file in it by SHA-256.

    `whole` is the merged content as one base, which devices fall back to; it is none of the files. `opened`
    are those of its segments that are open already.
    """

    release: Release
    files: Mapping[str, bytes]
    whole: bytes = field(default=b"", repr=False)
    opened: tuple[Segment, ...] = field(default=(), repr=False)


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
    there = frozenset(known)
    return EmbeddedCatalog(content, known, embedded.made, len(known) - embedded.made, tuple(refused), there)


def embed_rows(
    model: Model,
    variant: Variant,
    *,
    products: Iterable[Product],
    references: Sequence[ReferencePhoto],
    photos: PhotoStorage,
    cache: EmbeddingCache,
    progress: Progress | None = None,
) -> EmbeddedCatalog:
    """Do what `embed_catalog` does, without the vectors: of a known photo only its row is read.

    Raises:
        ModelBroken, RuntimeMissing, StorageUnusable: as `embed_catalog`.
    """
    known = dict(cache.known_rows(variant.sha256, model.row_scale))
    missing = {each.sha256 for each in references if each.sha256 not in known}
    pictures = fitted_pictures(photos, missing, model.input_size)
    embedded = embed_references(model, variant, pictures, cache=cache, progress=progress)
    if embedded.vectors:
        names, vectors = list(embedded.vectors), np.stack(list(embedded.vectors.values()))
        quantized = quantize_rows(vectors, model.row_scale)
        fresh = {name: row.tobytes() for name, row in zip(names, quantized, strict=True)}
        cache.keep_rows(variant.sha256, model.row_scale, fresh)
        known |= fresh
    by_sku = {product.sku: product for product in products}
    rows: dict[str, list[bytes]] = {}
    refused: list[RefusedPhoto] = []
    for reference in references:
        row = known.get(reference.sha256)
        if row is None:
            reason = embedded.refused[reference.sha256]
            refused.append(RefusedPhoto(reference.sku, reference.sha256, reason))
        elif reference.sku in by_sku:
            rows.setdefault(reference.sku, []).append(row)
    content = Content(
        space=model.space,
        dimension=model.dimension,
        scale=model.row_scale,
        products=by_sku,
        rows={
            sku: np.frombuffer(b"".join(each), np.int8).reshape(len(each), model.dimension)
            for sku, each in rows.items()
        },
    )
    there = frozenset(reference.sha256 for reference in references) & known.keys()
    return EmbeddedCatalog(content, {}, embedded.made, len(there) - embedded.made, tuple(refused), there)


def make_release(
    version: int,
    model: Model,
    variants: Sequence[Variant],
    content: Content,
    *,
    certificate: bytes | None = None,
    previous: Previous | None = None,
    tune: Tune | None = None,
    assortment: str = "",
    created: datetime | None = None,
) -> Assembled:
    """Make release `version` out of files of a model and the embedded catalog; it has no golden photos yet.

    `variants` are the files with the decisions that they get. With a `previous` release of the same embedding
    space a change becomes a delta segment, and a chain of deltas that got long or heavy is folded into a base
    that devices compute. A base that is not the previous one is searched as `tune` says.

    Raises:
        NoRelease: the catalog has no row, so nothing could be recognized.
        BadModel: a file is not what model.json says.
    """
    if not any(len(rows) for rows in content.rows.values()):
        raise NoRelease(
            "the catalog has no usable reference photo: add some with `shelfsight-cloud catalog import`"
        )
    networks = {variant.sha256: model_bytes(model, variant) for variant in variants}
    chain = _make_chain(content, previous)
    certificates = {hashlib.sha256(certificate).hexdigest(): certificate} if certificate is not None else {}
    roles = {"model": networks, "segment": chain.segments, "certificate": certificates}
    release = Release(
        version=version,
        created=written_now(created),
        space=model.space,
        dimension=model.dimension,
        input_size=model.input_size,
        row_scale=model.row_scale,
        model=model.name,
        variants=tuple(replace(variant, file=variant.sha256) for variant in variants),
        segments=tuple(chain.segments),
        merged_sha256=hashlib.sha256(chain.whole).hexdigest(),
        merged_size=len(chain.whole),
        recipe=_recipe(content, chain, previous, tune),
        golden=(),
        files=tuple(
            FileEntry(sha256, len(data), role, merge=chain.recipes.get(sha256, ()))
            for role, files in roles.items()
            for sha256, data in files.items()
        ),
        assortment=assortment,
    )
    return Assembled(release, {**networks, **chain.segments, **certificates}, chain.whole, chain.opened)


def with_content_of(old: Previous, version: int, assortment: str, latest: Previous | None) -> Assembled:
    """Make release `version` of what an `old` release said: its model, its content, its golden photos.

    Where the `latest` release stands on the same base, devices have all of it; otherwise the way back is a
    delta after the latest one, if that is of the same embedding space.

    Raises:
        SegmentBroken, Incompatible: a segment of the old release is gone or damaged.
    """
    was = old.release
    stack = SegmentStack.open([(old.files / name, name) for name in was.segments])
    content = stack.content()
    if latest is None or latest.release.segments[0] == was.segments[0]:
        segments = {name: (old.files / name).read_bytes() for name in was.segments}
        recipes = {entry.sha256: entry.merge for entry in was.files}
        chain = _Chain(segments, recipes, encode_base(content))
    else:
        chain = _make_chain(content, latest)
    others = tuple(entry for entry in was.files if entry.role != "segment")
    own = tuple(
        FileEntry(sha256, len(data), "segment", merge=chain.recipes.get(sha256, ()))
        for sha256, data in chain.segments.items()
    )
    release = replace(
        was,
        version=version,
        created=written_now(),
        segments=tuple(chain.segments),
        files=others + own,
        merged_size=len(chain.whole),
        assortment=assortment,
    )
    return Assembled(release, chain.segments, chain.whole)


def with_golden(
    assembled: Assembled,
    candidates: Iterable[tuple[str, bytes]],
    matchers: Sequence[Matcher],
    *,
    previous: Previous | None = None,
) -> Assembled:
    """Let the assembled release itself answer candidates (sku, photo bytes), and add the best as golden.

    `matchers` are it, opened with those of its files that are asked and have to answer alike. Photos that the
    `previous` release has are kept as long as they are answered rightly.

    Raises:
        ModelBroken: a network answers with nothing usable.
    """
    held = {golden.photo for golden in previous.release.golden} if previous is not None else set()
    return add_golden(assembled, choose_golden(matchers, candidates, held))


def add_golden(assembled: Assembled, chosen: Sequence[tuple[Golden, bytes]]) -> Assembled:
    """Add golden photos with their answers."""
    photos = {golden.photo: photo for golden, photo in chosen}
    entries = tuple(FileEntry(sha256, len(photo), "golden") for sha256, photo in photos.items())
    release = replace(
        assembled.release,
        golden=tuple(golden for golden, _ in chosen),
        files=assembled.release.files + entries,
    )
    return replace(assembled, release=release, files={**assembled.files, **photos})


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


def written_now(moment: datetime | None = None) -> str:
    """Write a moment, the present unless told otherwise, as a manifest says when it was made."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class _Chain:
    """Segments in order by SHA-256, the recipes of those that can be computed, and the whole as one base."""

    segments: Mapping[str, bytes]
    recipes: Mapping[str, tuple[str, ...]]
    whole: bytes
    opened: tuple[Segment, ...] = ()


def _make_chain(content: Content, previous: Previous | None) -> _Chain:
    """Tell the content as the previous chain and one delta more, folded where that is due, or as a base."""
    whole = encode_base(content)
    anew = _Chain({hashlib.sha256(whole).hexdigest(): whole}, {}, whole)
    carried = _carried_segments(content, previous) if previous is not None else None
    if carried is None or previous is None:
        return anew
    stack, segments = carried
    recipes = {name: previous.release.file(name).merge for name in segments}
    delta = encode_delta(stack.content(), content)
    if delta is None:
        return _Chain(segments, recipes, whole, stack.segments)
    if len(delta) >= len(whole):
        return anew
    name = hashlib.sha256(delta).hexdigest()
    count = _due(list(segments), [len(data) for data in segments.values()], name, len(delta))
    if count > 1:
        segments, recipes = _folded(stack, segments, recipes, count)
    return _Chain({**segments, name: delta}, recipes, whole, stack.segments)


def _due(names: list[str], sizes: list[int], delta: str, size: int) -> int:
    """Say how many of the segments, from the first, are to be folded into one before a delta; 0: none."""
    if delta in names or sum(sizes[1:]) + size > DELTA_SHARE * sizes[0]:
        # The same change twice, as a price that went there, back and there, would be the same file twice.
        return len(names)
    return len(names) - LEFT_DELTAS if len(names) > MOST_DELTAS else 0


def _folded(
    stack: SegmentStack, segments: Mapping[str, bytes], recipes: Mapping[str, tuple[str, ...]], count: int
) -> tuple[dict[str, bytes], dict[str, tuple[str, ...]]]:
    """Put one base in the place of the first `count` segments, with the recipe by which devices make it."""
    names = list(segments)
    base = b"".join(SegmentStack(stack.segments[:count]).merged())
    name = hashlib.sha256(base).hexdigest()
    # Deltas that undo each other fold to the base that was there.
    recipe = recipes[name] if name in recipes else tuple(names[:count])
    rest = {each: segments[each] for each in names[count:]}
    return {name: base, **rest}, {name: recipe}


def _recipe(content: Content, chain: _Chain, previous: Previous | None, tune: Tune | None) -> IndexRecipe:
    """Keep the recipe of a base that devices have, or compute and that is about as large; else choose one."""
    if previous is not None:
        before, base = previous.release, next(iter(chain.segments))
        grown = chain.whole and len(chain.whole) > _GROWN * before.file(before.segments[0]).size
        if base == before.segments[0] or (chain.recipes.get(base) and not grown):
            return before.recipe
    return tune(content) if tune is not None else IndexRecipe()


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
