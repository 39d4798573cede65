"""What the sensor and the file do: noise, and JPEG."""

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from cloud.training.augment.groups import Parameters, draw_order, on_group
from cloud.training.recipe import Recipe

# Standard deviation of the noise at full white, in pixel values of 0..255.
LARGEST_NOISE = 30.0
# Share of the variance that is there in the dark; the rest grows with the light (shot noise).
_DARK_SHARE = 0.3
# How many rows apart in the field of noise two views may begin.
_ROAM = 64
JPEG_QUALITY = (12.0, 60.0)
# The example tables of the standard (ITU-T T.81, 1992, annex K), which nearly every camera's encoder scales.
_LUMINANCE = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55
14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92
49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99
"""
_CHROMINANCE = """
17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99
24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99
"""
_TO_YCC = ((0.299, -0.168736, 0.5), (0.587, -0.331264, -0.418688), (0.114, 0.5, -0.081312))
_TO_RGB = ((1.0, 1.0, 1.0), (0.0, -0.344136, 1.772), (1.402, -0.714136, 0.0))


def draw_noise(recipe: Recipe, count: int, size: int, rng: np.random.Generator) -> Parameters:
    """Draw `noise_order`, `noise_sigma`, `noise_row` (n,) and `noise_field` (n, h, S, 3).

    One field of noise, in n strips, serves the whole batch. Its upper part has grains of one pixel, its lower
    part of two; each view sees `size` rows of it from its own first row on, as they are or negated.
    """
    if not recipe.noise:
        return {}
    half = -(-size // 2)
    coarse = _draw_field(rng, half + _ROAM, half)
    coarse = coarse.repeat(2, axis=0).repeat(2, axis=1)[:, :size]
    strips = -(-(size + _ROAM + len(coarse)) // count)
    fine = _draw_field(rng, strips * count - len(coarse), size)
    rows = rng.integers(0, _ROAM, count)
    rows += rng.integers(0, 2, count) * len(fine)
    sigma = rng.uniform(0, LARGEST_NOISE, count) * rng.choice([-1, 1], count)
    return {
        "noise_order": draw_order(rng, count),
        "noise_sigma": sigma.astype(np.float32),
        "noise_row": rows.astype(np.int32),
        "noise_field": np.concatenate([fine, coarse]).reshape(count, strips, size, 3),
    }


def _draw_field(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.float32]:
    """Draw noise of deviation 1; cameras smooth the noise of colors more than that of light."""
    own, common = (
        rng.standard_normal((rows, columns, 3), np.float32),
        rng.standard_normal((rows, columns, 1), np.float32),
    )
    return np.float32(0.6) * own + np.float32(0.8) * common


def add_noise(views: Any, parameters: dict[str, Any], size: int) -> Any:
    """Add noise, more of it in the light, to the first `size` views of the order."""
    if not size:
        return views
    side = views.shape[1]
    field = parameters["noise_field"]
    field = ops.reshape(field, (field.shape[0] * field.shape[1], side * 3))
    rows = parameters["noise_row"][:size, None] + ops.arange(side, dtype="int32")
    grain = ops.reshape(ops.take(field, rows, axis=0), (size, side, side, 3))
    sigma = parameters["noise_sigma"][:size, None, None, None]

    def noisy(chosen: Any) -> Any:
        light = ops.clip(chosen, 0.0, 255.0) * ((1 - _DARK_SHARE) / 255.0) + _DARK_SHARE
        return chosen + grain * (sigma * ops.sqrt(light))

    return on_group(views, parameters["noise_order"], size, noisy)


def draw_jpeg(recipe: Recipe, count: int, rng: np.random.Generator) -> Parameters:
    """Draw `jpeg_order` (n,) and `jpeg_quality` (n,), 1..100 as encoders count it."""
    if not recipe.jpeg:
        return {}
    quality = rng.uniform(*JPEG_QUALITY, count).astype(np.float32)
    return {"jpeg_order": draw_order(rng, count), "jpeg_quality": quality}


def compress(views: Any, parameters: dict[str, Any], size: int) -> Any:
    """Encode and decode the first `size` views of the order as JPEG, colors at half the resolution."""
    if not size:
        return views
    quality = parameters["jpeg_quality"][:size]

    def lossy(chosen: Any) -> Any:
        side = chosen.shape[1]
        missing = -side % 16
        whole = ops.pad(
            ops.clip(chosen, 0.0, 255.0), ((0, 0), (0, missing), (0, missing), (0, 0)), mode="symmetric"
        )
        planes = ops.matmul(whole, ops.convert_to_tensor(_TO_YCC, "float32"))
        light = _quantize(planes[..., :1] - 128.0, quality, _LUMINANCE) + 128.0
        colors = _quantize(ops.average_pool(planes[..., 1:], (2, 2), (2, 2)), quality, _CHROMINANCE)
        colors = ops.repeat(ops.repeat(colors, 2, axis=1), 2, axis=2)
        decoded = ops.matmul(
            ops.concatenate([light, colors], axis=3), ops.convert_to_tensor(_TO_RGB, "float32")
        )
        return ops.clip(decoded, 0.0, 255.0)[:, :side, :side]

    return on_group(views, parameters["jpeg_order"], size, lossy)


def _quantize(planes: Any, quality: Any, table: str) -> Any:
    """Round the cosine transform of each 8x8 block of planes (k, H, W, C) to steps of the table."""
    count, side, channels = planes.shape[0], planes.shape[1], planes.shape[3]
    blocks = side // 8
    cosines = ops.convert_to_tensor(_cosines())
    values = ops.reshape(planes, (count, blocks, 8, blocks, 8, channels))
    values = ops.reshape(ops.transpose(values, (0, 1, 3, 5, 2, 4)), (count, -1, 64))
    base = ops.convert_to_tensor(np.array(table.split(), np.float32))
    scale = ops.where(quality < 50, 50.0 / quality, 2.0 - quality / 50.0)[:, None, None]
    steps = ops.clip(ops.floor(base * scale + 0.5), 1.0, 255.0)
    rounded = ops.round(ops.matmul(values, ops.transpose(cosines)) / steps) * steps
    values = ops.reshape(ops.matmul(rounded, cosines), (count, blocks, blocks, channels, 8, 8))
    return ops.reshape(ops.transpose(values, (0, 1, 4, 2, 5, 3)), (count, side, side, channels))


def _cosines() -> NDArray[np.float32]:
    """Return the cosine transform of an 8x8 block as one orthogonal matrix (64, 64)."""
    place, wave = np.arange(8), np.arange(8)[:, None]
    one = np.cos((2 * place + 1) * wave * np.pi / 16) * np.where(wave == 0, np.sqrt(1 / 8), 0.5)
    return np.kron(one, one).astype(np.float32)
