"""Where the camera stands: crop, aspect, mirror image, turn and perspective.

Crops are resampled along rows and columns by two matrices a picture, which shrink as `edge.image.fit` does on
the device: every source pixel counts. Turned and tilted views cannot be made so; they are sampled point by
point.
"""

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from cloud.training.augment.groups import Parameters, draw_order, group_size, put_back
from cloud.training.recipe import Recipe

LARGEST_ASPECT = 4 / 3
# How far perspective may move a corner of the view, as a share of its side.
CORNER_SHIFT = 0.16
_CORNERS = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)


def draw(recipe: Recipe, count: int, rng: np.random.Generator) -> Parameters:
    """Draw `box` (n, 4), `warp_order` (n,) and `warp` (n, 3, 3) where any view is turned or tilted."""
    boxes = draw_boxes(rng, count, recipe.crop_area, recipe.flip)
    tilted = group_size(recipe.perspective, count)
    warped = warped_views(recipe, count)
    if not warped:
        return {"box": boxes}
    order = draw_order(rng, count)
    shifts = rng.uniform(-CORNER_SHIFT, CORNER_SHIFT, (count, 4, 2))
    shifts[tilted:] = 0
    angles = np.radians(rng.uniform(-recipe.rotation, recipe.rotation, count))
    warps = _of_boxes(boxes[order]) @ _of_corners(_CORNERS + shifts) @ _of_angles(angles)
    return {"box": boxes, "warp_order": order, "warp": warps.astype(np.float32)}


def draw_boxes(rng: np.random.Generator, count: int, least_area: float, flip: bool) -> NDArray[np.float32]:
    """Draw crops (n, 4) as top, left, bottom, right in 0..1; a mirrored one has its left on the right."""
    area = rng.uniform(least_area, 1, count)
    aspect = LARGEST_ASPECT ** rng.uniform(-1, 1, count)
    height, width = np.minimum(1, np.sqrt(area / aspect)), np.minimum(1, np.sqrt(area * aspect))
    top, left = rng.uniform(0, 1, (2, count)) * (1 - np.array([height, width]))
    right = left + width
    mirrored = (rng.uniform(0, 1, count) < 0.5) & flip
    edges = (top, np.where(mirrored, right, left), top + height, np.where(mirrored, left, right))
    return np.stack(edges, axis=1).astype(np.float32)


def warped_views(recipe: Recipe, count: int) -> int:
    """Return how many views are sampled point by point: all, where pictures are turned."""
    return count if recipe.rotation > 0 else group_size(recipe.perspective, count)


def view(pictures: Any, parameters: dict[str, Any], warped: int, size: int) -> Any:
    """Return the views, float32 (n, size, size, 3) in 0..255, of pictures uint8 (n, P, P, 3)."""
    count = pictures.shape[0]
    views = resample(pictures, parameters["box"], size) if warped < count else None
    if not warped:
        return views
    order = parameters["warp_order"]
    tilted = sample(ops.take(pictures, order[:warped], axis=0), parameters["warp"][:warped], size)
    if views is None:
        return ops.take(tilted, ops.argsort(order), axis=0)
    return put_back(views, order, tilted)


def resample(pictures: Any, boxes: Any, size: int) -> Any:
    """Return crops (n, size, size, C) of pictures (n, P, P, C), by a triangle filter; 0 beyond them."""
    count, side, channels = pictures.shape[0], pictures.shape[1], pictures.shape[3]
    rows = resampling_matrix(boxes[:, 0], boxes[:, 2], side, size)
    columns = resampling_matrix(boxes[:, 1], boxes[:, 3], side, size)
    lines = ops.matmul(rows, ops.reshape(ops.cast(pictures, "float32"), (count, side, side * channels)))
    lines = ops.transpose(ops.reshape(lines, (count, size, side, channels)), (0, 2, 1, 3))
    crops = ops.matmul(columns, ops.reshape(lines, (count, side, size * channels)))
    return ops.transpose(ops.reshape(crops, (count, size, size, channels)), (0, 2, 1, 3))


