"""Draws what is folded from board: boxes, bricks and gable-top cartons, as flat faces in perspective."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from cloud.sample.ink import Color, darker, lighter, vertical_gradient
from cloud.sample.light import Light

Corner = tuple[float, float, float]  # right, down, toward the camera
Spot = tuple[float, float]
_FINE = 3  # the outline is drawn this much larger, then reduced, for a smooth edge


@dataclass(frozen=True, slots=True)
class Face:
    """A flat side: artwork, or one color, and its corners clockwise from the upper left, from outside."""

    corners: tuple[Corner, ...]
    art: Image.Image | Color


def homography(source: Sequence[Spot], target: Sequence[Spot]) -> tuple[float, ...]:
    """Return Pillow's eight PERSPECTIVE coefficients, leading from `target` points back to `source`."""
    rows, values = [], []
    for (x, y), (u, v) in zip(target, source, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
        values += [u, v]
    return tuple(
        float(c) for c in np.linalg.solve(np.asarray(rows, np.float64), np.asarray(values, np.float64))
    )


def draw_folded(faces: Sequence[Face], height: int, *, yaw: float, pitch: float, light: Light) -> Image.Image:
    """Render faces as RGBA, cropped to them; a model one unit tall is `height` pixels.

    `yaw` (degrees) turns the body to show its right side when positive; `pitch` looks down on it.
    """
    turn, tilt = math.radians(-yaw), math.radians(pitch)
    seen = []
    for face in faces:
        solid = [_turned(corner, turn, tilt) for corner in face.corners]
        flat = [_projected(corner) for corner in solid]
        if _area(flat) > 1e-5:
            seen.append((sum(corner[2] for corner in solid) / len(solid), face, solid, flat))
    seen.sort(key=lambda item: item[0])
    spots = [spot for item in seen for spot in item[3]]
    left, top = (min(spot[k] for spot in spots) for k in (0, 1))
    right, bottom = (max(spot[k] for spot in spots) for k in (0, 1))
    size = (math.ceil((right - left) * height) + 2, math.ceil((bottom - top) * height) + 2)
    nearest = seen[-1][1].art  # its color lies behind everything, so that smooth edges do not turn dark
    behind = nearest.resize((1, 1), Image.Resampling.BOX) if isinstance(nearest, Image.Image) else None
    canvas = behind.resize(size) if behind else Image.new("RGB", size)
    outline = Image.new("L", (size[0] * _FINE, size[1] * _FINE))
    for _, face, solid, flat in seen:
        placed = [((x - left) * height + 1, (y - top) * height + 1) for x, y in flat]
        _lay(canvas, face, placed, _shade(solid, light))
        ImageDraw.Draw(outline).polygon([(x * _FINE, y * _FINE) for x, y in placed], fill=255)
    canvas.putalpha(outline.reduce(_FINE))
    return canvas


def _turned(corner: Corner, turn: float, tilt: float) -> Corner:
    x, y, z = corner
    x, z = x * math.cos(turn) + z * math.sin(turn), -x * math.sin(turn) + z * math.cos(turn)
    return x, y * math.cos(tilt) + z * math.sin(tilt), -y * math.sin(tilt) + z * math.cos(tilt)


def _projected(corner: Corner) -> Spot:
    away = 4.5 - corner[2]  # the camera stands 4.5 heights away
    return corner[0] * 4.5 / away, corner[1] * 4.5 / away


def _area(points: Sequence[Spot]) -> float:
    """Return the signed area; positive when the corners run clockwise on the screen: it faces us."""
    pairs = zip(points, [*points[1:], points[0]], strict=True)
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs) / 2


def _shade(solid: Sequence[Corner], light: Light) -> float:
    first, second = (np.subtract(solid[k], solid[0]) for k in (1, 2))
    normal = np.cross(first, second)
    normal = normal / max(1e-9, float(np.linalg.norm(normal)))
    lit = max(0.0, float(normal @ np.asarray(light.direction)))
    return (light.ambient * 0.9 + (1.12 - light.ambient * 0.9) * lit) * light.level


def _lay(canvas: Image.Image, face: Face, placed: Sequence[Spot], shade: float) -> None:
    """Draw one face onto the canvas."""
    if not isinstance(face.art, Image.Image):
        tone = lighter(face.art, min(1.0, shade - 1)) if shade > 1 else darker(face.art, 1 - shade)
        ImageDraw.Draw(canvas).polygon([*placed], fill=tone, outline=tone, width=2)
        return
    left, top = (math.floor(min(spot[k] for spot in placed)) for k in (0, 1))
    right, bottom = (math.ceil(max(spot[k] for spot in placed)) for k in (0, 1))
    local = [(x - left, y - top) for x, y in placed]
    width, height = face.art.size
    frame = [(0.0, 0.0), (float(width), 0.0), (float(width), float(height)), (0.0, float(height))]
    size = (max(1, right - left), max(1, bottom - top))
    warped = face.art.transform(
        size, Image.Transform.PERSPECTIVE, homography(frame, _grown(local, 2)), Image.Resampling.BILINEAR
    )
    levels = [min(255, round(255 * shade * share)) for share in (1.0, 0.9)]
    warped = ImageChops.multiply(warped, vertical_gradient(size, (levels[0],) * 3, (levels[1],) * 3))
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).polygon(local, fill=255, outline=255, width=2)  # no gap to the neighboring faces
    canvas.paste(warped, (left, top), mask)


def _grown(points: Sequence[Spot], pixels: float) -> list[Spot]:
    """Move corners outward, so that artwork reaches under the edge of its mask."""
    x, y = (sum(point[k] for point in points) / len(points) for k in (0, 1))
    return [(a + math.copysign(pixels, a - x), b + math.copysign(pixels, b - y)) for a, b in points]


def upright_box(
    front: Image.Image, side: Image.Image, lid: Image.Image | Color, width: float, depth: float
) -> list[Face]:
    """Return the faces of a box one unit tall, standing on its base around the origin."""
    x, z = width / 2, depth / 2
    up, down = -0.5, 0.5
    return [
        Face(((-x, up, z), (x, up, z), (x, down, z), (-x, down, z)), front),
        Face(((x, up, z), (x, up, -z), (x, down, -z), (x, down, z)), side),
        Face(((-x, up, -z), (-x, up, z), (-x, down, z), (-x, down, -z)), side),
        Face(((-x, up, -z), (x, up, -z), (x, up, z), (-x, up, z)), lid),
    ]


def gable_carton(
    front: Image.Image, side: Image.Image, roof: Image.Image, color: Color, width: float
) -> list[Face]:
    """Return the faces of a square carton one unit tall with a gable roof and a fin."""
    x, eave, ridge, fin, down = width / 2, -0.28, -0.43, -0.5, 0.5
    walls = upright_box(front, side, color, width, width)[:3]
    faces = [
        Face(tuple((a, eave if b < 0 else down, c) for a, b, c in wall.corners), wall.art) for wall in walls
    ]
    faces.append(Face(((-x, ridge, 0.01), (x, ridge, 0.01), (x, eave, x), (-x, eave, x)), roof))
    for way in (1, -1):
        corners = ((way * x, ridge, 0.0), (way * x, eave, -way * x), (way * x, eave, way * x))
        faces.append(Face(corners, darker(color, 0.12)))
    faces.append(
        Face(((-x, fin, 0.02), (x, fin, 0.02), (x, ridge, 0.02), (-x, ridge, 0.02)), lighter(color, 0.2))
    )
    return faces
