"""Cosine softmax: classify the embedding by its similarity to a center of each product."""

from typing import Any

from keras import ops

from cloud.training.losses.centers import CenterLoss


class CosineSoftmax(CenterLoss):
    """Cross entropy of scaled cosines (NormFace, Wang et al. 2017).

        z_k = s * (cos(x, w_k) + b_k)
        loss = log(sum_k exp(z_k)) - (1 - e) * z_y - e * mean_k z_k

    Args:
        products: K.
        scale: s. With unit vectors, one product's share of the softmax cannot pass
            1 / (1 + (K - 1) exp(-2 s)): the more products, the larger it must be.
        smoothing: e, 0..1, the share of the target that is spread over all products (label smoothing,
            Szegedy et al. 2016).
        bias: learn b, one number a product, in units of cosine. It takes up that some products have more
            photos than others, so that their centers need not.
        per_product: centers of each product; the nearest counts.
    """

    def __init__(
        self,
        products: int,
        *,
        scale: float = 16.0,
        smoothing: float = 0.0,
        bias: bool = False,
        per_product: int = 1,
        name: str | None = None,
    ) -> None:
        super().__init__(products, per_product, name)
        self.scale = scale
        self.smoothing = smoothing
        self.has_bias = bias

    def build(self, embeddings_shape: Any, labels_shape: Any = None) -> None:
        """Make the centers and the biases, which begin at 0."""
        super().build(embeddings_shape, labels_shape)
        if self.has_bias:
            self.bias = self.add_weight(shape=(self.products,), initializer="zeros", name="bias")

    def call(self, embeddings: Any, labels: Any) -> Any:
        """Return the mean smoothed cross entropy."""
        target = ops.one_hot(labels, self.products, dtype="float32")
        scores = self.scores(self.hinder(self.cosines(embeddings), target))
        of_target = ops.sum(target * scores, axis=1)
        aim = (1 - self.smoothing) * of_target + self.smoothing * ops.mean(scores, axis=1)
        return ops.mean(ops.logsumexp(scores, axis=1) - aim)

    def logits(self, embeddings: Any) -> Any:
        """Return the scores z without margin, float32 (n, K)."""
        if not self.built:
            self.build(embeddings.shape)
        return self.scores(self.cosines(embeddings))

    def scores(self, cosines: Any) -> Any:
        """Turn cosines (n, K) into scores z of the same shape."""
        return self.scale * (cosines + self.bias if self.has_bias else cosines)

    def hinder(self, cosines: Any, target: Any) -> Any:
        """Make it harder for the right product, `target` one-hot (n, K); here not at all."""
        return cosines
