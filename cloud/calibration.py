"""Says what similarities mean for one model file, from photos whose products are known.

Queries are validation photos, which the network was not fitted to. Each is asked twice: with its product
among the references, and with its product left out, which makes it a product that is not in the catalog. And
it is asked of several kinds of catalog, because how alike a photo and its reference are depends on how many
references there are and on whether they were taken in the shop: a decision that fits one alone is wrong in
the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.model import Decision

Numbers = NDArray[np.float64]

# For a catalog too small to measure anything: ask for much similarity and a clear margin.
CAUTIOUS = Decision(
    match_confidence=0.8, unknown_similarity=0.35, bias=-6.0, similarity_weight=9.0, margin_weight=12.0
)
_CANDIDATES = 5
_LOST_KNOWN = 0.03  # share of known products that may be called unknown
_WANTED_PRECISION = 0.9  # share of match answers that should be right, unknown products included
_UNKNOWN_SHARE = 0.2  # how many of the photos in a shop are thought to show no product of the catalog


@dataclass(frozen=True, slots=True)
class LabeledVectors:
    """Unit vectors float32 (n, D) and the product number of each, int (n,)."""

    vectors: NDArray[np.float32]
    labels: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A decision, and how it did on the photos it was made from (shares of them; None: not measured)."""

    decision: Decision
    queries: int
    matched_right: float | None = None
    matched_wrong: float | None = None
    unknown_told: float | None = None
    known_lost: float | None = None


def calibrate(queries: LabeledVectors, catalogs: Sequence[LabeledVectors]) -> Calibration:
    """Fit the decision to the answers that the queries get from each of the catalogs.

    Args:
        queries: photos of products that are in every one of the catalogs.
        catalogs: references, one or more sets, each of at least three products.

    Returns:
        The decision; `CAUTIOUS`, if there is nothing to measure.
    """
    usable = [catalog for catalog in catalogs if len(np.unique(catalog.labels)) >= 3]
    if len(queries.labels) < 20 or not usable:
        return Calibration(CAUTIOUS, len(queries.labels))
    known = [_answers(queries, catalog, without_own=False) for catalog in usable]
    unknown = [_answers(queries, catalog, without_own=True) for catalog in usable]
    similarity = np.concatenate([answers.similarity for answers in known])
    right = np.concatenate([answers.right for answers in known])
    left_out = np.concatenate([answers.similarity for answers in unknown])

    weights = _fit_logistic(similarity, right, left_out)
    floor = _unknown_similarity(similarity[:, 0], right[:, 0], left_out[:, 0])
    draft = Decision(0.5, floor, *weights)
    threshold = _match_confidence(draft, similarity, right, left_out)
    decision = Decision(threshold, floor, *weights)
    return _judged(decision, len(queries.labels), similarity, right, left_out)


@dataclass(frozen=True, slots=True)
class _Answers:
    """The best candidates of each query, best first, (n, k): how similar, and whether it is its product."""

    similarity: Numbers
    right: NDArray[np.bool_]


def _answers(queries: LabeledVectors, catalog: LabeledVectors, *, without_own: bool) -> _Answers:
    products = np.unique(catalog.labels)
    best = np.stack(
        [
            (queries.vectors @ catalog.vectors[catalog.labels == product].T).max(axis=1)
            for product in products
        ],
        axis=1,
    ).astype(np.float64)
    own = queries.labels[:, None] == products[None, :]
    if without_own:
        best = np.where(own, -2.0, best)
    order = np.argsort(-best, axis=1)[:, : min(_CANDIDATES, len(products) - 1)]
    return _Answers(np.take_along_axis(best, order, axis=1), np.take_along_axis(own, order, axis=1))


def _design(similarity: Numbers) -> Numbers:
    """Return (n, k, 3): one, the similarity, and the margin to the best other candidate."""
    other = np.repeat(similarity[:, :1], similarity.shape[1], axis=1)
    other[:, 0] = similarity[:, 1]
    return np.stack([np.ones_like(similarity), similarity, similarity - other], axis=2)


