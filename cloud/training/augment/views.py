"""Random views of pictures, as a shop's cameras might have seen them.

Keras has layers for each step, but their random state would have to be kept to resume a killed run exactly.
Here a view depends on (seed, step) and nothing else, and one pass of `crop_and_resize` does crop, mirror and
resize.
"""

from typing import Any

import tensorflow as tf

from cloud.training.backbones import INPUT_OFFSET, INPUT_SCALE
from cloud.training.recipe import Recipe

_GRAY = (0.299, 0.587, 0.114)


def random_views(pictures: Any, seed: Any, recipe: Recipe) -> Any:
    """Make one random view of each picture.

    Args:
        pictures: uint8 tensor (n, P, P, 3).
        seed: int32 tensor (2,); the same seed gives the same views.
        recipe: crop_area, rotation, jitter, flip and input_size are used.

    Returns:
        float32 tensor (n, S, S, 3), normalized for the network, -1..1.
    """
    seeds = tf.random.split(seed, 3)
    if recipe.rotation > 0:
        pictures = _rotate(pictures, seeds[2], recipe.rotation)
    boxes = _boxes(tf.shape(pictures)[0], seeds[0], recipe)
    views = tf.image.crop_and_resize(
        pictures, boxes, tf.range(tf.shape(pictures)[0]), (recipe.input_size, recipe.input_size)
    )
    if recipe.jitter > 0:
        views = _jitter(views, seeds[1], recipe.jitter)
    return views * INPUT_SCALE + INPUT_OFFSET


def _boxes(count: Any, seed: Any, recipe: Recipe) -> Any:
    """Draw crops (n, 4) as top, left, bottom, right in 0..1; a mirrored one has its left on the right."""
    draws = tf.random.stateless_uniform((5, count), seed)
    area = recipe.crop_area + draws[0] * (1 - recipe.crop_area)
    aspect = tf.exp((draws[1] * 2 - 1) * tf.math.log(4 / 3))
    height = tf.minimum(1.0, tf.sqrt(area / aspect))
    width = tf.minimum(1.0, tf.sqrt(area * aspect))
    top, left = draws[2] * (1 - height), draws[3] * (1 - width)
    right = left + width
    if recipe.flip:
        mirrored = draws[4] < 0.5
        left, right = tf.where(mirrored, right, left), tf.where(mirrored, left, right)
    return tf.stack([top, left, top + height, right], axis=1)


def _jitter(views: Any, seed: Any, most: float) -> Any:
    """Multiply brightness, contrast and saturation by up to 1 ± `most`, tint by a third of that."""
    count = tf.shape(views)[0]
    draws = 1 + most * (tf.random.stateless_uniform((count, 6), seed) * 2 - 1)
    bright, contrast, saturation = (draws[:, i, None, None, None] for i in range(3))
    tint = 1 + (draws[:, None, None, 3:] - 1) / 3
    views = views * bright * tint
    gray = tf.reduce_sum(views * tf.constant(_GRAY), axis=3, keepdims=True)
    views = gray + (views - gray) * saturation
    mean = tf.reduce_mean(gray, axis=(1, 2, 3), keepdims=True)
    return tf.clip_by_value(mean + (views - mean) * contrast, 0.0, 255.0)


def _rotate(pictures: Any, seed: Any, degrees: float) -> Any:
    """Turn each picture about its middle, the border mirrored."""
    count, side = tf.shape(pictures)[0], pictures.shape[1]
    angle = (tf.random.stateless_uniform((count,), seed) * 2 - 1) * degrees * 3.14159265 / 180
    cos, sin, middle = tf.cos(angle), tf.sin(angle), (side - 1) / 2
    nothing = tf.zeros_like(cos)
    transforms = tf.stack(
        [
            *(cos, -sin, middle * (1 - cos + sin)),
            *(sin, cos, middle * (1 - cos - sin)),
            *(nothing, nothing),
        ],
        axis=1,
    )
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=pictures,
        transforms=transforms,
        output_shape=(side, side),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
