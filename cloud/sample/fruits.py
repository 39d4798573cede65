"""Illustrations of what grows: fruit, leaves, grains, beans, blossoms."""

import math

from PIL import Image

from cloud.sample.ink import Color, ball, darker, lighter, mix
from cloud.sample.relief import Tile, leaf_outline, oval, star_outline

LEAF: Color = (74, 140, 60)
STEM: Color = (104, 74, 44)


def _leaf(
    tile: Tile,
    base: tuple[float, float],
    length: float,
    angle: float,
    color: Color = LEAF,
    *,
    fat: float = 0.27,
) -> None:
    """Grow one leaf with a midrib."""
    tile.polygon(leaf_outline(base, length, length * fat, angle), color, depth=0.05)
    turn = math.radians(angle)
    tip = (base[0] + 0.85 * length * math.cos(turn), base[1] + 0.85 * length * math.sin(turn))
    tile.line([base, tip], 0.025, lighter(color, 0.35))


def round_fruit(color: Color) -> Image.Image:
    """Draw an apple, peach or similar: a ball with a dimple, a stem and a leaf."""
    tile = Tile()
    tile.put(ball(300, color), (-0.18, 0.12), 1.35)
    tile.put(ball(300, mix(color, (250, 220, 120), 0.18)), (0.2, 0.14), 1.35)
    tile.ellipse((0.0, -0.42), 0.26, 0.09, darker(color, 0.35), depth=0.04)
    tile.line([(0.0, -0.42), (0.06, -0.62), (0.14, -0.78)], 0.07, STEM, depth=0.02)
    _leaf(tile, (0.1, -0.66), 0.7, -18)
    return tile.image


def citrus(color: Color) -> Image.Image:
    """Draw a whole citrus fruit behind a cut half with its segments."""
    tile = Tile()
    tile.put(ball(300, color, 0.55), (0.25, -0.22), 1.38)
    _leaf(tile, (0.3, -0.82), 0.6, 10)
    tile.put(_slice(color), (-0.24, 0.24), 1.42)
    return tile.image


def _slice(color: Color) -> Image.Image:
    tile = Tile()
    tile.ellipse((0, 0), 0.98, 0.98, darker(color, 0.06), depth=0.03)
    tile.ellipse((0, 0), 0.88, 0.88, (255, 249, 226), depth=0)
    for step in range(10):
        angle = step * 36 + 8
        middle, spread = math.radians(angle), math.radians(14.5)
        outer = [
            (0.82 * math.cos(middle + s * spread), 0.82 * math.sin(middle + s * spread))
            for s in (-1, -0.5, 0, 0.5, 1)
        ]
        tile.polygon(
            [(0.1 * math.cos(middle), 0.1 * math.sin(middle)), *outer], lighter(color, 0.12), depth=0.03
        )
    return tile.image


def berries(color: Color) -> Image.Image:
    """Draw a heap of blueberries or currants with their crowns, and two leaves."""
    tile = Tile()
    _leaf(tile, (-0.1, -0.2), 0.85, -140)
    _leaf(tile, (0.1, -0.25), 0.85, -40)
    for x, y in ((-0.5, 0.42), (0.5, 0.42), (0.0, 0.52), (-0.27, 0.0), (0.28, 0.0), (0.0, -0.4)):
        tile.put(ball(200, color, 0.5), (x, y), 0.66)
        tile.polygon(star_outline((x + 0.03, y - 0.1), 0.12, 0.06, 5), darker(color, 0.5), depth=0)
    return tile.image


def cherries(color: Color) -> Image.Image:
    """Draw two cherries on one stalk."""
    tile = Tile()
    tile.line([(-0.42, 0.25), (-0.2, -0.35), (0.15, -0.82)], 0.06, LEAF, depth=0.01)
    tile.line([(0.44, 0.4), (0.34, -0.2), (0.15, -0.82)], 0.06, LEAF, depth=0.01)
    _leaf(tile, (0.15, -0.8), 0.75, 168)
    tile.put(ball(300, color), (-0.44, 0.4), 0.98)
    tile.put(ball(300, color), (0.45, 0.5), 0.98)
    return tile.image


