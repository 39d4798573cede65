"""The losses that the tests compare; run as a program on JAX, writes what they are there.

KERAS_BACKEND=jax python losses_on_jax.py OUT.npz
"""

import sys
from collections.abc import Callable

import numpy as np

from cloud.training.losses import (
    ArcFace,
    CosineSoftmax,
    MultiSimilarity,
    ProductLoss,
    ProxyAnchor,
    SubCenterArcFace,
    SupervisedContrastive,
)

PRODUCTS = 5
DIMENSION = 6
WITH_CENTERS: dict[str, Callable[[], ProductLoss]] = {
    "cosine_softmax": lambda: CosineSoftmax(PRODUCTS, scale=8.0, bias=True),
    "arcface": lambda: ArcFace(PRODUCTS, scale=8.0, margin=0.3),
    "sub_center_arcface": lambda: SubCenterArcFace(PRODUCTS, scale=8.0, margin=0.3, sub_centers=3),
    "proxy_anchor": lambda: ProxyAnchor(PRODUCTS, scale=8.0, margin=0.1),
}
OF_PAIRS: dict[str, Callable[[], ProductLoss]] = {
    "multi_similarity": MultiSimilarity,
    "supervised_contrastive": SupervisedContrastive,
}
ALL = {**WITH_CENTERS, **OF_PAIRS}


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def some_batch(seed: int = 0, count: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw embeddings (n, D), labels (n,) and centers (D, K)."""
    random = np.random.default_rng(seed)
    embeddings = unit_rows(random.normal(size=(count, DIMENSION)))
    centers = unit_rows(random.normal(size=(PRODUCTS, DIMENSION))).T
    return embeddings, random.integers(0, PRODUCTS, count).astype(np.int32), centers


def main(path: str) -> None:
    """Write each loss's value and gradient, computed by JAX, into a file."""
    import jax

    embeddings, labels, centers = some_batch(8)
    losses = {name: make() for name, make in ALL.items()}
    for loss in losses.values():
        loss.begin(centers)

    @jax.jit  # all in one, for compiling takes the time
    def measure(vectors: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {
            name: jax.value_and_grad(lambda some, loss=loss: loss(some, labels))(vectors)
            for name, loss in losses.items()
        }

    found = {}
    for name, (value, gradient) in measure(embeddings).items():
        found[name], found[f"{name} gradient"] = value, gradient
    np.savez(path, **found)


if __name__ == "__main__":
    main(sys.argv[1])
