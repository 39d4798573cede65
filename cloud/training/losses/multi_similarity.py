"""Multi-similarity: compare the photos of a batch in pairs, and learn from those out of order."""

from typing import Any

from keras import ops

from cloud.training.losses.base import ProductLoss, log_one_plus_sum_exp, other_photos


class MultiSimilarity(ProductLoss):
    """Multi-similarity loss with its mining of pairs (Wang et al. 2019).

        loss = mean_i  1/a log(1 + sum_{j of the same product} exp(-a (S_ij - l)))
                     + 1/b log(1 + sum_{j of another} exp(b (S_ij - l)))

    where only those pairs count that are out of order by less than e: a photo of another product that is
    nearer than the farthest of the same less e, and one of the same that is farther than the nearest other
    plus e. A photo without a partner of its product in the batch counts as 0: sample P products x K photos.

    Args:
        positive_scale: a; 2 in the paper.
        negative_scale: b; 50 in the paper.
        threshold: l, a cosine; 0.5 in the authors' code.
        slack: e, a cosine; 0.1 in the paper.
    """

    def __init__(
        self,
        *,
        positive_scale: float = 2.0,
        negative_scale: float = 50.0,
        threshold: float = 0.5,
        slack: float = 0.1,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.positive_scale = positive_scale
        self.negative_scale = negative_scale
        self.threshold = threshold
        self.slack = slack

    def call(self, embeddings: Any, labels: Any) -> Any:
        """Return the mean loss of the photos."""
        similarities = ops.matmul(embeddings, ops.transpose(embeddings))
        same, other = other_photos(labels)
        # Which pairs count is a choice, and choices have no gradient. 3 is farther than any cosine.
        fixed = ops.stop_gradient(similarities)
        farthest_same = ops.min(ops.where(same, fixed, 3.0), axis=1, keepdims=True)
        nearest_other = ops.max(ops.where(other, fixed, -3.0), axis=1, keepdims=True)
        same = ops.logical_and(same, fixed < nearest_other + self.slack)
        other = ops.logical_and(other, fixed > farthest_same - self.slack)
        a, b, excess = self.positive_scale, self.negative_scale, similarities - self.threshold
        draw = log_one_plus_sum_exp(-a * excess, same, axis=1) / a
        push = log_one_plus_sum_exp(b * excess, other, axis=1) / b
        return ops.mean(draw + push)
