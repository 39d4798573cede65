"""The map of embeddings: a dot for each test photo, and a picture of each product where its photos lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.evaluation.report.plane import lay_out
from cloud.evaluation.report.thumbs import Thumbs
from cloud.evaluation.scores import Answered

MOST_DOTS: Final = 800
WIDTH: Final = 1120
HEIGHT: Final = 760
_MARGIN: Final = 30
_PICTURE: Final = 34


@dataclass(frozen=True, slots=True)
class Dot:
    """A test photo: where it lies, whether it was answered right, and what to say of it."""

    x: float
    y: float
    right: bool
    said: str


@dataclass(frozen=True, slots=True)
class Landmark:
    """A product: the middle of its photos, its picture (upper left corner there), and its title."""

    x: float
    y: float
    picture: str
    title: str


@dataclass(frozen=True, slots=True)
class EmbeddingMap:
    """Dots and landmarks in a field of `width` times `height`."""

    dots: tuple[Dot, ...]
    landmarks: tuple[Landmark, ...]
    width: int = WIDTH
    height: int = HEIGHT
    picture: int = _PICTURE


def draw_map(answers: Sequence[Answered], titles: Mapping[str, str], thumbs: Thumbs) -> EmbeddingMap:
    """Lay out at most `MOST_DOTS` of the answered photos, spread evenly over the products."""
    chosen = list(answers)
    if len(chosen) > MOST_DOTS:
        places = np.linspace(0, len(chosen) - 1, MOST_DOTS).round().astype(int)
        chosen = [chosen[place] for place in places.tolist()]
    field = np.array([WIDTH, HEIGHT]) - 2 * _MARGIN
    spots = np.round(_MARGIN + field * lay_out(np.stack([answer.vector for answer in chosen])), 1)
    dots, by_product = [], dict[str, list[int]]()
    for number, answer in enumerate(chosen):
        sku, found = answer.photo.sku, answer.skus[0] if answer.skus else None
        said = titles.get(sku, sku)
        if not answer.is_right:
            said += f", taken for {titles.get(found, found) if found else 'nothing'}"
        dots.append(Dot(float(spots[number, 0]), float(spots[number, 1]), answer.is_right, said))
        by_product.setdefault(sku, []).append(number)
    landmarks = []
    for sku, numbers in by_product.items():
        picture = thumbs.cover(sku, 2 * _PICTURE)
        if picture is not None:
            own = spots[numbers]
            # The photo in the middle of most, not the mean: a mean of two groups lies in neither.
            middle = own[np.argmin(np.abs(own - np.median(own, axis=0)).sum(axis=1))]
            x, y = (middle - _PICTURE / 2).tolist()
            landmarks.append(Landmark(round(x, 1), round(y, 1), picture, titles.get(sku, sku)))
    return EmbeddingMap(tuple(dots), tuple(landmarks))
