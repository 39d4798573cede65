"""Judges labels by the embeddings of the labeled things alone, and says how sure it is.

Each photo is asked against all others, itself left out: how well does it fit the product it is filed under,
and how well the best other one? A product's score is the kernel density of its photos (`edge.scoring`), which
hears all neighbors of a photo and not the nearest alone. Nearest neighbors are how labels have long been
edited (D. Wilson: Asymptotic Properties of Nearest Neighbor Rules Using Edited Data, 1972); that the labels
themselves, held out one by one, tell how far to trust a model is the idea of confident learning
(C. Northcutt, L. Jiang, I. Chuang, 2021).

How sure a doubt is follows from the catalog itself, without a labeled truth. The *margin* of a photo is the
score of the best other product less that of its own. Had a photo been filed under the product that it is most
easily taken for, its margin would be that of now with the sign changed; so the margins of a catalog that is
mostly right, mirrored, are those of wrong labels. The slope of a logistic curve between the two and, by
expectation maximization, the share of wrong labels give each photo its probability of being filed wrongly.

How often that finds what is wrong is measured by benchmarks/label_noise.py.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.scoring import ScoreRule

# A wider kernel than answers take: many neighbors outvote a few that are wrong themselves.
RULE = ScoreRule(temperature=0.1, count_weight=0.5)
LEAST_PHOTOS = 20
_BLOCK = 256  # photos asked at a time
_NOWHERE = -1.0  # the least similarity there is: what a photo says of itself
_FITS = 2  # the second without the doubtful ones of the first; more would call all that is hard to tell wrong
_PRIORS = (0.003, 0.3)  # bounds of the share of wrong labels


@dataclass(frozen=True, slots=True)
class Judgment:
    """What leave-one-out says of each photo, arrays of shape (n,).

    `suspects` is the number of the best other product, `confidence` the probability 0..1 that the label is
    wrong, `judged` whether another photo of the same product was there to compare with.
    """

    suspects: NDArray[np.intp]
    confidence: NDArray[np.float64]
    judged: NDArray[np.bool_]
    share: float | None


def judge_labels(
    vectors: NDArray[np.float32], labels: NDArray[np.intp], packshots: NDArray[np.bool_]
) -> Judgment:
    """Judge the label of each photo by all other photos.

    Args:
        vectors: float32 (n, D), unit length.
        labels: product number of each, (n,), from 0 without a gap.
        packshots: which are packshots, (n,).

    Returns:
        Nothing is doubted where fewer than `LEAST_PHOTOS` have another photo of their product.
    """
    suspects, margins, judged = _margins(_centered(vectors, packshots), labels)
    confidence = np.zeros(len(labels))
    share = None
    if judged.sum() >= LEAST_PHOTOS:
        confidence[judged], share = _probabilities(margins[judged])
    return Judgment(suspects, confidence, judged, share)


def _centered(vectors: NDArray[np.float32], packshots: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Take away what all packshots, and all in-store photos, have in common: white ground proves nothing."""
    centered = vectors.copy()
    for kind in (packshots, ~packshots):
        if kind.sum() > 1:
            centered[kind] -= vectors[kind].mean(axis=0)
    lengths = np.linalg.norm(centered, axis=1, keepdims=True)
    return np.asarray(centered / np.maximum(lengths, 1e-9), np.float32)


def _margins(
    vectors: NDArray[np.float32], labels: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.bool_]]:
    """Return of each photo the best other product, by how much it beats the own one, and if it has an own."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    suspects = np.zeros(len(labels), np.intp)
    margins = np.zeros(len(labels))
    grouped = vectors[order]
    for begin in range(0, len(order), _BLOCK):
        block = grouped[begin : begin + _BLOCK] @ grouped.T
        for place, similarities in enumerate(block, start=begin):
            index = order[place]
            own = labels[index]
            similarities[place] = _NOWHERE
            others = counts.copy()
            others[own] = max(1, others[own] - 1)
            scores = RULE.scores(similarities, starts, others)
            own_score, scores[own] = float(scores[own]), -np.inf
            suspects[index] = scores.argmax()
            margins[index] = float(scores[suspects[index]]) - own_score
    return suspects, margins, counts[labels] > 1


def _probabilities(margins: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the probability of each label to be wrong, and their mean share."""
    scaled = margins / max(float(np.median(np.abs(margins))), 1e-9)
    wrong, share = np.zeros(len(margins)), 0.0
    for _ in range(_FITS):
        odds = _slope(scaled, 1 - wrong) * scaled
        share = _share(odds)
        prior = max(share, _PRIORS[0])
        wrong = _sigmoid(odds + np.log(prior / (1 - prior)))
    return wrong, share


def _slope(margins: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Fit, by Newton's method, the slope of the log odds of "wrong" between margins and mirrored margins.

    The two are alike but for the sign, so each margin stands for both, and there is no intercept.
    """
    slope, ridge = 0.1, 1e-3
    for _ in range(100):
        wrong = _sigmoid(slope * margins)
        gradient = -float(np.mean(weights * margins * wrong)) - ridge * slope
        curvature = float(np.mean(weights * margins**2 * wrong * (1 - wrong))) + ridge
        step = float(np.clip(gradient / curvature, -1, 1))
        slope = max(slope + step, 0.0)
        if abs(step) < 1e-9:
            break
    return slope


def _share(odds: NDArray[np.float64]) -> float:
    """Estimate the share of wrong labels by expectation maximization."""
    share = 0.03
    for _ in range(300):
        before = share
        share = float(_sigmoid(odds + np.log(share / (1 - share))).mean())
        share = min(max(share, 1e-4), _PRIORS[1])
        if abs(share - before) < 1e-7:
            break
    return share


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -40, 40))))
