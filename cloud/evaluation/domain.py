"""Asks a model about things that it was not tuned to: does it still serve another shop?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud.embed import Vector, embed_queries, embed_references
from cloud.embeddings import EmbeddingCache
from cloud.evaluation.bench import Progress, installed
from cloud.importers import PlannedPhoto, read_plan
from edge.errors import BadSetting, SkipPhoto
from edge.image import Picture, decode_to_fit, load_photo
from edge.model import Model, Variant
from edge.products import Product
from edge.segments import Content, quantize_rows


@dataclass(frozen=True, slots=True, eq=False)
class SecondDomain:
    """How a model sorts photos of other things into kinds.

    `top1` is the share (0..1) of the `photos` that come out as their kind, among `references` photos;
    `counts[i, j]`, int (kinds, kinds), says how many of kind i came out as kind j.
    """

    top1: float
    photos: int
    references: int
    kinds: tuple[str, ...]
    counts: NDArray[np.int64]


def measure_second_domain(
    model: Model, variant: Variant, folder: Path, *, cache: EmbeddingCache, progress: Progress
) -> SecondDomain:
    """Put the photos in `folder`/train into a release and ask it for the kinds of those in `folder`/test.

    Both hold one sub-folder per kind; the kinds are asked for like products. Photos that cannot be decoded
    are passed over.

    Raises:
        BadSetting: there is no photo to ask for, or none to answer with.
        ModelBroken: the network does not load, or answers with nothing usable.
        StorageUnusable: the folder or the cache cannot be read.
    """
    plan = read_plan(folder)
    parts = [_read([photo for photo in plan.photos if photo.split == split]) for split in ("train", "test")]
    pictures = [{name: _maker(photo.path, model.input_size) for name, photo in part} for part in parts]

    def tell(done: int, total: int) -> None:
        progress("Embedding the second domain", done, total)

    vectors = (
        embed_references(model, variant, pictures[0], cache=cache, progress=tell).vectors,
        embed_queries(model, variant, pictures[1], cache=cache, progress=tell).vectors,
    )
    references, queries = (
        [(photo.sku, found[name]) for name, photo in part if name in found]
        for part, found in zip(parts, vectors, strict=True)
    )
    if not references or not queries:
        raise BadSetting(f"{folder} has no photos in train/KIND/ and test/KIND/: name a folder that has both")
    content = _content(model, plan.products, references)
    with installed(model, variant, content) as matcher:
        rule = matcher.variant.decision.score
        answers = [matcher.index.search(vector, 1, rule)[0].sku for _, vector in queries]
    kinds = tuple(sorted({sku for sku, _ in queries} | set(content.rows)))
    counts = np.zeros((len(kinds), len(kinds)), np.int64)
    for (asked, _), answered in zip(queries, answers, strict=True):
        counts[kinds.index(asked), kinds.index(answered)] += 1
    return SecondDomain(
        top1=float(np.trace(counts) / len(queries)),
        photos=len(queries),
        references=len(references),
        kinds=kinds,
        counts=counts,
    )


def _read(photos: Sequence[PlannedPhoto]) -> list[tuple[str, PlannedPhoto]]:
    """Name each photo by its bytes, as the cache wants it; those that cannot be read are passed over."""
    named = []
    for photo in photos:
        try:
            named.append((sha256(load_photo(photo.path)).hexdigest(), photo))
        except SkipPhoto:
            continue
    return named


def _maker(path: Path, size: int) -> Callable[[], Picture]:
    return lambda: decode_to_fit(load_photo(path), size)


def _content(model: Model, products: Sequence[Product], references: Sequence[tuple[str, Vector]]) -> Content:
    vectors: dict[str, list[Vector]] = {}
    for sku, vector in references:
        vectors.setdefault(sku, []).append(vector)
    return Content(
        space=model.space,
        dimension=model.dimension,
        scale=model.row_scale,
        products={product.sku: product for product in products},
        rows={sku: quantize_rows(np.stack(rows), model.row_scale) for sku, rows in sorted(vectors.items())},
    )
