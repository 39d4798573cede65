"""What comes between camera and product: a hand from the edge of the view, or a box."""

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from cloud.training.augment.groups import Parameters, draw_order, group_size, on_group
from cloud.training.recipe import Recipe

# Sides of a box, and the width of a palm, as shares of the view's side.
BOX_SIDE = (0.2, 0.6)
PALM = (0.16, 0.34)
# How far the middle of the palm is inside the view.
HAND_DEPTH = (-0.12, 0.14)
# sRGB of skin from light to dark, after the Monk skin tone scale (Monk 2019) as cameras show it.
_SKIN = np.array(
    [(236, 200, 180), (224, 178, 150), (200, 148, 118), (160, 108, 80), (116, 76, 56), (78, 52, 42)]
)
# Parts of a hand that points along x, its palm one wide: x and y of the middle, turn in degrees, half length,
# half width, radius of the rounding.
_HAND = np.array(
    [
        (-1.55, 0.0, 0.0, 1.10, 0.06, 0.28),
        (0.0, 0.0, 0.0, 0.28, 0.24, 0.25),
        (0.80, -0.37, -7.0, 0.44, 0.0, 0.115),
        (0.88, -0.13, -2.0, 0.52, 0.0, 0.122),
        (0.86, 0.12, 3.0, 0.49, 0.0, 0.120),
        (0.74, 0.36, 9.0, 0.38, 0.0, 0.105),
        (0.10, 0.60, 45.0, 0.42, 0.0, 0.135),
    ]
)
PARTS = len(_HAND)


def draw(recipe: Recipe, count: int, rng: np.random.Generator) -> Parameters:
    """Draw `cover_order` (n,), `cover_part` (n, 7, 7), and of each cover its color and what it is like.

    A part is a box with rounded corners: x, y of its middle, cos, sin, half length, half width, radius, in
    shares of the view's side. The first half of the group are hands; boxes have one part. `cover_view` is the
    view that a box shows a piece of, as far as `cover_flat` (0..1) leaves it open; `cover_round` is the
    steepness with which it grows lighter from its edge inwards.
    """
    if not recipe.occlusion:
        return {}
    hands = hands_of(recipe, count)
    is_hand = np.arange(count) < hands
    width = rng.uniform(*PALM, count)
    parts = np.where(is_hand[:, None, None], _draw_hands(rng, width), _draw_boxes(rng, count))
    skin = _SKIN[rng.integers(0, len(_SKIN), count)] * rng.uniform(0.85, 1.15, (count, 1))
    colors = np.where(is_hand[:, None], skin, rng.uniform(10, 245, (count, 3)))
    flat = np.where(is_hand, 1.0, rng.choice([0.15, 1.0], count))
    return {
        "cover_order": draw_order(rng, count),
        "cover_part": parts.astype(np.float32),
        "cover_color": colors.clip(0, 255).astype(np.float32),
        "cover_view": rng.integers(0, count, count).astype(np.int32),
        "cover_flat": flat.astype(np.float32),
        "cover_round": np.where(is_hand, 8 / width, 1000).astype(np.float32),
    }


def hands_of(recipe: Recipe, count: int) -> int:
    """Return how many of the covered views are covered by a hand."""
    return (group_size(recipe.occlusion, count) + 1) // 2


def cover(views: Any, parameters: dict[str, Any], recipe: Recipe) -> Any:
    """Lay hands and boxes on the views of the group."""
    count = views.shape[0]
    size, hands = group_size(recipe.occlusion, count), hands_of(recipe, count)
    if not size:
        return views
    order, parts = parameters["cover_order"], parameters["cover_part"][:size]
    side = views.shape[1]
    inside = _depth(parts[:hands], side)
    if size > hands:
        inside = ops.concatenate([inside, _depth(parts[hands:, :1], side)], axis=0)
    inside = inside[..., None]
    mask = ops.clip(inside * side + 0.5, 0.0, 1.0)
    # Round things turn away from the light at their edges, and take it from what is close behind them.
    steep = parameters["cover_round"][:size, None, None, None]
    shade = 0.72 + 0.28 * ops.sqrt(ops.clip(inside * steep, 0.0, 1.0))
    shadow = 1.0 - 0.35 * ops.exp(-ops.maximum(0.0, -inside) * 30.0)
    flat = parameters["cover_flat"][:size, None, None, None]
    others = ops.take(views, parameters["cover_view"][:size], axis=0)
    color = (parameters["cover_color"][:size, None, None, :] * flat + others * (1.0 - flat)) * shade
    return on_group(views, order, size, lambda seen: seen * shadow * (1.0 - mask) + color * mask)


def _depth(parts: Any, side: int) -> Any:
    """Return how deep inside the parts (k, J, 7) each pixel is, negative outside: (k, side, side)."""
    middles = (ops.arange(side, dtype="float32") + 0.5) / side
    deepest = None
    for part in range(parts.shape[1]):
        x, y, cos, sin, length, width, radius = (parts[:, part, column, None, None] for column in range(7))
        across, down = middles[None, None, :] - x, middles[None, :, None] - y
        beyond_end = ops.abs(across * cos + down * sin) - length
        beyond_side = ops.abs(down * cos - across * sin) - width
        outside = ops.sqrt(ops.maximum(beyond_end, 0.0) ** 2 + ops.maximum(beyond_side, 0.0) ** 2)
        depth = radius - outside - ops.minimum(ops.maximum(beyond_end, beyond_side), 0.0)
        deepest = depth if deepest is None else ops.maximum(deepest, depth)
    return deepest


def _draw_boxes(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Draw boxes (n, PARTS, 7) of which only the first part is there."""
    parts = np.zeros((count, PARTS, 7))
    angle = rng.normal(0, 0.2, count)
    parts[:, 0, :2] = rng.uniform(0, 1, (count, 2))
    parts[:, 0, 2], parts[:, 0, 3] = np.cos(angle), np.sin(angle)
    parts[:, 0, 4:6] = rng.uniform(*BOX_SIDE, (count, 2)) / 2 - 0.01
    parts[:, 0, 6] = 0.01
    return parts


def _draw_hands(rng: np.random.Generator, palm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draw right and left hands (n, PARTS, 7) with palms of that width (n,), coming in from any edge."""
    count = len(palm)
    edge = rng.integers(0, 4, count) * np.pi / 2
    inward = edge + rng.uniform(-0.6, 0.6, count)
    depth, along = rng.uniform(*HAND_DEPTH, count), rng.uniform(0.1, 0.9, count)
    width = palm[:, None]
    # The edge's own frame: inward is (cos, sin) of `edge`, along it is (-sin, cos).
    x = 0.5 + (depth - 0.5) * np.cos(edge) - (along - 0.5) * np.sin(edge)
    y = 0.5 + (depth - 0.5) * np.sin(edge) + (along - 0.5) * np.cos(edge)
    mirror = rng.choice([-1, 1], (count, 1))
    spread = rng.uniform(0.5, 1.6, (count, 1))
    angle = inward[:, None] + np.radians(_HAND[:, 2]) * mirror * spread
    cos, sin = np.cos(inward)[:, None], np.sin(inward)[:, None]
    ahead, aside = _HAND[:, 0] * width, _HAND[:, 1] * width * mirror
    parts = np.empty((count, PARTS, 7))
    parts[..., 0], parts[..., 1] = (
        x[:, None] + ahead * cos - aside * sin,
        y[:, None] + ahead * sin + aside * cos,
    )
    parts[..., 2], parts[..., 3] = np.cos(angle), np.sin(angle)
    parts[..., 4:] = _HAND[:, 3:] * width[..., None]
    return parts
