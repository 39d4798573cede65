"""Chooses the photos of each batch: which look-alikes and packshots the training sees side by side."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud.training.recipe import Recipe

Labels = NDArray[np.int32]
Indices = NDArray[np.intp]
# A look-alike is drawn from so many nearest products: the single nearest would make the same pairs each time.
_NEAREST = 5


@dataclass(frozen=True, slots=True)
class Batch:
    """The photos of one step.

    Attributes:
        photos: indices into the photos to fit, intp (n,).
        labels: their products' numbers, int32 (n,).
        step: number of the step, counted through all epochs from 0.
    """

    photos: Indices
    labels: Labels
    step: int


@dataclass(frozen=True, slots=True)
class EpochShape:
    """How many steps an epoch has, how many photos each batch, and how many of those are added packshots."""

    steps: int
    batch: int
    packshots: int


def epoch_shape(labels: Labels, is_packshot: NDArray[np.bool_], recipe: Recipe) -> EpochShape:
    """Return the shape of the epochs, the same for all; a small catalog makes batches smaller than asked.

    An epoch is as long as it takes for as many photos as there are, packshots that are added left aside.
    """
    if recipe.products_per_batch:
        products = min(recipe.products_per_batch, len(np.unique(labels)))
        packshots = min(recipe.packshots_per_batch, products, len(_paired(labels, is_packshot)))
        own = products * recipe.photos_per_product
    else:
        total = min(recipe.batch, len(labels))
        packshots = min(recipe.packshots_per_batch, int(np.count_nonzero(is_packshot)), total - 1)
        own = total - packshots
    return EpochShape(-(-len(labels) // own), own + packshots, packshots)


def epoch_batches(
    labels: Labels,
    categories: NDArray[np.int32],
    is_packshot: NDArray[np.bool_],
    recipe: Recipe,
    epoch: int,
    *,
    prototypes: NDArray[np.float32] | None = None,
) -> Iterator[Batch]:
    """Yield the batches of an epoch, all of one size; they follow from the seed, the epoch and the inputs.

    Plain shuffle: every photo is seen once; the last batch is filled up with the epoch's first photos.

    P x K (`products_per_batch`, `photos_per_product`): products are drawn in turn, and of each its photos in
    turn, again and again if they are fewer than K. `hard_share` of the products are look-alikes of the
    others instead: one of the nearest by `prototypes`, or without those one of the same category.

    `packshots_per_batch` of a batch are packshots; under P x K each follows in-store photos of its product,
    one a product. Where the catalog has too few of them, so has the batch.

    Args:
        labels: the products' numbers, int32 (n,).
        categories: the categories' numbers, int32 (n,); negative where there is none.
        is_packshot: bool (n,).
        recipe: names the settings above and the seed.
        epoch: counted from 0.
        prototypes: float32 (D, K), of unit length; column k stands for product k.
    """
    shape = epoch_shape(labels, is_packshot, recipe)
    random = np.random.default_rng((recipe.seed, epoch))
    if recipe.products_per_batch:
        draw = _Products(labels, categories, _paired(labels, is_packshot), prototypes, random)
        chosen = _by_product(labels, is_packshot, recipe, shape, draw)
    else:
        chosen = _shuffled(len(labels), is_packshot, shape, random)
    for number, photos in enumerate(chosen):
        yield Batch(photos, labels[photos].astype(np.int32), epoch * shape.steps + number)


def _shuffled(
    count: int, is_packshot: NDArray[np.bool_], shape: EpochShape, random: np.random.Generator
) -> Iterator[Indices]:
    """Yield the batches of a plain shuffle, packshots last."""
    own = shape.batch - shape.packshots
    order = np.resize(random.permutation(count), shape.steps * own)  # begins again at the first
    packshots = _Deck(np.flatnonzero(is_packshot), random)
    for step in range(shape.steps):
        added = packshots.draw(shape.packshots)
        yield np.concatenate([order[step * own : (step + 1) * own], np.array(added, np.intp)])


def _by_product(
    labels: Labels, is_packshot: NDArray[np.bool_], recipe: Recipe, shape: EpochShape, draw: "_Products"
) -> Iterator[Indices]:
    """Yield the batches of P products x K photos, with packshots behind the photos of their products."""
    random = draw.random
    packshots, photos = {}, {}
    order = np.argsort(labels, kind="stable")
    for own in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        product = int(labels[own[0]])
        packshots[product] = _Deck(own[is_packshot[own]], random)
        # Beside an added packshot there are in-store photos; else any photo of the product will do.
        apart = shape.packshots > 0 and product in draw.paired
        photos[product] = _Deck(own[~is_packshot[own]] if apart else own, random)
    count = (shape.batch - shape.packshots) // recipe.photos_per_product
    for _ in range(shape.steps):
        products = draw(count, round(count * recipe.hard_share), shape.packshots)
        pairs = [product for product in products if product in draw.paired]
        beside = random.choice(np.array(pairs, np.intp), shape.packshots, replace=False)
        batch: list[int] = []
        for product in products:
            batch += photos[product].draw(recipe.photos_per_product)
            if product in beside:
                batch += packshots[product].draw(1)
        yield np.array(batch, np.intp)


def _paired(labels: Labels, is_packshot: NDArray[np.bool_]) -> Labels:
    """Return the products that have both packshots and in-store photos, ascending."""
    return np.intersect1d(labels[is_packshot], labels[~is_packshot])


class _Deck:
    """Cards in random order that are drawn one after the other; an empty deck is shuffled anew."""

    def __init__(self, cards: Indices | Labels, random: np.random.Generator) -> None:
        self._cards: list[int] = cards.tolist()
        self._random = random
        self._left: list[int] = []

    def draw(self, count: int, without: Collection[int] = ()) -> list[int]:
        """Return the next `count` cards, each of those to draw from once before any of them twice.

        Cards of `without` are passed over and stay next. At least one card must not be among them.
        """
        drawn: list[int] = []
        barred = set(without)
        position = 0
        while len(drawn) < count:
            if barred.issuperset(self._cards):  # a round is over
                barred, position = set(without), 0
            if position == len(self._left):
                self._left += self._random.permutation(self._cards).tolist()
            if self._left[position] in barred:
                position += 1
            else:
                drawn.append(self._left.pop(position))
                barred.add(drawn[-1])
        return drawn


class _Products:
    """Draws the products of a batch: in turn, some of them look-alikes of others, enough of them paired.

    Attributes:
        paired: the products that have both packshots and in-store photos.
        random: where all chance of the epoch comes from.
    """

    def __init__(
        self,
        labels: Labels,
        categories: NDArray[np.int32],
        paired: Labels,
        prototypes: NDArray[np.float32] | None,
        random: np.random.Generator,
    ) -> None:
        self._products, first = np.unique(labels, return_index=True)
        self._categories = categories[first]
        self._prototypes = None if prototypes is None else prototypes[:, self._products]
        self._deck = _Deck(self._products, random)
        self._pairs = _Deck(paired, random)
        self.paired: frozenset[int] = frozenset(paired.tolist())
        self.random = random

    def __call__(self, count: int, hard: int, pairs: int) -> list[int]:
        """Return `count` different products, `hard` of them look-alikes, at least `pairs` of them paired."""
        drawn = self._deck.draw(max(1, count - hard))
        anchors = len(drawn)
        while len(drawn) < count:
            candidates = self._like(drawn[len(drawn) % anchors], drawn)
            drawn += [int(self.random.choice(candidates))] if len(candidates) else self._deck.draw(1, drawn)
        missing = pairs - len(self.paired.intersection(drawn))
        if missing > 0:  # the last ones that have no packshot give way
            leaving = [product for product in drawn if product not in self.paired][-missing:]
            added = self._pairs.draw(missing, drawn)
            drawn = [product for product in drawn if product not in leaving] + added
        return drawn

    def _like(self, product: int, drawn: Collection[int]) -> Labels:
        """Return the products most like this one that are not drawn yet; there may be none."""
        free = ~np.isin(self._products, list(drawn))
        place = int(np.searchsorted(self._products, product))
        if self._prototypes is None:
            category = self._categories[place]
            alike = np.flatnonzero(free & (self._categories == category) & (category >= 0))
        else:
            similarities = np.where(free, self._prototypes[:, place] @ self._prototypes, -np.inf)
            alike = np.argsort(-similarities, kind="stable")[: min(_NEAREST, int(np.count_nonzero(free)))]
        found: Labels = self._products[alike]
        return found
