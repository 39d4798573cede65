"""Printed backgrounds: dots, stripes, checks and other repeats, laid over a color."""

import math
from collections.abc import Callable, Mapping

from PIL import Image, ImageDraw

from cloud.sample.ink import Color


def _dots(pen: ImageDraw.ImageDraw, width: int, height: int, unit: float, ink: Color) -> None:
    for row in range(int(height / unit) + 2):
        for column in range(int(width / unit) + 2):
            x, y = (column + 0.5 * (row % 2)) * unit, row * unit * 0.87
            pen.ellipse((x - unit * 0.17, y - unit * 0.17, x + unit * 0.17, y + unit * 0.17), fill=ink)


def _stripes(pen: ImageDraw.ImageDraw, width: int, height: int, unit: float, ink: Color) -> None:
    for step in range(int((width + height) / unit) + 1):
        x = step * unit - height
        pen.polygon(
            [(x, height), (x + unit * 0.4, height), (x + unit * 0.4 + height, 0), (x + height, 0)], fill=ink
        )


def _chevron(pen: ImageDraw.ImageDraw, width: int, height: int, unit: float, ink: Color) -> None:
    for row in range(int(height / unit) + 2):
        points = [
            (c * unit / 2, row * unit + (unit * 0.3 if c % 2 else -unit * 0.3))
            for c in range(int(2 * width / unit) + 3)
        ]
        pen.line(points, fill=ink, width=max(2, round(unit * 0.22)))


def _scales(pen: ImageDraw.ImageDraw, width: int, height: int, unit: float, ink: Color) -> None:
    for row in range(int(2 * height / unit) + 2):
        for column in range(-1, int(width / unit) + 2):
            x, y = (column + 0.5 * (row % 2)) * unit, row * unit * 0.5
            for share in (0.5, 0.28):
                pen.arc(
                    (x - unit * share, y - unit * share, x + unit * share, y + unit * share),
                    0,
                    180,
                    fill=ink,
                    width=3,
                )


def _gingham(pen: ImageDraw.ImageDraw, width: int, height: int, unit: float, ink: Color) -> None:
    for column in range(int(width / unit) + 1):
        pen.rectangle((column * unit, 0, column * unit + unit / 2, height), fill=(*ink, 110))
    for row in range(int(height / unit) + 1):
        for column in range(int(2 * width / unit) + 1):
            x, y = column * unit / 2, row * unit
            pen.rectangle((x, y, x + unit / 2, y + unit / 2), fill=(*ink, 255 if column % 2 == 0 else 110))


def _bubbles(pen: ImageDraw.ImageDraw, width: int, height: int, unit: float, ink: Color) -> None:
    for step in range(int(width * height / unit**2 * 1.3)):
        x, y = (
            (step * 0.754877) % 1 * width,
            (step * 0.569840) % 1 * height,
        )  # Roberts' evenly spread sequence
        size = unit * (0.12 + 0.3 * ((step * 0.618034) % 1) ** 2)
        pen.ellipse((x - size, y - size, x + size, y + size), outline=ink, width=max(2, round(size * 0.18)))


def _honey(pen: ImageDraw.ImageDraw, width: int, height: int, unit: float, ink: Color) -> None:
    for row in range(int(height / unit / 0.8) + 2):
        for column in range(int(width / unit) + 2):
            x, y = (column + 0.5 * (row % 2)) * unit, row * unit * 0.87
            points = [
                (
                    x + unit * 0.55 * math.sin(math.radians(60 * k)),
                    y + unit * 0.55 * math.cos(math.radians(60 * k)),
                )
                for k in range(7)
            ]
            pen.line(points, fill=ink, width=max(2, round(unit * 0.07)))


_PATTERNS: Mapping[str, Callable[[ImageDraw.ImageDraw, int, int, float, Color], None]] = {
    "dots": _dots, "stripes": _stripes, "chevron": _chevron, "scales": _scales, "gingham": _gingham,
    "bubbles": _bubbles, "honey": _honey,
}  # fmt: skip


def print_pattern(image: Image.Image, name: str, ink: Color, *, unit: float, strength: float = 1.0) -> None:
    """Print the pattern `name` over an RGB image; `unit` is its repeat in pixels, "none" prints none."""
    if name == "none":
        return
    layer = Image.new("RGBA", image.size, (*ink, 0))
    _PATTERNS[name](ImageDraw.Draw(layer, "RGBA"), image.width, image.height, unit, ink)
    if strength < 1:
        layer.putalpha(layer.getchannel("A").point(lambda alpha: round(alpha * strength)))
    image.paste(layer, (0, 0), layer)
