"""Compares a device's answers with those of the float network that its file was made of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cloud.assembly import embed_catalog
from cloud.catalog import ReferencePhoto
from cloud.embeddings import EmbeddingCache
from cloud.evaluation.bench import Progress
from cloud.evaluation.scores import Answered
from cloud.photos import PhotoStorage
from edge.disk import sha256_file
from edge.model import Model, Variant


@dataclass(frozen=True, slots=True)
class Drift:
    """What quantization costs: the difference of fine top-1 (-1..1), and the mean cosine of embeddings."""

    int8_minus_float: float
    mean_cosine: float


def exact_file(model: Model, file: Path | None) -> Model | None:
    """Return the model with its float32 file alone: the one named, else the folder's own, else there is none.

    Raises:
        StorageUnusable: the file that was named cannot be read.
    """
    if file is None:
        own = tuple(variant for variant in model.variants if variant.precision == "float32")
        return replace(model, variants=own[:1]) if own else None
    variant = Variant(
        name="float32",
        file=file.name,
        sha256=sha256_file(file),
        size=file.stat().st_size,
        target="float32",
        precision="float32",
        decision=model.variants[0].decision,
    )
    return replace(model, folder=file.parent, variants=(variant,))


def measure_drift(
    exact: Model,
    answers: Sequence[Answered],
    references: Sequence[ReferencePhoto],
    *,
    photos: PhotoStorage,
    cache: EmbeddingCache,
    progress: Progress,
) -> Drift | None:
    """Search the answered photos again, exactly, in float32 vectors; nothing can be said of no answers.

    Raises:
        ModelBroken: the float file does not load, or answers with NaN.
        Incompatible: it has another input size or dimension.
        StorageUnusable: the cache cannot be used.
    """
    (variant,) = exact.variants
    everything = [*references, *(answer.photo for answer in answers)]
    task = "Embedding with the float network"
    embed_catalog(
        exact,
        variant,
        products=(),
        references=everything,
        photos=photos,
        cache=cache,
        progress=lambda done, total: progress(task, done, total),
    )
    vectors = cache.known(variant.sha256, [photo.sha256 for photo in everything])
    known = [reference for reference in references if reference.sha256 in vectors]
    compared = [answer for answer in answers if answer.photo.sha256 in vectors]
    if not known or not compared:
        return None
    queries = np.stack([vectors[answer.photo.sha256] for answer in compared])
    matrix = np.stack([vectors[reference.sha256] for reference in known])
    nearest = np.argmax(queries @ matrix.T, axis=1)
    right = [
        known[row].sku == answer.photo.sku for row, answer in zip(nearest.tolist(), compared, strict=True)
    ]
    ours = np.stack([answer.vector for answer in compared])
    return Drift(
        int8_minus_float=float(np.mean([answer.is_right for answer in compared]) - np.mean(right)),
        mean_cosine=float(np.mean(np.sum(ours * queries, axis=1))),
    )
