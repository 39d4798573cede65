"""From the catalog's photos to pictures in an array: decoded once, then read by every epoch."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud.training.recipe import Recipe
from edge.disk import storage_error, write_atomically
from edge.errors import BadSetting
from edge.image import decode, fit, load_photo

Progress = Callable[[str, int, int, str], None]  # (what, done, of, remark)


@dataclass(frozen=True, slots=True)
class LabeledPhoto:
    """A photo file and the product on it. `kind` is packshot or in-store; `split` as in the catalog."""

    path: Path
    sku: str
    category: str
    kind: str
    split: str


@dataclass(frozen=True, slots=True)
class Examples:
    """What a training sees, in a fixed order: photos to fit and, of the same products, photos to validate."""

    skus: tuple[str, ...]
    fit: tuple[LabeledPhoto, ...]
    validation: tuple[LabeledPhoto, ...]

    def labels(self, photos: Sequence[LabeledPhoto]) -> NDArray[np.int32]:
        """Return the index in `skus` of each photo, int32 (n,)."""
        number = {sku: index for index, sku in enumerate(self.skus)}
        return np.array([number[photo.sku] for photo in photos], np.int32)

    def categories(self) -> tuple[str, ...]:
        """Return the category of each of `skus`."""
        of = {photo.sku: photo.category for photo in self.fit}
        return tuple(of[sku] for sku in self.skus)

    def digest(self) -> str:
        """Name the photos and their labels, 16 hex digits."""
        named = [(photo.path.name, photo.sku) for photo in (*self.fit, *self.validation)]
        return hashlib.sha256(json.dumps([len(self.fit), named]).encode()).hexdigest()[:16]


def choose_examples(photos: Sequence[LabeledPhoto], recipe: Recipe) -> Examples:
    """Divide the catalog's photos into those to fit and those to validate; `test` photos fall out.

    A catalog without validation photos lends one in five of its photos, of products with at least three,
    chosen by their names, so that the same photo always falls on the same side; a recipe that fits validation
    photos too leaves none to validate. Of products that the recipe leaves out there is nothing on either
    side.

    Raises:
        BadSetting: fewer than two products have photos to fit, or a product to leave out is not there.
    """
    missing = sorted(set(recipe.leave_out) - {photo.sku for photo in photos})
    if missing:
        raise BadSetting(
            f"leave_out names {missing[0]!r}, of which the catalog has no photo: correct it or take it out"
        )
    left_out = frozenset(recipe.leave_out)
    photos = [photo for photo in photos if photo.sku not in left_out]
    fit_photos = [p for p in photos if p.split in recipe.fit_splits and p.kind in recipe.fit_kinds]
    validation: list[LabeledPhoto] = []
    if "validation" not in recipe.fit_splits:
        validation = [p for p in photos if p.split == "validation"]
        if not validation:
            fit_photos, validation = _hold_out(fit_photos)
    skus = tuple(sorted({photo.sku for photo in fit_photos}))
    if len(skus) < 2:
        raise BadSetting(
            f"{len(skus)} products have photos to train on, and it takes at least 2: "
            "import more with `shelfsight-cloud catalog import`"
        )
    known = frozenset(skus)
    return Examples(
        skus=skus,
        fit=tuple(sorted(fit_photos, key=_order)),
        validation=tuple(sorted((p for p in validation if p.sku in known), key=_order)),
    )


def first_of_each(photos: Sequence[LabeledPhoto], count: int) -> list[LabeledPhoto]:
    """Return the first `count` photos of each product, in the order they have."""
    seen: dict[str, int] = {}
    chosen = []
    for photo in photos:
        seen[photo.sku] = seen.get(photo.sku, 0) + 1
        if seen[photo.sku] <= count:
            chosen.append(photo)
    return chosen


def load_pictures(
    photos: Sequence[LabeledPhoto], size: int, cache: Path, progress: Progress
) -> NDArray[np.uint8]:
    """Decode and squash the photos to `uint8` (n, size, size, 3), in a file of the folder `cache`.

    The array is mapped from there, so that the operating system keeps in memory what fits. A whole file is
    used again. `edge.image.fit` makes the pictures, as it does on the device.

    Raises:
        SkipPhoto: a photo of the catalog that cannot be decoded.
        StorageUnusable, NoSpace: `cache` cannot be written.
    """
    key = hashlib.sha256(json.dumps([size, *(str(photo.path) for photo in photos)]).encode()).hexdigest()[:16]
    path = cache / f"pictures-{key}.npy"
    whole = cache / f"pictures-{key}.whole"
    try:
        if not whole.exists():
            cache.mkdir(parents=True, exist_ok=True)
            array = np.lib.format.open_memmap(
                path, mode="w+", dtype=np.uint8, shape=(len(photos), size, size, 3)
            )
            for number, photo in enumerate(photos):
                array[number] = fit(decode(load_photo(photo.path), shrink_to=size), size)
                progress("decoding photos", number + 1, len(photos), "")
            array.flush()
            write_atomically(whole, b"")
        pictures: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    except OSError as error:
        raise storage_error(error, path) from error
    return pictures


def _hold_out(photos: Sequence[LabeledPhoto]) -> tuple[list[LabeledPhoto], list[LabeledPhoto]]:
    by_sku: dict[str, list[LabeledPhoto]] = {}
    for photo in photos:
        by_sku.setdefault(photo.sku, []).append(photo)
    kept: list[LabeledPhoto] = []
    held: list[LabeledPhoto] = []
    for of_product in by_sku.values():
        shuffled = sorted(of_product, key=lambda p: hashlib.sha256(p.path.name.encode()).digest())
        count = 0 if len(shuffled) < 3 else max(1, len(shuffled) // 5)
        held += shuffled[:count]
        kept += shuffled[count:]
    return kept, held


def _order(photo: LabeledPhoto) -> tuple[str, str]:
    return photo.sku, photo.path.name
