"""The map of embeddings: a dot for each test photo, and a picture of each product above most of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cloud.evaluation.report.plane import lay_out
from cloud.evaluation.report.thumbs import Thumbs
from cloud.evaluation.scores import Answered

MOST_DOTS: Final = 600
WIDTH: Final = 1120
HEIGHT: Final = 760
_MARGIN: Final = 44
_PICTURE: Final = 34
_NEAR: Final = 40


@dataclass(frozen=True, slots=True)
class Dot:
    """A test photo: where it lies, whether it was answered right, and what to say of it."""

    x: float
    y: float
    right: bool
    said: str


@dataclass(frozen=True, slots=True)
class Landmark:
    """A product: the upper left corner of its picture, the picture, and its title."""

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
            x, y = _beside(spots[numbers])
            landmarks.append(Landmark(round(x, 1), round(y, 1), picture, titles.get(sku, sku)))
    return EmbeddingMap(tuple(dots), tuple(landmarks))


def _beside(own: NDArray[np.float64]) -> tuple[float, float]:
    """Return the upper left corner of a picture above most of a product's photos (n, 2), within the field."""
    middle = np.median(own, axis=0)
    # Those near the photo in the middle: a product in two groups is marked at the larger one.
    near = own[np.abs(own - middle).sum(axis=1) <= _NEAR] if len(own) > 1 else own
    group = near if len(near) else own[np.abs(own - middle).sum(axis=1).argmin()][None]
    x, y = group[:, 0].mean() - _PICTURE / 2, group[:, 1].min() - _PICTURE - 5
    return float(np.clip(x, 0, WIDTH - _PICTURE)), float(np.clip(y, 0, HEIGHT - _PICTURE))
