"""Draws the worst confusions: a product, the photos of it that were taken for another, and that other one."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from cloud.catalog import Catalog
from cloud.evaluation.scores import Confusion
from edge.disk import write_atomically
from edge.errors import SkipPhoto
from edge.image import decode

_THUMB = 150
_GAP = 14
_TEXT = 17
_LINE = 22
_HEAD = 64
_ROW = _THUMB + 2 * _LINE + 2 * _GAP
_COLUMNS = 6  # the product, four photos of it, the answer
_WIDTH = _COLUMNS * (_THUMB + _GAP) + 3 * _GAP
_INK, _PALE, _LIGHT, _RED, _GREEN = "#202428", "#5b636b", "#d5d9dd", "#b3261e", "#1b7a3d"


def draw_confusions(catalog: Catalog, confusions: Sequence[Confusion], title: str, path: Path) -> None:
    """Draw the confusions one below the other and write them to `path` as PNG.

    Raises:
        StorageUnusable: `path` cannot be written.
        NoSpace: the disk is full.
    """
    sheet = _Sheet(catalog, rows=len(confusions))
    sheet.write((_GAP, _GAP), title, _INK, size=_TEXT + 5)
    if not confusions:
        sheet.write((_GAP, _HEAD + _GAP), "No photo was answered wrongly.", _INK)
    for number, confusion in enumerate(confusions):
        sheet.draw_row(_HEAD + number * _ROW, confusion)
    buffer = BytesIO()
    sheet.image.save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


class _Sheet:
    """A white sheet with room for so many rows, and what it takes to fill them."""

    def __init__(self, catalog: Catalog, rows: int) -> None:
        self._photos = catalog.photos
        self._titles = {product.sku: product.title or product.sku for product in catalog.products()}
        self._covers = _covers(catalog)
        self.image = Image.new("RGB", (_WIDTH, _HEAD + max(1, rows) * _ROW), "white")
        self._draw = ImageDraw.Draw(self.image)

    def write(self, place: tuple[int, int], text: str, color: str, *, size: int = _TEXT) -> None:
        """Write a line of text from `place`, its upper left corner, on."""
        self._draw.text(place, text, fill=color, font=_font(size))

    def draw_row(self, top: int, confusion: Confusion) -> None:
        """Draw the product on the left, what was asked in the middle, what was answered on the right."""
        self._draw.line((0, top, _WIDTH, top), fill=_LIGHT)
        above, pictures = top + _GAP, top + _GAP + _LINE
        middle, last = _GAP + _THUMB + 2 * _GAP, _WIDTH - _GAP - _THUMB
        self.write((_GAP, above), "it is", _GREEN)
        count = f"{confusion.count} of its {confusion.photos} test photos were taken for the one on the right"
        self.write((middle, above), count, _PALE)
        self.write((last, above), "answered", _RED)
        self._paste((_GAP, pictures), self._covers.get(confusion.sku))
        for place, photo in enumerate(confusion.examples[: _COLUMNS - 2]):
            self._paste((middle + place * (_THUMB + _GAP), pictures), photo.sha256)
        self._paste((last, pictures), self._covers.get(confusion.answered))
        below = pictures + _THUMB + _GAP // 3
        self.write((_GAP, below), self._title(confusion.sku), _GREEN)
        title = self._title(confusion.answered)
        self.write((_WIDTH - _GAP - round(_font(_TEXT).getlength(title)), below), title, _RED)

    def _title(self, sku: str) -> str:
        return _shorten(self._titles.get(sku, sku), (_WIDTH - 3 * _GAP) // 2)

    def _paste(self, place: tuple[int, int], sha256: str | None) -> None:
        left, top = place
        if sha256 is not None:
            try:
                picture = decode(self._photos.read(sha256), shrink_to=_THUMB)
            except SkipPhoto:
                pass  # the empty frame says that there is nothing to see
            else:
                thumb = Image.fromarray(picture)
                thumb.thumbnail((_THUMB, _THUMB))
                corner = (left + (_THUMB - thumb.width) // 2, top + (_THUMB - thumb.height) // 2)
                self.image.paste(thumb, corner)
        self._draw.rectangle((left, top, left + _THUMB - 1, top + _THUMB - 1), outline=_LIGHT)


def _covers(catalog: Catalog) -> dict[str, str]:
    """Choose the photo that stands for each product: its first packshot, else its first in-store photo."""
    photos = catalog.reference_photos()
    packshots_first = sorted(photos, key=lambda photo: photo.kind != "packshot")
    chosen: dict[str, str] = {}
    for photo in packshots_first:
        chosen.setdefault(photo.sku, photo.sha256)
    return chosen


def _shorten(text: str, width: int) -> str:
    font = _font(_TEXT)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