def _fit_logistic(
    similarity: Numbers, right: NDArray[np.bool_], left_out: Numbers
) -> tuple[float, float, float]:
    """Fit bias and weights by Newton's method, left-out queries weighted to their share in a shop."""
    known, unknown = _design(similarity).reshape(-1, 3), _design(left_out).reshape(-1, 3)
    inputs = np.concatenate([known, unknown])
    truth = np.concatenate([right.reshape(-1), np.zeros(len(unknown), bool)]).astype(np.float64)
    share = _UNKNOWN_SHARE / (1 - _UNKNOWN_SHARE)
    weight = np.concatenate([np.ones(len(known)), np.full(len(unknown), share * len(known) / len(unknown))])
    found = np.zeros(3)
    ridge = np.diag([0.0, 0.05, 0.05])
    for _ in range(50):
        probability = 1 / (1 + np.exp(-np.clip(inputs @ found, -40, 40)))
        gradient = inputs.T @ (weight * (truth - probability)) - ridge @ found
        curvature = (inputs * (weight * probability * (1 - probability))[:, None]).T @ inputs + ridge
        step = np.linalg.solve(curvature + 1e-6 * np.eye(3), gradient)
        found = found + step
        if np.abs(step).max() < 1e-8:
            break
    bias, similarity_weight, margin_weight = (round(float(value), 5) for value in found)
    return bias, similarity_weight, margin_weight


def _unknown_similarity(known: Numbers, right: NDArray[np.bool_], left_out: Numbers) -> float:
    """Choose where most left-out products fall below, and at most `_LOST_KNOWN` of the rightly found ones."""
    highest = float(np.quantile(known[right], _LOST_KNOWN)) if right.any() else float(np.median(left_out))
    steps = np.linspace(float(left_out.min()), highest, 200)
    gains = [np.mean(left_out < step) - np.mean(known[right] < step) for step in steps]
    return round(float(np.clip(steps[int(np.argmax(gains))], -1, 1)), 4)


def _confidence(decision: Decision, similarity: Numbers) -> Numbers:
    """Return the confidence of the best candidate of each query, (n,)."""
    weights = (decision.bias, decision.similarity_weight, decision.margin_weight)
    score = _design(similarity)[:, 0] @ np.array(weights)
    return np.asarray(1 / (1 + np.exp(-np.clip(score, -40, 40))))


def _match_confidence(
    decision: Decision, similarity: Numbers, right: NDArray[np.bool_], left_out: Numbers
) -> float:
    """Choose the lowest confidence at which enough of the match answers are right, else the most exact."""
    known, unknown = _confidence(decision, similarity), _confidence(decision, left_out)
    known = np.where(similarity[:, 0] < decision.unknown_similarity, -1, known)
    unknown = np.where(left_out[:, 0] < decision.unknown_similarity, -1, unknown)
    share = _UNKNOWN_SHARE / (1 - _UNKNOWN_SHARE)
    best, best_precision = 0.95, 0.0
    for threshold in np.arange(0.3, 0.96, 0.01):
        matched = known >= threshold
        wrong_unknown = share * np.mean(unknown >= threshold) * len(known)
        precision = (matched & right[:, 0]).sum() / max(matched.sum() + wrong_unknown, 1e-9)
        if precision >= _WANTED_PRECISION:
            return round(float(threshold), 2)
        if precision > best_precision:
            best, best_precision = round(float(threshold), 2), precision
    return best


def _judged(
    decision: Decision, queries: int, similarity: Numbers, right: NDArray[np.bool_], left_out: Numbers
) -> Calibration:
    known_above = similarity[:, 0] >= decision.unknown_similarity
    matched = known_above & (_confidence(decision, similarity) >= decision.match_confidence)
    return Calibration(
        decision,
        queries,
        matched_right=round(float(np.mean(matched & right[:, 0])), 4),
        matched_wrong=round(float(np.mean(matched & ~right[:, 0])), 4),
        unknown_told=round(float(np.mean(left_out[:, 0] < decision.unknown_similarity)), 4),
        known_lost=round(float(np.mean(~known_above)), 4),
    )
