"""Compares a device's answers with those of the float network that its file was made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud.catalog import ReferencePhoto
from cloud.embed import embed_queries, embed_references, fitted_pictures
from cloud.embeddings import EmbeddingCache
from cloud.evaluation.bench import Progress
from cloud.evaluation.scores import Answered
from cloud.photos import PhotoStorage
from edge.disk import sha256_file
from edge.model import Model, Variant
from edge.scoring import ScoreRule


@dataclass(frozen=True, slots=True)
class Drift:
    """What quantization costs.

    Attributes:
        int8_minus_float: Difference of fine top-1, -1..1.
        mean_cosine: Of the two embeddings of each photo.
        int8_agreement: Share (0..1) of photos with the same product on top; None where it was not recorded.
        cosines: Of the two embeddings of each photo, float32 (n,); empty where it was not recorded.
        recorded: Whether this is what model.json says of the day that the model was made.
    """

    int8_minus_float: float
    mean_cosine: float
    int8_agreement: float | None = None
    cosines: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32), compare=False)
    recorded: bool = False


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


def recorded_drift(model: Model) -> Drift | None:
    """Return what was measured when the model was made, from a folder that no longer holds the float file."""
    record = model.extra.get("parity")
    if not isinstance(record, Mapping):
        return None
    values = [record.get(name) for name in ("int8_minus_float", "mean_cosine", "int8_agreement")]
    difference, cosine, agreement = (
        float(value) if isinstance(value, int | float) else None for value in values
    )
    if difference is None or cosine is None:
        return None
    return Drift(difference, cosine, agreement, recorded=True)


def measure_drift(
    exact: Model,
    rule: ScoreRule,
    answers: Sequence[Answered],
    references: Sequence[ReferencePhoto],
    *,
    photos: PhotoStorage,
    cache: EmbeddingCache,
    progress: Progress,
) -> Drift | None:
    """Search the answered photos again, exactly, in float32 vectors, products scored by the device's rule.

    Nothing can be said of no answers.

    Raises:
        ModelBroken: the float file does not load, or answers with NaN.
        Incompatible: it has another input size or dimension.
        StorageUnusable: the cache cannot be used.
    """
    (variant,) = exact.variants
    size = exact.input_size

    def tell(done: int, total: int) -> None:
        progress("Embedding with the float network", done, total)

    pictures = fitted_pictures(photos, (each.sha256 for each in references), size)
    vectors = embed_references(exact, variant, pictures, cache=cache, progress=tell).vectors
    pictures = fitted_pictures(photos, (answer.photo.sha256 for answer in answers), size)
    asked = embed_queries(exact, variant, pictures, cache=cache, progress=tell).vectors
    known = sorted((each for each in references if each.sha256 in vectors), key=lambda each: each.sku)
    compared = [answer for answer in answers if answer.photo.sha256 in asked]
    if not known or not compared:
        return None
    queries = np.stack([asked[answer.photo.sha256] for answer in compared])
    found = _search(queries, known, vectors, rule)
    floats = [sku == answer.photo.sku for sku, answer in zip(found, compared, strict=True)]
    same = [answer.skus[:1] == (sku,) for sku, answer in zip(found, compared, strict=True)]
    cosines = np.sum(np.stack([answer.vector for answer in compared]) * queries, axis=1)
    return Drift(
        int8_minus_float=float(np.mean([answer.is_right for answer in compared]) - np.mean(floats)),
        mean_cosine=float(np.mean(cosines)),
        int8_agreement=float(np.mean(same)),
        cosines=cosines,
    )


def _search(
    queries: NDArray[np.float32],
    references: Sequence[ReferencePhoto],
    vectors: Mapping[str, NDArray[np.float32]],
    rule: ScoreRule,
) -> list[str]:
    """Return the product that scores best for each query (n, D); references are sorted by product."""
    matrix = np.stack([vectors[reference.sha256] for reference in references])
    skus, starts, counts = np.unique(
        [reference.sku for reference in references], return_index=True, return_counts=True
    )
    scores = [rule.scores(similarities, starts, counts) for similarities in queries @ matrix.T]
    return [str(skus[place]) for place in np.argmax(scores, axis=1)]
