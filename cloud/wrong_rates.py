"""Says how sure a match must be so that no more than a share of the matches is wrong.

The calibrated confidences propose: the mean of `1 - confidence` over the matches is the share expected to
be wrong. The photos dispose: where more are wrong than chance would allow, more confidence is asked for.
Plain counting would not do: of 150 photos none may be wrong by luck, and the least confidence at which none
is was 1 to 2 % wrong on other photos, where 0.5 % were asked for.

Where there are photos enough, they can do without the confidences' word, and guarantee the share nine times
in ten (selection with guaranteed risk, Y. Geifman, R. El-Yaniv: Selective Classification for Deep Neural
Networks, NeurIPS 2017). A rate of 5 % takes some 90 matches without a wrong one for that, 0.5 % some 900.
Of the two ways the one that matches more is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, inf, lgamma, log, log1p, log2
from typing import Final, Literal

import numpy as np

from cloud.candidates import Flags, Numbers
from edge.decision import WrongRate

RATES: Final = (0.002, 0.005, 0.01, 0.02, 0.05)
_DOUBT: Final = 0.1  # how often the guarantee may fail, and how rare chance must be to be ruled out

Method = Literal["guaranteed", "calibrated"]


@dataclass(frozen=True, slots=True)
class Judged:
    """What one catalog answers: the best candidates' confidences (n,), and whether each is right.

    `strangers`, (m,), are the confidences of the best candidates of photos whose products are not in the
    catalog, `share` (0 to under 1) how many of all photos in a shop are thought to be such. An answer of
    `unknown` has the confidence -1.
    """

    confidences: Numbers
    right: Flags
    strangers: Numbers
    share: float

    def at(self, confidence: float) -> "Matches":
        """Count what is a match if this much confidence is asked for."""
        matched = self.confidences >= confidence
        weight = self.share / (1 - self.share) * len(self.confidences) / max(1, len(self.strangers))
        return Matches(
            known=int(matched.sum()),
            wrong=int((matched & ~self.right).sum()),
            doubt=float((1 - self.confidences[matched]).sum()),
            strangers=weight * float((self.strangers >= confidence).sum()),
        )


@dataclass(frozen=True, slots=True)
class Matches:
    """Matches of known products, the wrong ones among them, their summed doubt, and strangers (weighted)."""

    known: int
    wrong: int
    doubt: float
    strangers: float


@dataclass(frozen=True, slots=True)
class RateFound:
    """What a match needs for a rate, how that was found, and which share of known photos is then a match."""

    rate: float
    match_confidence: float
    method: Method
    matched: float


def find_rates(judged: Sequence[Judged]) -> tuple[RateFound, ...]:
    """Find the least confidence for each of `RATES`, ascending; a rate that none is enough for is left out.

    A guarantee holds for each of the catalogs, an expectation for all of them together. A lower rate never
    needs less confidence than a higher one.
    """
    steps = _steps(judged)
    found: list[RateFound] = []
    at_least = 0.0
    for rate in reversed(RATES):
        expected = _least_expected(judged, steps, rate)
        guaranteed = max(_least_guaranteed(each, steps, rate) for each in judged)
        method: Method = "guaranteed" if guaranteed <= expected else "calibrated"
        confidence = min(expected, guaranteed)
        if confidence > 1:
            break
        at_least = max(at_least, confidence)
        matched = np.mean(np.concatenate([each.confidences for each in judged]) >= at_least)
        found.append(RateFound(rate, at_least, method, round(float(matched), 4)))
    return tuple(reversed(found))


def wrong_rates(found: Sequence[RateFound]) -> tuple[WrongRate, ...]:
    """Return what a decision keeps of them."""
    return tuple(WrongRate(each.rate, each.match_confidence) for each in found)


def _least_expected(judged: Sequence[Judged], steps: Sequence[float], rate: float) -> float:
    """Return the least confidence at which wrong matches are expected to be few enough, and are not too many.

    Infinity where there is none.
    """
    least = inf
    # Where all that were asked are surer than that, a match as sure as the rate demands is one still.
    for confidence in sorted({*steps, round(1 - rate, 4)}, reverse=True):
        matches = [each.at(confidence) for each in judged]
        strangers = sum(each.strangers for each in matches)
        wrong = sum(each.doubt for each in matches) + strangers
        known = sum(each.known for each in matches)
        if wrong > rate * (known + strangers):
            break
        if known == 0:
            continue
        if not any(_is_contradicted(each, rate) for each in matches):
            least = confidence
    return least


def _least_guaranteed(judged: Judged, steps: Sequence[float], rate: float) -> float:
    """Search by halves for the least confidence that the photos guarantee; infinity where there is none."""
    least = inf
    surest, unsurest = -1, len(steps)
    tries = max(1, ceil(log2(len(steps) + 1)))
    while unsurest - surest > 1:
        middle = (surest + unsurest) // 2
        matches = judged.at(steps[middle])
        left = _left_for_known(matches, rate)
        # Each of the tries may be lucky, so each gets its part of the doubt.
        if left > 0 and _at_most(matches.wrong, matches.known, left) <= _DOUBT / tries:
            least, surest = steps[middle], middle
        else:
            unsurest = middle
    return least


def _is_contradicted(matches: Matches, rate: float) -> bool:
    """Say whether more matches are wrong than chance allows, if each is wrong with this rate."""
    if matches.wrong == 0:
        return False
    left = max(_left_for_known(matches, rate), 1e-9)
    return 1 - _at_most(matches.wrong - 1, matches.known, left) < _DOUBT


def _left_for_known(matches: Matches, rate: float) -> float:
    """Return what the strangers leave of the rate for the matches of known products."""
    return (rate * (matches.known + matches.strangers) - matches.strangers) / max(1, matches.known)


def _steps(judged: Sequence[Judged]) -> list[float]:
    """List the confidences of known products' matches, the surest first, rounded down to 4 digits."""
    together = np.concatenate([each.confidences for each in judged])
    rounded = np.unique(np.floor(together[together >= 0] * 1e4) / 1e4)
    return [round(float(confidence), 4) for confidence in rounded[::-1]]


def _at_most(wrong: int, matches: int, rate: float) -> float:
    """Return how likely at most so many of the matches are wrong if each is with this rate (binomial)."""
    if matches == 0:
        return 1.0
    if rate >= 1:
        return 0.0
    of_all = lgamma(matches + 1)
    return sum(
        exp(
            of_all
            - lgamma(count + 1)
            - lgamma(matches - count + 1)
            + count * log(rate)
            + (matches - count) * log1p(-rate)
        )
        for count in range(wrong + 1)
    )