def strawberry(color: Color) -> Image.Image:
    """Draw a strawberry with its seeds and its green crown."""
    tile = Tile()
    body = [
        (0.0, 0.95),
        (-0.3, 0.72),
        (-0.6, 0.25),
        (-0.74, -0.15),
        (-0.62, -0.45),
        (-0.3, -0.58),
        (0.0, -0.52),
    ]
    tile.curve([*body, *[(-x, y) for x, y in reversed(body)]], color, depth=0.16)
    for row in range(5):
        for column in range(-2, 3):
            x, y = (column + 0.5 * (row % 2)) * 0.26, -0.26 + row * 0.23
            if abs(x) < 0.62 - 0.13 * row:
                tile.ellipse((x, y), 0.03, 0.05, (250, 214, 110), depth=0)
    for angle in (-178, -150, -115, -65, -30, -2):
        _leaf(tile, (0, -0.52), 0.52, angle, fat=0.3)
    return tile.image


def tomato(color: Color) -> Image.Image:
    """Draw a tomato or pepper-like fruit with a star of sepals."""
    tile = Tile()
    for x in (-0.3, 0.3, 0.0):
        tile.put(ball(300, color), (x, 0.15), 1.45)
    tile.polygon(star_outline((0, -0.42), 0.5, 0.13, 6), LEAF, depth=0.03)
    tile.line([(0, -0.42), (0.05, -0.75)], 0.09, darker(LEAF, 0.2), depth=0.02)
    return tile.image


def chili(color: Color) -> Image.Image:
    """Draw two crossed chili pods."""
    tile = Tile()
    for side in (-1, 1):
        top = [(0.62, -0.5), (0.38, 0.0), (0.0, 0.38), (-0.5, 0.66), (-0.88, 0.72)]
        under = [(-0.5, 0.84), (0.12, 0.66), (0.6, 0.2), (0.86, -0.42)]
        tile.polygon(
            [(side * x, y) for x, y in (*top, *under)],
            mix(color, (255, 150, 0), 0.12 * (side + 1)),
            depth=0.08,
        )
        tile.line([(side * 0.74, -0.46), (side * 0.78, -0.86)], 0.1, LEAF, depth=0.03)
    return tile.image


def leaves(color: Color) -> Image.Image:
    """Draw a sprig with five leaves: mint, basil or tea."""
    tile = Tile()
    tile.line([(0, 0.95), (0.02, 0.1), (0, -0.4)], 0.05, darker(color, 0.25))
    for base, length, angle in (
        ((0, 0.55), 0.85, -160),
        ((0, 0.5), 0.85, -20),
        ((0, 0.1), 0.85, -145),
        ((0, 0.1), 0.85, -35),
    ):
        _leaf(tile, base, length, angle, color, fat=0.33)
    _leaf(tile, (0, -0.05), 0.9, -90, lighter(color, 0.1), fat=0.33)
    return tile.image


def daisy(color: Color) -> Image.Image:
    """Draw a chamomile blossom; `color` is its petals'."""
    tile = Tile()
    tile.line([(0.05, 0.2), (0.0, 0.95)], 0.06, LEAF)
    _leaf(tile, (0.02, 0.8), 0.6, -25)
    for step in range(13):
        turn = math.radians(step * 360 / 13)
        tile.ellipse(
            (0.5 * math.cos(turn), -0.15 + 0.5 * math.sin(turn)),
            0.3,
            0.11,
            color,
            tilt=step * 360 / 13,
            depth=0.03,
        )
    tile.put(ball(200, (244, 180, 30), 0.3), (0, -0.15), 0.58)
    return tile.image


def lavender(color: Color) -> Image.Image:
    """Draw three flower spikes."""
    tile = Tile()
    for x, lean, top in ((-0.45, -0.2, -0.62), (0.45, 0.2, -0.62), (0.0, 0.0, -0.9)):
        tile.line([(0.1 * x, 0.95), (x + lean * 0.5, top + 0.2)], 0.04, LEAF)
        for row in range(7):
            y = top + row * 0.14
            middle = x + lean * (0.5 - row * 0.12)
            for side in (-0.1, 0.1, 0.0):
                tile.ellipse(
                    (middle + side, y), 0.1, 0.075, mix(color, (255, 255, 255), 0.05 * row), depth=0.03
                )
    return tile.image


def wheat(color: Color) -> Image.Image:
    """Draw three ears of grain."""
    tile = Tile()
    for foot, angle in ((-0.25, -112), (0.25, -68), (0.0, -90)):
        turn = math.radians(angle)
        across, along = math.cos(turn), math.sin(turn)
        tile.line([(foot, 0.95), (foot + 1.3 * across, 0.95 + 1.3 * along)], 0.035, darker(color, 0.3))
        for row in range(7):
            reach = 0.8 + row * 0.14
            x, y = foot + reach * across, 0.95 + reach * along
            for side in (-1, 1):
                tile.ellipse(
                    (x + side * 0.085 * -along, y + side * 0.085 * across),
                    0.12,
                    0.055,
                    color,
                    tilt=angle + side * 28,
                    depth=0.04,
                )
        tile.ellipse((foot + 1.82 * across, 0.95 + 1.82 * along), 0.12, 0.05, color, tilt=angle, depth=0.04)
    return tile.image


