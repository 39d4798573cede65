"""How far one model file strays from another, on the same pictures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadNetwork

Vectors = NDArray[np.float32]
LEAST_MEAN_COSINE = 0.95


@dataclass(frozen=True, slots=True)
class Parity:
    """How alike the embeddings of two files are; `p05_cosine` is what 95 of 100 pictures reach."""

    photos: int
    mean_cosine: float
    p05_cosine: float
    same_neighbor: float


def compare(exact: Vectors, strayed: Vectors) -> Parity:
    """Compare unit vectors (n, D) of the same pictures; `same_neighbor` is the share that keeps its nearest.

    Raises:
        BadNetwork: there is nothing to compare.
    """
    if not len(exact):
        raise BadNetwork("there are no photos to compare the converted file on: give a folder of some 300")
    cosines = np.sum(exact * strayed, axis=1)
    return Parity(
        photos=len(exact),
        mean_cosine=round(float(np.mean(cosines)), 5),
        p05_cosine=round(float(np.quantile(cosines, 0.05)), 5),
        same_neighbor=round(float(np.mean(_neighbors(exact) == _neighbors(strayed))), 4),
    )


def check_parity(parity: Parity, what: str) -> None:
    """Refuse a file that strays so far that it is another network.

    Raises:
        BadNetwork: the mean cosine is under `LEAST_MEAN_COSINE`.
    """
    if parity.mean_cosine < LEAST_MEAN_COSINE:
        raise BadNetwork(
            f"{what} strays from its network (mean cosine {parity.mean_cosine} on {parity.photos} photos, "
            f"under {LEAST_MEAN_COSINE}): give more, and more typical, photos"
        )


def _neighbors(vectors: Vectors) -> NDArray[np.intp]:
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -2)
    return np.asarray(np.argmax(similarities, axis=1))
