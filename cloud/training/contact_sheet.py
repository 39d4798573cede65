"""Draws what the network sees: rows of a picture, then of views of it, with what was done to each."""

import io
from pathlib import Path

import numpy as np
from keras import ops
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cloud.training.augment import ShopCamera, draw_parameters, name_effects
from cloud.training.backbones import INPUT_OFFSET, INPUT_SCALE
from cloud.training.recipe import Recipe
from edge.disk import write_atomically

Pictures = NDArray[np.uint8]
_GAP = 4
_LINE = 11
_LINES = 3


def write_contact_sheet(
    pictures: Pictures,
    is_packshot: NDArray[np.bool_],
    recipe: Recipe,
    path: Path,
    *,
    rows: int = 10,
    views: int = 6,
) -> None:
    """Write a PNG of some pictures, each with several views of it as the network will see them.

    Args:
        pictures: uint8 (n, P, P, 3), as the training keeps them.
        is_packshot: (n,); half of the rows are packshots, where there are as many.
        recipe: its effects, seed and input_size are used.
        path: the PNG.
        rows: how many pictures, at most.
        views: how many views of each.

    Raises:
        StorageUnusable, NoSpace: `path` cannot be written.
    """
    chosen = _choose(is_packshot, rows, recipe.seed)
    originals, packshots = np.asarray(pictures[chosen]), is_packshot[chosen]
    columns, names = _photograph(originals, packshots, recipe, views)
    sheet = _draw(originals, columns, names, packshots)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


def _choose(is_packshot: NDArray[np.bool_], rows: int, seed: int) -> NDArray[np.intp]:
    """Choose pictures at random, packshots first and, as far as there are any, for half of the rows."""
    mixed = np.random.default_rng(seed).permutation(len(is_packshot))
    packshots, others = mixed[is_packshot[mixed]], mixed[~is_packshot[mixed]]
    half = max(rows // 2, rows - len(others))
    return np.concatenate([packshots[:half], others])[:rows]


def _photograph(
    pictures: Pictures, is_packshot: NDArray[np.bool_], recipe: Recipe, views: int
) -> tuple[list[Pictures], list[list[list[str]]]]:
    """Return `views` batches of views, uint8 (n, S, S, 3), and for each of them the effects on each view."""
    count, size = len(pictures), recipe.input_size
    camera = ShopCamera(recipe, count, size)
    batches, names = [], []
    for number in range(views):
        random = np.random.default_rng((recipe.seed, number))
        parameters = draw_parameters(recipe, count, size, random, is_packshot)
        seen = ops.convert_to_numpy(camera({"pictures": pictures, **parameters}))
        batches.append(np.clip((seen - INPUT_OFFSET) / INPUT_SCALE + 0.5, 0, 255).astype(np.uint8))
        names.append(name_effects(recipe, parameters))
    return batches, names


def _draw(
    originals: Pictures, columns: list[Pictures], names: list[list[list[str]]], is_packshot: NDArray[np.bool_]
) -> Image.Image:
    size = columns[0].shape[1]
    width, height = size + _GAP, size + _LINES * _LINE + _GAP
    sheet = Image.new("RGB", (width * (len(columns) + 1) + _GAP, height * len(originals) + _GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_LINE - 1)
    for row, original in enumerate(originals):
        top = _GAP + row * height
        kind = ["packshot"] if is_packshot[row] else ["in-store photo"]
        cells = [(np.asarray(Image.fromarray(original).resize((size, size))), kind)]
        cells += [(views[row], of_views[row]) for views, of_views in zip(columns, names, strict=True)]
        for column, (cell, words) in enumerate(cells):
            left = _GAP + column * width
            sheet.paste(Image.fromarray(cell), (left, top))
            pen.multiline_text((left, top + size), _wrap(words, pen, font, size), "black", font, spacing=0)
    return sheet


def _wrap(
    words: list[str], pen: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int
) -> str:
    """Break the words into as many lines as there is room for."""
    lines = [""]
    for word in words:
        longer = f"{lines[-1]}, {word}" if lines[-1] else word
        if pen.textlength(longer, font) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines[:_LINES])
