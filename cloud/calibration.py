"""Says what scores mean for one model file, from photos whose products are known.

Queries are validation photos, which the network was not fitted to. They are asked of several kinds of
catalog, because how alike a photo and its reference are depends on how many references there are and on
whether they were taken in the shop: a decision that fits one alone is wrong in the others.

What is not in the catalog must be known too. Each query is asked a second time with its product left out;
that is what a stranger looks like where the network was never fitted to the products. A network that was
fitted to them pulls strangers towards them, and its left-out queries look stranger than strangers do: there,
photos of products that were kept from the training say what strangers look like, or, where none were kept,
`blend` (docs/decisions/0010-product-score.md has the figures).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cloud.candidates import Found, LabeledVectors, Numbers, References, join
from cloud.score_choice import USUAL_RULE, choose_rule
from cloud.wrong_rates import Judged, RateFound, find_rates, wrong_rates
from edge.decision import Decision
from edge.scoring import ScoreRule

__all__ = ["CAUTIOUS", "Calibration", "LabeledVectors", "blend", "calibrate"]

# For a catalog too small to measure anything: ask for much similarity and a clear margin.
CAUTIOUS = Decision(
    match_confidence=0.8,
    unknown_similarity=0.35,
    bias=-6.0,
    similarity_weight=9.0,
    margin_weight=12.0,
    score=USUAL_RULE,
)
UNKNOWN_SHARE = 0.01
"""How many of the photos in a shop are thought to show no product of the catalog."""

_LEAST_QUERIES = 20
_LEAST_PRODUCTS = 3
_LOST_KNOWN = 0.03  # share of rightly found products that may be called unknown
_USUAL_RATE = 0.05  # wrong matches, where the retailer does not say how many he accepts
_CAUTIOUS_CONFIDENCE = 0.95  # what a match needs where no confidence keeps that rate
_BLEND = 0.6  # of one photo, the rest of another
_FOLDS = 5
_BINS = 10


@dataclass(frozen=True, slots=True)
class Calibration:
    """A decision, and how it did on the photos it was made from (shares of them; None: not measured).

    Attributes:
        decision: What was found.
        queries: Photos of known products that were asked.
        strangers: Photos of products not in the catalog that were asked, or what stood for them.
        matched_right: Known products that are matched, rightly.
        matched_wrong: Known products that are matched with another one.
        unknown_told: Strangers that are answered `unknown`.
        known_lost: Known products that are answered `unknown`.
        ece: Expected calibration error of the confidence on known products, cross-validated, ten bins.
        auroc: How often a known product has more confidence than a stranger, 0..1.
        rates: What a match needs for each rate of wrong matches, and how that was found.
    """

    decision: Decision
    queries: int
    strangers: int = 0
    matched_right: float | None = None
    matched_wrong: float | None = None
    unknown_told: float | None = None
    known_lost: float | None = None
    ece: float | None = None
    auroc: float | None = None
    rates: tuple[RateFound, ...] = ()


def calibrate(
    queries: LabeledVectors,
    catalogs: Sequence[LabeledVectors],
    strangers: NDArray[np.float32] | None = None,
) -> Calibration:
    """Fit the decision to the answers that the queries get from each of the catalogs.

    Args:
        queries: photos of products that are in every one of the catalogs.
        catalogs: references, one or more sets, each of at least three products.
        strangers: unit vectors (n, D) of products that are in none of the catalogs; without them each query
            is asked with its own product left out. Give those that were kept from the training, or `blend`,
            for catalogs of products that the network was fitted to.

    Returns:
        The decision; `CAUTIOUS`, if there is nothing to measure.
    """
    usable = [catalog for catalog in catalogs if len(np.unique(catalog.labels)) >= _LEAST_PRODUCTS]
    if len(queries.labels) < _LEAST_QUERIES or not usable:
        return Calibration(CAUTIOUS, len(queries.labels))
    rule, temperature = choose_rule(queries, usable)
    asked = [_ask(queries, References(catalog), strangers, rule) for catalog in usable]
    known, unknown = join([each.known for each in asked]), join([each.unknown for each in asked])

    weights = _fit(known, unknown)
    floor, least = _unknown_floors(known, unknown, weights)
    draft = Decision(
        match_confidence=_CAUTIOUS_CONFIDENCE,
        unknown_similarity=floor,
        bias=weights[0],
        similarity_weight=weights[1],
        margin_weight=0.0,
        joint_weight=weights[2],
        unknown_confidence=least,
        score=rule,
        category_temperature=temperature,
    )
    rates = find_rates([_judge(each, draft) for each in asked])
    decision = _with_rates(draft, rates)
    return _told(decision, queries, asked, rates)


def blend(queries: LabeledVectors) -> NDArray[np.float32]:
    """Make vectors of products that do not exist, (n, D): each between two photos of different products.

    A network that is fitted to its products puts a stranger between them, not beside them (manifold mixup as
    unknown products: D.-W. Zhou, H.-J. Ye, D.-C. Zhan: Learning Placeholders for Open-Set Recognition, CVPR
    2021). Deterministic.
    """
    random = np.random.default_rng(0)
    blends = []
    for _ in range(2):
        other = random.permutation(len(queries.labels))
        mixed = _BLEND * queries.vectors + (1 - _BLEND) * queries.vectors[other]
        blends.append(mixed[queries.labels != queries.labels[other]])
    vectors = np.concatenate(blends)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    return np.asarray(vectors / lengths, np.float32)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one catalog answers to known products and to strangers."""

    known: Found
    unknown: Found


