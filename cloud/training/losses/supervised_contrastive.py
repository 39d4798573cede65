"""Supervised contrastive: among all other photos of the batch, find those of the same product."""

from typing import Any

from keras import ops

from cloud.training.losses.base import ProductLoss, other_photos


class SupervisedContrastive(ProductLoss):
    """Supervised contrastive loss, the form with the sum outside the logarithm (Khosla et al. 2020).

        loss = mean_i  -1/|P(i)| sum_{p in P(i)} log( exp(S_ip / t) / sum_{j != i} exp(S_ij / t) )

    P(i) are the other photos of i's product in the batch. A photo without one counts as 0: sample P products
    x K photos.

    Args:
        temperature: t; 0.1 in the paper.
    """

    def __init__(self, *, temperature: float = 0.1, name: str | None = None) -> None:
        super().__init__(name=name)
        self.temperature = temperature

    def call(self, embeddings: Any, labels: Any) -> Any:
        """Return the mean loss of the photos."""
        scores = ops.matmul(embeddings, ops.transpose(embeddings)) / self.temperature
        same, other = other_photos(labels)
        everyone = ops.logsumexp(ops.where(ops.logical_or(same, other), scores, -1e30), axis=1, keepdims=True)
        same = ops.cast(same, "float32")
        partners = ops.sum(same, axis=1)
        missed = ops.sum(same * (everyone - scores), axis=1)
        return ops.mean(missed / ops.maximum(partners, 1.0))
