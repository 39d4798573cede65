"""Makes the batches of an epoch beside the training, and tells how long the training waited for them."""

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from cloud.training.augment import draw_parameters
from cloud.training.recipe import Recipe
from cloud.training.sampler import Batch, EpochShape, epoch_batches, epoch_shape

Arrays = dict[str, NDArray[Any]]
Item = TypeVar("Item")
_AHEAD = 2  # batches that are made while one is trained on
_CHECK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class FittedPhotos:
    """What batches are drawn from.

    Attributes:
        pictures: uint8 (n, P, P, 3).
        labels: the products' numbers, int32 (n,).
        categories: the categories' numbers, int32 (n,); negative where there is none.
        is_packshot: bool (n,).
    """

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int32]
    categories: NDArray[np.int32]
    is_packshot: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class BatchMaker:
    """Makes batches at one size of the pictures; everything in them follows from the seed and the step.

    Attributes:
        photos: what they are drawn from.
        recipe: how.
        size: side S of the views in pixels.
        channels: number of the backbone's features, C, of which `dropout` drops some.
        parts: into how many equal batches each is divided, one for each replica of the network.
    """

    photos: FittedPhotos
    recipe: Recipe
    size: int
    channels: int
    parts: int = 1

    def shape(self) -> EpochShape:
        """Return how many batches an epoch has, and how many photos each of them."""
        return epoch_shape(self.photos.labels, self.photos.is_packshot, self.recipe)

    def epoch(self, epoch: int, prototypes: NDArray[np.float32]) -> Iterator[list[Arrays]]:
        """Yield the batches of an epoch, each as its parts, as `cloud.training.objective` takes them.

        Args:
            epoch: counted from 0.
            prototypes: the direction of each product, float32 (D, K), to find look-alikes by.
        """
        photos = self.photos
        batches = epoch_batches(
            *(photos.labels, photos.categories, photos.is_packshot),
            self.recipe,
            epoch,
            prototypes=prototypes,
        )
        for batch in batches:
            yield [self._part(batch, part) for part in range(self.parts)]

    def _part(self, batch: Batch, part: int) -> Arrays:
        count = len(batch.photos) // self.parts
        chosen = batch.photos[part * count : (part + 1) * count]
        photos, recipe = self.photos, self.recipe
        rng = np.random.default_rng((recipe.seed, batch.step, part))
        arrays: Arrays = {
            "pictures": np.asarray(photos.pictures[chosen]),
            "labels": photos.labels[chosen].astype(np.int32),
        }
        if recipe.dropout > 0:
            left = rng.random((count, self.channels)) >= recipe.dropout
            arrays["left"] = (left / (1 - recipe.dropout)).astype(np.float32)
        return arrays | draw_parameters(recipe, count, self.size, rng, photos.is_packshot[chosen])


class Prefetched(Generic[Item]):
    """Takes items from an iterator in a thread of its own, a few ahead; used as a context, it ends with it.

    Attributes:
        waited: seconds that the loop over it waited for items.
    """

    def __init__(self, items: Iterator[Item]) -> None:
        self.waited = 0.0
        self._items = items
        self._queue: queue.Queue[tuple[Item] | BaseException | None] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="batches", daemon=True)

    def __enter__(self) -> "Prefetched[Item]":
        """Begin to take items."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop taking items."""
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[Item]:
        """Yield the items; an error of the iterator is raised here."""
        while True:
            began = time.monotonic()
            item = self._queue.get()
            self.waited += time.monotonic() - began
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item[0]

    def _fill(self) -> None:
        try:
            for item in self._items:
                self._put((item,))
                if self._stop.is_set():
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001  # whatever it is, the training's thread raises it
            self._put(error)

    def _put(self, item: tuple[Item] | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                return self._queue.put(item, timeout=_CHECK_SECONDS)
            except queue.Full:
                continue
