"""Light, exposure, lamps and glare do to the colors what they are named after."""

import numpy as np
import pytest

from cloud.training.augment import light
from cloud.training.recipe import Recipe

pytestmark = pytest.mark.training
OFF = Recipe(jitter=0.0)
NEUTRAL = {
    "gain": np.ones((1, 3), np.float32),
    "gamma": np.ones(1, np.float32),
    "saturation": np.ones(1, np.float32),
    "contrast": np.ones(1, np.float32),
}
ON = Recipe(jitter=0.4, exposure=1.0, color_temperature=0.5)


def some_views(count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(20, 230, (count, 24, 24, 3)).astype(np.float32)


def exposed(recipe: Recipe = ON, **changed: list[float] | list[list[float]]) -> np.ndarray:
    values = {name: np.array(value, np.float32) for name, value in changed.items()}
    return np.asarray(light.expose(some_views(), {**NEUTRAL, **values}, recipe))


def test_neutral_parameters_change_nothing() -> None:
    np.testing.assert_allclose(exposed(), some_views(), rtol=1e-3)


def test_gain_multiplies_each_color() -> None:
    np.testing.assert_allclose(exposed(gain=[[0.5, 1.0, 0.9]]), some_views() * (0.5, 1.0, 0.9), rtol=1e-3)


def test_no_saturation_is_gray_of_the_same_luminance() -> None:
    views = exposed(saturation=[0.0])
    luminance = some_views() @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(views, np.repeat(luminance[..., None], 3, 3), rtol=1e-3)


def test_contrast_widens_about_the_mean_and_keeps_it() -> None:
    views = exposed(Recipe(jitter=0.4), contrast=[1.5])
    luminance = (some_views() @ np.array([0.299, 0.587, 0.114])).mean()
    np.testing.assert_allclose(views - luminance, 1.5 * (some_views() - luminance), atol=0.05)


def test_gamma_bends_the_middle_and_keeps_black_and_white() -> None:
    ends = np.array([1.0, 127.5, 255.0], np.float32).reshape(1, 1, 1, 3)
    bent = np.asarray(
        light.expose(ends, {**NEUTRAL, "gamma": np.array([0.6], np.float32)}, Recipe(exposure=1.0))
    )
    assert bent[0, 0, 0, 1] == pytest.approx(255 * 0.5**0.6, rel=1e-3)
    assert bent[0, 0, 0, 2] == pytest.approx(255)


def test_exposure_moves_middle_gray_by_at_most_its_stops() -> None:
    recipe = Recipe(jitter=0.0, exposure=1.0)
    drawn = light.draw(recipe, 400, np.random.default_rng(0))
    gray = np.full((400, 1, 1, 3), 255 * 0.18 ** (1 / 2.2), np.float32)
    after = np.asarray(light.expose(gray, drawn, recipe))[:, 0, 0, 0]
    stops = 2.2 * np.log2(after / gray[:, 0, 0, 0])
    assert 0.9 < stops.max() < 1.01 and -1.01 < stops.min() < -0.9
    assert abs(stops.mean()) < 0.1


def test_a_lamp_shifts_colors_of_its_share_and_keeps_the_luminance_of_gray() -> None:
    drawn = light.draw(Recipe(jitter=0.0, color_temperature=0.25), 40, np.random.default_rng(0))
    shifted = np.abs(drawn["gain"] - 1).max(axis=1) > 0
    assert shifted.sum() == 10 and shifted.tolist() == drawn["color_shifted"].tolist()
    np.testing.assert_allclose(drawn["gain"] @ np.array([0.299, 0.587, 0.114]), 1, rtol=1e-5)
    red_to_blue = np.log(drawn["gain"][:, 0] / drawn["gain"][:, 2])
    assert red_to_blue.max() > 0.2 and red_to_blue.min() < -0.2


def test_jitter_stays_within_its_share() -> None:
    drawn = light.draw(Recipe(jitter=0.3), 500, np.random.default_rng(0))
    for name in ("saturation", "contrast"):
        assert 0.7 <= drawn[name].min() < 0.75 and 1.25 < drawn[name].max() <= 1.3
    assert drawn["gain"].min() > 0.62 and drawn["gain"].max() < 1.44


def test_glare_only_lightens_and_does_so_most_in_its_middle() -> None:
    recipe = Recipe(glare=1.0)
    drawn = light.draw_glare(recipe, 6, np.random.default_rng(0))
    views = np.repeat(some_views(), 6, axis=0)
    added = np.asarray(light.add_glare(views, drawn, 6)) - views
    assert added.min() >= 0
    for order, lamp in zip(drawn["glare_order"], drawn["glare"], strict=True):
        brightest = np.unravel_index(added[order, :, :, 0].argmax(), (24, 24))
        np.testing.assert_allclose(brightest, lamp[[1, 0]] * 24 - 0.5, atol=1.01)
    assert 0.3 * 255 * 0.7 < added.max() < 1.5 * 255


def test_no_glare_without_a_share() -> None:
    assert light.draw_glare(OFF, 4, np.random.default_rng(0)) == {}
    views = some_views(4)
    assert light.add_glare(views, {}, 0) is views
