"""Chooses photos of a folder: some that int8 files learn their ranges from, others to compare files on.

    PHOTOS/photo    PHOTOS/category/photo    PHOTOS/category/product/photo (labeled)

Every category gets as many as every other, as long as it has some: a network that saw mostly apples while it
was quantized rounds milk badly. The two kinds are different photos where there are enough.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Final

from converter.certify import LabeledPicture
from edge.errors import BadNetwork, SkipPhoto
from edge.image import decode, fit, load_photo

MOST_PHOTOS: Final = 400
_ENOUGH: Final = 50  # photos of either kind; with fewer, the same ones are taken for both
_NAMED: Final = 12  # digits of a photo's SHA-256, enough to know it by
_ENDINGS: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
UNSORTED: Final = "unsorted"
"""The category of photos that lie in the folder itself."""


@dataclass(frozen=True, slots=True)
class FolderPhotos:
    """Photos of a folder, as pictures of the model's size.

    Attributes:
        representative: those that the ranges of int8 files are learned from; references, when files are
            compared.
        compared: those that files are asked about.
    """

    representative: tuple[LabeledPicture, ...]
    compared: tuple[LabeledPicture, ...]

    @property
    def representative_names(self) -> Mapping[str, tuple[str, ...]]:
        """The beginnings of the SHA-256 of the representative photos by category."""
        names: dict[str, list[str]] = defaultdict(list)
        for each in self.representative:
            names[each.category].append(each.name)
        return {category: tuple(sorted(found)) for category, found in names.items()}


def read_photos(folder: Path, size: int, progress: Callable[[str, int, int], None]) -> FolderPhotos:
    """Read up to 400 photos of either kind, squashed to (size, size, 3); what cannot be read is left out.

    Raises:
        BadNetwork: there is not one photo that can be read.
    """
    by_category = _list(folder)
    readers = [_read_each(category, photos, size) for category, photos in sorted(by_category.items())]
    chosen: tuple[list[LabeledPicture], list[LabeledPicture]] = ([], [])
    names: set[str] = set()
    known = min(2 * MOST_PHOTOS, sum(len(photos) for photos in by_category.values()))
    # A round of every category for one kind, then one for the other.
    for place, photo in _rounds(readers):
        kind = chosen[place % 2]
        if photo.name not in names and len(kind) < MOST_PHOTOS:
            names.add(photo.name)
            kind.append(photo)
            progress("reading photos", len(names), known)
        if min(map(len, chosen)) == MOST_PHOTOS:
            break
    representative, compared = chosen
    if not representative:
        raise BadNetwork(f"{folder} has no photo that can be read: name a folder of some 300 typical ones")
    if len(compared) < _ENOUGH:
        representative = compared = [*representative, *compared]
    return FolderPhotos(tuple(representative), tuple(compared))


def _list(folder: Path) -> dict[str, list[tuple[Path, str | None]]]:
    """Return the photos of each category with their products, two of every product in turn."""
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _ENDINGS and path.is_file():
            category, *rest = (*path.relative_to(folder).parts[:-1],) or (UNSORTED,)
            found[category]["/".join(rest)].append(path)
    return {
        category: [(path, product or None) for product, path in _pairs_in_turn(of_product)]
        for category, of_product in found.items()
    }


def _pairs_in_turn(of_product: Mapping[str, list[Path]]) -> Iterator[tuple[str, Path]]:
    """Give two photos of each product, one for either kind, then two more.

    They come in the order of a hash of their names: photos that were taken one after the other are alike.
    """
    pairs = []
    for product, paths in sorted(of_product.items()):
        shuffled = sorted(paths, key=lambda path: hashlib.sha256(path.name.encode()).digest())
        pairs.append(
            [[(product, path) for path in shuffled[start : start + 2]] for start in range(0, len(paths), 2)]
        )
    for round_of_pairs in zip_longest(*pairs, fillvalue=[]):
        yield from chain.from_iterable(round_of_pairs)


def _read_each(category: str, photos: list[tuple[Path, str | None]], size: int) -> Iterator[LabeledPicture]:
    for path, product in photos:
        try:
            data = load_photo(path)
            picture = fit(decode(data, shrink_to=size), size)
        except SkipPhoto:
            continue
        name = hashlib.sha256(data).hexdigest()[:_NAMED]
        yield LabeledPicture(picture, name, category, f"{category}/{product}" if product else None)


def _rounds(readers: list[Iterator[LabeledPicture]]) -> Iterator[tuple[int, LabeledPicture]]:
    """Give one photo of every reader, then another of every reader, and the number of the round."""
    for place, of_round in enumerate(zip_longest(*readers)):
        yield from ((place, photo) for photo in of_round if photo is not None)
