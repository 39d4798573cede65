"""How well products that are not in the catalog are told from those that are, whatever the threshold.

Scores are what a device says of the best candidate, more meaning surer. The curves are those of T. Fawcett:
An Introduction to ROC Analysis, 2006, and, where an accepted answer must also be right, of A. Dhamija,
M. Günther, T. Boult: Reducing Network Agnostophobia, NeurIPS 2018.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class OpenSet:
    """Shares (0..1), and the curves that they are points of, all of shape (n,) from strict to lenient.

    Attributes:
        auroc: The chance that a known photo scores above an unknown one.
        ccr_at_5fpr: Known photos that are accepted and right, where 5 % of the unknown ones are accepted.
        far_at_95tar: Unknown photos that are accepted, where 95 % of the known ones are.
        false_accepts: Accepted share of the unknown photos.
        true_accepts: Accepted share of the known ones.
        right_accepts: Share of the known photos that are accepted and right.
    """

    auroc: float
    ccr_at_5fpr: float
    far_at_95tar: float
    false_accepts: Numbers
    true_accepts: Numbers
    right_accepts: Numbers


def open_set(known: Numbers, right: NDArray[np.bool_], unknown: Numbers) -> OpenSet:
    """Compare the scores of known photos (n,), of which some are answered right, with those of unknown ones.

    Equal scores are accepted together: a threshold cannot tell them apart. Neither may be empty.
    """
    thresholds = np.unique(np.concatenate([known, unknown]))[::-1]
    false_accepts = _share_at_least(unknown, thresholds, len(unknown))
    true_accepts = _share_at_least(known, thresholds, len(known))
    right_accepts = _share_at_least(known[right], thresholds, len(known))
    allowed = false_accepts <= 0.05
    return OpenSet(
        auroc=_area(np.append(0, false_accepts), np.append(0, true_accepts)),
        ccr_at_5fpr=float(right_accepts[allowed].max(initial=0.0)),
        far_at_95tar=float(false_accepts[true_accepts >= 0.95].min()),
        false_accepts=false_accepts,
        true_accepts=true_accepts,
        right_accepts=right_accepts,
    )


def _share_at_least(scores: Numbers, thresholds: Numbers, count: int) -> Numbers:
    ascending = np.sort(scores)
    return np.asarray((len(scores) - np.searchsorted(ascending, thresholds, side="left")) / count)


def _area(along: Numbers, height: Numbers) -> float:
    return float(np.sum(np.diff(along) * (height[1:] + height[:-1]) / 2))
