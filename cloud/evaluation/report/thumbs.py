"""Small pictures for a page, inside of it."""

from base64 import b64encode
from typing import Final

import numpy as np
from PIL import Image

from cloud.catalog import Catalog
from edge.errors import SkipPhoto
from edge.image import Picture, decode, encode_jpeg

THUMB: Final = 112
_QUALITY: Final = 78


class Thumbs:
    """Makes the thumbnails of a catalog's photos as `data:` addresses; each photo is decoded once a size."""

    def __init__(self, catalog: Catalog) -> None:
        self._photos = catalog.photos
        self._covers = _covers(catalog)
        self._made: dict[tuple[str, int], str | None] = {}

    def photo(self, sha256: str, size: int = THUMB) -> str | None:
        """Return a thumbnail with a longer side of `size` pixels; None where the photo cannot be read."""
        key = (sha256, size)
        if key not in self._made:
            try:
                picture = decode(self._photos.read(sha256), shrink_to=size)
            except SkipPhoto:
                self._made[key] = None
            else:
                self._made[key] = thumbnail(picture, size)
        return self._made[key]

    def cover(self, sku: str, size: int = THUMB) -> str | None:
        """Return a thumbnail of the photo that stands for a product; None where there is none."""
        sha256 = self._covers.get(sku)
        return self.photo(sha256, size) if sha256 is not None else None


def thumbnail(picture: Picture, size: int = THUMB) -> str:
    """Shrink a picture until it fits into a square of `size` pixels, as the address of a JPEG."""
    image = Image.fromarray(picture)
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    return "data:image/jpeg;base64," + b64encode(encode_jpeg(np.asarray(image), _QUALITY)).decode()


def _covers(catalog: Catalog) -> dict[str, str]:
    """Choose the photo that stands for each product: as shoppers see it, else as its maker shows it.

    A report may be passed on, and the rights in packshots are often somebody else's.
    """
    chosen: dict[str, str] = {}
    for photo in sorted(catalog.reference_photos(), key=lambda photo: photo.kind == "packshot"):
        chosen.setdefault(photo.sku, photo.sha256)
    return chosen
