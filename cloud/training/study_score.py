"""Scores a trained network as a study compares them: by products it was fitted to and by others it was not.

The first alone would choose networks that forget the world outside the catalog. Both are measured on photos
that nothing was fitted to; test photos are not among them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud.training.averaging import interpolate
from cloud.training.data import (
    Examples,
    LabeledPhoto,
    Progress,
    choose_examples,
    first_of_each,
    load_pictures,
)
from cloud.training.heads import principal_axes, whitened_axes
from cloud.training.loop import Trained
from cloud.training.neighbors import Vectors, embed, nearest, unit
from cloud.training.network import embedding_of, pooled
from cloud.training.recipe import Recipe

SHOTS = 3  # photos by which a product that was not fitted is enrolled
_DRAWS = 5
_FEWEST_PRODUCTS = 12  # with fewer there is none to spare
_REFERENCES_PER_PRODUCT = 12


@dataclass(frozen=True, slots=True)
class StudyPhotos:
    """The photos of a study.

    Attributes:
        examples: what every trial is fitted to and validated on.
        unseen: in-store photos of the products that no trial is fitted to.
    """

    examples: Examples
    unseen: tuple[LabeledPhoto, ...]

    @property
    def unseen_skus(self) -> tuple[str, ...]:
        """Return the products that no trial is fitted to."""
        return tuple(sorted({photo.sku for photo in self.unseen}))


@dataclass(frozen=True, slots=True)
class StudyScore:
    """How well a network does, shares 0..1.

    Attributes:
        keep: the share of the beginning weights that was kept.
        seen: validation photos whose product is found; None without any.
        unseen: photos of products that were not fitted, enrolled with `SHOTS` photos each, whose product is
            found among all; None without any.
    """

    keep: float
    seen: float | None
    unseen: float | None

    @property
    def value(self) -> float:
        """Return the mean of what was measured."""
        measured = [share for share in (self.seen, self.unseen) if share is not None]
        return sum(measured) / len(measured) if measured else 0.0


def choose_study_photos(photos: Sequence[LabeledPhoto], recipe: Recipe, unseen_share: float) -> StudyPhotos:
    """Set a share of the products aside, chosen by their names, and divide the photos of the others.

    A catalog of few products lends none. What the recipe leaves out is on neither side.

    Raises:
        BadSetting: fewer than two products have photos to fit.
    """
    usable = [photo for photo in photos if photo.split != "test" and photo.sku not in recipe.leave_out]
    in_store: dict[str, list[LabeledPhoto]] = {}
    for photo in usable:
        if photo.kind == "in-store":
            in_store.setdefault(photo.sku, []).append(photo)
    lendable = [sku for sku, found in in_store.items() if len(found) > SHOTS]
    products = len({photo.sku for photo in usable})
    count = round(unseen_share * products) if products >= _FEWEST_PRODUCTS else 0
    aside = sorted(lendable, key=lambda sku: hashlib.sha256(sku.encode()).digest())[:count]
    left_out = replace(recipe, leave_out=(*recipe.leave_out, *aside))
    unseen = [photo for sku in aside for photo in in_store[sku]]
    unseen.sort(key=lambda photo: (photo.sku, photo.path.name))
    return StudyPhotos(choose_examples(photos, left_out), tuple(unseen))


class StudyScorer:
    """Embeds the photos of a study with one trained network after the other, and counts what is found."""

    def __init__(self, photos: StudyPhotos, recipe: Recipe, cache: Path, progress: Progress) -> None:
        """Decode the photos, into the folder `cache` where they are not there yet.

        Raises:
            SkipPhoto: a photo that cannot be decoded.
            StorageUnusable, NoSpace: `cache` cannot be written.
        """
        references = first_of_each(photos.examples.fit, _REFERENCES_PER_PRODUCT)
        every = (*references, *photos.examples.validation, *photos.unseen)
        skus = {sku: number for number, sku in enumerate(sorted({photo.sku for photo in every}))}
        self._labels = np.array([skus[photo.sku] for photo in every], np.intp)
        begin, end = len(references), len(every) - len(photos.unseen)
        self._references, self._seen, self._unseen = slice(begin), slice(begin, end), slice(end, None)
        self._pictures = (
            load_pictures(every, recipe.input_size, cache, progress) if len(every) > begin else None
        )
        self._recipe = recipe
        self._progress = progress

    def scores(self, trained: Trained, keeps: Sequence[float]) -> list[StudyScore]:
        """Score a network with each of these shares of the weights that it began with."""
        if self._pictures is None:
            return [StudyScore(keep, None, None) for keep in keeps]
        network = trained.network
        computed = self._recipe.head != "learned"
        model = pooled(network) if computed else embedding_of(network)
        own = network.embedder.get_weights()
        scores = []
        for number, keep in enumerate(keeps):
            self._progress("measuring", number, len(keeps), f"keep {keep:g}")
            network.embedder.set_weights(interpolate(trained.begun, own, keep))
            vectors = embed(model, self._pictures)
            scores.append(self._score(keep, unit(self._projected(vectors) if computed else vectors)))
        network.embedder.set_weights(own)
        self._progress("measuring", len(keeps), len(keeps), "")
        return scores

    def _projected(self, features: Vectors) -> Vectors:
        """Project pooled features as the finished network will, by a head computed from the references."""
        fitted, dimension = features[self._references], self._recipe.finished_dimension
        if self._recipe.head == "principal":
            return features @ principal_axes(fitted, dimension)
        _, numbers = np.unique(self._labels[self._references], return_inverse=True)
        return features @ whitened_axes(fitted, numbers.astype(np.int32), dimension)

    def _score(self, keep: float, vectors: Vectors) -> StudyScore:
        return StudyScore(keep, self._seen_share(vectors), self._unseen_share(vectors))

    def _seen_share(self, vectors: Vectors) -> float | None:
        asked = self._labels[self._seen]
        if len(asked) == 0:
            return None
        found = nearest(vectors[self._seen], vectors[self._references])
        return round(float(np.mean(self._labels[self._references][found] == asked)), 5)

    def _unseen_share(self, vectors: Vectors) -> float | None:
        """Return the mean over some draws of the photos to enroll; the others are asked."""
        labels = self._labels[self._unseen]
        if len(labels) == 0:
            return None
        shares = [self._share_of_draw(vectors, labels, draw) for draw in range(_DRAWS)]
        return round(float(np.mean(shares)), 5)

    def _share_of_draw(self, vectors: Vectors, labels: NDArray[np.intp], draw: int) -> float:
        order = np.random.default_rng(draw).permutation(len(labels))
        enrolled = np.zeros(len(labels), bool)
        for product in np.unique(labels):
            enrolled[order[labels[order] == product][:SHOTS]] = True
        references = np.concatenate([vectors[self._references], vectors[self._unseen][enrolled]])
        of_references = np.concatenate([self._labels[self._references], labels[enrolled]])
        found = nearest(vectors[self._unseen][~enrolled], references)
        return float(np.mean(of_references[found] == labels[~enrolled]))