def beans(color: Color) -> Image.Image:
    """Draw coffee beans, each with its seam."""
    tile = Tile()
    for x, y, tilt in (
        (-0.45, -0.35, 35),
        (0.42, -0.42, -30),
        (0.0, 0.05, 70),
        (-0.5, 0.5, -20),
        (0.48, 0.5, 40),
    ):
        tile.ellipse((x, y), 0.44, 0.31, color, tilt=tilt, depth=0.09)
        turn = math.radians(tilt)
        seam = [(t, 0.06 * math.sin(t * 8)) for t in (-0.36, -0.2, -0.05, 0.1, 0.24, 0.36)]
        bent = [
            (x + a * math.cos(turn) - b * math.sin(turn), y + a * math.sin(turn) + b * math.cos(turn))
            for a, b in seam
        ]
        tile.line(bent, 0.055, darker(color, 0.5))
    return tile.image


def peas(color: Color) -> Image.Image:
    """Draw a heap of peas, chickpeas or red beans."""
    tile = Tile()
    rows = ((-0.55, 4, 0.5), (-0.15, 5, 0.46), (0.25, 4, 0.5), (0.6, 5, 0.44))
    for y, count, gap in rows:
        for column in range(count):
            x = (column - (count - 1) / 2) * gap * 0.86
            tile.put(
                ball(160, mix(color, (255, 255, 255), 0.04 * (column % 3)), 0.4), (0.9 * x, 0.95 * y), 0.45
            )
    return tile.image


def corn(color: Color) -> Image.Image:
    """Draw a corn cob in its leaves."""
    tile = Tile()
    tile.polygon(oval((0, -0.12), 0.4, 0.84), darker(color, 0.2), depth=0.1)
    for row in range(11):
        for column in range(-2, 3):
            x, y = column * 0.16, -0.82 + row * 0.14
            if (x / 0.42) ** 2 + ((y + 0.12) / 0.82) ** 2 < 0.95:
                tile.ellipse((x, y), 0.088, 0.075, color, depth=0.035)
    for angle, length in ((-125, 1.1), (-55, 1.1), (-100, 0.8), (-80, 0.8)):
        _leaf(tile, (0, 0.92), length, angle, fat=0.22)
    return tile.image


def olives(color: Color) -> Image.Image:
    """Draw an olive branch."""
    tile = Tile()
    tile.line([(-0.9, -0.5), (-0.1, -0.2), (0.85, -0.45)], 0.045, STEM)
    for base, angle in (
        ((-0.6, -0.4), -70),
        ((-0.2, -0.22), -110),
        ((0.25, -0.25), -60),
        ((0.6, -0.35), -20),
        ((-0.75, -0.45), 160),
    ):
        _leaf(tile, base, 0.62, angle, (120, 142, 84), fat=0.16)
    for x, y in ((-0.42, 0.15), (0.08, 0.32), (0.52, 0.1)):
        tile.line([(x, y - 0.25), (x - 0.05, -0.3)], 0.03, STEM)
        tile.ellipse((x, y), 0.21, 0.3, color, depth=0.1)
    return tile.image


def nuts(color: Color) -> Image.Image:
    """Draw hazelnuts with their pale caps."""
    tile = Tile()
    _leaf(tile, (0, -0.2), 0.9, -120)
    _leaf(tile, (0.1, -0.2), 0.9, -50)
    for x, y in ((-0.42, 0.12), (0.45, 0.1), (0.0, 0.45)):
        tile.put(ball(240, color, 0.6), (x, y), 0.95)
        tile.ellipse((x, y - 0.3), 0.3, 0.13, lighter(color, 0.5), depth=0.04)
    return tile.image


def garlic(color: Color) -> Image.Image:
    """Draw an onion or garlic bulb with green shoots."""
    tile = Tile()
    for angle in (-105, -90, -75):
        _leaf(tile, (0, -0.2), 0.85, angle, fat=0.1)
    body = [(0, -0.45), (-0.2, -0.25), (-0.62, 0.05), (-0.72, 0.42), (-0.45, 0.78), (0, 0.88)]
    tile.curve([*body, *[(-x, y) for x, y in reversed(body)]], color, depth=0.14)
    for x in (-0.36, 0.0, 0.36):
        tile.line([(x * 0.4, -0.3), (x, 0.2), (x * 0.5, 0.8)], 0.02, darker(color, 0.22))
    return tile.image
