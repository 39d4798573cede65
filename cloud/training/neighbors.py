"""Nearest neighbors among embeddings in memory, for choosing and calibrating; devices use `edge.index`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.training.network import normalize_pictures

Vectors = NDArray[np.float32]


def embed(model: Any, pictures: NDArray[np.uint8], tell: Callable[[int], None] | None = None) -> Vectors:
    """Embed pictures (n, S, S, 3) with a Keras model of one output (n, C); not normalized; float32 (n, C)."""
    found = []
    step = 64
    for start in range(0, len(pictures), step):
        chunk = pictures[start : start + step]
        # The last chunk is filled up, so that TensorFlow traces one shape only.
        filled = np.concatenate([chunk, np.zeros((step - len(chunk), *chunk.shape[1:]), np.uint8)])
        found.append(model.predict_on_batch(normalize_pictures(filled))[: len(chunk)])
        if tell is not None:
            tell(min(len(pictures), start + step))
    return np.concatenate(found).astype(np.float32)


def unit(vectors: Vectors) -> Vectors:
    """Scale vectors (n, D) to length 1; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def nearest(queries: Vectors, references: Vectors) -> NDArray[np.intp]:
    """Return the index of the most similar reference of each query, (n,); both of unit length."""
    return np.asarray(np.argmax(queries @ references.T, axis=1))


def top1(
    queries: Vectors, labels: NDArray[np.int32], references: Vectors, of_references: NDArray[np.int32]
) -> float:
    """Return the share of queries whose nearest reference has their label."""
    found = of_references[nearest(unit(queries), unit(references))]
    return float(np.mean(found == labels))
