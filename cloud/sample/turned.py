"""Draws what a lathe could make: bottles, cans, jars, tubs, from a profile and a printed wrap around it."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cloud.sample.ink import Color, Floats, to_image
from cloud.sample.light import Light, bump, diffuse

WRAP = math.radians(250)  # how far around the body the wrap reaches; the back is never seen


@dataclass(frozen=True, slots=True)
class Zone:
    """A stretch of the body from `top` to `bottom` (0..1): of "metal", "plastic", "glass" or "print"."""

    top: float
    bottom: float
    material: str
    color: Color
    gloss: float = 0.5


@dataclass(frozen=True, slots=True)
class Body:
    """A turned body: (height, radius) pairs downward from (0, …) to (1, …), radii in largest radii."""

    profile: tuple[tuple[float, float], ...]
    zones: tuple[Zone, ...]
    slimness: float  # height divided by the largest diameter


def wrap_size(body: Body, height: int, top: float, bottom: float, degrees: float) -> tuple[int, int]:
    """Return the (width, height) in pixels of artwork around `degrees` of the body between two heights."""
    radius = height / body.slimness / 2
    return max(8, round(math.radians(degrees) * radius)), max(8, round((bottom - top) * height))


def blank_wrap(body: Body, height: int) -> Image.Image:
    """Return the body's wrap in the plain colors of its zones, RGB."""
    width = round(WRAP * height / body.slimness / 2)
    wrap = Image.new("RGB", (width, height))
    for zone in body.zones:
        wrap.paste(zone.color, (0, round(zone.top * height), width, round(zone.bottom * height)))
    return wrap


