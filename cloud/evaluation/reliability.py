"""Whether a confidence is a probability, and what a device answers where few wrong matches are allowed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cloud.evaluation.scores import Answered, share
from edge.model import Decision

BINS: Final = 15
SETTING: Final = 0.005
"""The share of wrong answers among `match` that a retailer is thought to allow."""

# What a verdict is about when it is about the product; other reasons are about the picture.
_OF_THE_PRODUCT = frozenset({"clear", "close_runner_up", "below_confidence", "low_similarity"})

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers with confidences from `low` to `high`: how many, the mean of these, and what share is right."""

    low: float
    high: float
    count: int
    confidence: float
    right: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """The expected calibration error, by bins of equal width and of equal count, and the former bins."""

    ece: float
    ece_equal_count: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class AtSetting:
    """What is answered at a rate of wrong matches that the model offers.

    `rate` is what was asked for, `match_confidence` what the model says it takes; `answered` is the share of
    photos that is answered `match`, `wrong` the share of those that names another product (None: no match).
    """

    rate: float
    match_confidence: float
    answered: float
    wrong: float | None


def measure_reliability(answers: Sequence[Answered]) -> Reliability | None:
    """Compare the confidence of the best candidates with how often they are right; none says nothing.

    C. Guo, G. Pleiss, Y. Sun, K. Weinberger: On Calibration of Modern Neural Networks, ICML 2017: the mean
    distance of confidence and accuracy over `BINS` bins of equal width, weighted by their answers.
    """
    if not answers:
        return None
    confidence = np.array([answer.confidence for answer in answers])
    right = np.array([answer.is_right for answer in answers], np.float64)
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    edges = np.linspace(0, 1, BINS + 1)
    bins = tuple(
        Bin(
            float(edges[place]),
            float(edges[place + 1]),
            int((places == place).sum()),
            float(confidence[places == place].mean()),
            float(right[places == place].mean()),
        )
        for place in np.unique(places).tolist()
    )
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    gaps = [len(part) * abs(float(confidence[part].mean() - right[part].mean())) for part in parts]
    return Reliability(
        ece=sum(each.count * abs(each.confidence - each.right) for each in bins) / len(answers),
        ece_equal_count=sum(gaps) / len(answers),
        bins=bins,
    )


def measure_setting(
    answers: Sequence[Answered], decision: Decision, rate: float = SETTING
) -> AtSetting | None:
    """Count what would be answered `match`, and wrong, at the largest rate the model offers up to `rate`.

    None where there are no answers, or where the model offers no such rate.
    """
    offered = [each for each in decision.wrong_rates if each.rate <= rate]
    if not offered or not answers:
        return None
    asked = offered[-1]
    matches = [answer for answer in answers if is_match(answer, asked.match_confidence)]
    return AtSetting(
        rate=asked.rate,
        match_confidence=asked.match_confidence,
        answered=len(matches) / len(answers),
        wrong=share(not answer.is_right for answer in matches),
    )


def is_match(answer: Answered, match_confidence: float) -> bool:
    """Say whether a device that asks for this confidence would answer `match`.

    Whether a product is unknown, or the picture no good, is judged before, whatever the confidence asked for.
    """
    judged = answer.reason in _OF_THE_PRODUCT and answer.verdict != "unknown"
    return judged and answer.confidence >= match_confidence


def trade_off(answers: Sequence[Answered]) -> tuple[Numbers, Numbers]:
    """Return (answered share, wrong share among these), each (n,), as the confidence asked for falls."""
    eligible = sorted(
        (answer for answer in answers if is_match(answer, 0.0)),
        key=lambda answer: -answer.confidence,
    )
    wrong = np.cumsum([not answer.is_right for answer in eligible], dtype=np.float64)
    count = np.arange(1, len(eligible) + 1, dtype=np.float64)
    return count / max(1, len(answers)), wrong / count
