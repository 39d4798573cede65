"""How much of its answers a model keeps when photos are spoiled."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from typing import Final

import numpy as np

from cloud.embed import Vector, embed_queries
from cloud.embeddings import EmbeddingCache
from cloud.evaluation.bench import Progress
from cloud.evaluation.corruptions import CORRUPTIONS, STRENGTHS, VERSION, Corruption
from cloud.evaluation.scores import Answered
from cloud.photos import PhotoStorage
from edge.image import Picture, decode_to_fit
from edge.matcher import Matcher
from edge.model import Model, Variant

PHOTOS: Final = 600
"""How many test photos are spoiled, unless more are asked for: 24 times each."""

_DECODED: Final = 32  # pictures at hand: every core is at another one
_SPOILINGS: Final = tuple(product(CORRUPTIONS.values(), STRENGTHS))


@dataclass(frozen=True, slots=True)
class Robustness:
    """Right products first, as shares (0..1), on photos as they are and spoiled, among unspoiled references.

    `spoiled` maps each corruption to its shares by strength; `photos` of the `of` test photos were asked.
    """

    photos: int
    of: int
    clean: float
    spoiled: Mapping[str, Mapping[int, float]]

    @property
    def corrupted(self) -> float:
        """The mean of all corruptions and strengths."""
        return float(
            np.mean([share for by_strength in self.spoiled.values() for share in by_strength.values()])
        )

    @property
    def ratio(self) -> float | None:
        """The spoiled photos' share of right products over that of the clean ones; None where that is 0."""
        return self.corrupted / self.clean if self.clean else None


def measure_robustness(
    matcher: Matcher,
    model: Model,
    variant: Variant,
    answers: Sequence[Answered],
    *,
    photos: PhotoStorage,
    cache: EmbeddingCache,
    progress: Progress,
    count: int = PHOTOS,
) -> Robustness | None:
    """Spoil `count` of the answered photos (0: all), spread evenly over the products, and ask them again.

    Their embeddings are made by the model file `variant`, and searched in the release that is open in
    `matcher`, the one that answered. None where nothing was answered.

    Raises:
        ModelBroken: the network answers with nothing usable.
        StorageUnusable: the cache cannot be used.
    """
    asked = _spread(answers, count)

    @lru_cache(maxsize=_DECODED)
    def fitted(sha256: str) -> Picture:
        return decode_to_fit(photos.read(sha256), model.input_size)

    # Photo by photo, so that each is decoded once for all that is done to it.
    wanted = {
        _name(answer, *spoiling): partial(_spoil, fitted, answer.photo.sha256, *spoiling)
        for answer in asked
        for spoiling in _SPOILINGS
    }
    vectors = embed_queries(
        model,
        variant,
        wanted,
        cache=cache,
        progress=lambda done, total: progress("Embedding spoiled photos", done, total),
    ).vectors
    asked = [each for each in asked if all(_name(each, *spoiling) in vectors for spoiling in _SPOILINGS)]
    if not asked:
        return None
    clean = {answer.photo.sha256: answer.vector for answer in asked}
    return Robustness(
        photos=len(asked),
        of=len(answers),
        clean=_share_right(matcher, asked, clean, _clean_name),
        spoiled={
            each.name: {
                strength: _share_right(
                    matcher, asked, vectors, partial(_name, corruption=each, strength=strength)
                )
                for strength in STRENGTHS
            }
            for each in CORRUPTIONS.values()
        },
    )


def _spoil(fitted: Callable[[str], Picture], sha256: str, corruption: Corruption, strength: int) -> Picture:
    """Spoil a photo as a model gets it; what is drawn by chance depends on the photo alone."""
    return corruption(fitted(sha256), strength, int(sha256[:16], 16))


def _spread(answers: Sequence[Answered], count: int) -> list[Answered]:
    """Choose answers evenly over a list that is sorted by product, so that each has its share."""
    if not count or count >= len(answers):
        return list(answers)
    return [answers[place] for place in np.linspace(0, len(answers) - 1, count).round().astype(int).tolist()]


def _clean_name(answer: Answered) -> str:
    return answer.photo.sha256


def _name(answer: Answered, corruption: Corruption, strength: int) -> str:
    return f"{answer.photo.sha256} {corruption.name} {strength} v{VERSION}"


def _share_right(
    matcher: Matcher,
    asked: Sequence[Answered],
    vectors: Mapping[str, Vector],
    name: Callable[[Answered], str],
) -> float:
    rule = matcher.variant.decision.score
    found = [matcher.index.search(vectors[name(answer)], 1, rule)[0].sku for answer in asked]
    return float(np.mean([sku == answer.photo.sku for sku, answer in zip(found, asked, strict=True)]))
