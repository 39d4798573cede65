"""Proxy-Anchor: each product's center draws its photos near and pushes all others away, the hardest most."""

from typing import Any

from keras import ops

from cloud.training.losses.base import log_one_plus_sum_exp
from cloud.training.losses.centers import CenterLoss


class ProxyAnchor(CenterLoss):
    """Proxy-Anchor loss (Kim et al. 2020).

        loss =   mean over products p of the batch of log(1 + sum_{x of p} exp(-a (cos(x, w_p) - d)))
               + mean over all products p of log(1 + sum_{x not of p} exp(a (cos(x, w_p) + d)))

    Args:
        products: K.
        scale: a, how much more the hardest photos count than the others; 32 in the paper.
        margin: d, a cosine, 0..1; 0.1 in the paper.
    """

    def __init__(
        self, products: int, *, scale: float = 32.0, margin: float = 0.1, name: str | None = None
    ) -> None:
        super().__init__(products, name=name)
        self.scale = scale
        self.margin = margin

    def call(self, embeddings: Any, labels: Any) -> Any:
        """Return the loss of the batch."""
        cosines = self.cosines(embeddings)
        own = ops.one_hot(labels, self.products, dtype="float32") > 0
        draw = log_one_plus_sum_exp(-self.scale * (cosines - self.margin), own, axis=0)
        push = log_one_plus_sum_exp(self.scale * (cosines + self.margin), ops.logical_not(own), axis=0)
        present = ops.sum(ops.cast(ops.any(own, axis=0), "float32"))
        return ops.sum(draw) / present + ops.mean(push)

    def logits(self, embeddings: Any) -> Any:
        """Return the scaled cosines, float32 (n, K)."""
        if not self.built:
            self.build(embeddings.shape)
        return self.scale * self.cosines(embeddings)
