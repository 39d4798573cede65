"""An installed release around a real model and an invented catalog, of any size, to measure with."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devices.bench_scene import draw_shelf_photo
from edge.embedder import Embedder
from edge.errors import BadSetting
from edge.image import decode, fit
from edge.installation import Installation
from edge.matcher import Matcher, check_golden
from edge.model import Model, Variant
from edge.products import Product
from edge.recipe import IndexRecipe
from edge.release import FileEntry, Golden, Release
from edge.segments import Content, encode_base, quantize_rows

GOLDEN_PHOTOS = 4  # as many as a published release has: they are answered at every start
PHOTOS_PER_PRODUCT = 5
_CREATED = "2026-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Bench:
    """A device folder with an installed release, and the photo to measure with: its first golden one."""

    data: Path
    photo: bytes
    vectors: int


def model_of_release(folder: Path) -> Model:
    """Take an installed release's network files as a model; a device fetches only those that it runs.

    Raises:
        BadManifest, FormatTooNew: Its release.json cannot be read.
        BadSetting: There is no release in `folder`.
    """
    try:
        release = Release.from_bytes((folder / "release.json").read_bytes())
    except OSError as error:
        raise BadSetting(f"{folder} holds no release; give --model a model folder") from error
    return Model(
        name=release.model,
        space=release.space,
        dimension=release.dimension,
        input_size=release.input_size,
        row_scale=release.row_scale,
        variants=tuple(each for each in release.variants if (folder / each.file).exists()),
        folder=folder,
    )


def install_bench(
    model: Model, variant: Variant, vectors: int, data: Path, *, beside: Sequence[Variant] = ()
) -> Bench:
    """Install into the empty folder `data` a release of `model` with an invented catalog of `vectors` rows.

    A few products are the shelf photos of `draw_shelf_photo` as this very network sees them, so that there
    is something to find; the rest are drawn at random, in clusters, as the photos of real products lie. The
    release also has the files of the variants `beside`, for a device that runs one of them.

    Raises:
        BadSetting: Fewer vectors than golden photos.
        ShelfsightError: The model does not run here, or the disk fails.
    """
    if vectors < GOLDEN_PHOTOS:
        raise BadSetting(f"{vectors} vectors are too few to measure with; take {GOLDEN_PHOTOS} or more")
    photos = [draw_shelf_photo(seed) for seed in range(GOLDEN_PHOTOS)]
    variants = (variant, *beside)
    networks = [model.path(each).read_bytes() for each in variants]
    segment = encode_base(_invent(model, variant, photos, vectors))
    release = _release_of(model, variants, {"model": networks, "segment": [segment]})
    installation = Installation(data)
    _install(installation, release, [*networks, segment])
    golden = tuple(_answered(Matcher.open(installation.current()), photo) for photo in photos)
    entries = tuple(FileEntry(_sha256(photo), len(photo), "golden") for photo in photos)
    final = replace(release, version=2, golden=golden, files=release.files + entries)
    _install(installation, final, [*networks, segment, *photos])
    return Bench(data, photos[0], vectors)


def clustered_vectors(
    products: int, per_product: int, dimension: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Draw unit vectors, float32 (products, per_product, dimension), that lie as embeddings do.

    A few dozen directions carry most of the variance, products come in groups of 25, and two photos of one
    product have a similarity of about 0.8.
    """
    spectrum = np.exp(-np.arange(dimension) / 40)
    spectrum /= np.linalg.norm(spectrum)
    groups = random.normal(size=(products // 25 + 1, dimension)) * spectrum
    centers = groups[random.integers(0, len(groups), products)]
    centers = centers + 0.8 * random.normal(size=(products, dimension)) * spectrum
    centers /= np.linalg.norm(centers, axis=-1, keepdims=True)
    vectors = centers[:, np.newaxis] + 0.5 * random.normal(size=(products, per_product, dimension)) * spectrum
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors.astype(np.float32)


def _invent(model: Model, variant: Variant, photos: Sequence[bytes], vectors: int) -> Content:
    embedder = Embedder.open(model.path(variant), dimension=model.dimension, input_size=model.input_size)
    rows = {}
    for number, photo in enumerate(photos):
        picture = fit(decode(photo, shrink_to=model.input_size), model.input_size)
        rows[f"shelf-{number}"] = embedder.embed(picture).vector[np.newaxis]
    invented = vectors - len(photos)
    products = -(-invented // PHOTOS_PER_PRODUCT)
    drawn = clustered_vectors(products, PHOTOS_PER_PRODUCT, model.dimension, np.random.default_rng(1))
    for number in range(products):
        rows[f"invented-{number:06}"] = drawn[number][: invented - number * PHOTOS_PER_PRODUCT]
    return Content(
        space=model.space,
        dimension=model.dimension,
        scale=model.row_scale,
        products={sku: Product(sku, title=f"Product {sku}", category="Bench", price="1.99") for sku in rows},
        rows={sku: quantize_rows(block, model.row_scale) for sku, block in rows.items()},
    )


def _release_of(model: Model, variants: Sequence[Variant], files: Mapping[str, Sequence[bytes]]) -> Release:
    entries = [FileEntry(_sha256(data), len(data), role) for role, datas in files.items() for data in datas]
    segments = tuple(entry.sha256 for entry in entries if entry.role == "segment")
    return Release(
        version=1,
        created=_CREATED,
        space=model.space,
        dimension=model.dimension,
        input_size=model.input_size,
        row_scale=model.row_scale,
        model=model.name,
        variants=tuple(replace(each, file=each.sha256) for each in variants),
        segments=segments,
        merged_sha256=segments[0],  # of one canonical base, the merged content is the base
        recipe=IndexRecipe(),
        golden=(),
        files=tuple(entries),
    )


def _install(installation: Installation, release: Release, files: Sequence[bytes]) -> None:
    staging = installation.staging(release.version)
    for data in files:
        (staging / _sha256(data)).write_bytes(data)
    installation.install(release, release.to_bytes())
    installation.try_out(release.version, lambda folder: check_golden(Matcher.open(folder), folder))


def _answered(matcher: Matcher, photo: bytes) -> Golden:
    answer = matcher.match_photo(photo)
    best = answer.candidates[0]
    sku = best.product.sku if answer.verdict == "match" else None
    return Golden(photo=_sha256(photo), verdict=answer.verdict, sku=sku, similarity=best.similarity)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
