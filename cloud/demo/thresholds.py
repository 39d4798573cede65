"""Fits a model's thresholds to one shop, from labeled photos taken there.

A model's own thresholds come from the catalog that it was trained on. How alike a photo and its packshot are
is another matter in another shop, with other cameras and products: a few labeled photos measure it.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cloud.assembly import embed_catalog, shipped_variants
from cloud.catalog import Catalog
from cloud.embeddings import EmbeddingCache
from cloud.sample.write import ShopPhoto
from cloud.training.calibrate import LabeledVectors, calibrate
from cloud.workspace import Workspace
from edge.disk import storage_error
from edge.embedder import Embedder
from edge.image import decode_to_fit, load_photo
from edge.model import Model, Variant, open_model, write_model
from edge.segments import Content


def fit_thresholds(
    workspace: Workspace, catalog: Catalog, model: Model, photos: Sequence[ShopPhoto]
) -> Model:
    """Put a copy of `model` into the workspace whose thresholds fit the catalog and the labeled photos.

    Raises:
        BadModel: the model has no file for a CPU.
        ModelBroken: the model file does not load, or answers with NaN.
        StorageUnusable: the workspace cannot be written.
    """
    folder = workspace.models / model.name
    variants = []
    for variant in shipped_variants(model):
        content = embed_catalog(
            model,
            variant,
            products=catalog.products(),
            references=catalog.reference_photos(),
            photos=catalog.photos,
            cache=EmbeddingCache(workspace.cache),
        ).content
        references, numbers = _references(content)
        queries = _queries(model, variant, photos, numbers)
        variants.append(replace(variant, decision=calibrate(queries, [references]).decision))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.path(variant), folder / variant.file)
        except OSError as error:
            raise storage_error(error, folder) from error
    write_model(replace(model, variants=tuple(variants), folder=folder), folder)
    return open_model(folder)


def _references(content: Content) -> tuple[LabeledVectors, dict[str, int]]:
    """Return the catalog's rows as unit vectors, and the number by which each SKU goes."""
    skus = sorted(sku for sku, rows in content.rows.items() if len(rows))
    rows = np.concatenate([content.rows[sku] for sku in skus]).astype(np.float32)
    labels = np.repeat(np.arange(len(skus), dtype=np.int32), [len(content.rows[sku]) for sku in skus])
    vectors: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return LabeledVectors(vectors, labels), {sku: number for number, sku in enumerate(skus)}


def _queries(
    model: Model, variant: Variant, photos: Sequence[ShopPhoto], numbers: dict[str, int]
) -> LabeledVectors:
    """Embed the photos as a device would."""
    size = model.input_size
    embedder = Embedder.open(model.path(variant), dimension=model.dimension, input_size=size)
    labeled = [(photo.path, numbers[photo.sku]) for photo in photos if photo.sku in numbers]
    vectors = [embedder.embed(decode_to_fit(load_photo(path), size)).vector for path, _ in labeled]
    return LabeledVectors(np.stack(vectors), np.array([number for _, number in labeled], np.int32))
