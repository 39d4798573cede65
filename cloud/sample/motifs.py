"""Illustrations by name: what a package shows of its content, or a sign that stands for it."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

from PIL import Image

from cloud.sample import fruits
from cloud.sample.ink import Color, ball, darker, lighter, mix
from cloud.sample.relief import SIDE, Tile, star_outline


def star(color: Color) -> Image.Image:
    """Draw one big star among small ones."""
    tile = Tile()
    tile.polygon(star_outline((0, 0.02), 0.8, 0.36, 5), color, depth=0.07)
    for x, y, size in ((-0.75, -0.65, 0.2), (0.78, -0.6, 0.16), (0.72, 0.72, 0.2), (-0.7, 0.75, 0.15)):
        tile.polygon(star_outline((x, y), size, size * 0.4, 4), lighter(color, 0.35), depth=0.02)
    return tile.image


def snowflake(color: Color) -> Image.Image:
    """Draw a six-armed crystal."""
    tile = Tile()
    for step in range(6):
        turn = math.radians(step * 60 + 30)
        across, along = math.cos(turn), math.sin(turn)
        tile.line([(0, 0), (0.9 * across, 0.9 * along)], 0.09, color, depth=0.02)
        for reach, size in ((0.42, 0.26), (0.66, 0.2)):
            for side in (-1, 1):
                branch = turn + side * math.radians(55)
                end = (reach * across + size * math.cos(branch), reach * along + size * math.sin(branch))
                tile.line([(reach * across, reach * along), end], 0.07, color, depth=0.02)
    return tile.image


def mountains(color: Color) -> Image.Image:
    """Draw three snow-capped peaks."""
    tile = Tile()
    for x, top, width, share in (
        (0.42, -0.42, 0.75, 0.25),
        (-0.5, -0.25, 0.7, 0.1),
        (-0.02, -0.82, 0.85, 0.0),
    ):
        tone = lighter(color, share)
        tile.polygon([(x, top), (x + width, 0.8), (x - width, 0.8)], tone, depth=0.03)
        tile.polygon(
            [(x, top), (x + width, 0.8), (x + 0.1 * width, 0.8), (x - 0.08, 0.1)], darker(tone, 0.25), depth=0
        )
        peak = (0.8 - top) * 0.3
        zigzag = [
            (x + width * 0.3, top + peak),
            (x + 0.08, top + peak * 0.75),
            (x - 0.04, top + peak * 1.2),
            (x - width * 0.3, top + peak),
        ]
        tile.polygon([(x, top), *zigzag], (250, 252, 255), depth=0)
    return tile.image


def drop(color: Color) -> Image.Image:
    """Draw a drop over rings of water."""
    tile = Tile()
    for size in (0.9, 0.64):
        tile.ellipse((0, 0.68), size, size * 0.26, lighter(color, 0.5 if size > 0.7 else 0.7), depth=0.02)
    side = [(0.0, -0.95), (-0.16, -0.55), (-0.42, -0.12), (-0.5, 0.2), (-0.38, 0.5), (0.0, 0.65)]
    tile.curve([*side, *[(-x, y) for x, y in reversed(side)]], color, depth=0.14)
    tile.ellipse((-0.2, 0.12), 0.07, 0.17, lighter(color, 0.75), tilt=18, depth=0)
    return tile.image


def waves(color: Color) -> Image.Image:
    """Draw rolling waves under a sun."""
    tile = Tile()
    tile.put(ball(240, (250, 190, 60), 0.2), (0.25, -0.42), 0.85)
    for row, base in enumerate((-0.15, 0.15, 0.45)):
        crest = [(x / 20 - 1, base + 0.11 * math.sin(x / 20 * 3 * math.pi + row * 1.4)) for x in range(41)]
        tile.polygon([*crest, (1, 0.9), (-1, 0.9)], mix(lighter(color, 0.45), color, row / 2), depth=0.03)
    return tile.image


def bubbles(color: Color) -> Image.Image:
    """Draw rising soap bubbles."""
    tile = Tile()
    for x, y, size in (
        (-0.25, 0.3, 1.1),
        (0.5, -0.1, 0.75),
        (-0.4, -0.55, 0.55),
        (0.35, 0.75, 0.4),
        (0.3, -0.75, 0.3),
        (0.85, 0.45, 0.25),
    ):
        tile.put(ball(240, lighter(color, 0.25), 1.0), (x, y), size)
        tile.put(ball(240, lighter(color, 0.6), 0.3), (x + 0.04 * size, y + 0.05 * size), size * 0.8)
        tile.ellipse(
            (x - 0.16 * size, y - 0.2 * size), 0.11 * size, 0.06 * size, (255, 255, 255), tilt=-40, depth=0
        )
    return tile.image


def honeycomb(color: Color) -> Image.Image:
    """Draw filled cells of a comb with a running drop."""
    tile = Tile()
    for row in range(-2, 3):
        for column in range(-2, 3):
            x, y = column * 0.44 + (row % 2) * 0.22, row * 0.38
            if math.hypot(x, y) < 0.82:
                tone = mix(color, (255, 236, 150), 0.16 * ((row + column) % 3))
                tile.polygon(
                    [
                        (x + 0.23 * math.sin(math.radians(60 * k)), y + 0.23 * math.cos(math.radians(60 * k)))
                        for k in range(6)
                    ],
                    tone,
                    depth=0.05,
                )
    tile.ellipse((0.1, 0.55), 0.12, 0.36, lighter(color, 0.12), depth=0.06)
    return tile.image


def chips(color: Color) -> Image.Image:
    """Draw potato crisps, curved and overlapping."""
    tile = Tile()
    for x, y, tilt in (
        (-0.35, -0.45, 20),
        (0.42, -0.35, -35),
        (-0.45, 0.35, -20),
        (0.4, 0.42, 25),
        (0.0, 0.0, 5),
    ):
        tile.ellipse((x, y), 0.53, 0.36, mix(color, (255, 226, 130), 0.55), tilt=tilt, depth=0.07)
        tile.ellipse(
            (x + 0.05, y + 0.05), 0.34, 0.15, mix(color, (255, 235, 160), 0.75), tilt=tilt + 6, depth=0.03
        )
        for dx, dy in ((-0.2, -0.08), (0.12, 0.1), (0.25, -0.1), (-0.05, 0.18)):
            tile.ellipse((x + dx, y + dy), 0.026, 0.022, darker(color, 0.15), depth=0)
    return tile.image


def chocolate(color: Color) -> Image.Image:
    """Draw broken squares of a chocolate bar."""
    tile = Tile()
    for x, y, tilt in ((-0.4, -0.36, -8), (0.42, -0.3, 10), (-0.36, 0.46, 7), (0.44, 0.5, -14)):
        for size, tone in ((0.42, darker(color, 0.12)), (0.3, color)):
            turn = math.radians(tilt + 45)
            corners = [
                (
                    x + size * 1.38 * math.cos(turn + k * math.pi / 2),
                    y + size * 1.38 * math.sin(turn + k * math.pi / 2),
                )
                for k in range(4)
            ]
            tile.polygon(corners, tone, depth=0.05)
    return tile.image


def rings(color: Color) -> Image.Image:
    """Draw cereal rings."""
    tile = Tile()
    for x, y in ((-0.5, -0.5), (0.45, -0.55), (0.0, -0.05), (-0.58, 0.4), (0.55, 0.35), (0.0, 0.68)):
        tile.ellipse((x, y), 0.38, 0.33, color, tilt=20 * x, depth=0.09)
        tile.ellipse((x, y + 0.02), 0.15, 0.12, darker(color, 0.5), depth=0)
    return tile.image


def tubes(color: Color) -> Image.Image:
    """Draw short pasta tubes, cut slantwise."""
    tile = Tile()
    for x, y, turn in ((-0.4, -0.4, 0.5), (0.45, -0.3, -0.6), (-0.25, 0.4, -0.3), (0.45, 0.5, 0.4)):
        dx, dy = 0.36 * math.cos(turn), 0.36 * math.sin(turn)
        tile.line([(x - dx, y - dy), (x + dx, y + dy)], 0.4, color, depth=0.09)
        tile.ellipse(
            (x + dx * 1.2, y + dy * 1.2), 0.11, 0.19, darker(color, 0.4), tilt=math.degrees(turn), depth=0
        )
        for shift in (-0.08, 0.0, 0.08):
            tile.line(
                [
                    (x - dx - shift * dy * 2.4, y - dy + shift * dx * 2.4),
                    (x + dx - shift * dy * 2.4, y + dy + shift * dx * 2.4),
                ],
                0.02,
                darker(color, 0.16),
            )
    return tile.image


def spirals(color: Color) -> Image.Image:
    """Draw twisted pasta."""
    tile = Tile()
    for x, y, turn in ((-0.1, -0.55, 0.25), (0.1, 0.02, -0.3), (-0.1, 0.58, 0.2)):
        for step in range(7):
            along = (step - 3) * 0.23
            spot = (x + along * math.cos(turn), y + along * math.sin(turn))
            tile.ellipse(
                spot,
                0.09,
                0.25,
                mix(color, (255, 244, 190), 0.12 * (step % 2)),
                tilt=math.degrees(turn) + 32,
                depth=0.06,
            )
    return tile.image


def strands(color: Color) -> Image.Image:
    """Draw a bundle of long pasta, tied in its middle."""
    tile = Tile()
    for step in range(13):
        x = (step - 6) / 6
        tile.line(
            [(x * 0.62, -0.95), (x * 0.2, 0.0), (x * 0.62, 0.95)],
            0.085,
            mix(color, (255, 240, 180), 0.1 * (step % 3)),
            depth=0.03,
        )
    tile.line([(-0.28, 0), (0.28, 0)], 0.16, (196, 52, 44), depth=0.04)
    return tile.image


def fish(color: Color) -> Image.Image:
    """Draw two fish with scales."""
    tile = Tile()
    for y, way in ((-0.36, 1), (0.4, -1)):
        top = [(-0.9, -0.02), (-0.6, -0.26), (-0.1, -0.34), (0.4, -0.2), (0.62, -0.05), (0.92, -0.3)]
        low = [(0.86, 0.0), (0.92, 0.3), (0.62, 0.07), (0.4, 0.2), (-0.1, 0.3), (-0.6, 0.2)]
        tile.curve([(way * a, y + b) for a, b in (*top, *low)], color, depth=0.08)
        tile.line(
            [(way * -0.5, y - 0.18), (way * -0.44, y), (way * -0.5, y + 0.14)], 0.03, darker(color, 0.3)
        )
        tile.ellipse((way * -0.68, y - 0.06), 0.055, 0.055, (255, 255, 255), depth=0)
        tile.ellipse((way * -0.68, y - 0.06), 0.03, 0.03, (20, 20, 30), depth=0)
        for step in range(5):
            tile.line(
                [(way * (-0.25 + step * 0.15), y - 0.1), (way * (-0.2 + step * 0.15), y + 0.04)],
                0.02,
                lighter(color, 0.4),
            )
    return tile.image


def scoops(color: Color) -> Image.Image:
    """Draw scoops of ice cream with a wafer."""
    tile = Tile()
    tile.polygon([(0.25, -0.95), (0.6, -0.85), (0.35, 0.1), (0.05, 0.0)], (214, 160, 92), depth=0.03)
    for x, y in ((-0.42, -0.02), (0.38, 0.02), (0.0, -0.42), (0.0, 0.3)):
        tile.put(ball(240, mix(color, (255, 255, 255), 0.08), 0.25), (x, y), 0.98)
    tile.ellipse((0, 0.62), 0.86, 0.24, lighter(color, 0.25), depth=0.06)
    return tile.image


def bowl(color: Color) -> Image.Image:
    """Draw a steaming bowl; `color` is what is in it."""
    tile = Tile()
    tile.polygon(
        [(-0.92, 0.0), (0.92, 0.0), (0.62, 0.68), (0.3, 0.88), (-0.3, 0.88), (-0.62, 0.68)],
        (245, 242, 236),
        depth=0.1,
    )
    tile.ellipse((0, 0.0), 0.92, 0.26, (226, 222, 214), depth=0.03)
    tile.ellipse((0, 0.01), 0.82, 0.21, color, depth=0.04)
    for x in (-0.4, 0.0, 0.4):
        tile.line(
            [(x, -0.32), (x + 0.1, -0.5), (x - 0.08, -0.7), (x + 0.04, -0.9)],
            0.06,
            lighter(color, 0.72),
            depth=0.02,
        )
    return tile.image


def splash(color: Color) -> Image.Image:
    """Draw a crown of splashing milk or juice."""
    tile = Tile()
    rim = [
        (-0.95, -0.35),
        (-0.62, 0.12),
        (-0.45, -0.62),
        (-0.2, 0.0),
        (0.02, -0.88),
        (0.2, 0.02),
        (0.5, -0.6),
        (0.6, 0.14),
        (0.94, -0.3),
    ]
    tile.curve([*rim, (0.86, 0.62), (0.4, 0.86), (-0.4, 0.86), (-0.86, 0.62)], color, depth=0.1)
    for x, y, size in ((-0.9, -0.62, 0.2), (0.02, -0.5, 0.12), (0.62, -0.82, 0.22), (-0.3, -0.86, 0.14)):
        tile.put(ball(160, color, 0.8), (x, y), size)
    tile.ellipse((0, 0.6), 0.6, 0.17, lighter(color, 0.3), depth=0.05)
    return tile.image


MOTIFS: Mapping[str, Callable[[Color], Image.Image]] = {
    "apple": fruits.round_fruit,
    "citrus": fruits.citrus,
    "berries": fruits.berries,
    "cherries": fruits.cherries,
    "strawberry": fruits.strawberry,
    "tomato": fruits.tomato,
    "chili": fruits.chili,
    "leaves": fruits.leaves,
    "daisy": fruits.daisy,
    "lavender": fruits.lavender,
    "wheat": fruits.wheat,
    "beans": fruits.beans,
    "peas": fruits.peas,
    "corn": fruits.corn,
    "olives": fruits.olives,
    "nuts": fruits.nuts,
    "garlic": fruits.garlic,
    "star": star,
    "snowflake": snowflake,
    "mountains": mountains,
    "drop": drop,
    "waves": waves,
    "bubbles": bubbles,
    "honeycomb": honeycomb,
    "chips": chips,
    "chocolate": chocolate,
    "rings": rings,
    "tubes": tubes,
    "spirals": spirals,
    "strands": strands,
    "fish": fish,
    "scoops": scoops,
    "bowl": bowl,
    "splash": splash,
}


@lru_cache(maxsize=64)
def _master(name: str, color: Color) -> Image.Image:
    return MOTIFS[name](color)


def motif(name: str, color: Color, size: float) -> Image.Image:
    """Return the illustration `name` in `color` as an RGBA tile, `size` pixels wide."""
    side = max(2, round(size))
    return _master(name, color).resize(
        (side, side), Image.Resampling.LANCZOS if side < SIDE else Image.Resampling.BICUBIC
    )
