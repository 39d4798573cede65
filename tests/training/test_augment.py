"""A batch of views follows from its parameters alone, and from nothing where every effect is off."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from cloud.training.augment import ShopCamera, draw_parameters, name_effects
from cloud.training.recipe import Recipe
from edge.image import fit
from tests.training.augment_on_jax import ALL, COUNT, IS_PACKSHOT, SIDE, SIZE, draw_pictures, photograph

pytestmark = pytest.mark.training
PLAIN = Recipe(input_size=SIZE, crop_area=1.0, jitter=0.0, flip=False)
SHARES = (
    *("perspective", "blur", "motion", "noise", "jpeg", "low_resolution"),
    *("glare", "color_temperature", "occlusion", "paste"),
)


def test_the_same_seed_gives_the_same_views_and_another_one_others() -> None:
    pictures = draw_pictures()
    views = photograph(ALL, pictures, IS_PACKSHOT, seed=3)
    np.testing.assert_array_equal(views, photograph(ALL, pictures, IS_PACKSHOT, seed=3))
    assert not np.array_equal(views, photograph(ALL, pictures, IS_PACKSHOT, seed=4))


def test_with_every_effect_off_a_view_is_the_picture_as_the_device_shrinks_it() -> None:
    pictures = draw_pictures()
    views = photograph(replace(PLAIN, crop_area=1.0), pictures, IS_PACKSHOT)
    for picture, view in zip(pictures, views, strict=True):
        aspect_may_cut = np.abs(view - fit(picture, SIZE)).mean()
        assert aspect_may_cut < 40
    whole = {"pictures": pictures, **parameters(PLAIN), "box": np.tile(np.float32([0, 0, 1, 1]), (COUNT, 1))}
    for picture, view in zip(pictures, np.asarray(ShopCamera(PLAIN, COUNT, SIZE)(whole)), strict=True):
        np.testing.assert_allclose((view + 1) * 127.5, fit(picture, SIZE), atol=1.01)


def parameters(recipe: Recipe, seed: int = 1, count: int = COUNT) -> dict[str, np.ndarray]:
    packshots = np.arange(count) % 2 == 0
    return draw_parameters(recipe, count, recipe.input_size, np.random.default_rng(seed), packshots)


def test_colors_are_normalized_for_the_network() -> None:
    plain = np.full((2, SIDE, SIDE, 3), (0, 51, 255), np.uint8)
    inputs = {"pictures": plain, **parameters(PLAIN, count=2)}
    view = np.asarray(ShopCamera(PLAIN, 2, SIZE)(inputs))
    np.testing.assert_allclose(view, np.broadcast_to((-1, -0.6, 1), view.shape), atol=1e-5)


@pytest.mark.parametrize("size", [32, 64, 80])
def test_views_of_any_size_stay_within_the_range_of_pictures(size: int) -> None:
    views = photograph(replace(ALL, input_size=size), draw_pictures(), IS_PACKSHOT)
    assert views.shape == (COUNT, size, size, 3)
    assert np.isfinite(views).all()
    assert views.min() >= 0 and views.max() <= 255


def test_parameters_have_one_row_a_view_and_the_same_shapes_in_every_batch() -> None:
    none, every = np.zeros(COUNT, bool), np.ones(COUNT, bool)
    batches = [
        draw_parameters(ALL, COUNT, SIZE, np.random.default_rng(seed), packshots)
        for seed, packshots in enumerate([none, every, IS_PACKSHOT])
    ]
    assert all(len(array) == COUNT for array in batches[0].values())
    described = [{name: (a.shape, a.dtype) for name, a in batch.items()} for batch in batches]
    assert described[0] == described[1] == described[2]


@pytest.mark.parametrize("effect", SHARES)
def test_an_effect_changes_its_share_of_the_views_and_no_others(effect: str) -> None:
    pictures = draw_pictures()
    with_it = replace(PLAIN, packshots_per_batch=4, **{effect: 0.5})
    before, after = photograph(PLAIN, pictures, IS_PACKSHOT), photograph(with_it, pictures, IS_PACKSHOT)
    changed = np.abs(after - before).max(axis=(1, 2, 3)) > 0.01
    told = [bool(names) for names in name_effects(with_it, parameters(with_it))]
    assert changed.tolist() == told
    # Half of the four packshots, where each is pasted by chance; half of the eight views of the others.
    assert sum(told) in ((0, 1, 2) if effect == "paste" else (4,))


def test_an_effect_that_is_switched_on_leaves_the_others_as_they_were() -> None:
    before, after = parameters(replace(ALL, noise=0.0)), parameters(ALL)
    assert set(after) - set(before) == {"noise_order", "noise_sigma", "noise_row", "noise_field"}
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name])


def test_a_batch_of_one_and_an_odd_size_work() -> None:
    recipe = replace(ALL, input_size=33, packshots_per_batch=1)
    views = photograph(recipe, draw_pictures(1, 40), np.array([True]))
    assert views.shape == (1, 33, 33, 3) and np.isfinite(views).all()


def test_backgrounds_may_come_from_outside_the_batch() -> None:
    recipe = replace(PLAIN, paste=1.0, packshots_per_batch=4)
    pictures = draw_pictures()
    red = np.full_like(pictures, (200, 0, 0))
    camera = ShopCamera(recipe, COUNT, SIZE)
    views = np.asarray(camera({"pictures": pictures, "backgrounds": red, **parameters(recipe)}))
    corners = (views[IS_PACKSHOT][:, 2, 2] + 1) * 127.5
    np.testing.assert_allclose(corners, np.broadcast_to((200, 0, 0), corners.shape), atol=1)


def test_the_layer_is_a_part_of_a_keras_model() -> None:
    pictures, drawn = draw_pictures(), parameters(ALL)
    inputs = {
        name: keras.Input(batch_shape=array.shape, dtype=str(array.dtype), name=name)
        for name, array in {"pictures": pictures, **drawn}.items()
    }
    camera = ShopCamera(ALL, COUNT, SIZE)
    model = keras.Model(inputs, camera(inputs))
    assert not model.weights
    in_a_graph = model.predict_on_batch({"pictures": pictures, **drawn})
    np.testing.assert_allclose(in_a_graph, camera({"pictures": pictures, **drawn}), atol=0.05)


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_tensorflow_and_jax_make_the_same_views(tmp_path: Path) -> None:
    theirs = tmp_path / "jax.npy"
    program = Path(__file__).with_name("augment_on_jax.py")
    environment = {
        **os.environ,
        **{"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])},
    }
    done = subprocess.run(
        [sys.executable, program, theirs], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    away = np.abs(photograph(ALL, draw_pictures(), IS_PACKSHOT) - np.load(theirs))
    # Where JPEG rounds to a step, the last bit of a sum may decide between two of them.
    assert np.mean(away < 0.01) > 0.98
    assert away.mean() < 0.1
