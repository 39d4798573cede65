"""A batch with every effect, which the tests make on two backends; run as a program, writes it to a file.

KERAS_BACKEND=jax python augment_on_jax.py OUT.npy
"""

import sys
from pathlib import Path

import numpy as np
from keras import ops
from numpy.typing import NDArray

from cloud.training.augment import ShopCamera, draw_parameters
from cloud.training.recipe import Recipe

COUNT, SIZE, SIDE = 8, 48, 64
ALL = Recipe(
    input_size=SIZE,
    picture_size=SIDE,
    packshots_per_batch=4,
    **dict.fromkeys(("perspective", "blur", "motion", "noise", "jpeg", "low_resolution", "glare"), 0.5),  # type: ignore[arg-type]
    color_temperature=0.5,
    occlusion=0.5,
    paste=1.0,
    exposure=1.0,
    rotation=5.0,
    jitter=0.4,
)
IS_PACKSHOT = np.arange(COUNT) % 2 == 0


def draw_pictures(count: int = COUNT, side: int = SIDE) -> NDArray[np.uint8]:
    """Draw smooth colored pictures with an edge; every other one is a packshot, a disk on white."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    pictures = np.empty((count, side, side, 3), np.uint8)
    for number in range(count):
        waves = random.uniform(2, 9, (3, 2))
        smooth = 128 + 90 * np.sin(waves[:, 0] * x[..., None] + waves[:, 1] * y[..., None])
        smooth[:, side // 2 :] *= 0.6
        if number % 2 == 0:
            smooth[np.hypot(x - 0.5, y - 0.5) > 0.35] = 255
        pictures[number] = smooth
    return pictures


def photograph(
    recipe: Recipe, pictures: NDArray[np.uint8], is_packshot: NDArray[np.bool_], seed: int = 1
) -> NDArray[np.float32]:
    """Return one view of each picture, float32 (n, S, S, 3) in 0..255, not normalized."""
    parameters = draw_parameters(
        recipe, len(pictures), recipe.input_size, np.random.default_rng(seed), is_packshot
    )
    camera = ShopCamera(recipe, len(pictures), recipe.input_size)
    views = ops.convert_to_numpy(camera({"pictures": pictures, **parameters}))
    restored: NDArray[np.float32] = (views + 1) * 127.5
    return restored


if __name__ == "__main__":
    np.save(Path(sys.argv[1]), photograph(ALL, draw_pictures(), IS_PACKSHOT))
