"""Hands and boxes cover their share of a view; packshots lose their white ground and nothing else."""

import numpy as np
import pytest

from cloud.training.augment import occlusion, paste
from cloud.training.recipe import Recipe

pytestmark = pytest.mark.training
SIDE = 72
ROOM = np.array([[0, 0, 1, 1]], np.float32)


def covered_by(parts: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Return which pixels the parts (k, J, 7) cover: bool (k, side, side)."""
    return np.asarray(occlusion._depth(parts.astype(np.float32), side)) > 0


def test_a_box_covers_its_sides_product() -> None:
    box = np.array([[[0.5, 0.5, 1, 0, 0.2, 0.1, 0.0]]])
    covered = covered_by(box, 100)[0]
    assert covered.mean() == pytest.approx(0.4 * 0.2, rel=0.03)
    assert covered[45:55, 35:65].all() and not covered[:39].any()


def test_boxes_have_sides_of_20_to_60_percent() -> None:
    boxes = occlusion._draw_boxes(np.random.default_rng(0), 300)[:, 0]
    sides = 2 * (boxes[:, 4:6] + boxes[:, 6:])
    assert 0.2 <= sides.min() < 0.22 and 0.58 < sides.max() <= 0.6


def test_hands_come_in_from_an_edge_and_cover_a_part() -> None:
    random = np.random.default_rng(0)
    hands = covered_by(occlusion._draw_hands(random, random.uniform(*occlusion.PALM, 100)))
    shares = hands.mean(axis=(1, 2))
    assert 0.04 < shares.mean() < 0.3
    assert shares.max() < 0.6
    at_the_edge = hands[:, 0].any(1) | hands[:, -1].any(1) | hands[:, :, 0].any(1) | hands[:, :, -1].any(1)
    assert at_the_edge.mean() > 0.97
    # From all four sides, and never from the middle alone.
    sides = [hands[:, 0], hands[:, -1], hands[:, :, 0], hands[:, :, -1]]
    assert all(0.1 < side.any(1).mean() < 0.9 for side in sides)


def test_covers_hide_what_is_under_them_and_shade_only_what_is_near() -> None:
    recipe = Recipe(occlusion=0.5)
    drawn = occlusion.draw(recipe, 8, np.random.default_rng(3))
    views = np.full((8, SIDE, SIDE, 3), 128, np.float32)
    after = np.asarray(occlusion.cover(views, drawn, recipe))
    order = drawn["cover_order"]
    np.testing.assert_array_equal(after[order[4:]], views[order[4:]])
    for row in range(4):
        depth = np.asarray(occlusion._depth(drawn["cover_part"][row : row + 1], SIDE))[0]
        assert np.abs(after[order[row]][depth < -0.2] - 128).max(initial=0) < 1
        if row < 2:  # a hand has its color where it is thick
            thick = after[order[row]][depth > 0.6 * depth.max()]
            np.testing.assert_allclose(
                thick, np.broadcast_to(drawn["cover_color"][row], thick.shape), atol=20
            )


def test_boxes_may_show_a_piece_of_another_view() -> None:
    recipe = Recipe(occlusion=1.0)
    drawn = occlusion.draw(recipe, 8, np.random.default_rng(0))
    hands = occlusion.hands_of(recipe, 8)
    assert (drawn["cover_flat"][:hands] == 1).all()
    assert set(np.round(drawn["cover_flat"][hands:], 2).tolist()) == {np.float32(0.15), 1.0}
    drawn["cover_flat"][:] = 0
    drawn["cover_view"][:] = 7
    views = np.arange(8, dtype=np.float32)[:, None, None, None] * np.ones((1, SIDE, SIDE, 3), np.float32)
    after = np.asarray(occlusion.cover(views, drawn, recipe))
    row = hands + int(np.argmax(drawn["cover_order"][hands:] != 7))
    inside = np.asarray(occlusion._depth(drawn["cover_part"][row : row + 1, :1], SIDE))[0] > 0.03
    np.testing.assert_allclose(after[drawn["cover_order"][row]][inside], 7, atol=0.1)


def packshot(side: int = SIDE) -> np.ndarray:
    """Draw a red disk with a white label in its middle, on white."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    picture = np.full((side, side, 3), 255, np.uint8)
    picture[np.hypot(x, y) < 0.33] = (180, 20, 30)
    picture[(abs(x) < 0.12) & (abs(y) < 0.08)] = 255
    return picture


def test_the_ground_is_white_that_is_reached_from_the_border() -> None:
    share = np.asarray(paste.ground_share(packshot()[None].astype(np.float32)))[0, :, :, 0]
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    away = np.hypot(x, y)
    np.testing.assert_allclose(share[away > 0.4], 1, atol=0.01)
    np.testing.assert_allclose(share[away < 0.3], 0, atol=0.01)


def test_a_picture_without_white_at_its_border_has_no_ground() -> None:
    picture = 255 - packshot().astype(np.float32)
    assert np.asarray(paste.ground_share(picture[None])).max() == 0


def test_a_carton_a_little_darker_than_the_ground_stays_whole() -> None:
    picture = np.full((1, SIDE, SIDE, 3), 255, np.float32)
    picture[0, 12:60, 20:52] = 240
    share = np.asarray(paste.ground_share(picture))[0, :, :, 0]
    assert share[16:56, 24:48].max() < 0.05
    np.testing.assert_allclose(share[:8], 1, atol=0.01)


def pasted(
    pictures: np.ndarray, is_packshot: np.ndarray, recipe: Recipe
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    drawn = paste.draw(recipe, len(pictures), np.random.default_rng(0), is_packshot)
    drawn["paste_room"][:] = ROOM
    size = paste.pasted_views(recipe, len(pictures))
    return np.asarray(paste.paste(pictures, pictures, drawn, size)), drawn


def test_pasting_replaces_the_ground_and_keeps_product_and_label() -> None:
    shop = np.full((SIDE, SIDE, 3), (40, 90, 60), np.uint8)
    pictures, is_packshot = np.stack([shop, packshot(), shop, packshot()]), np.array([False, True] * 2)
    after, _ = pasted(pictures, is_packshot, Recipe(paste=1.0, packshots_per_batch=2))
    assert after.dtype == np.uint8
    np.testing.assert_array_equal(after[[0, 2]], pictures[[0, 2]])
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    away = np.hypot(x, y)
    for view in after[[1, 3]]:
        np.testing.assert_allclose(
            view[away > 0.4], np.broadcast_to((40, 90, 60), view[away > 0.4].shape), atol=2
        )
        np.testing.assert_array_equal(view[away < 0.28], packshot()[away < 0.28])
        # At the edge everything is between product and new ground: nothing is lighter than both.
        rim = view[(away > 0.31) & (away < 0.36)]
        assert rim[:, 1].max() <= 110


def test_packshots_are_laid_on_in_store_photos_where_the_batch_has_any() -> None:
    recipe = Recipe(paste=1.0, packshots_per_batch=6)
    is_packshot = np.array([True, True, False, True, True, True, True, False])
    drawn = paste.draw(recipe, 8, np.random.default_rng(0), is_packshot)
    assert set(drawn["paste_on"].tolist()) <= {2, 7}
    chosen = drawn["paste_order"][drawn["paste_ground"] > 0]
    assert set(chosen.tolist()) == {0, 1, 3, 4, 5, 6}


def test_the_share_of_packshots_that_is_pasted_is_the_recipes() -> None:
    recipe = Recipe(paste=0.3, packshots_per_batch=16)
    every = np.ones(16, bool)
    counts = [
        paste.draw(recipe, 16, np.random.default_rng(s), every)["paste_ground"].sum() for s in range(200)
    ]
    assert np.mean(counts) / 16 == pytest.approx(0.3, abs=0.03)


def test_only_packshots_are_pasted_and_they_come_first() -> None:
    is_packshot = np.arange(24) % 3 == 0
    for seed in range(20):
        drawn = paste.draw(
            Recipe(paste=0.5, packshots_per_batch=8), 24, np.random.default_rng(seed), is_packshot
        )
        replaced = drawn["paste_ground"] > 0
        assert is_packshot[drawn["paste_order"][replaced]].all()
        assert not replaced[replaced.sum() :].any()
        assert sorted(drawn["paste_order"].tolist()) == list(range(24))


def test_there_is_room_for_the_packshots_that_a_recipe_brings() -> None:
    assert paste.pasted_views(Recipe(), 32) == 0
    assert paste.pasted_views(Recipe(paste=0.5), 32) == 2
    assert paste.pasted_views(Recipe(paste=0.5, packshots_per_batch=8), 32) == 4
    assert paste.pasted_views(Recipe(paste=0.5, fit_kinds=("packshot",)), 32) == 16
    assert paste.pasted_views(Recipe(paste=0.5, fit_kinds=("in-store",)), 32) == 0


def test_pasted_packshots_are_made_smaller_and_stay_within_the_picture() -> None:
    drawn = paste.draw(
        Recipe(paste=1.0, packshots_per_batch=8), 200, np.random.default_rng(0), np.ones(200, bool)
    )
    top, left, bottom, right = drawn["paste_room"].T
    assert (top <= 0).all() and (left <= 0).all() and (bottom >= 1).all() and (right >= 1).all()
    assert 1.6 < (bottom - top).max() <= paste.ROOM[1] + 1e-6