def _ask(
    queries: LabeledVectors, references: References, strangers: NDArray[np.float32] | None, rule: ScoreRule
) -> _Asked:
    known = references.find(queries.vectors, queries.labels, rule)
    if strangers is None or len(strangers) == 0:
        return _Asked(known, references.find(queries.vectors, queries.labels, rule, without_own=True))
    return _Asked(known, references.find(strangers, None, rule))


def _design(found: Found) -> Numbers:
    """Return one, the score and score times margin of the best candidates, (n, 3).

    A lead counts for more the higher it is: with the product in the place of the plain margin, twice as many
    photos have a confidence of 0.995 and are right.
    """
    score, margin = found.scores[:, 0], found.margins[:, 0]
    return np.stack([np.ones_like(score), score, score * margin], axis=1)


def _fit(known: Found, unknown: Found) -> tuple[float, float, float]:
    """Fit bias and weights by Newton's method, strangers weighted to their share in a shop."""
    inputs = np.concatenate([_design(known), _design(unknown)])
    truth = np.concatenate([known.right[:, 0], np.zeros(len(unknown.scores), bool)]).astype(np.float64)
    share = UNKNOWN_SHARE / (1 - UNKNOWN_SHARE) * len(known.scores) / max(1, len(unknown.scores))
    weight = np.concatenate([np.ones(len(known.scores)), np.full(len(unknown.scores), share)])
    found = np.zeros(3)
    ridge = np.diag([0.0, 0.02, 0.02])
    for _ in range(50):
        probability = 1 / (1 + np.exp(-np.clip(inputs @ found, -40, 40)))
        gradient = inputs.T @ (weight * (truth - probability)) - ridge @ found
        curvature = (inputs * (weight * probability * (1 - probability))[:, None]).T @ inputs + ridge
        step = np.linalg.solve(curvature + 1e-6 * np.eye(3), gradient)
        found = found + np.clip(step, -10, 10)  # far from the solution a whole step may leap over it
        if np.abs(step).max() < 1e-8:
            break
    bias, score_weight, joint_weight = (round(float(value), 5) for value in found)
    return bias, score_weight, joint_weight


def _confidence(found: Found, weights: Sequence[float]) -> Numbers:
    """Return the confidence of the best candidate of each photo, (n,)."""
    return np.asarray(1 / (1 + np.exp(-np.clip(_design(found) @ np.array(weights), -40, 40))))


def _unknown_floors(known: Found, unknown: Found, weights: Sequence[float]) -> tuple[float, float]:
    """Choose the score and the confidence below which a product is unknown.

    One of the two is used, the one that tells more strangers; the other one is where it loses nobody.
    """
    right = known.right[:, 0]
    scores, confidences = known.scores[right, 0], _confidence(known, weights)[right]
    if len(scores) == 0:
        return round(float(np.median(unknown.scores[:, 0])), 4), 0.0
    of_strangers = unknown.scores[:, 0], _confidence(unknown, weights)
    floor, told_by_score = _floor(scores, of_strangers[0])
    least, told_by_confidence = _floor(confidences, of_strangers[1])
    if told_by_confidence > told_by_score:
        return _rounded_down(float(scores.min())), _rounded_down(least)
    return _rounded_down(floor), 0.0


