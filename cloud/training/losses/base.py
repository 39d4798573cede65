"""What every loss of the training is: a layer from embeddings and labels to one number."""

from typing import Any

import keras
from keras import ops

# Stands for minus infinity where a pair is left out: its exponential is exactly 0, its gradient too.
_NOTHING = -1e30


class ProductLoss(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Measures how badly embeddings tell products apart; smaller is better.

    It computes in float32 whatever the dtype policy, and owns no weights unless it says so.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name, dtype="float32")

    def begin(self, means: Any) -> None:
        """Set the centers to the mean directions of the products, float32 (D, K); without centers, nothing.

        The columns need not have unit length.
        """

    def call(self, embeddings: Any, labels: Any) -> Any:
        """Return the loss, a float32 scalar: the mean over the batch.

        Args:
            embeddings: float32 (n, D), of unit length.
            labels: int32 (n,), the products' numbers, 0..K-1.
        """
        raise NotImplementedError

    def logits(self, embeddings: Any) -> Any | None:
        """Return float32 (n, K), bigger for the likelier product, without margin; None without centers.

        Embeddings as in `call`. Only for use within a layer's `call`, or eagerly: a Keras graph does not
        track the weights behind a method.
        """
        return None


def log_one_plus_sum_exp(values: Any, mask: Any, axis: int) -> Any:
    """Return log(1 + the sum of exp(values) where mask holds) along the axis; 0 where it holds nowhere.

    Neither large values nor an empty mask give anything but a finite result with a finite gradient.
    """
    masked = ops.where(mask, values, _NOTHING)
    # The exponent of the 1 is 0: it takes part in finding the largest one.
    largest = ops.maximum(ops.max(ops.stop_gradient(masked), axis=axis, keepdims=True), 0.0)
    total = ops.exp(-largest) + ops.sum(ops.exp(masked - largest), axis=axis, keepdims=True)
    return ops.squeeze(largest + ops.log(total), axis=axis)


def other_photos(labels: Any) -> tuple[Any, Any]:
    """Return which photos of a batch go with which: of the same product, and of another; both bool (n, n).

    No photo is its own partner.
    """
    same = ops.equal(labels[:, None], labels[None, :])
    itself = ops.cast(ops.eye(ops.shape(labels)[0]), "bool")
    return ops.logical_and(same, ops.logical_not(itself)), ops.logical_not(same)
