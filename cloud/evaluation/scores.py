"""Counts answers: which were right, which verdicts they got, and what was taken for what."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud.catalog import ReferencePhoto
from edge.products import Product


@dataclass(frozen=True, slots=True)
class Answered:
    """A test photo and what a device says of it.

    `skus` are the answer's candidates, best first; `vector` is the embedding, float32 (D,) of unit length;
    `ms` is the time from the photo's bytes to the answer. `confidence` (0..1) is the best candidate's;
    `knownness` is what a device judges by whether the product is in the catalog at all, more meaning surer;
    `category` is what the answer names, None where it names none.
    """

    photo: ReferencePhoto
    verdict: str
    skus: tuple[str, ...]
    vector: NDArray[np.float32]
    ms: float
    reason: str = ""
    confidence: float = 0.0
    knownness: float = 0.0
    category: str | None = None

    @property
    def is_right(self) -> bool:
        """Whether the best candidate is the product."""
        return self.skus[:1] == (self.photo.sku,)


@dataclass(frozen=True, slots=True)
class Scores:
    """Shares (0..1) of test photos: right product first, right category first, right product among five."""

    fine_top1: float
    coarse_top1: float
    fine_top5: float


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Shares (0..1) of the test photos by verdict, and the share of matches that name the right product."""

    match: float
    unsure: float
    unknown: float
    match_is_right: float | None


@dataclass(frozen=True, slots=True)
class Confusion:
    """`count` of the `photos` test photos of product `sku` were answered `answered`; `examples` are some."""

    sku: str
    answered: str
    count: int
    photos: int
    examples: tuple[ReferencePhoto, ...]


def score(answers: Sequence[Answered], products: Mapping[str, Product]) -> Scores | None:
    """Score the answers; nothing can be said of none. A product without a category is its own category."""
    if not answers:
        return None
    return Scores(
        fine_top1=_mean(answer.is_right for answer in answers),
        coarse_top1=_mean(_is_category_right(answer, products) for answer in answers),
        fine_top5=_mean(answer.photo.sku in answer.skus[:5] for answer in answers),
    )


def count_verdicts(answers: Sequence[Answered]) -> Verdicts | None:
    """Count the verdicts; nothing can be said of none."""
    if not answers:
        return None
    matches = [answer for answer in answers if answer.verdict == "match"]
    return Verdicts(
        match=_mean(answer.verdict == "match" for answer in answers),
        unsure=_mean(answer.verdict == "unsure" for answer in answers),
        unknown=_mean(answer.verdict == "unknown" for answer in answers),
        match_is_right=share(answer.is_right for answer in matches),
    )


def worst_confusions(answers: Sequence[Answered], *, count: int, examples: int) -> tuple[Confusion, ...]:
    """Return the pairs of products that were confused most often, most often first."""
    photos = Counter(answer.photo.sku for answer in answers)
    wrong: dict[tuple[str, str], list[ReferencePhoto]] = {}
    for answer in answers:
        if answer.skus and not answer.is_right:
            wrong.setdefault((answer.photo.sku, answer.skus[0]), []).append(answer.photo)
    worst = sorted(wrong.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:count]
    return tuple(
        Confusion(sku, answered, len(found), photos[sku], tuple(found[:examples]))
        for (sku, answered), found in worst
    )


def _is_category_right(answer: Answered, products: Mapping[str, Product]) -> bool:
    wanted = products.get(answer.photo.sku)
    if wanted is None or not wanted.category or not answer.skus:
        return answer.is_right
    found = products.get(answer.skus[0])
    return wanted.category == (answer.category or (found.category if found else None))


def share(facts: Iterable[bool]) -> float | None:
    """Return the share (0..1) of facts that are true; nothing can be said of none."""
    told = list(facts)
    return sum(told) / len(told) if told else None


def _mean(facts: Iterable[bool]) -> float:
    return float(np.mean(list(facts)))
