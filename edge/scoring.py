"""How well a product fits a picture, by all of its reference photos and not by the best one alone.

Think of it as the height of a hill: every reference photo of a product is a bump on the unit sphere, and the
picture stands somewhere on their sum. That is a kernel density estimate of each product, all products being
equally likely beforehand (E. Parzen: On Estimation of a Probability Density Function and Mode, 1962; for
picture search O. Boiman, E. Shechtman, M. Irani: In Defense of Nearest-Neighbor Based Image Classification,
CVPR 2008). One lucky photo weighs less than several that agree, and a product with hundreds of photos has no
advantage over one that was enrolled with three.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ScoreRule:
    """Say how the similarities of a product's reference photos become its score.

    `score = t * (log(sum of exp(similarity / t)) - nu * log(n))` over its n reference photos, with the
    `temperature` t (0: the best photo alone counts) and the `count_weight` nu (0: the sum, 1: the mean). The
    score is at least `best - t * nu * log(n)` and at most `best + t * (1 - nu) * log(n)`.
    """

    temperature: float = 0.0
    count_weight: float = 0.0

    def scores(
        self,
        similarities: NDArray[np.floating],
        starts: NDArray[np.integer],
        counts: NDArray[np.integer],
    ) -> NDArray[np.floating]:
        """Score products, shape (..., products), of the kind of `similarities`.

        `similarities` are cosines of shape (..., n), the rows of each product together; `starts`, shape
        (products,), says where those of each begin. `counts` is how many reference photos each has in all: a
        search that did not look at every row leaves out those that would have added nothing.
        """
        if len(starts) == 0:
            return np.zeros((*similarities.shape[:-1], 0), similarities.dtype)
        # Products of a single photo, as a new catalog has them, need no maximum.
        alone = len(starts) == similarities.shape[-1]
        best = similarities if alone else np.maximum.reduceat(similarities, starts, axis=-1)
        if self.temperature <= 0:
            return best
        # Less the product's own best before exp: nothing overflows, and no product's sum comes to zero.
        rows = np.diff(starts, append=similarities.shape[-1])
        bumps = similarities - np.repeat(best, rows, axis=-1)
        bumps /= self.temperature
        np.exp(bumps, out=bumps)
        heights = np.log(np.add.reduceat(bumps, starts, axis=-1))
        if self.count_weight:
            heights -= (self.count_weight * np.log(counts)).astype(heights.dtype)
        scored: NDArray[np.floating] = best + heights.dtype.type(self.temperature) * heights
        return scored
