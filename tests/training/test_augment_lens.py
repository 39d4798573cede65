"""Blur takes detail away, noise adds it, JPEG makes blocks: each as the camera parts they imitate."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cloud.training.augment import optics, sensor
from cloud.training.recipe import Recipe
from edge.image import fit
from tests.training.augment_on_jax import draw_pictures

pytestmark = pytest.mark.training


def detail(views: np.ndarray) -> np.ndarray:
    """Return the mean squared gradient of each view."""
    return sum((np.diff(views, axis=axis) ** 2).mean(axis=(1, 2, 3)) for axis in (1, 2))


def textured(count: int, side: int = 64) -> NDArray[np.float32]:
    """Draw gray noise of several scales, with as much detail along as across."""
    random = np.random.default_rng(2)
    layers = [
        np.kron(random.normal(0, 20, (count, side // s, side // s, 3)), np.ones((1, s, s, 1)))
        for s in (1, 4, 16)
    ]
    return np.clip(128 + sum(layers), 0, 255).astype(np.float32)


def test_kernels_add_up_to_one_and_fit_their_square() -> None:
    drawn = optics.draw(Recipe(blur=0.5, motion=0.5), 16, 192, np.random.default_rng(0))
    kernels = drawn["blur_kernel"]
    assert kernels.shape == (16, optics.kernel_side(192), optics.kernel_side(192))
    np.testing.assert_allclose(kernels.sum(axis=(1, 2)), 1, rtol=1e-5)
    assert kernels.min() >= 0
    # Nothing is cut off: the outermost ring has little left of the longest line.
    assert (kernels[:, 0].sum(axis=1) + kernels[:, -1].sum(axis=1)).max() < 0.2


@pytest.mark.parametrize("effect", ["blur", "motion"])
def test_blur_takes_detail_away_and_keeps_the_light(effect: str) -> None:
    views = textured(8)
    drawn = optics.draw(Recipe(**{effect: 1.0}), 8, 64, np.random.default_rng(0))
    smeared = np.asarray(optics.blur(views, drawn, 8))
    assert (detail(smeared) < 0.95 * detail(views)).all()
    np.testing.assert_allclose(smeared.mean(axis=(1, 2, 3)), views.mean(axis=(1, 2, 3)), rtol=0.02)


def test_each_view_is_smeared_by_its_own_kernel() -> None:
    points = np.zeros((3, 31, 31, 3), np.float32)
    points[:, 15, 15] = 1
    drawn = optics.draw(Recipe(motion=1.0), 3, 128, np.random.default_rng(0))
    reach = drawn["blur_kernel"].shape[1] // 2
    smeared = np.asarray(optics.blur(points, drawn, 3))[:, 15 - reach : 16 + reach, 15 - reach : 16 + reach]
    for order, kernel in zip(drawn["blur_order"], drawn["blur_kernel"], strict=True):
        for color in range(3):
            np.testing.assert_allclose(smeared[order, :, :, color], kernel[::-1, ::-1], atol=1e-5)


def test_motion_smears_along_its_way_and_not_across() -> None:
    across, along = optics._lines(np.array([9.0, 9.0]), np.array([0, np.pi / 2]), 11)
    assert (across > 0.01).any(axis=0).sum() >= 9 and (across > 0.01).any(axis=1).sum() == 1
    np.testing.assert_allclose(across, along.T, atol=1e-9)


def test_too_few_pixels_are_those_of_a_shrunk_and_enlarged_picture() -> None:
    picture = draw_pictures(1)[0]
    drawn = {"coarse_order": np.array([0], np.int32), "coarse": np.array([4.0], np.float32)}
    coarse = np.asarray(optics.coarsen(picture[None].astype(np.float32), drawn, 1))[0]
    np.testing.assert_allclose(coarse, fit(fit(picture, 16), 64), atol=2.5)


def test_too_few_pixels_take_more_detail_the_fewer_they_are() -> None:
    views = textured(3)
    drawn = {"coarse_order": np.arange(3, dtype=np.int32), "coarse": np.array([1.5, 2.5, 4.0], np.float32)}
    left = detail(np.asarray(optics.coarsen(views, drawn, 3))) / detail(views)
    assert 1 > left[0] > left[1] > left[2] > 0


def test_noise_has_the_deviation_it_was_drawn_with_and_is_stronger_in_the_light() -> None:
    recipe = Recipe(noise=1.0)
    drawn = sensor.draw_noise(recipe, 12, 64, np.random.default_rng(0))
    for level, share in ((250.0, 1.0), (10.0, 0.57)):
        flat = np.full((12, 64, 64, 3), level, np.float32)
        noise = np.asarray(sensor.add_noise(flat, drawn, 12)) - flat
        deviation = noise.std(axis=(1, 2, 3))[drawn["noise_order"]]
        np.testing.assert_allclose(deviation, np.abs(drawn["noise_sigma"]) * share, rtol=0.12)
        assert np.abs(noise.mean(axis=(1, 2, 3))).max() < 3
    assert np.abs(drawn["noise_sigma"]).max() <= sensor.LARGEST_NOISE


def test_noise_adds_detail_and_no_two_views_have_the_same() -> None:
    drawn = sensor.draw_noise(Recipe(noise=1.0), 8, 64, np.random.default_rng(1))
    drawn["noise_sigma"][:] = 15
    flat = np.full((8, 64, 64, 3), 120, np.float32)
    noise = np.asarray(sensor.add_noise(flat, drawn, 8)) - flat
    assert (detail(noise) > 20).all()
    likeness = np.corrcoef(noise.reshape(8, -1)) - np.eye(8)
    assert np.abs(likeness).max() < 0.2


def test_some_noise_has_grains_of_two_pixels() -> None:
    drawn = sensor.draw_noise(Recipe(noise=1.0), 16, 64, np.random.default_rng(1))
    flat = np.full((16, 64, 64, 3), 120, np.float32)
    noise = (np.asarray(sensor.add_noise(flat, drawn, 16)) - flat)[..., 0]
    beside = [np.corrcoef(view[:, 1:].ravel(), view[:, :-1].ravel())[0, 1] for view in noise]
    coarse = np.array(beside) > 0.3
    assert 0 < coarse.sum() < 16


@pytest.mark.parametrize("quality", [15, 40, 60])
def test_jpeg_is_what_an_encoder_of_that_quality_makes(quality: int) -> None:
    picture = fit(draw_pictures(1)[0], 64)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=2)
    theirs = np.asarray(Image.open(buffer)).astype(np.float32)
    drawn = {"jpeg_order": np.array([0], np.int32), "jpeg_quality": np.array([quality], np.float32)}
    ours = np.asarray(sensor.compress(picture[None].astype(np.float32), drawn, 1))[0]
    # Decoders differ in how they enlarge the colors: what is lost is the same, to a fraction.
    lost = np.abs(theirs - picture).mean()
    assert np.abs(ours - theirs).mean() < 0.5 * lost
    assert np.abs(ours - picture).mean() == pytest.approx(lost, rel=0.35)


def test_jpeg_makes_blocks_of_eight_pixels() -> None:
    y, x = np.mgrid[:64, :64]
    ramp = np.repeat((x + y)[..., None] * 1.6 + 20, 3, 2)[None].astype(np.float32)
    drawn = {"jpeg_order": np.array([0], np.int32), "jpeg_quality": np.array([5], np.float32)}
    steps = np.abs(np.diff(np.asarray(sensor.compress(ramp, drawn, 1))[0, :, :, 0], axis=1)).mean(axis=0)
    at_edges = np.arange(63) % 8 == 7
    assert steps[at_edges].mean() > 2 * steps[~at_edges].mean()


def test_jpeg_of_the_best_quality_changes_next_to_nothing_of_gray() -> None:
    gray = np.repeat(textured(1)[..., :1], 3, 3)
    drawn = {"jpeg_order": np.array([0], np.int32), "jpeg_quality": np.array([100], np.float32)}
    assert np.abs(np.asarray(sensor.compress(gray, drawn, 1)) - gray).mean() < 0.6


@pytest.mark.parametrize("side", [33, 40, 64])
def test_jpeg_takes_views_that_blocks_do_not_divide(side: int) -> None:
    views = textured(2, 64)[:, :side, :side]
    drawn = sensor.draw_jpeg(Recipe(jpeg=1.0), 2, np.random.default_rng(0))
    compressed = np.asarray(sensor.compress(views, drawn, 2))
    assert compressed.shape == views.shape
    assert np.abs(compressed - views).mean() < 40


def test_the_cosine_transform_keeps_lengths() -> None:
    cosines = sensor._cosines()
    np.testing.assert_allclose(cosines @ cosines.T, np.eye(64), atol=1e-6)
