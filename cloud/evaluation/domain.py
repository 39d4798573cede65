"""Asks a model about things that it was not tuned to: does it still serve another shop?"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud.assembly import open_embedder
from cloud.evaluation.bench import Progress, installed
from cloud.importers import PlannedPhoto, read_plan
from edge.embedder import Embedder
from edge.errors import BadSetting, SkipPhoto
from edge.image import decode, fit, load_photo
from edge.model import Model, Variant
from edge.segments import Content, quantize_rows


def second_domain_top1(model: Model, variant: Variant, folder: Path, progress: Progress) -> float:
    """Return the share (0..1) of photos in `folder`/test whose nearest in `folder`/train is of their kind.

    Both hold one sub-folder per kind; the kinds are put into a release and asked for like products. Photos
    that cannot be decoded are passed over.

    Raises:
        BadSetting: there is no photo to ask for, or none to answer with.
        ModelBroken: the network does not load, or answers with nothing usable.
        StorageUnusable: the folder cannot be read.
    """
    plan = read_plan(folder)
    references = [photo for photo in plan.photos if photo.split == "train"]
    queries = [photo for photo in plan.photos if photo.split == "test"]
    vectors = _embed(open_embedder(model, variant), model.input_size, references, progress)
    if not vectors or not queries:
        raise BadSetting(f"{folder} has no photos in train/KIND/ and test/KIND/: name a folder that has both")
    content = Content(
        space=model.space,
        dimension=model.dimension,
        scale=model.row_scale,
        products={product.sku: product for product in plan.products},
        rows={sku: quantize_rows(np.stack(rows), model.row_scale) for sku, rows in sorted(vectors.items())},
    )
    right: list[bool] = []
    with installed(model, variant, content) as matcher:
        for done, query in enumerate(queries, start=1):
            progress("Answering the second domain", done, len(queries))
            try:
                answer = matcher.match_photo(load_photo(query.path), top=1)
            except SkipPhoto:
                continue
            right.append(answer.candidates[0].product.sku == query.sku)
    return float(np.mean(right)) if right else 0.0


def _embed(
    embedder: Embedder, input_size: int, photos: Sequence[PlannedPhoto], progress: Progress
) -> dict[str, list[NDArray[np.float32]]]:
    vectors: dict[str, list[NDArray[np.float32]]] = {}
    for done, photo in enumerate(photos, start=1):
        progress("Embedding the second domain", done, len(photos))
        try:
            picture = decode(load_photo(photo.path), shrink_to=input_size)
        except SkipPhoto:
            continue
        vectors.setdefault(photo.sku, []).append(embedder.embed(fit(picture, input_size)).vector)
    return vectors
