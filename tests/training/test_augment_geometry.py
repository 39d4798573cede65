"""Crops, turns and tilts show what they say of a picture."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud.training.augment import geometry
from cloud.training.recipe import Recipe
from edge.image import fit
from tests.training.augment_on_jax import draw_pictures

pytestmark = pytest.mark.training
WHOLE = np.array([[0, 0, 1, 1]], np.float32)


def seen(
    recipe: Recipe, pictures: NDArray[np.uint8], seed: int = 1
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    drawn = geometry.draw(recipe, len(pictures), np.random.default_rng(seed))
    warped = geometry.warped_views(recipe, len(pictures))
    return np.asarray(geometry.view(pictures, drawn, warped, recipe.input_size)), drawn


@pytest.mark.parametrize("size", [24, 48, 64, 100])
def test_a_crop_is_resized_as_the_device_resizes(size: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    view = np.asarray(geometry.resample(picture, WHOLE, size))[0]
    # Pillow rounds to whole values, once along the rows and once along the columns.
    np.testing.assert_allclose(view, fit(picture[0], size), atol=1.01)


def test_a_crop_shows_the_box_and_nothing_else() -> None:
    picture = np.zeros((1, 64, 64, 3), np.uint8)
    picture[0, 16:48, 8:24] = 200
    box = np.array([[16 / 64, 8 / 64, 48 / 64, 24 / 64]], np.float32)
    np.testing.assert_allclose(geometry.resample(picture, box, 32)[:, 1:-1, 1:-1], 200, atol=0.01)


def test_beyond_the_picture_there_is_nothing() -> None:
    picture = np.full((1, 40, 40, 3), 90, np.uint8)
    view = np.asarray(geometry.resample(picture, np.array([[-0.5, 0, 0.5, 1]], np.float32), 40))
    assert (view[0, :19] == 0).all()
    np.testing.assert_allclose(view[0, 21:], 90, atol=0.01)


def test_boxes_have_the_area_and_aspect_that_they_are_drawn_with() -> None:
    top, left, bottom, right = geometry.draw_boxes(np.random.default_rng(0), 2000, 0.2, True).T
    height, width = bottom - top, np.abs(right - left)
    assert 0.15 < (height * width).min() < 0.25 and (height * width).max() <= 1
    assert (np.abs(np.log(width / height)) <= np.log(4 / 3) + 1e-4).all()
    assert (
        min(top.min(), left.min(), right.min()) >= 0 and max(bottom.max(), left.max(), right.max()) <= 1.0001
    )
    assert 0.45 < np.mean(right < left) < 0.55


def test_without_mirroring_no_box_is_mirrored() -> None:
    boxes = geometry.draw_boxes(np.random.default_rng(0), 100, 0.2, False)
    assert (boxes[:, 3] > boxes[:, 1]).all()


def test_a_mirrored_box_mirrors_the_picture() -> None:
    picture = draw_pictures(1)
    plain, mirrored = (
        geometry.resample(picture, WHOLE, 32),
        geometry.resample(picture, WHOLE[:, [0, 3, 2, 1]], 32),
    )
    np.testing.assert_allclose(np.asarray(plain)[:, :, ::-1], mirrored, atol=0.01)


def test_sampling_point_by_point_agrees_with_the_crop_where_nothing_is_turned() -> None:
    pictures = draw_pictures(4)
    boxes = geometry.draw_boxes(np.random.default_rng(5), 4, 0.3, True)
    warps = geometry._of_boxes(boxes).astype(np.float32)
    points, crops = geometry.sample(pictures, warps, 64), geometry.resample(pictures, boxes, 64)
    assert np.abs(np.asarray(points) - np.asarray(crops))[:, 1:-1, 1:-1].mean() < 1.5


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    picture = draw_pictures(1)
    turn = geometry._of_angles(np.array([np.pi / 2])).astype(np.float32)
    np.testing.assert_allclose(geometry.sample(picture, turn, 64)[0], np.rot90(picture[0]), atol=0.05)


def test_a_tilt_shows_at_each_corner_of_the_view_what_it_was_drawn_to() -> None:
    corners = np.array([[(0.1, 0.05), (0.9, 0.15), (1.05, 0.95), (-0.1, 0.85)]])
    warp = geometry._of_corners(corners)[0]
    for corner, target in zip([(0, 0), (1, 0), (1, 1), (0, 1)], corners[0], strict=True):
        x, y, depth = warp @ (*corner, 1)
        np.testing.assert_allclose((x / depth, y / depth), target, atol=1e-9)


def test_perspective_tilts_its_share_and_leaves_the_rest_as_crops() -> None:
    recipe = Recipe(input_size=40, perspective=0.25)
    pictures = draw_pictures(8)
    tilted, drawn = seen(recipe, pictures)
    crops = np.asarray(geometry.resample(pictures, drawn["box"], 40))
    same = [np.array_equal(a, b) for a, b in zip(tilted, crops, strict=True)]
    assert same.count(False) == 2
    assert {i for i in range(8) if not same[i]} == set(drawn["warp_order"][:2].tolist())


def test_rotation_turns_every_view_and_puts_each_where_it_belongs() -> None:
    flat = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.full((1, 64, 64, 3), 20, np.uint8)
    views, _ = seen(Recipe(input_size=40, rotation=30.0, perspective=0.5), flat)
    np.testing.assert_allclose(views, np.broadcast_to(flat[:, :40, :40], views.shape), atol=0.01)
    turned, drawn = seen(Recipe(input_size=40, rotation=30.0), draw_pictures(8))
    crops = np.asarray(geometry.resample(draw_pictures(8), drawn["box"], 40))
    assert (np.abs(turned - crops).mean(axis=(1, 2, 3)) > 0.5).all()


def test_a_small_turn_keeps_what_is_in_the_view() -> None:
    recipe = replace(Recipe(input_size=40), rotation=2.0, flip=False, crop_area=1.0)
    pictures = draw_pictures(6)
    views, drawn = seen(recipe, pictures)
    crops = np.asarray(geometry.resample(pictures, drawn["box"], 40))
    assert (np.abs(views - crops).mean(axis=(1, 2, 3)) < 12).all()
