"""What the lens and the moving hand do: focus blur, motion blur, and too few pixels."""

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from cloud.training.augment.geometry import resampling_matrix
from cloud.training.augment.groups import Parameters, draw_order, group_size, on_group
from cloud.training.recipe import Recipe

# As shares of the view's side: radius of the disk of a point out of focus, way of a moving point.
FOCUS_RADIUS = (0.004, 0.02)
MOTION_LENGTH = (0.015, 0.06)
# How many pixels of the view one pixel of a camera with too few of them covers, along a side.
SHRINK = (1.5, 4.0)


def kernel_side(size: int) -> int:
    """Return the side, odd, of the kernels for views of `size` pixels."""
    return 2 * max(1, round(size * MOTION_LENGTH[1] / 2)) + 1


def draw(recipe: Recipe, count: int, size: int, rng: np.random.Generator) -> Parameters:
    """Draw `blur_order` (n,) and `blur_kernel` (n, K, K): first those out of focus, then those that move."""
    if not recipe.blur and not recipe.motion:
        return {}
    side = kernel_side(size)
    # A smaller disk than of 0.7 pixels would not reach the next one.
    focus = _disks(np.maximum(rng.uniform(*FOCUS_RADIUS, count) * size, 0.7), side)
    motion = _lines(rng.uniform(*MOTION_LENGTH, count) * size, rng.uniform(0, np.pi, count), side)
    kernels = np.concatenate([focus[: group_size(recipe.blur, count)], motion])[:count]
    return {"blur_order": draw_order(rng, count), "blur_kernel": kernels.astype(np.float32)}


def blurred_views(recipe: Recipe, count: int) -> int:
    """Return how many views are blurred, whether out of focus or moved."""
    return min(count, group_size(recipe.blur, count) + group_size(recipe.motion, count))


def blur(views: Any, parameters: dict[str, Any], size: int) -> Any:
    """Smear the first `size` views of the order with their kernels."""
    if not size:
        return views
    kernels = parameters["blur_kernel"][:size]

    def smear(chosen: Any) -> Any:
        side, reach = chosen.shape[1], kernels.shape[1] // 2
        # Views become channels, each of which has its own kernel in a depthwise convolution.
        channels = ops.reshape(ops.transpose(chosen, (1, 2, 0, 3)), (1, side, side, size * 3))
        channels = ops.pad(channels, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
        each = ops.repeat(ops.transpose(kernels, (1, 2, 0)), 3, axis=2)[..., None]
        smeared = ops.depthwise_conv(channels, each, padding="valid")
        return ops.transpose(ops.reshape(smeared, (side, side, size, 3)), (2, 0, 1, 3))

    return on_group(views, parameters["blur_order"], size, smear)


def draw_resolution(recipe: Recipe, count: int, rng: np.random.Generator) -> Parameters:
    """Draw `coarse_order` (n,) and `coarse` (n,): how many pixels become one, along a side."""
    if not recipe.low_resolution:
        return {}
    shrink = np.exp(rng.uniform(np.log(SHRINK[0]), np.log(SHRINK[1]), count))
    return {"coarse_order": draw_order(rng, count), "coarse": shrink.astype(np.float32)}


def coarsen(views: Any, parameters: dict[str, Any], size: int) -> Any:
    """Shrink the first `size` views of the order, and enlarge them again."""
    if not size:
        return views
    side = views.shape[1]
    shrink = parameters["coarse"][:size]
    few = int(np.ceil(side / SHRINK[0]))
    nothing = ops.zeros_like(shrink)
    # `few` is the most pixels that are left; after stronger shrinking the last ones repeat the border.
    down = resampling_matrix(nothing, shrink * (few / side), side, few, repeat=True)
    up = resampling_matrix(nothing, side / (shrink * few), few, side)
    both = ops.matmul(up, down)

    def shrunk(chosen: Any) -> Any:
        lines = ops.reshape(
            ops.matmul(both, ops.reshape(chosen, (size, side, side * 3))), (size, side, side, 3)
        )
        lines = ops.reshape(ops.transpose(lines, (0, 2, 1, 3)), (size, side, side * 3))
        return ops.transpose(ops.reshape(ops.matmul(both, lines), (size, side, side, 3)), (0, 2, 1, 3))

    return on_group(views, parameters["coarse_order"], size, shrunk)


def _disks(radius: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return disks (n, side, side) with soft edges, each of sum 1."""
    axis = np.arange(side) - side // 2
    away = np.hypot(*np.meshgrid(axis, axis))
    disks = np.clip(radius[:, None, None] + 0.5 - away, 0, 1)
    return _of_sum_one(disks)


def _lines(length: NDArray[np.float64], angle: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return lines (n, side, side) through the middle with soft edges, each of sum 1."""
    axis = np.arange(side) - side // 2
    x, y = np.meshgrid(axis, axis)
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    along, aside = np.abs(x * cos + y * sin), np.abs(y * cos - x * sin)
    lines = np.clip(length[:, None, None] / 2 + 0.5 - along, 0, 1) * np.clip(1 - aside, 0, 1)
    return _of_sum_one(lines)


def _of_sum_one(kernels: NDArray[np.float64]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = kernels.sum(axis=(1, 2), keepdims=True)
    return kernels / total
