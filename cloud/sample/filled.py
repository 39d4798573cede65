"""Draws what is filled and sealed: crisp pouches and coffee bags, as a bulging, crinkled sheet."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cloud.sample.ink import Floats, to_floats, to_image
from cloud.sample.light import Light, bump, diffuse


@dataclass(frozen=True, slots=True)
class Sack:
    """How a bag is filled: bulge and crinkles in shares of its width, seams in shares of its height."""

    bulge: float
    crinkle: float
    gloss: float
    top_seam: float
    bottom_seam: float
    waist: float  # how far the filling pulls in the sides, in shares of the width


def draw_filled(sack: Sack, art: Image.Image, *, yaw: float, light: Light, seed: int) -> Image.Image:
    """Render a bag with `art` on its front as RGBA of the art's size, turned by `yaw` degrees."""
    width, height = art.size
    u, v = np.meshgrid(
        np.linspace(-1, 1, width, dtype=np.float32), np.linspace(0, 1, height, dtype=np.float32)
    )
    inner = np.clip((v - sack.top_seam) / (1 - sack.top_seam - sack.bottom_seam), 0, 1)
    pulled = 1 - sack.waist * 2 * np.clip(np.sin(math.pi * inner), 0, 1) ** 0.8
    across = u / pulled
    pillow = np.clip(1 - np.abs(across) ** 2.4, 0, 1) ** 0.7 * np.clip(np.sin(math.pi * inner), 0, 1) ** 0.55
    body = sack.bulge * pillow + sack.crinkle * _crinkles(width, height, seed) * (0.25 + 0.75 * (1 - pillow))
    body = body * width / 2
    slope_y, slope_x = np.gradient(body)
    slope_x, slope_y = np.clip(slope_x, -1.6, 1.6), np.clip(slope_y, -1.6, 1.6)
    seam = (inner <= 0) | (inner >= 1)
    ribs = 0.35 * np.sin(np.arange(height, dtype=np.float32) / max(1.0, height * 0.0035))[:, None]
    slope_y = np.where(seam, ribs, slope_y)
    length = np.sqrt(1 + slope_x**2 + slope_y**2)
    normal = (-slope_x / length, -slope_y / length, 1 / length)

    art_pixels = to_floats(art)
    shift = body * math.sin(math.radians(yaw)) * 0.7
    column = np.clip((np.clip(across, -1, 1) + 1) / 2 * (width - 1) + shift, 0, width - 1).astype(np.intp)
    row = np.broadcast_to(np.arange(height)[:, None], column.shape)
    lit = diffuse(normal, light)
    toward = math.copysign(1.0, light.side)
    mirrored = bump(normal[0] - 0.35 * normal[1], 0.48 * toward, 0.26) + 0.6 * bump(
        normal[0] + 0.3 * normal[1], -0.5 * toward, 0.2
    )
    gleam = np.clip(sack.gloss * mirrored * light.level, 0, 0.85)[..., None]
    color = art_pixels[row, column] * (lit * (1 - 0.25 * np.clip(np.abs(across), 0, 1) ** 6))[..., None]
    color = color + (255 - color) * gleam
    zigzag = height * 0.006 * np.abs(np.mod(np.arange(width) / max(2.0, width * 0.016), 2) - 1)
    y = v * (height - 1)
    edge = (
        np.clip((pulled - np.abs(u)) * width / 2 + 0.5, 0, 1)
        * np.clip(y - zigzag, 0, 1)
        * np.clip(height - 1 - zigzag - y, 0, 1)
    )
    image = to_image(np.dstack([color, 255 * edge]).astype(np.float32))
    narrow = max(8, round(width * (0.25 + 0.75 * math.cos(math.radians(yaw)))))
    return image.resize((narrow, height), Image.Resampling.BILINEAR)


def _crinkles(width: int, height: int, seed: int) -> Floats:
    """Return folds of foil: ridges of smooth noise at two sizes, 0..1, shape (height, width)."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width), np.float32)
    for cells, share in ((5, 0.7), (11, 0.3)):
        grid = rng.standard_normal((round(cells * height / width) + 2, cells), dtype=np.float32)
        plane = np.asarray(
            Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC), np.float32
        )
        total += share * (1 - np.abs(np.clip(plane, -1, 1)))
    return total
