"""Draws why: heat maps over pictures, and sheets of captioned pictures as PNG."""

import io
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edge.errors import Incompatible
from edge.explain import Explanation, Likeness
from edge.image import Picture, check_picture
from edge.matcher import Candidate

LEGEND = "Orange speaks for it, blue against it; the stronger, the more."

_FOR = np.array((255, 110, 0), np.float32)
_AGAINST = np.array((0, 110, 255), np.float32)
_STRONGEST = 0.8  # opacity of the color where the map is strongest
_BOX = (400, 400)
_GAP, _MARGIN = 20, 24
_HEADING_SIZE, _TITLE_SIZE, _LINE_SIZE = 19, 19, 16
_LEADING = 7  # pixels between lines
_INK, _FAINT, _PAPER = (28, 30, 36), (92, 96, 106), (255, 255, 255)
# Pillow's own font has no letter beyond English; where this one is installed, more languages can be written.
_WIDER_FONT = "DejaVuSans.ttf"

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture on a sheet, `uint8` (height, width, 3), with a title and a few lines of text below it."""

    picture: Picture
    title: str
    lines: tuple[str, ...] = ()


def draw_heat_map(
    picture: Picture, contributions: NDArray[np.float32], *, strongest: float | None = None
) -> Picture:
    """Lay a similarity map over its picture: orange speaks for the product, blue against it.

    The picture, `uint8` (height, width, 3), fades to gray so that its own colors are not taken for the map's.
    `strongest` is the contribution that gets full color; without it the map's largest. Give two maps that
    are to be compared the same.

    Raises:
        PhotoUnreadable: not a picture.
        Incompatible: not a map of (h, w).
    """
    check_picture(picture)
    if contributions.ndim != 2 or contributions.size == 0:
        raise Incompatible(f"a map of {contributions.shape} cannot be drawn: take one of similarity_map")
    height, width = picture.shape[:2]
    peak = strongest or float(np.abs(contributions).max()) or 1.0
    relative = Image.fromarray((contributions / peak).astype(np.float32))
    weight = np.clip(np.asarray(relative.resize((width, height), Image.Resampling.BICUBIC)), -1.0, 1.0)
    opacity = _STRONGEST * np.abs(weight)[:, :, np.newaxis]
    color = np.where(weight[:, :, np.newaxis] > 0, _FOR, _AGAINST)
    gray = picture.mean(axis=2, keepdims=True)
    faded = 0.25 * picture + 0.75 * gray
    drawn: Picture = (faded * (1 - opacity) + color * opacity + 0.5).astype(np.uint8)
    return drawn


def map_panels(picture: Picture, explanation: Explanation) -> tuple[Panel, ...]:
    """Draw the picture that was answered, its maps for first and runner-up, and what separates them.

    The two maps share one scale, `strongest_of` them; the difference, which is smaller, has its own. Where
    there is no runner-up, two panels are all.

    Raises:
        PhotoUnreadable: not a picture.
    """
    first, second, difference = explanation.first, explanation.runner_up, explanation.difference
    strongest = strongest_of(likeness.contributions for likeness in (first, second) if likeness is not None)
    photo = Panel(picture, "The photo", (f"{explanation.verdict} ({explanation.reason})",))
    shown = [photo, _map_panel("1", picture, first, strongest)]
    if second is None or difference is None or explanation.margin is None:
        return tuple(shown)
    return (
        *shown,
        _map_panel("2", picture, second, strongest),
        Panel(
            draw_heat_map(picture, difference),
            "What separates 1 from 2",
            (f"margin {explanation.margin:+.3f}, in colors of its own scale", "orange for 1, blue for 2"),
        ),
    )


def strongest_of(maps: Iterable[NDArray[np.float32]]) -> float:
    """Return the largest contribution of several maps, to draw them in one scale; 1.0 where all are zero."""
    return max((float(np.abs(each).max()) for each in maps), default=0.0) or 1.0


def draw_sheet(heading: Sequence[str], panels: Sequence[Panel], *, columns: int) -> Picture:
    """Draw captioned pictures in rows of `columns` under a heading, on white.

    Every picture keeps its proportions and is brought into a square of 400 pixels. A heading that is too long
    goes on in the next line, a caption is cut with an ellipsis.

    Raises:
        PhotoUnreadable: a panel's picture is none.
    """
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    pictures = [[_brought_into_box(panel.picture) for panel in row] for row in rows]
    heights = [
        max(image.height for image in row) + _caption_height(each)
        for row, each in zip(pictures, rows, strict=True)
    ]
    width = 2 * _MARGIN + columns * _BOX[0] + (columns - 1) * _GAP
    heading = [part for line in heading for part in _wrapped(line, _HEADING_SIZE, width - 2 * _MARGIN)]
    top = _MARGIN + len(heading) * (_HEADING_SIZE + _LEADING) + _GAP // 2
    sheet = Image.new("RGB", (width, top + sum(heights) + (len(rows) - 1) * _GAP + _MARGIN), _PAPER)
    _write(sheet, (_MARGIN, _MARGIN), heading, size=_HEADING_SIZE, ink=_INK, room=width - 2 * _MARGIN)
    for images, row, height in zip(pictures, rows, heights, strict=True):
        below = top + max(image.height for image in images)
        for column, (image, panel) in enumerate(zip(images, row, strict=True)):
            left = _MARGIN + column * (_BOX[0] + _GAP)
            sheet.paste(image, (left, below - image.height))
            _caption(sheet, panel, (left, below + _LEADING))
        top += height + _GAP
    return np.asarray(sheet)


def encode_png(picture: Picture) -> bytes:
    """Encode a picture as PNG bytes.

    Raises:
        PhotoUnreadable: not a picture.
    """
    check_picture(picture)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def caption_of(candidate: Candidate) -> tuple[str, ...]:
    """Say in two short lines which product a candidate is, and how like."""
    sureness = f"{min(candidate.confidence, 0.999):.1%} sure"
    return candidate.product.sku, f"similarity {candidate.similarity:+.3f}, {sureness}"


def legible(text: str, wider: bool) -> str:
    """Return `text` with the letters that the font has; `wider` where it has more than English.

    Accents are dropped from letters that the font has without; what is left of other alphabets is shown as ?.
    """
    if wider:
        return text
    plain = "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))
    return plain.encode("ascii", "replace").decode("ascii")


def _map_panel(rank: str, picture: Picture, likeness: Likeness, strongest: float) -> Panel:
    product = likeness.candidate.product
    heat = draw_heat_map(picture, likeness.contributions, strongest=strongest)
    return Panel(heat, f"{rank}. {product.title or product.sku}", caption_of(likeness.candidate))


def _brought_into_box(picture: Picture) -> Image.Image:
    check_picture(picture)
    height, width = picture.shape[:2]
    scale = min(_BOX[0] / width, _BOX[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)


def _caption_height(panels: Sequence[Panel]) -> int:
    lines = max(len(panel.lines) for panel in panels)
    return 2 * _LEADING + _TITLE_SIZE + lines * (_LINE_SIZE + _LEADING)


def _caption(sheet: Image.Image, panel: Panel, at: tuple[int, int]) -> None:
    _write(sheet, at, [panel.title], size=_TITLE_SIZE, ink=_INK, room=_BOX[0])
    below = (at[0], at[1] + _TITLE_SIZE + _LEADING)
    _write(sheet, below, panel.lines, size=_LINE_SIZE, ink=_FAINT, room=_BOX[0])


def _write(
    sheet: Image.Image,
    at: tuple[int, int],
    lines: Sequence[str],
    *,
    size: int,
    ink: tuple[int, int, int],
    room: int,
) -> None:
    """Write lines one below the other, each cut to `room` pixels."""
    font, wider = _font(size)
    pen = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        text = legible(line, wider)
        while text and pen.textlength(text, font=font) > room:
            text = text.removesuffix("...")[:-1] + "..."
        pen.text((at[0], at[1] + number * (size + _LEADING)), text, font=font, fill=ink)


def _wrapped(line: str, size: int, room: int) -> list[str]:
    """Break a line between words so that every part fits into `room` pixels."""
    font, wider = _font(size)
    parts: list[str] = []
    for word in line.split():
        longer = f"{parts[-1]} {word}" if parts else word
        if parts and font.getlength(legible(longer, wider)) <= room:
            parts[-1] = longer
        else:
            parts.append(word)
    return parts


@lru_cache(maxsize=8)
def _font(size: int) -> tuple[_Font, bool]:
    """Return the font to write with, and whether it has more letters than English needs."""
    try:
        return ImageFont.truetype(_WIDER_FONT, size), True
    except OSError:
        return ImageFont.load_default(size), False
