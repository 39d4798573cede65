"""Draws the answers to look at: each photo beside the packshot of the product that it was taken for."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from cloud.demo.score import Outcome, Score

Color = tuple[int, int, int]
_PHOTO, _PACKSHOT, _CAPTION, _GAP = (224, 168), 168, 46, 16
_CARD = (_PHOTO[0] + _PACKSHOT + 2, _PHOTO[1] + _CAPTION)
_INK: Color = (32, 34, 40)
_MARKS: dict[str, Color] = {"right": (34, 139, 84), "asks": (214, 148, 24), "wrong": (200, 48, 48)}


def draw_answers(
    outcomes: Sequence[Outcome], total: Score, packshot_of: Callable[[str], Path], *, columns: int = 4
) -> bytes:
    """Draw a grid of cards under the score, as PNG bytes; `packshot_of` finds a SKU's picture."""
    rows = -(-len(outcomes) // columns)
    width = columns * (_CARD[0] + _GAP) + _GAP
    head = 84
    sheet = Image.new("RGB", (width, head + rows * (_CARD[1] + _GAP) + _GAP // 2), (238, 239, 242))
    _draw_head(sheet, total)
    for place, outcome in enumerate(outcomes):
        left = _GAP + place % columns * (_CARD[0] + _GAP)
        top = head + place // columns * (_CARD[1] + _GAP)
        sheet.paste(_card(outcome, packshot_of), (left, top))
    out = io.BytesIO()
    sheet.save(out, "PNG", compress_level=4)
    return out.getvalue()


def _draw_head(sheet: Image.Image, total: Score) -> None:
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, 14), "Shelfsight: what the device saw", font=ImageFont.load_default(26), fill=_INK)
    said = (
        f"{total.known + total.strangers} photos   ·   "
        f"best answer right for {total.best_right} of {total.known} known products   ·   "
        f"{total.strangers_told} of {total.strangers} strangers called unknown   ·   "
        f"wrong matches: {total.wrong_matches}   ·   {total.median_ms:.1f} ms a photo"
    )
    pen.text((_GAP, 50), said, font=ImageFont.load_default(16), fill=(84, 88, 98))


def _card(outcome: Outcome, packshot_of: Callable[[str], Path]) -> Image.Image:
    """Draw one photo, the packshot of its best candidate, and the verdict below them."""
    color = _MARKS[outcome.mark]
    card = Image.new("RGB", _CARD, (255, 255, 255))
    card.paste(_load(outcome.photo.path, _PHOTO), (0, 0))
    pen = ImageDraw.Draw(card)
    right = (_PHOTO[0] + 2, 0)
    if outcome.sku is not None and outcome.verdict != "unknown":
        card.paste(_load(packshot_of(outcome.sku), (_PACKSHOT, _PACKSHOT)), right)
    else:
        pen.rectangle((*right, _CARD[0], _PHOTO[1]), fill=(247, 247, 249))
        middle = (right[0] + _PACKSHOT / 2, _PHOTO[1] / 2)
        pen.text(middle, "?", font=ImageFont.load_default(84), fill=(196, 198, 206), anchor="mm")
    pen.rectangle((0, _PHOTO[1], 6, _CARD[1]), fill=color)
    bold = ImageFont.load_default(15)
    verdict = f"{outcome.verdict}  {outcome.similarity:.2f}"
    pen.text((14, _PHOTO[1] + 6), verdict, font=bold, fill=color, stroke_width=0.3)
    pen.text((_CARD[0] - 8, _PHOTO[1] + 6), outcome.mark, font=bold, fill=color, anchor="ra")
    title = outcome.title if outcome.verdict != "unknown" else "not in the catalog"
    pen.text((14, _PHOTO[1] + 25), _cut(title, 46), font=ImageFont.load_default(14), fill=_INK)
    return card


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _load(path: Path, size: tuple[int, int]) -> Image.Image:
    with Image.open(path) as image:
        image.draft("RGB", (size[0] * 2, size[1] * 2))
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
