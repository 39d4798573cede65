"""What a shop's camera does to a view: perspective, uneven light, color cast, blur, noise, JPEG."""

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from cloud.sample.folded import homography
from cloud.sample.ink import Floats, to_image

Random = np.random.Generator


@dataclass(frozen=True, slots=True)
class Shot:
    """How one photo is taken.

    `keystone` are shifts of the four corners in shares of the frame; `warmth` is -1 (blue) to 1 (yellow);
    `exposure` is a factor; `falloff` (0..1) darkens the corners and one side; `focus` is the blur's radius,
    `motion` the camera's way, both in pixels; `noise` is a standard deviation in gray levels.
    """

    keystone: tuple[tuple[float, float], ...]
    warmth: float
    exposure: float
    falloff: float
    focus: float
    motion: tuple[float, float]
    noise: float
    quality: int


def random_shot(rng: Random) -> Shot:
    """Draw the conditions of a photo by a hurried person or a fixed camera; most are fair, some are poor."""
    poor = rng.random() < 0.15
    corners = tuple((float(x), float(y)) for x, y in rng.uniform(-0.055, 0.055, (4, 2)))
    angle, length = rng.uniform(0, np.pi), rng.uniform(2, 6) if rng.random() < 0.3 else 0.0
    return Shot(
        keystone=corners,
        warmth=float(rng.uniform(-0.7, 1.0)),
        exposure=float(rng.uniform(0.62, 0.85) if poor else rng.uniform(0.85, 1.15)),
        falloff=float(rng.uniform(0.1, 0.45)),
        focus=float(rng.uniform(1.2, 2.0) if poor else rng.uniform(0.3, 1.1)),
        motion=(float(length * np.cos(angle)), float(length * np.sin(angle))),
        noise=float(rng.uniform(4, 8) if poor else rng.uniform(1.5, 4)),
        quality=int(rng.integers(68, 88)),
    )


def take(view: Image.Image, shot: Shot, size: tuple[int, int], rng: Random) -> bytes:
    """Photograph a flat RGB view as JPEG bytes of `size`; 6 % on each side are room for the perspective."""
    frame = _aimed(view, shot, size)
    if shot.focus > 0.35:
        frame = frame.filter(ImageFilter.GaussianBlur(shot.focus * size[0] / 960))
    pixels = np.array(frame, np.float32)
    if shot.motion != (0.0, 0.0):
        pixels = _moved(pixels, shot.motion)
    plane, cast = _lighting(size, shot, rng)
    pixels *= plane
    pixels *= cast
    pixels += _noise(size, shot.noise, rng)
    bytes_out = io.BytesIO()
    to_image(pixels).save(bytes_out, "JPEG", quality=shot.quality)
    return bytes_out.getvalue()


def _aimed(view: Image.Image, shot: Shot, size: tuple[int, int]) -> Image.Image:
    width, height = view.size
    base = ((0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94))
    source = [
        ((x + dx) * width, (y + dy) * height) for (x, y), (dx, dy) in zip(base, shot.keystone, strict=True)
    ]
    target = [(0.0, 0.0), (float(size[0]), 0.0), (float(size[0]), float(size[1])), (0.0, float(size[1]))]
    return view.transform(
        size, Image.Transform.PERSPECTIVE, homography(source, target), Image.Resampling.BILINEAR
    )


def _moved(pixels: Floats, motion: tuple[float, float], steps: int = 5) -> Floats:
    """Average the frame along the camera's way during the exposure."""
    total = np.zeros_like(pixels)
    for step in range(steps):
        share = step / (steps - 1) - 0.5
        total += np.roll(pixels, (round(motion[1] * share), round(motion[0] * share)), (0, 1))
    return np.asarray(total / steps, np.float32)


def _lighting(size: tuple[int, int], shot: Shot, rng: Random) -> tuple[Floats, Floats]:
    """Return the gain of every pixel (vignette, light from one side, exposure) and of every channel."""
    x, y = np.meshgrid(np.linspace(-1, 1, 48, dtype=np.float32), np.linspace(-1, 1, 36, dtype=np.float32))
    angle = rng.uniform(0, 2 * np.pi)
    slope = 0.6 * shot.falloff * (x * np.cos(angle) + y * np.sin(angle))
    gain = (1 + slope) * (1 - shot.falloff * 0.5 * (x**2 + y**2) / 2)
    plane = np.asarray(
        Image.fromarray(gain.astype(np.float32)).resize(size, Image.Resampling.BICUBIC), np.float32
    )
    cast = np.asarray([1 + 0.09 * shot.warmth, 1 + 0.02 * shot.warmth, 1 - 0.13 * shot.warmth], np.float32)
    return np.asarray(plane * shot.exposure, np.float32)[..., None], cast


def _noise(size: tuple[int, int], strength: float, rng: Random) -> Floats:
    """Return one sensor's noise, shifted: new noise would cost more than the photo's drawing."""
    shift = (int(rng.integers(size[1])), int(rng.integers(size[0])))
    return strength * np.roll(_sensor(size), shift, (0, 1))


@lru_cache(maxsize=4)
def _sensor(size: tuple[int, int]) -> Floats:
    """Draw noise that is coarser in color than in brightness, as demosaicing leaves it."""
    rng = np.random.default_rng(17)
    grain = rng.standard_normal((size[1], size[0], 1), dtype=np.float32)
    coarse = rng.standard_normal((size[1] // 2, size[0] // 2, 3), dtype=np.float32)
    return np.asarray(0.8 * grain + 0.5 * np.repeat(np.repeat(coarse, 2, 0), 2, 1), np.float32)
