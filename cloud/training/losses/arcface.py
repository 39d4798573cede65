"""ArcFace: a cosine softmax in which the right product must win by an angle."""

import math
from typing import Any

from keras import ops

from cloud.training.losses.cosine_softmax import CosineSoftmax

# Smallest squared sine that is told from 0: below it float32 rounds, and the root's slope has no bound.
_SMALLEST = 1e-6


class ArcFace(CosineSoftmax):
    """Cross entropy with an additive angular margin (ArcFace, Deng et al. 2019).

        z_y = s * cos(angle_y + m), all other z_k = s * cos(angle_k)

    Beyond pi - m, where the cosine would rise again, it goes on as `s * (cos(angle_y) - m sin(m))`, as in the
    authors' code, so that a larger angle never costs less.

    Args:
        products, scale, smoothing, bias, per_product: as of `CosineSoftmax`.
        margin: m in radians, 0..pi/2; 0.5 in the paper.
    """

    def __init__(
        self,
        products: int,
        *,
        scale: float = 16.0,
        margin: float = 0.5,
        smoothing: float = 0.0,
        bias: bool = False,
        per_product: int = 1,
        name: str | None = None,
    ) -> None:
        super().__init__(
            products, scale=scale, smoothing=smoothing, bias=bias, per_product=per_product, name=name
        )
        self.margin = margin

    def hinder(self, cosines: Any, target: Any) -> Any:
        """Turn the right product's center away by the margin."""
        sines = ops.sqrt(ops.maximum(1 - ops.square(cosines), _SMALLEST))
        turned = cosines * math.cos(self.margin) - sines * math.sin(self.margin)
        beyond = cosines - self.margin * math.sin(self.margin)
        hindered = ops.where(cosines > -math.cos(self.margin), turned, beyond)
        return ops.where(target > 0, hindered, cosines)
