"""Random views of pictures."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud.training.recipe import Recipe

pytestmark = pytest.mark.training
PLAIN = Recipe(input_size=32, picture_size=32, crop_area=1.0, jitter=0.0, flip=False)


def views(recipe: Recipe, seed: tuple[int, int], side: int = 32) -> NDArray[np.float32]:
    import tensorflow as tf

    from cloud.training.augment import random_views

    pictures = np.random.default_rng(0).integers(0, 256, (6, side, side, 3)).astype(np.uint8)
    return np.asarray(random_views(tf.constant(pictures), tf.constant(seed, tf.int32), recipe))


def test_a_view_follows_from_its_seed_alone() -> None:
    recipe = replace(PLAIN, crop_area=0.25, jitter=0.3, flip=True, rotation=10.0)
    np.testing.assert_array_equal(views(recipe, (1, 5)), views(recipe, (1, 5)))
    assert not np.array_equal(views(recipe, (1, 5)), views(recipe, (1, 6)))


def test_colors_are_normalized_for_the_network() -> None:
    import tensorflow as tf

    from cloud.training.augment import random_views

    plain = np.full((1, 32, 32, 3), (0, 51, 255), np.uint8)
    view = np.asarray(random_views(tf.constant(plain), tf.constant((1, 1), tf.int32), PLAIN))
    np.testing.assert_allclose(view, np.broadcast_to((-1, -0.6, 1), view.shape), atol=1e-5)


def test_about_half_of_the_views_are_mirrored() -> None:
    plain = views(PLAIN, (1, 1))
    mirrored = views(replace(PLAIN, flip=True), (1, 1))
    same = [np.allclose(a, b, atol=0.05) for a, b in zip(plain, mirrored, strict=True)]
    turned = [np.allclose(a[:, ::-1], b, atol=0.05) for a, b in zip(plain, mirrored, strict=True)]
    assert all(a != b for a, b in zip(same, turned, strict=True))
    assert 0 < sum(turned) < 6


def test_views_stay_within_the_range_of_pictures() -> None:
    recipe = replace(PLAIN, crop_area=0.25, jitter=0.9, flip=True, rotation=45.0)
    changed = views(recipe, (2, 9), side=48)
    assert changed.shape == (6, 32, 32, 3)
    assert changed.min() >= -1.0001 and changed.max() <= 1.0001