def _floor(known: Numbers, unknown: Numbers) -> tuple[float, float]:
    """Choose where most strangers fall below, and at most `_LOST_KNOWN` of the rightly found products.

    Returns the place and the share of strangers below it, less the share of known products there.
    """
    steps = np.linspace(float(min(unknown.min(), known.min())), float(np.quantile(known, _LOST_KNOWN)), 200)
    gains = [float(np.mean(unknown < step) - np.mean(known < step)) for step in steps]
    best = int(np.argmax(gains))
    return float(steps[best]), gains[best]


def _judge(asked: _Asked, decision: Decision) -> Judged:
    return Judged(
        confidences=_judged_confidence(asked.known, decision),
        right=asked.known.right[:, 0],
        strangers=_judged_confidence(asked.unknown, decision),
        share=UNKNOWN_SHARE,
    )


def _judged_confidence(found: Found, decision: Decision) -> Numbers:
    """Return the confidence of each photo's best candidate, -1 where the answer is `unknown`."""
    confidence = _confidence(found, _weights(decision))
    told = (found.scores[:, 0] < decision.unknown_similarity) | (confidence < decision.unknown_confidence)
    return np.where(told, -1.0, confidence)


def _weights(decision: Decision) -> tuple[float, float, float]:
    return decision.bias, decision.similarity_weight, decision.joint_weight


def _with_rates(draft: Decision, rates: Sequence[RateFound]) -> Decision:
    usual = [each.match_confidence for each in rates if each.rate <= _USUAL_RATE]
    enough = usual[-1] if usual else draft.match_confidence
    return replace(draft, match_confidence=enough, wrong_rates=wrong_rates(rates))


def _told(
    decision: Decision, queries: LabeledVectors, asked: Sequence[_Asked], rates: tuple[RateFound, ...]
) -> Calibration:
    known, unknown = join([each.known for each in asked]), join([each.unknown for each in asked])
    of_known, of_strangers = _judged_confidence(known, decision), _judged_confidence(unknown, decision)
    right, matched = known.right[:, 0], of_known >= decision.match_confidence
    plain = _confidence(known, _weights(decision)), _confidence(unknown, _weights(decision))
    return Calibration(
        decision=decision,
        queries=len(queries.labels),
        strangers=len(unknown.scores) // len(asked),
        matched_right=_share(matched & right),
        matched_wrong=_share(matched & ~right),
        unknown_told=_share(of_strangers < 0),
        known_lost=_share(of_known < 0),
        ece=round(_cross_validated_error(asked), 4),
        auroc=round(area_under_roc(*plain), 4),
        rates=rates,
    )


def _cross_validated_error(asked: Sequence[_Asked]) -> float:
    """Fit without a fifth of the photos at a time, and compare confidence and truth on that fifth."""
    confidences, truths = [], []
    for fold in range(_FOLDS):
        rest = [_Asked(_part(each.known, fold, other=True), each.unknown) for each in asked]
        weights = _fit(join([each.known for each in rest]), join([each.unknown for each in rest]))
        held_out = join([_part(each.known, fold, other=False) for each in asked])
        confidences.append(_confidence(held_out, weights))
        truths.append(held_out.right[:, 0])
    return expected_calibration_error(np.concatenate(confidences), np.concatenate(truths))


def _part(found: Found, fold: int, *, other: bool) -> Found:
    chosen = (np.arange(len(found.scores)) % _FOLDS == fold) != other
    return Found(found.scores[chosen], found.right[chosen])


def expected_calibration_error(confidences: Numbers, right: NDArray[np.bool_]) -> float:
    """Return how far confidence and truth are apart in ten bins of equal width, weighted by photos, 0..1.

    (M. Pakdaman Naeini, G. Cooper, M. Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian
    Binning, AAAI 2015.)
    """
    bins = np.minimum((confidences * _BINS).astype(np.intp), _BINS - 1)
    apart = np.bincount(bins, weights=confidences - right, minlength=_BINS)
    return float(np.abs(apart).sum() / max(1, len(confidences)))


def area_under_roc(known: Numbers, unknown: Numbers) -> float:
    """Return how often a known value is above an unknown one, ties counting half, 0..1."""
    below = np.searchsorted(np.sort(unknown), known, side="left")
    up_to = np.searchsorted(np.sort(unknown), known, side="right")
    return float(np.mean(below + up_to) / (2 * max(1, len(unknown))))


def _share(facts: NDArray[np.bool_]) -> float:
    return round(float(np.mean(facts)), 4)


def _rounded_down(value: float) -> float:
    return round(float(np.floor(value * 1e4) / 1e4), 4)
