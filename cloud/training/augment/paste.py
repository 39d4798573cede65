"""Takes packshots off their white ground and lays them on pieces of other photos."""

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from cloud.training.augment.geometry import draw_boxes, resample, resampling_matrix
from cloud.training.augment.groups import Parameters, group_size, on_group
from cloud.training.recipe import Recipe

# The brightest spot of a packshot's border is its ground if its darkest color reaches this.
WHITE = 225.0
# How much darker than that a pixel is at most if it is ground, and surely not: between, it is both. As a rule
# the ground is white to the last step, and a white carton on it only a few steps darker.
GROUND = (2.0, 12.0)
# The same within `EDGE` // 2 pixels of the ground, where pixels are mixed.
MIXED = (4.0, 200.0)
EDGE = 5
# The side of the picture that a packshot becomes, as a share of the packshot's: what it is made smaller by.
ROOM = (1.0, 1.7)
BACKGROUND_AREA = 0.15
# Side of the coarse picture on which the ground is followed from the border inwards.
_COARSE = 36
# How many of its pixels the ground is followed: to the middle, and around a corner.
_STEPS = 26


def pasted_views(recipe: Recipe, count: int) -> int:
    """Return how many packshots of a batch are laid on another ground, at most.

    Where it is chance that brings them into a batch, they are taken to be an eighth of it.
    """
    if "packshot" not in recipe.fit_kinds:
        return 0
    if "in-store" not in recipe.fit_kinds:
        return group_size(recipe.paste, count)
    expected = recipe.packshots_per_batch or count / 8
    return group_size(recipe.paste * expected / count, count)


def draw(recipe: Recipe, count: int, rng: np.random.Generator, is_packshot: NDArray[np.bool_]) -> Parameters:
    """Draw `paste_order`, `paste_on` (n,), `paste_room` (n, 4), `paste_piece` (n, 4), `paste_ground` (n,).

    The order begins with packshots; `paste_on` is the photo that a piece is taken of, an in-store one where
    the batch has any; `paste_ground` is how far the ground is replaced, 0 for rows that are not pasted.
    """
    if not pasted_views(recipe, count):
        return {}
    order = rng.permutation(count)
    order = order[np.argsort(~is_packshot[order], kind="stable")]
    # The rows of packshots, which are in random order, come first, and of them those that are pasted.
    pasted = np.arange(count) < rng.binomial(is_packshot.sum(), recipe.paste)
    others = np.flatnonzero(~is_packshot) if not is_packshot.all() else np.arange(count)
    room = rng.uniform(*ROOM, count)
    top, left = -rng.uniform(0, 1, (2, count)) * (room - 1)
    pieces = draw_boxes(rng, count, BACKGROUND_AREA, flip=True)
    return {
        "paste_order": order.astype(np.int32),
        "paste_ground": pasted.astype(np.float32),
        "paste_on": rng.choice(others, count).astype(np.int32),
        "paste_room": np.stack([top, left, top + room, left + room], axis=1).astype(np.float32),
        "paste_piece": pieces,
    }


def paste(pictures: Any, backgrounds: Any, parameters: dict[str, Any], size: int) -> Any:
    """Return pictures uint8 (n, P, P, 3), the packshots of the group on pieces of `backgrounds`.

    The white is taken out of the mixed pixels at the product's edge, so that no rim is left.
    """
    if not size:
        return pictures
    side = pictures.shape[1]
    swap = parameters["paste_ground"][:size, None, None, None]
    on = ops.take(backgrounds, parameters["paste_on"][:size], axis=0)
    pieces = resample(on, parameters["paste_piece"][:size], side)

    def on_piece(chosen: Any) -> Any:
        whole = ops.cast(chosen, "float32")
        small = resample(whole - 255.0, parameters["paste_room"][:size], side) + 255.0
        pasted = small + ground_share(small) * (pieces - 255.0)
        return ops.round(ops.clip(whole + (pasted - whole) * swap, 0.0, 255.0))

    return on_group(pictures, parameters["paste_order"], size, on_piece)


def ground_share(pictures: Any) -> Any:
    """Return how far each pixel is ground, (k, P, P, 1) in 0..1: near white, and reached from the border."""
    darkest = ops.minimum(ops.minimum(pictures[..., :1], pictures[..., 1:2]), pictures[..., 2:])
    side = pictures.shape[1]
    coarse = _through(darkest, side, _COARSE)
    rim = ops.concatenate([coarse[:, 0], coarse[:, -1], coarse[:, :, 0], coarse[:, :, -1]], axis=1)
    white = ops.max(rim, axis=(1, 2))[:, None, None, None]
    free = ops.cast((coarse > white - GROUND[1]) & (white >= WHITE), "float32")
    ground = _ramp(white - darkest, GROUND) * _through(_reached(free), _COARSE, side)
    # Beside the ground a pixel is mixed of ground and product; elsewhere something as light is product.
    beside = ops.max_pool(ground, (1, EDGE), (1, 1), padding="same")
    beside = ops.max_pool(beside, (EDGE, 1), (1, 1), padding="same")
    return ops.maximum(ground, beside * _ramp(white - darkest, MIXED))


def _ramp(below_white: Any, ends: tuple[float, float]) -> Any:
    """Return 1 up to the first, 0 from the second, straight between."""
    return ops.clip((ends[1] - below_white) * (1 / (ends[1] - ends[0])), 0.0, 1.0)


def _through(planes: Any, side: int, size: int) -> Any:
    """Return planes (k, side, side, 1) as (k, size, size, 1)."""
    matrix = resampling_matrix(ops.zeros((1,)), ops.ones((1,)), side, size)
    resized = ops.matmul(ops.matmul(matrix, planes[..., 0]), ops.transpose(matrix, (0, 2, 1)))
    return resized[..., None]


def _reached(free: Any) -> Any:
    """Return where one gets to from outside over what is free (k, c, c, 1), 0 or 1, and two steps further.

    Those two are for the cells that the product's edge runs through.
    """
    reached = ops.zeros_like(free)
    for _ in range(_STEPS):
        from_outside = ops.pad(reached, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1.0)
        reached = free * ops.max_pool(from_outside, (3, 3), (1, 1), padding="valid")
    return ops.max_pool(reached, (5, 5), (1, 1), padding="same")
