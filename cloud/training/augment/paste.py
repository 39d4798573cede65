"""Takes packshots off their white ground and lays them on pieces of other photos."""

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from cloud.training.augment.geometry import draw_boxes, resample, resampling_matrix
from cloud.training.augment.groups import Parameters, group_size, on_group
from cloud.training.recipe import Recipe

# A pixel whose darkest color is above the second is ground, below the first is product, between is both.
WHITE = (215.0, 250.0)
# The side of the picture that a packshot becomes, as a share of the packshot's: what it is made smaller by.
ROOM = (1.0, 1.7)
BACKGROUND_AREA = 0.15
# Side of the coarse picture on which the ground is followed from the border inwards.
_COARSE = 36


def pasted_views(recipe: Recipe, count: int) -> int:
    """Return how many packshots of a batch are laid on another ground, at most.

    Where packshots are in a batch by chance, there is room for a quarter of the batch.
    """
    if "packshot" not in recipe.fit_kinds:
        return 0
    if "in-store" not in recipe.fit_kinds:
        return group_size(recipe.paste, count)
    expected = recipe.packshots_per_batch or count / 4
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
    pasted = (rng.uniform(0, 1, count) < recipe.paste) & is_packshot[order]
    others = np.flatnonzero(~is_packshot) if not is_packshot.all() else np.arange(count)
    room = rng.uniform(*ROOM, count)
    top, left = -rng.uniform(0, 1, (2, count)) * (room - 1)
    pieces = draw_boxes(rng, count, BACKGROUND_AREA, flip=True)
    # The chosen ones come first, so that the group holds as many of them as it can.
    first = np.argsort(~pasted, kind="stable")
    return {
        "paste_order": order[first].astype(np.int32),
        "paste_ground": pasted[first].astype(np.float32),
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
        small = resample(chosen, parameters["paste_room"][:size], side)
        pasted = small + ground_share(small) * (pieces - 255.0)
        return ops.round(ops.clip(whole + (pasted - whole) * swap, 0.0, 255.0))

    return on_group(pictures, parameters["paste_order"], size, on_piece)


def ground_share(pictures: Any) -> Any:
    """Return how far each pixel is ground, (k, P, P, 1) in 0..1: near white, and reached from the border."""
    count, side = pictures.shape[0], pictures.shape[1]
    darkest = ops.min(pictures, axis=3)
    white = ops.clip((darkest - WHITE[0]) * (1 / (WHITE[1] - WHITE[0])), 0.0, 1.0)
    edges = ops.zeros((1,)), ops.ones((1,))
    shrink = resampling_matrix(*edges, side, _COARSE)
    coarse = ops.matmul(ops.matmul(shrink, white), ops.transpose(shrink, (0, 2, 1)))
    free = ops.cast(coarse > 0.8, "float32")[..., None]
    outside = ((0, 0), (1, 1), (1, 1), (0, 0))
    ground = ops.zeros_like(free)
    for _ in range(_COARSE):
        seeded = ops.pad(ground, outside, constant_values=1.0)
        ground = free * ops.max_pool(seeded, 3, strides=1, padding="valid")
    ground = ops.max_pool(ground, 3, strides=1, padding="same")[..., 0]
    enlarge = resampling_matrix(*edges, _COARSE, side)
    reached = ops.matmul(ops.matmul(enlarge, ground), ops.transpose(enlarge, (0, 2, 1)))
    return ops.reshape(white * reached, (count, side, side, 1))