def resampling_matrix(begin: Any, end: Any, side: int, size: int, *, repeat: bool = False) -> Any:
    """Return the weights (n, size, side) that make `size` pixels of those from `begin` to `end` of `side`.

    `begin` and `end` (n,) are measured in 0..1. Beyond that is nothing, weights 0, unless the pixels at the
    border shall `repeat`.
    """
    step = (end - begin) * (side / size)
    middles = begin[:, None] * side + step[:, None] * (ops.arange(size, dtype="float32") + 0.5) - 0.5
    inside = ops.cast((middles > -0.5) & (middles < side - 0.5), "float32")
    middles = ops.clip(middles, 0.0, side - 1.0)
    reach = ops.maximum(1.0, ops.abs(step))[:, None, None]
    away = ops.abs(middles[:, :, None] - ops.arange(side, dtype="float32"))
    weights = ops.maximum(0.0, 1.0 - away / reach)
    weights = weights / ops.sum(weights, axis=2, keepdims=True)
    return weights if repeat else weights * inside[:, :, None]


def sample(pictures: Any, warps: Any, size: int) -> Any:
    """Return views (n, size, size, 3) of pictures (n, P, P, 3), bilinear, the border mirrored.

    `warps` (n, 3, 3) are homographies from the view to the picture, both measured in 0..1 from top left.
    """
    count, side = pictures.shape[0], pictures.shape[1]
    middles = (ops.arange(size, dtype="float32") + 0.5) / size
    x, y = middles[None, None, :], middles[None, :, None]
    across, down, depth = (
        warps[:, row, 0, None, None] * x + warps[:, row, 1, None, None] * y + warps[:, row, 2, None, None]
        for row in range(3)
    )
    left, right_share = _between(across / depth, side)
    top, bottom_share = _between(down / depth, side)
    first = ops.arange(count, dtype="int32")[:, None, None] * (side * side)
    corner = first + top * side + left
    pixels = ops.reshape(pictures, (count * side * side, pictures.shape[3]))

    def at(offset: int) -> Any:
        return ops.cast(ops.take(pixels, corner + offset, axis=0), "float32")

    upper, lower = at(0), at(side)
    upper = upper + (at(1) - upper) * right_share
    lower = lower + (at(side + 1) - lower) * right_share
    return upper + (lower - upper) * bottom_share


def _between(place: Any, side: int) -> tuple[Any, Any]:
    """Return the pixel before each place (int32) and how far the place is on the way to the next."""
    pixel = ops.abs(place * side - 0.5)
    pixel = ops.clip(side - 1.0 - ops.abs(side - 1.0 - pixel), 0.0, side - 1.0)
    before = ops.minimum(ops.floor(pixel), side - 2.0)
    return ops.cast(before, "int32"), (pixel - before)[..., None]


def _of_boxes(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the homographies (n, 3, 3) from the unit square to the boxes."""
    top, left, bottom, right = boxes.astype(np.float64).T
    warps = np.zeros((len(boxes), 3, 3))
    warps[:, 0, 0], warps[:, 0, 2] = right - left, left
    warps[:, 1, 1], warps[:, 1, 2] = bottom - top, top
    warps[:, 2, 2] = 1
    return warps


def _of_angles(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return turns (n, 3, 3) of the unit square about its middle."""
    cos, sin = np.cos(angles), np.sin(angles)
    warps = np.zeros((len(angles), 3, 3))
    warps[:, 0, 0], warps[:, 0, 1], warps[:, 0, 2] = cos, -sin, (1 - cos + sin) / 2
    warps[:, 1, 0], warps[:, 1, 1], warps[:, 1, 2] = sin, cos, (1 - sin - cos) / 2
    warps[:, 2, 2] = 1
    return warps


def _of_corners(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the homographies (n, 3, 3) from the unit square's corners to `corners` (n, 4, 2) of x, y."""
    x, y = _CORNERS.T
    equations = np.zeros((len(corners), 8, 8))
    for axis, rows in enumerate((slice(0, 4), slice(4, 8))):
        target = corners[:, :, axis]
        equations[:, rows, 3 * axis : 3 * axis + 3] = np.stack([x, y, np.ones(4)], axis=1)
        equations[:, rows, 6], equations[:, rows, 7] = -target * x, -target * y
    answers = np.concatenate([corners[:, :, 0], corners[:, :, 1]], axis=1)[..., None]
    found = np.linalg.solve(equations, answers)[..., 0]
    return np.concatenate([found, np.ones((len(corners), 1))], axis=1).reshape(-1, 3, 3)
