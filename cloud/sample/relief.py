"""Shapes with body: outlines in a unit square that are filled, shaded as if puffed up, and stacked."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from cloud.sample.ink import Color, Floats, darker, lighter, to_image

Point = tuple[float, float]
SIDE = 300  # pixels of an illustration's master drawing
_FINE = 2  # outlines are drawn this much larger, then reduced, for smooth edges


class Tile:
    """A transparent square of SIDE pixels, addressed from (-1, -1) upper left to (1, 1) lower right."""

    def __init__(self) -> None:
        self.image = Image.new("RGBA", (SIDE, SIDE))

    def outline(self, draw: Callable[[ImageDraw.ImageDraw, Callable[[Point], Point]], None]) -> Image.Image:
        """Return a smooth mask of what `draw` fills with 255; it is given a pen and the map to pixels."""
        mask = Image.new("L", (SIDE * _FINE, SIDE * _FINE))
        half = SIDE * _FINE / 2
        draw(ImageDraw.Draw(mask), lambda point: ((point[0] + 1) * half, (point[1] + 1) * half))
        return mask.reduce(_FINE)

    def curve(self, points: Sequence[Point], color: Color, *, depth: float = 0.1) -> None:
        """Lay down a shape whose outline bends smoothly through the points."""
        self.polygon(smooth(points), color, depth=depth)

    def polygon(self, points: Sequence[Point], color: Color, *, depth: float = 0.1) -> None:
        """Lay down a polygon, puffed up by `depth` (0 is flat)."""
        self.fill(
            self.outline(lambda pen, place: pen.polygon([place(p) for p in points], fill=255)), color, depth
        )

    def ellipse(
        self, center: Point, rx: float, ry: float, color: Color, *, tilt: float = 0, depth: float = 0.1
    ) -> None:
        """Lay down an ellipse turned by `tilt` degrees."""
        self.polygon(oval(center, rx, ry, tilt), color, depth=depth)

    def line(self, points: Sequence[Point], width: float, color: Color, *, depth: float = 0.0) -> None:
        """Lay down a line of `width` (1 is half the tile) with round ends."""

        def draw(pen: ImageDraw.ImageDraw, place: Callable[[Point], Point]) -> None:
            thick = width * SIDE * _FINE / 2
            placed = [place(p) for p in points]
            pen.line(placed, fill=255, width=max(1, round(thick)), joint="curve")
            for x, y in (placed[0], placed[-1]):
                pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=255)

        self.fill(self.outline(draw), color, depth)

    def fill(self, mask: Image.Image, color: Color, depth: float) -> None:
        """Lay a color through a mask, lit from the upper left as if the shape were puffed up by `depth`."""
        if depth <= 0:
            self.image.paste(Image.new("RGBA", mask.size, (*color, 255)), (0, 0), mask)
            return
        box = mask.getbbox()
        if box is None:
            return
        mask = mask.crop(box)  # most parts are small: shade only where they are
        height = _soft(np.asarray(mask, np.float32), max(1, round(depth * SIDE / 2))) * (depth * 4)
        slope_y, slope_x = (slope[1:-1, 1:-1] for slope in np.gradient(np.pad(height, 1, mode="edge")))
        normal_z = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
        lit = np.clip((0.42 * slope_x + 0.55 * slope_y) * normal_z + 0.72 * normal_z, 0, 1)
        tone = np.clip((lit - 0.25) / 0.6, 0, 1)[..., None]
        dark, light = (
            np.asarray(darker(color, 0.42), np.float32),
            np.asarray(lighter(color, 0.16), np.float32),
        )
        gleam = np.clip((lit - 0.93) / 0.07, 0, 1)[..., None] * 0.35
        pixels = dark + (light - dark) * tone
        shaded = to_image(pixels + (255 - pixels) * gleam).convert("RGBA")
        self.image.paste(shaded, (box[0], box[1]), mask)

    def put(self, tile: Image.Image, center: Point, size: float, *, turn: float = 0) -> None:
        """Lay another drawing here: `size` 1 is half this tile wide, `turn` is in degrees."""
        side = max(1, round(size * SIDE / 2))
        placed = tile.resize(
            (side, max(1, round(side * tile.height / tile.width))), Image.Resampling.BILINEAR
        )
        if turn:
            placed = placed.rotate(turn, Image.Resampling.BICUBIC, expand=True)
        corner = (
            round((center[0] + 1) * SIDE / 2 - placed.width / 2),
            round((center[1] + 1) * SIDE / 2 - placed.height / 2),
        )
        whole = Image.new("RGBA", self.image.size)
        whole.paste(placed, corner)
        self.image.alpha_composite(whole)


def _soft(plane: Floats, reach: int) -> Floats:
    """Blur by three running means: in floats, for 8-bit steps would show as ridges once they are shaded."""
    size = max(1, reach * 2 // 3) * 2 + 1
    for axis in (0, 1, 0, 1, 0, 1):
        edge = [(size // 2 + 1, size // 2) if axis == a else (0, 0) for a in (0, 1)]
        total = np.cumsum(np.pad(plane, edge), axis=axis, dtype=np.float32)
        count = plane.shape[axis]
        ahead, behind = np.take(total, range(size, size + count), axis), np.take(total, range(count), axis)
        plane = np.asarray((ahead - behind) / size, np.float32)
    return plane


def smooth(points: Sequence[Point], steps: int = 8) -> list[Point]:
    """Return a closed Catmull-Rom curve through the points."""
    count, out = len(points), []
    for at in range(count):
        a, b, c, d = (points[(at + k) % count] for k in (-1, 0, 1, 2))
        for step in range(steps):
            t = step / steps
            weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
            x, y = (sum(w * p[k] for w, p in zip(weights, (a, b, c, d), strict=True)) / 2 for k in (0, 1))
            out.append((x, y))
    return out


def oval(center: Point, rx: float, ry: float, tilt: float = 0, steps: int = 48) -> list[Point]:
    """Return the outline of an ellipse turned by `tilt` degrees."""
    turn = math.radians(tilt)
    points = []
    for step in range(steps):
        angle = 2 * math.pi * step / steps
        x, y = rx * math.cos(angle), ry * math.sin(angle)
        points.append(
            (
                center[0] + x * math.cos(turn) - y * math.sin(turn),
                center[1] + x * math.sin(turn) + y * math.cos(turn),
            )
        )
    return points


def leaf_outline(base: Point, length: float, width: float, angle: float, steps: int = 16) -> list[Point]:
    """Return a pointed leaf that grows from `base` toward `angle` (degrees, 0 is right, -90 is up)."""
    turn = math.radians(angle)
    along = [(step / steps, width * math.sin(math.pi * (step / steps) ** 0.8)) for step in range(steps + 1)]
    flat = [(t * length, w) for t, w in along] + [(t * length, -w) for t, w in reversed(along)]
    return [
        (base[0] + x * math.cos(turn) - y * math.sin(turn), base[1] + x * math.sin(turn) + y * math.cos(turn))
        for x, y in flat
    ]


def star_outline(center: Point, outer: float, inner: float, rays: int, turn: float = -90) -> list[Point]:
    """Return a star with `rays` points."""
    points = []
    for step in range(2 * rays):
        radius = outer if step % 2 == 0 else inner
        angle = math.radians(turn + 180 * step / rays)
        points.append((center[0] + radius * math.cos(angle), center[1] + radius * math.sin(angle)))
    return points
