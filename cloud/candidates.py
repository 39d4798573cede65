"""What a catalog answers to photos whose products are known: the raw material of a calibration.

The similarities of many photos to a large catalog do not fit into memory at once, so they are computed a few
photos at a time, in the arithmetic of the devices.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.scoring import ScoreRule

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]

CANDIDATES = 5
_NOWHERE = -100.0  # the score of a product that is left out: below any that can be
_STEP = 64  # photos at a time


@dataclass(frozen=True, slots=True)
class LabeledVectors:
    """Unit vectors float32 (n, D) and the product number of each, int (n,)."""

    vectors: NDArray[np.float32]
    labels: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Found:
    """The best candidates of each photo, best first, (n, k): their scores, and which is its product."""

    scores: Numbers
    right: Flags

    @property
    def margins(self) -> Numbers:
        """How much better each candidate scores than the best other one, (n, k)."""
        other = np.repeat(self.scores[:, :1], self.scores.shape[1], axis=1)
        other[:, 0] = self.scores[:, 1]
        return self.scores - other


class References:
    """A catalog's reference photos, in the order in which their similarities can be scored."""

    def __init__(self, catalog: LabeledVectors) -> None:
        order = np.argsort(catalog.labels, kind="stable")
        self._vectors = catalog.vectors[order]
        self.products, self._starts, self._counts = np.unique(
            catalog.labels[order], return_index=True, return_counts=True
        )

    def similarities(self, vectors: NDArray[np.float32]) -> Iterator[tuple[slice, Numbers]]:
        """Yield which photos, and their similarities to every reference photo, (some, rows)."""
        for start in range(0, len(vectors), _STEP):
            part = slice(start, min(start + _STEP, len(vectors)))
            yield part, (vectors[part] @ self._vectors.T).astype(np.float64)

    def scores(self, similarities: Numbers, rule: ScoreRule) -> Numbers:
        """Score every product of the catalog, (some, products)."""
        return np.asarray(rule.scores(similarities, self._starts, self._counts), np.float64)

    def find(
        self,
        vectors: NDArray[np.float32],
        labels: NDArray[np.int32] | None,
        rule: ScoreRule,
        *,
        without_own: bool = False,
    ) -> Found:
        """List the candidates of photos; `labels` None: photos of products that are not in the catalog.

        Without its own, a photo is asked as if its product were not in the catalog.
        """
        count = min(CANDIDATES, len(self.products) - 1)
        scores = np.empty((len(vectors), count))
        right = np.zeros((len(vectors), count), bool)
        for part, similarities in self.similarities(vectors):
            scored = self.scores(similarities, rule)
            own = np.zeros(scored.shape, bool)
            if labels is not None:
                own = labels[part, np.newaxis] == self.products
            if without_own:
                scored[own] = _NOWHERE
            order = np.argsort(-scored, axis=1, kind="stable")[:, :count]
            scores[part] = np.take_along_axis(scored, order, axis=1)
            right[part] = np.take_along_axis(own, order, axis=1)
        return Found(scores, right)


def join(found: list[Found]) -> Found:
    """Put answers under each other, with as many candidates as the shortest list has."""
    count = min(each.scores.shape[1] for each in found)
    return Found(
        np.concatenate([each.scores[:, :count] for each in found]),
        np.concatenate([each.right[:, :count] for each in found]),
    )
