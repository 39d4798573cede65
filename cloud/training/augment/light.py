"""The light and how the camera answers to it: brightness, lamp, exposure, contrast, and glare."""

from typing import Any

import numpy as np
from keras import ops

from cloud.training.augment.groups import Parameters, draw_order, group_size, on_group
from cloud.training.recipe import Recipe

# ln of the largest gain of red against green, and of green against blue, under a lamp that the camera's white
# balance missed: 6500 K daylight taken for 3000 K lamps or the other way round is about 0.5.
COLOR_SHIFT = 0.3
GREEN_SHIFT = 0.06
# Against white paper under the shop's light.
GLARE_STRENGTH = (0.3, 1.5)
# sRGB is close to the power 1/2.2 of light, so a stop (twice the light) is this gain of a pixel's value.
_STOP = 2 ** (1 / 2.2)
# A gray of 18 % of the light, which exposures are measured by, has this pixel value.
_MIDDLE_GRAY = 0.18 ** (1 / 2.2)
_GRAY = (0.299, 0.587, 0.114)


def draw(recipe: Recipe, count: int, rng: np.random.Generator) -> Parameters:
    """Draw `gain` (n, 3), `gamma`, `saturation`, `contrast` (n,)."""
    brightness, saturation, contrast = 1 + rng.uniform(-recipe.jitter, recipe.jitter, (3, count))
    tint = 1 + rng.uniform(-recipe.jitter, recipe.jitter, (count, 3)) / 3
    gain = brightness[:, None] * tint
    # A part of the exposure is the shutter's, which clips; the rest is the camera's curve, which does not. As
    # cameras take care of what is light, at most half of what makes a picture lighter clips.
    stops = rng.uniform(-recipe.exposure, recipe.exposure, count)
    shutter = rng.uniform(0, np.where(stops > 0, 0.5, 1.0), count) * stops
    gain *= (_STOP**shutter)[:, None]
    middle = np.log(_MIDDLE_GRAY)
    gamma = (middle + stops * np.log(_STOP)) / np.minimum(middle + shutter * np.log(_STOP), -0.1)
    warm = rng.uniform(-COLOR_SHIFT, COLOR_SHIFT, count)
    green = rng.uniform(-GREEN_SHIFT, GREEN_SHIFT, count)
    lamp = np.exp(np.stack([warm, green, -warm], axis=1))
    lamp /= lamp @ np.array(_GRAY)[:, None]
    shifted = np.zeros(count, bool)
    shifted[draw_order(rng, count)[: group_size(recipe.color_temperature, count)]] = True
    gain = np.where(shifted[:, None], gain * lamp, gain)
    return {
        "gain": gain.astype(np.float32),
        "gamma": np.maximum(gamma, 0.3).astype(np.float32),
        "saturation": saturation.astype(np.float32),
        "contrast": contrast.astype(np.float32),
        "color_shifted": shifted,
    }


def expose(views: Any, parameters: dict[str, Any], recipe: Recipe) -> Any:
    """Return views under another light, seen by a camera with another curve and other colors."""
    if recipe.jitter or recipe.exposure or recipe.color_temperature:
        views = _recolor(views, parameters)
    if recipe.exposure:
        shares = ops.clip(views * (1 / 255.0), 1 / 255.0, 1.0)
        views = 255.0 * ops.exp(parameters["gamma"][:, None, None, None] * ops.log(shares))
    return views


def _recolor(views: Any, parameters: dict[str, Any]) -> Any:
    """Multiply by `gain`, the distance from gray by `saturation`, and that from the mean by `contrast`.

    All three are linear: one matrix and one sum a view do it.
    """
    gain, contrast = parameters["gain"], parameters["contrast"][:, None, None]
    color = contrast * parameters["saturation"][:, None, None]
    to_gray = gain * ops.convert_to_tensor(_GRAY, "float32")
    mean = ops.sum(ops.mean(views, axis=(1, 2)) * to_gray, axis=1)[:, None, None]
    matrix = color * (ops.eye(3) * gain[:, :, None]) + (contrast - color) * to_gray[:, :, None]
    pixels = ops.reshape(views, (views.shape[0], -1, 3))
    return ops.reshape(ops.matmul(pixels, matrix) + mean * (1.0 - contrast), views.shape)


def draw_glare(recipe: Recipe, count: int, rng: np.random.Generator) -> Parameters:
    """Draw `glare_order` (n,) and `glare` (n, 7): x, y, cos, sin, length, width, strength.

    Half of the reflections are round, as of a spot; half are long, as of a tube.
    """
    if not recipe.glare:
        return {}
    x, y = rng.uniform(0.1, 0.9, (2, count))
    angle = rng.uniform(0, np.pi, count)
    tube = rng.uniform(0, 1, count) < 0.5
    width = np.where(tube, rng.uniform(0.015, 0.06, count), rng.uniform(0.05, 0.14, count))
    length = width * np.where(tube, rng.uniform(4, 9, count), rng.uniform(1, 1.6, count))
    strength = rng.uniform(*GLARE_STRENGTH, count)
    glare = np.stack([x, y, np.cos(angle), np.sin(angle), length, width, strength], axis=1)
    return {"glare_order": draw_order(rng, count), "glare": glare.astype(np.float32)}


def add_glare(views: Any, parameters: dict[str, Any], size: int) -> Any:
    """Lay a reflection of a lamp, brightest in its middle, on the first `size` views of its order."""
    if not size:
        return views
    lamps = [column[:, None, None, None] for column in ops.unstack(parameters["glare"][:size], axis=1)]
    x, y, cos, sin, length, width, strength = lamps
    side = views.shape[1]
    middles = (ops.arange(side, dtype="float32") + 0.5) / side
    across, down = middles[None, None, :, None] - x, middles[None, :, None, None] - y
    along, aside = (across * cos + down * sin) / length, (down * cos - across * sin) / width
    away = along * along + aside * aside
    # A sharp core, brighter than white and so lost to it, in a wide faint veil.
    light = 255.0 * strength * (0.85 * ops.exp(-away * away) + 0.15 * ops.exp(-0.25 * away))
    return on_group(views, parameters["glare_order"], size, lambda lit: lit + light)
