"""What one network file answers, from its vectors alone, and how that differs from what another answers.

    vectors of the photos and of the references -> scores of products -> Answers -> agreement, recall, flips

The scores and decisions are those that devices use (`edge.scoring`, `edge.decision`); only the search is over
all rows, so that what differs is the network and nothing else.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.certificate import CategoryRecall, Cosines
from edge.decision import Decision

Vectors = NDArray[np.float32]
_TOP: Final = 5
_HIDDEN: Final = -2.0  # less than any cosine
_VERDICTS: Final = {"unsure": -1, "unknown": -2}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every file alike: which products the photos show, and which the references.

    Attributes:
        products: number of the product on each photo, int (n,); -1 where nobody labeled it.
        categories: category of each photo.
        references: number of the product on each reference photo, int (m,).
        own: place of each photo among the references, where it is not to find itself, int (n,); -1 where it
            is none of them.
    """

    products: NDArray[np.integer]
    categories: tuple[str, ...]
    references: NDArray[np.integer]
    own: NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a file answers.

    Attributes:
        top: products of each photo that score best, best first, int (n, 5 or all that there are).
        judged: the product that each photo is told to be, int (n,); below 0 where it is told to be none.
    """

    top: NDArray[np.integer]
    judged: NDArray[np.integer]


def answer(queries: Vectors, references: Vectors, question: Question, decision: Decision) -> Answers:
    """Answer photos, float32 (n, D) of unit length, from references, float32 (m, D), by one decision."""
    order = np.argsort(question.references, kind="stable")
    products, starts, counts = np.unique(question.references[order], return_index=True, return_counts=True)
    similarities = queries @ references[order].T
    places = np.argsort(order, kind="stable")  # where each reference went
    asked = np.flatnonzero(question.own >= 0)
    similarities[asked, places[question.own[asked]]] = _HIDDEN
    scores = decision.score.scores(similarities, starts, counts)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :_TOP]
    ranked = np.take_along_axis(scores, best, axis=1)
    top = products[best]
    judged = [
        _judged(decision, row.tolist(), int(first)) for row, first in zip(ranked, top[:, 0], strict=True)
    ]
    return Answers(top, np.array(judged, np.int64))


def _judged(decision: Decision, scores: list[float], first: int) -> int:
    (confidence, *_) = decision.confidences(scores[:2])
    return _VERDICTS.get(decision.verdict(scores[0], confidence), first)


def cosines(exact: Vectors, strayed: Vectors) -> Cosines:
    """Measure how the embeddings (n, D) of the same photos differ."""
    found = np.clip(np.sum(exact * strayed, axis=1, dtype=np.float64), -1.0, 1.0)
    reached = [round(float(each), 6) for each in np.quantile(found, (0.5, 0.05, 0.01, 0.0))]
    return Cosines(round(float(found.mean()), 6), *reached)


def agreement(exact: Answers, strayed: Answers) -> tuple[float, float]:
    """Return the share of photos with the same first product, and of the first five that both name."""
    first = float(np.mean(exact.top[:, 0] == strayed.top[:, 0]))
    shared = np.any(exact.top[:, :, np.newaxis] == strayed.top[:, np.newaxis, :], axis=2)
    return round(first, 4), round(float(shared.mean()), 4)


def flipped(exact: Answers, strayed: Answers) -> float:
    """Return the share of photos that are answered otherwise: another verdict or another product."""
    return round(float(np.mean(exact.judged != strayed.judged)), 4)


def recall(answers: Answers, question: Question) -> float | None:
    """Return the share of photos that are named rightly, of those that can be; None where there are none."""
    asked = _answerable(question)
    if not asked.any():
        return None
    return round(float(np.mean(answers.top[asked, 0] == question.products[asked])), 4)


def recall_change(exact: Answers, strayed: Answers, question: Question) -> float | None:
    """Return how many points (hundredths) of recall the file has more than the float network."""
    asked = _answerable(question)
    return _change(exact, strayed, question, asked) if asked.any() else None


def by_category(exact: Answers, strayed: Answers, question: Question) -> tuple[CategoryRecall, ...]:
    """Return recall and its change in each category, by name, of the photos that can be named rightly."""
    asked = _answerable(question)
    names = np.array(question.categories, dtype=object)
    found = []
    for name in sorted(set(names[asked])):
        here = asked & (names == name)
        right = float(np.mean(exact.top[here, 0] == question.products[here]))
        change = _change(exact, strayed, question, here)
        found.append(CategoryRecall(str(name), int(here.sum()), round(right, 4), change))
    return tuple(found)


def _answerable(question: Question) -> NDArray[np.bool_]:
    """Say which photos are of a product that has a reference photo besides the photo itself."""
    products, counts = np.unique(question.references, return_counts=True)
    number = dict(zip(products.tolist(), counts.tolist(), strict=True))
    itself = question.own >= 0
    left = np.array([number.get(product, 0) for product in question.products.tolist()]) - itself
    return np.asarray((question.products >= 0) & (left > 0))


def _change(exact: Answers, strayed: Answers, question: Question, which: NDArray[np.bool_]) -> float:
    right = (strayed.top[which, 0] == question.products[which]).astype(int)
    before = (exact.top[which, 0] == question.products[which]).astype(int)
    return round(100 * float(np.mean(right - before)), 2)
