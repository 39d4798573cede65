"""Lays embeddings out in a plane, so that those of like pictures lie together.

By t-SNE (L. van der Maaten, G. Hinton: Visualizing Data using t-SNE, JMLR 2008), exact, begun at the two
principal axes (D. Kobak, P. Berens: The art of using t-SNE for single-cell transcriptomics, 2019), so that
the same embeddings always come out alike. Distances between groups mean little; who lies beside whom means a
lot.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]

_PERPLEXITY: Final = 30.0
_STEPS: Final = 500
_EXAGGERATED: Final = 120  # steps at first, in which groups are drawn together
_EXAGGERATION: Final = 12.0
_FEW: Final = 10  # too few to have neighborhoods: the principal axes do


def lay_out(vectors: NDArray[np.float32]) -> Plane:
    """Return places (n, 2), 0 to 1 along both axes, for unit vectors (n, D). Time grows with n squared."""
    places = _principal(vectors.astype(np.float64))
    if len(vectors) >= _FEW:
        places = _neighborly(vectors.astype(np.float64), places)
    low, high = places.min(axis=0), places.max(axis=0)
    return np.asarray((places - low) / np.maximum(high - low, 1e-9))


def _principal(vectors: Plane) -> Plane:
    centered = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    # The sign of an axis is anybody's choice: the largest component is made positive.
    axes = axes[:2] * np.sign(axes[:2][np.arange(len(axes[:2])), np.abs(axes[:2]).argmax(axis=1)])[:, None]
    places = centered @ axes.T
    return places if places.shape[1] == 2 else np.column_stack([places, np.zeros(len(places))])


def _neighborly(vectors: Plane, begun: Plane) -> Plane:
    count = len(vectors)
    wanted = _affinities(np.maximum(2 - 2 * vectors @ vectors.T, 0))
    places = begun / max(begun[:, 0].std(), 1e-12) * 1e-4
    moved, gains = np.zeros_like(places), np.ones_like(places)
    rate = max(count / _EXAGGERATION, 50.0)
    for step in range(_STEPS):
        exaggeration = _EXAGGERATION if step < _EXAGGERATED else 1.0
        gradient = _gradient(places, exaggeration * wanted)
        gains = np.where(np.sign(gradient) == np.sign(moved), np.maximum(gains * 0.8, 0.01), gains + 0.2)
        moved = (0.5 if step < _EXAGGERATED else 0.8) * moved - rate * gains * gradient
        places = places + moved
        places -= places.mean(axis=0)
    return np.asarray(places)


def _gradient(places: Plane, wanted: Plane) -> Plane:
    squares = np.sum(places**2, axis=1)
    closeness = 1 / (1 + np.maximum(squares[:, None] + squares[None, :] - 2 * places @ places.T, 0))
    np.fill_diagonal(closeness, 0)
    pull = (wanted - closeness / closeness.sum()) * closeness
    return np.asarray(4 * (pull.sum(axis=1)[:, None] * places - pull @ places))


def _affinities(distances: Plane) -> Plane:
    """Turn squared distances (n, n) into shares of neighborhood: each point has equally many neighbors."""
    count = len(distances)
    entropy = np.log(min(_PERPLEXITY, (count - 1) / 3))
    low, high = np.zeros(count), np.full(count, np.inf)
    sharpness = np.ones(count)
    others = distances + np.diag(np.full(count, np.inf))
    nearest = others.min(axis=1, keepdims=True)
    for _ in range(60):
        weights = np.exp(-(others - nearest) * sharpness[:, None])
        shares = weights / weights.sum(axis=1, keepdims=True)
        found = -np.sum(shares * np.log(np.maximum(shares, 1e-300)), axis=1)
        too_wide = found > entropy
        low, high = np.where(too_wide, sharpness, low), np.where(too_wide, high, sharpness)
        sharpness = np.where(np.isinf(high), sharpness * 2, (low + high) / 2)
    return np.asarray(np.maximum((shares + shares.T) / (2 * count), 1e-12))
