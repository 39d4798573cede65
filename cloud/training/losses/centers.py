"""A loss that keeps centers: unit vectors that stand for the products."""

from typing import Any

import keras
import numpy as np
from keras import ops

from cloud.training.losses.base import ProductLoss

# Length of the noise that tells the sub-centers of one product apart at the beginning (cosine 0.96).
_SPREAD = 0.3


class CenterLoss(ProductLoss):
    """A loss with `per_product` learned unit vectors for each of `products`.

    Weights:
        kernel: float32 (D, per_product * K); column `j * K + k` is the j-th center of product k. They are
            normalized wherever they are used, so that averaged weights serve as well; the constraint
            keeps their length at 1, for the shorter they are, the farther a step of Adam's turns them.
    """

    def __init__(self, products: int, per_product: int = 1, name: str | None = None) -> None:
        super().__init__(name=name)
        self.products = products
        self.per_product = per_product

    def build(self, embeddings_shape: Any, labels_shape: Any = None) -> None:
        """Make the centers, in random directions."""
        self.kernel = self.add_weight(
            shape=(embeddings_shape[-1], self.per_product * self.products),
            initializer=_random_directions,
            constraint=keras.constraints.UnitNorm(axis=0),
            name="kernel",
        )

    def begin(self, means: Any) -> None:
        """Set each product's first center to its mean direction, the others a little beside it."""
        means = _unit_columns(np.asarray(means, np.float32))
        if not self.built:
            self.build((None, len(means)))
        length = _SPREAD / len(means) ** 0.5  # of each of its D numbers
        noise = np.random.default_rng(0).normal(0, length, (self.per_product, *means.shape))
        noise[0] = 0
        self.kernel.assign(np.concatenate([_unit_columns(means + some) for some in noise], axis=1))

    def cosines(self, embeddings: Any) -> Any:
        """Return the similarity of each embedding to each product's nearest center, float32 (n, K)."""
        kernel = ops.normalize(ops.convert_to_tensor(self.kernel), axis=0, order=2)
        similarities = ops.matmul(embeddings, kernel)
        if self.per_product == 1:
            return similarities
        return ops.max(ops.reshape(similarities, (-1, self.per_product, self.products)), axis=1)


def _random_directions(shape: tuple[int, int], dtype: Any = None) -> Any:
    return ops.normalize(keras.random.normal(shape, dtype=dtype, seed=0), axis=0, order=2)


def _unit_columns(vectors: Any) -> Any:
    """Scale the columns of an array (D, K) to length 1; zero columns stay zero. float32."""
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=0, keepdims=True), 1e-12)).astype(np.float32)
