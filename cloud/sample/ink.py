"""Colors, gradients and lettering: what every drawing of the sample catalog is made with.

Lettering comes from the one scalable font inside Pillow, so nothing is downloaded and every machine draws
the same letters; weight, slant, width and tracking are ours.
"""

from functools import lru_cache
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
Floats = NDArray[np.float32]

WHITE: Color = (255, 255, 255)


def color_of(code: str) -> Color:
    """Read a color from six hexadecimal digits, such as "c8102e"."""
    return int(code[0:2], 16), int(code[2:4], 16), int(code[4:6], 16)


def mix(first: Color, second: Color, share: float) -> Color:
    """Blend two colors; `share` (0..1) is how much of the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def lighter(color: Color, share: float) -> Color:
    """Blend a color toward white by `share` (0..1)."""
    return mix(color, WHITE, share)


def darker(color: Color, share: float) -> Color:
    """Blend a color toward black by `share` (0..1)."""
    return mix(color, (0, 0, 0), share)


def luminance(color: Color) -> float:
    """Return how bright a color looks, 0 (black) to 1 (white)."""
    return (0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]) / 255


def readable_on(color: Color, dark: Color = (34, 30, 40)) -> Color:
    """Return white or `dark`, whichever reads better on `color`."""
    return dark if luminance(color) > 0.62 else WHITE


def to_image(pixels: Floats) -> Image.Image:
    """Turn a float array (h, w, 3 or 4), 0..255, into a Pillow image."""
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def to_floats(image: Image.Image) -> Floats:
    """Turn a Pillow image into a float32 array (h, w, channels), 0..255."""
    return np.asarray(image, dtype=np.float32)


def vertical_gradient(size: tuple[int, int], top: Color, bottom: Color) -> Image.Image:
    """Draw an RGB image of `size` (width, height) that runs from one color to another, downward."""
    column = Image.new("RGB", (1, 64))
    for row in range(64):
        column.putpixel((0, row), mix(top, bottom, row / 63))
    return column.resize(size, Image.Resampling.BILINEAR)


def glow(
    size: tuple[int, int], inner: Color, outer: Color, center: tuple[float, float] = (0.5, 0.5)
) -> Image.Image:
    """Draw an RGB image of `size` whose color runs outward from `center` (fractions of width and height)."""
    x, y = np.meshgrid(np.linspace(0, 1, 48, dtype=np.float32), np.linspace(0, 1, 48, dtype=np.float32))
    share = np.clip(np.hypot(x - center[0], y - center[1]) / 0.75, 0, 1)[..., None] ** 1.2
    pixels = np.asarray(inner, np.float32) * (1 - share) + np.asarray(outer, np.float32) * share
    return to_image(pixels).resize(size, Image.Resampling.BICUBIC)


def paste(base: Image.Image, tile: Image.Image, center: tuple[float, float]) -> None:
    """Lay an RGBA tile on an RGB or RGBA image, its middle at `center` (pixels)."""
    corner = (round(center[0] - tile.width / 2), round(center[1] - tile.height / 2))
    if base.mode == "RGBA":
        whole = Image.new("RGBA", base.size)
        whole.paste(tile, corner)
        base.alpha_composite(whole)
    else:
        base.paste(tile, corner, tile)


@lru_cache(maxsize=256)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own scalable font: a FreeTypeFont, as every wheel of Pillow has FreeType."""
    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))


@lru_cache(maxsize=512)
def lettering(
    text: str,
    height: float,
    color: Color,
    *,
    weight: float = 0.0,
    slant: float = 0.0,
    tracking: float = 0.0,
    squeeze: float = 1.0,
    outline: Color | None = None,
) -> Image.Image:
    """Draw one line of text as an RGBA image cropped to its ink.

    `height` is that of a capital letter in pixels; `weight` thickens the strokes and `tracking` spaces the
    letters, in shares of that height; `slant` leans them; `squeeze` scales their width.
    """
    font = _font(max(6, round(height / 0.7)))
    stroke = round(weight * height)
    border = max(1, round(0.10 * height)) if outline else 0
    pad = stroke + border + 4 + round(height * 0.6)
    advance = [font.getlength(letter) + tracking * height + stroke * 0.8 for letter in text]
    image = Image.new("RGBA", (round(sum(advance)) + 2 * pad, round(height * 2.2) + 2 * pad), (*color, 0))
    pen = ImageDraw.Draw(image)
    for extra, ink in ((border, outline), (0, color)):
        if ink is None:
            continue
        x = float(pad)
        for letter, step in zip(text, advance, strict=True):
            pen.text((x, pad), letter, font=font, fill=ink, stroke_width=stroke + extra, stroke_fill=ink)
            x += step
    if slant:
        matrix = (1.0, slant, -slant * image.height / 2, 0.0, 1.0, 0.0)
        image = image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    image = image.crop(image.getchannel("A").getbbox() or (0, 0, 1, 1))
    if squeeze != 1.0:
        image = image.resize((max(1, round(image.width * squeeze)), image.height), Image.Resampling.BICUBIC)
    return image


def fitted(text: str, height: float, color: Color, width: float, **style: float) -> Image.Image:
    """Draw one line of text like `lettering`, smaller where it would be wider than `width` pixels."""
    image = lettering(text, height, color, **style)
    if image.width <= width:
        return image
    return image.resize(
        (max(1, round(width)), max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS
    )


def arched(image: Image.Image, rise: float) -> Image.Image:
    """Bend a line of lettering into an arch whose middle stands `rise` pixels above its ends."""
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    lift = round(abs(rise))
    out = np.zeros((height + lift, width, 4), np.uint8)
    for x in range(width):
        bow = 1 - (2 * x / max(1, width - 1) - 1) ** 2
        top = round(lift * (1 - bow)) if rise > 0 else round(lift * bow)
        out[top : top + height, x] = pixels[:, x]
    return Image.fromarray(out)


@lru_cache(maxsize=128)
def ball(size: int, color: Color, shine: float = 0.8) -> Image.Image:
    """Draw a shaded sphere, RGBA, lit from the upper left, with a highlight of strength `shine` (0..1)."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(axis, axis)
    radius = np.hypot(x, y)
    z = np.sqrt(np.clip(1 - radius**2, 0, 1))
    lit = np.clip(-0.45 * x - 0.55 * y + 0.70 * z, 0, 1)
    shade = 0.50 + 0.58 * lit
    gleam = shine * np.clip((lit - 0.86) / 0.14, 0, 1) ** 2
    pixels = np.empty((size, size, 4), np.float32)
    tone = np.asarray(color, np.float32)
    warm = tone * shade[..., None] + (1 - shade[..., None]) * tone * np.asarray([0.25, 0.12, 0.2], np.float32)
    pixels[..., :3] = warm * (1 - gleam[..., None]) + 255 * gleam[..., None]
    pixels[..., 3] = 255 * np.clip((1 - radius) * size / 2, 0, 1)
    return to_image(pixels)
