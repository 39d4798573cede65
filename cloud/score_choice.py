"""Chooses how the reference photos of a product are scored together, by how well products are told apart."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from cloud.candidates import LabeledVectors, Numbers, References
from edge.scoring import ScoreRule

USUAL_RULE: Final = ScoreRule(0.03, 1.0)
"""What is taken unless another rule is clearly better (docs/decisions/0010-product-score.md)."""

RULES: Final = (
    USUAL_RULE,
    ScoreRule(),
    *(
        ScoreRule(temperature, count_weight)
        for temperature in (0.02, 0.03, 0.05)
        for count_weight in (0.0, 0.5, 1.0)
        if (temperature, count_weight) != (0.03, 1.0)
    ),
)
"""Not 0.1 and over: on other things than it was chosen by it cost 1 to 2 points (docs/models.md, look 5)."""

_SHARPNESS: Final = (0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3, 0.5)
_CLEARLY: Final = 0.02  # nats a photo: about what 300 photos tell from chance
_MOST_ASKED: Final = 1000  # photos; more would take minutes and change nothing
_FEW: Final = 3


def choose_rule(queries: LabeledVectors, catalogs: Sequence[LabeledVectors]) -> tuple[ScoreRule, float]:
    """Choose the score rule, and the temperature at which scores say how likely each product is.

    Measured is the probability of the right product, exp(score / temperature) over the sum of all, as its
    logarithm (temperature scaling, C. Guo et al.: On Calibration of Modern Neural Networks, ICML 2017). The
    catalogs count alike. One more is added to them, in which half of the products have few reference photos:
    what was enrolled this morning must not lose against what was photographed for years.
    """
    asked = np.linspace(0, len(queries.labels) - 1, min(_MOST_ASKED, len(queries.labels))).astype(np.intp)
    photos = LabeledVectors(queries.vectors[asked], queries.labels[asked])
    losses = np.mean(
        [_losses(photos, catalog) for catalog in (*catalogs, uneven(max(catalogs, key=_size)))], axis=0
    )
    of_rules = losses.min(axis=1)
    chosen = int(np.argmin(of_rules))
    if of_rules[0] <= of_rules[chosen] + _CLEARLY:
        chosen = 0
    return RULES[chosen], _SHARPNESS[int(np.argmin(losses[chosen]))]


def uneven(catalog: LabeledVectors) -> LabeledVectors:
    """Leave every second product of a catalog only its first few reference photos."""
    number = np.searchsorted(np.unique(catalog.labels), catalog.labels)
    kept = (number % 2 == 0) | (rank(catalog.labels) < _FEW)
    return LabeledVectors(catalog.vectors[kept], catalog.labels[kept])


def rank(labels: np.ndarray) -> np.ndarray:
    """Number the photos of each product from 0."""
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    ranks = np.empty(len(labels), np.intp)
    ranks[order] = np.arange(len(labels)) - np.repeat(starts, counts)
    return ranks


def _size(catalog: LabeledVectors) -> int:
    return len(catalog.labels)


def _losses(queries: LabeledVectors, catalog: LabeledVectors) -> Numbers:
    """Return the mean loss of each rule at each temperature, (rules, temperatures)."""
    references = References(catalog)
    own = np.searchsorted(references.products, queries.labels)
    losses = np.zeros((len(RULES), len(_SHARPNESS)))
    for part, similarities in references.similarities(queries.vectors):
        for number, rule in enumerate(RULES):
            scores = references.scores(similarities, rule)
            behind = scores - scores.max(axis=1, keepdims=True)
            right = np.take_along_axis(behind, own[part, np.newaxis], axis=1)[:, 0]
            for place, temperature in enumerate(_SHARPNESS):
                total = np.log(np.exp(behind / temperature).sum(axis=1))
                losses[number, place] += float(np.sum(total - right / temperature))
    return losses / len(queries.labels)