def draw_turned(
    body: Body, wrap: Image.Image, height: int, *, turn: float, pitch: float, light: Light
) -> Image.Image:
    """Render the body as RGBA, `height` pixels tall before tilting.

    `turn` (degrees) turns it to show its right side when positive, `pitch` (degrees) is how far the
    camera looks down on it.
    """
    radius = height / body.slimness / 2
    knots = np.asarray(body.profile, np.float32)
    rows = np.linspace(0, 1, height, dtype=np.float32)
    radii = np.interp(rows, knots[:, 0], knots[:, 1]).astype(np.float32) * np.float32(radius)
    radii = _smoothed(radii, max(1, height // 90))
    slope = np.gradient(radii)
    sin, cos = math.sin(math.radians(pitch)), math.cos(math.radians(pitch))

    half = math.ceil(float(radii.max())) + 1
    above = math.ceil(float(radii[0]) * sin) + 1
    below = math.ceil(float(radii[-1]) * sin) + 1
    x, screen_y = np.meshgrid(
        np.arange(-half, half + 1, dtype=np.float32),
        np.arange(-above, height * cos + below, dtype=np.float32),
    )
    y = screen_y / cos
    for _ in range(3):  # the visible point lies in front of the axis, so it is drawn lower: solve for it
        reach = radii[np.clip(y, 0, height - 1).astype(np.intp)]
        y = (screen_y - np.sqrt(np.clip(reach**2 - x**2, 0, None)) * sin) / cos
    row = np.clip(y, 0, height - 1).astype(np.intp)
    reach = radii[row]
    side = np.clip(x / np.maximum(reach, 1), -1, 1)
    steep = np.clip(slope[row], -4, 4)
    length = np.sqrt(1 + steep**2)
    front = np.sqrt(1 - side**2)
    normal = (side / length, -steep / length, front / length)

    edge = np.clip(reach - np.abs(x) + 0.5, 0, 1) * np.clip(y + 1, 0, 1) * np.clip(height - y, 0, 1)
    seen = edge > 0
    toward = (normal[0][seen], normal[1][seen], normal[2][seen])
    base = _sample(wrap, np.arcsin(side[seen]) + math.radians(turn), y[seen] * (wrap.height / height))
    pixels = np.zeros((*edge.shape, 4), np.float32)
    pixels[seen, :3] = _material(body, base, (row[seen] / height).astype(np.float32), toward, light)
    pixels[..., 3] = 255 * edge
    if sin > 0.01:
        lid = above + math.ceil(float(radii[0]) * sin) + 1
        _lay_top(pixels[:lid], (x[:lid] / radii[0], screen_y[:lid] / (radii[0] * sin)), body.zones[0], light)
    return to_image(pixels)


def _smoothed(values: Floats, reach: int) -> Floats:
    kernel = np.ones(2 * reach + 1, np.float32) / (2 * reach + 1)
    return np.convolve(np.pad(values, reach, mode="edge"), kernel, mode="valid").astype(np.float32)


def _sample(wrap: Image.Image, angle: Floats, y: Floats) -> Floats:
    """Read the wrap between its pixels at angles (radians, 0 is the front) and rows."""
    texture = np.asarray(wrap, np.float32)
    height, width = texture.shape[:2]
    u = np.clip((angle / WRAP + 0.5) * width - 0.5, 0, width - 1.001).astype(np.float32)
    v = np.clip(y - 0.5, 0, height - 1.001).astype(np.float32)
    left, upper = u.astype(np.int32), v.astype(np.int32)
    du, dv = (u - left)[:, None], (v - upper)[:, None]
    flat = texture.reshape(-1, 3)
    start = upper * width + left
    upper_left, lower_left = flat.take(start, 0), flat.take(start + width, 0)
    top = upper_left + (flat.take(start + 1, 0) - upper_left) * du
    low = lower_left + (flat.take(start + width + 1, 0) - lower_left) * du
    return np.asarray(top + (low - top) * dv, np.float32)


def _material(
    body: Body, base: Floats, level: Floats, normal: tuple[Floats, Floats, Floats], light: Light
) -> Floats:
    """Shade the wrap's colors by what each zone is made of."""
    side = normal[0]
    toward = math.copysign(1.0, light.side)
    strip = bump(side, 0.62 * toward, 0.17) + 0.35 * bump(side, -0.80 * toward, 0.10)
    mirror = 0.42 + 0.75 * bump(side, 0.5 * toward, 0.3) + 0.5 * bump(side, -0.35 * toward, 0.22)
    mirror += 0.3 * bump(side, 0.95 * toward, 0.12)
    rim = np.abs(side) ** 5
    lit = diffuse(normal, light) * (1 - 0.22 * rim)
    out = base * lit[..., None]
    for zone in body.zones:
        here = (level >= zone.top) & (level < zone.bottom + 1e-3)
        if zone.material == "metal":
            out[here] = base[here] * (mirror[here] * light.level)[..., None]
        elif zone.material == "glass":
            depth = 1.05 - 0.6 * rim[here] - 0.18 * bump(side, 0.0, 0.9)[here]
            out[here] = base[here] * (depth * light.level)[..., None]
        gleam = np.clip(zone.gloss * strip[here] * light.level, 0, 0.9)[..., None]
        out[here] += (255 - out[here]) * gleam
    return np.asarray(out, np.float32)


def _lay_top(pixels: Floats, place: tuple[Floats, Floats], zone: Zone, light: Light) -> None:
    """Close the body with its lid, seen from a little above; `place` is where in its circle pixels lie."""
    away = np.asarray(np.hypot(*place), np.float32)
    inside = np.clip((1 - away) * pixels.shape[0] / 2 + 0.5, 0, 1)
    tone = 0.94 + 0.2 * bump(away, 0.86, 0.1) - 0.18 * bump(away, 0.72, 0.1)
    tone = tone * light.level + 0.12 * np.clip(place[0] * math.copysign(1, light.side), -1, 1)
    share = inside[..., None]
    lid = np.asarray(zone.color, np.float32) * tone[..., None]
    pixels[..., :3] = pixels[..., :3] * (1 - share) + lid * share
    pixels[..., 3] = np.maximum(pixels[..., 3], 255 * inside)
