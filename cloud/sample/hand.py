"""Draws a hand that holds a package: rounded fingers in front of its edges, the palm behind it."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from cloud.sample.ink import Color, to_image

Capsule = tuple[float, float, float, float, float]  # from x, y to x, y with a radius, in pixels
TONES: tuple[Color, ...] = ((232, 184, 152), (206, 150, 112), (158, 106, 74), (108, 72, 52), (240, 200, 176))


def draw_capsules(size: tuple[int, int], capsules: Sequence[Capsule], tone: Color) -> Image.Image:
    """Draw rounded limbs as one shaded RGBA layer of `size`; they melt into each other like flesh."""
    step = 3  # soft shapes: few pixels will do
    x, y = np.meshgrid(
        np.arange(0, size[0], step, dtype=np.float32), np.arange(0, size[1], step, dtype=np.float32)
    )
    height = np.zeros_like(x)
    cover = np.zeros_like(x)
    for x0, y0, x1, y1, radius in capsules:
        along = np.clip(
            ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / max(1.0, (x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1
        )
        away = np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0))
        height = np.maximum(height, np.sqrt(np.clip(radius**2 - away**2, 0, None)))
        cover = np.maximum(cover, np.clip((radius - away) / step + 0.5, 0, 1))
    slope_y, slope_x = np.gradient(height, step)
    length = np.sqrt(1 + slope_x**2 + slope_y**2)
    lit = np.clip((0.35 * slope_x + 0.5 * slope_y + 0.79) / length, 0, 1)
    shade = (0.42 + 0.66 * lit)[..., None]
    base = np.asarray(tone, np.float32)
    warm = base * shade + (1 - shade) * np.asarray([70, 14, 6], np.float32)  # light scatters red in skin
    layer = to_image(np.dstack([warm, 255 * cover]).astype(np.float32))
    return layer.resize(size, Image.Resampling.BICUBIC)


def grip(
    box: tuple[float, float, float, float], scale: float, rng: np.random.Generator
) -> tuple[list[Capsule], list[Capsule], Capsule]:
    """Return the limbs behind a package, those in front of it, and the thumb among the latter.

    `box` is the package's left, top, right, bottom, `scale` the pixels of a centimeter: a hand has a hand's
    size, whatever it holds. A narrow package is grasped around, a wide one is pinched at its right end.
    """
    left, top, right, bottom = box
    size = 1.0 * scale  # half a finger's width
    level = top + (bottom - top) * float(rng.uniform(0.62, 0.74))
    if right - left > 12 * scale:
        return _pinch(right, max(level, bottom - 7 * size), size)
    middle = (left + right) / 2
    behind: list[Capsule] = [(middle, bottom + size * 16, middle, level + 2 * size, size * 2.9)]
    behind += [
        (middle + k * size * 1.6, level + size * 7, middle + k * size, level, size * 2.6) for k in (-1, 1)
    ]
    front: list[Capsule] = []
    for finger in range(4):
        y = level + (finger - 1.6) * size * 1.75
        reach = size * float(rng.uniform(0.6, 1.2)) + (0.4 * size if finger in (1, 2) else 0)
        front.append((right + size * 0.7, y + size * 0.3, right - reach, y, size * (0.88 - 0.05 * finger)))
        behind.append((right + size * 0.7, y + size * 0.3, middle, y + size * 2, size * 0.95))
    tip = (left + min((right - left) * 0.22, size * 1.9), level - size * 0.8)
    thumb = (left - size * 0.9, level + size * 2.6, tip[0], tip[1], size * 1.1)
    behind.append((left - size * 0.9, level + size * 2.6, middle, level + size * 8, size * 1.7))
    return behind, [*front, thumb], thumb


def _pinch(right: float, level: float, size: float) -> tuple[list[Capsule], list[Capsule], Capsule]:
    """Hold a wide package at its right end: the thumb before it, the fingers behind."""
    palm = (right + size * 2.2, level + size * 5.2)
    behind: list[Capsule] = [(palm[0] + size * 3, level + size * 20, palm[0], palm[1], size * 3.0)]
    for finger in range(4):
        behind.append(
            (palm[0], palm[1] - size * 0.4 * finger, right - size * 3, level - size * (1.8 - finger), size)
        )
    thumb = (right + size * 0.9, level + size * 3.4, right - size * 2.2, level - size * 0.2, size * 1.15)
    return behind, [(*palm, *thumb[:2], size * 1.6), thumb], thumb
