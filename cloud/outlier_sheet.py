"""Draws the photos that look filed wrongly, each beside those that speak against its label and for it."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from cloud.catalog import Catalog
from cloud.outliers import Doubt, Witness
from edge.disk import write_atomically
from edge.errors import SkipPhoto
from edge.image import decode

MOST_ROWS = 40  # a taller picture is opened by few programs
_AGAINST, _PRO = 4, 2
_THUMB, _GAP, _LINE, _TEXT, _HEAD = 140, 12, 22, 16, 60
_ROW = _THUMB + 3 * _LINE + _GAP
_COLUMNS = 1 + _AGAINST + _PRO
_WIDTH = _COLUMNS * (_THUMB + _GAP) + 5 * _GAP
_INK, _PALE, _LIGHT, _RED, _GREEN = "#202428", "#5b636b", "#d5d9dd", "#b3261e", "#1b7a3d"


def draw_doubts(catalog: Catalog, doubts: Sequence[Doubt], path: Path) -> None:
    """Draw a row for each of the first `MOST_ROWS` doubts and write them to `path` as PNG.

    Left the doubtful photo and what it is filed under, then the nearest photos of the product that it looks
    like, then the nearest of its own; below each its similarity to the doubtful one.

    Raises:
        StorageUnusable: `path` cannot be written.
        NoSpace: the disk is full.
    """
    shown = doubts[:MOST_ROWS]
    image = Image.new("RGB", (_WIDTH, _HEAD + max(1, len(shown)) * _ROW), "white")
    sheet = _Sheet(catalog, image)
    more = f", the first {len(shown)}" if len(shown) < len(doubts) else ""
    sheet.write((_GAP, _GAP), f"{len(doubts)} photos look filed wrongly{more}", _INK, size=_TEXT + 6)
    for number, doubt in enumerate(shown):
        sheet.draw(_HEAD + number * _ROW, doubt)
    buffer = BytesIO()
    image.save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


class _Sheet:
    """A white sheet, and what it takes to fill it."""

    def __init__(self, catalog: Catalog, image: Image.Image) -> None:
        self._photos = catalog.photos
        self._titles = {product.sku: product.title or product.sku for product in catalog.products()}
        self._image = image
        self._pen = ImageDraw.Draw(image)

    def write(
        self, place: tuple[int, int], text: str, color: str, *, size: int = _TEXT, room: int = _WIDTH
    ) -> None:
        """Write a line of text from `place`, its upper left corner, on, cut to `room` pixels."""
        font = ImageFont.load_default(size)
        cut = text
        while len(cut) > 1 and font.getlength(cut) > room:
            cut = cut[:-2].rstrip("…") + "…"
        self._pen.text(place, cut, fill=color, font=font)

    def draw(self, top: int, doubt: Doubt) -> None:
        """Draw a doubt: the photo, the photos against its label, the photos for it."""
        step = _THUMB + _GAP
        against, pro = _GAP + step + 2 * _GAP, _GAP + step + _AGAINST * step + 4 * _GAP
        filed, suspect = (self._titles.get(sku, sku) for sku in (doubt.photo.sku, doubt.suspect))
        self._pen.line((0, top, _WIDTH, top), fill=_LIGHT)
        above, pictures = top + _GAP // 2, top + _GAP // 2 + _LINE
        self.write((_GAP, above), filed, _RED, room=_THUMB)
        looks = f"looks like {suspect} ({doubt.confidence:.0%})"
        self.write((against, above), looks, _GREEN, room=_AGAINST * step - _GAP)
        self.write((pro, above), f"nearest of {filed}", _PALE, room=_PRO * step - _GAP)
        self._paste((_GAP, pictures), doubt.photo.sha256)
        self.write((_GAP, pictures + _THUMB), Path(doubt.photo.source).name, _PALE, room=_THUMB)
        self._row((against, pictures), doubt.against[:_AGAINST])
        self._row((pro, pictures), doubt.pro[:_PRO])

    def _row(self, place: tuple[int, int], witnesses: Sequence[Witness]) -> None:
        left, top = place
        for number, witness in enumerate(witnesses):
            corner = (left + number * (_THUMB + _GAP), top)
            self._paste(corner, witness.photo.sha256)
            self.write((corner[0], top + _THUMB), f"{witness.similarity:.2f}", _PALE)

    def _paste(self, place: tuple[int, int], sha256: str) -> None:
        left, top = place
        try:
            thumb = Image.fromarray(decode(self._photos.read(sha256), shrink_to=_THUMB))
        except SkipPhoto:
            pass  # the empty frame says that there is nothing to see
        else:
            thumb.thumbnail((_THUMB, _THUMB))
            corner = (left + (_THUMB - thumb.width) // 2, top + (_THUMB - thumb.height) // 2)
            self._image.paste(thumb, corner)
        self._pen.rectangle((left, top, left + _THUMB - 1, top + _THUMB - 1), outline=_LIGHT)
