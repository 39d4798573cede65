"""The eight ways in which pictures are spoiled, held to ImageNet-C's definitions."""

import numpy as np
import pytest

from cloud.evaluation.corruptions import CORRUPTIONS, STRENGTHS
from edge.errors import BadSetting
from edge.image import Picture

SIZE = 224


def scene(size: int = SIZE) -> Picture:
    """Draw something with edges, colors and shades, nowhere black or white."""
    rng = np.random.default_rng(7)
    picture = np.zeros((size, size, 3))
    for cells in (4, 8, 16, 32):
        coarse = rng.uniform(-18, 18, (cells, cells, 3))
        picture += np.kron(coarse, np.ones((size // cells, size // cells, 1)))
    return (125 + picture).astype(np.uint8)


def distance(one: Picture, other: Picture) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_spoiled_picture_is_a_picture_and_the_stronger_the_farther(name: str) -> None:
    picture = scene()
    spoiled = [CORRUPTIONS[name](picture, strength, 3) for strength in STRENGTHS]
    assert all(each.shape == picture.shape and each.dtype == np.uint8 for each in spoiled)
    distances = [distance(picture, each) for each in spoiled]
    assert 0.3 < distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_spoils_alike_and_the_picture_itself_stays(name: str) -> None:
    picture = scene()
    before = picture.copy()
    once, again = (CORRUPTIONS[name](picture, 3, 11) for _ in range(2))
    assert np.array_equal(once, again)
    assert np.array_equal(picture, before)


@pytest.mark.parametrize("name", ["noise", "motion", "occlusion"])
def test_what_is_drawn_by_chance_differs_by_the_seed(name: str) -> None:
    assert not np.array_equal(CORRUPTIONS[name](scene(), 3, 1), CORRUPTIONS[name](scene(), 3, 2))


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [32, 96, 192])
def test_pictures_of_every_input_size_can_be_spoiled(name: str, size: int) -> None:
    assert CORRUPTIONS[name](scene(size), 5, 1).shape == (size, size, 3)


@pytest.mark.parametrize(("name", "steps"), [("bright", (0.1, 0.3, 0.5)), ("dark", (-0.1, -0.3, -0.5))])
def test_light_is_added_to_the_value_of_hsv_and_hue_and_saturation_stay(
    name: str, steps: tuple[float, ...]
) -> None:
    picture = np.full((SIZE, SIZE, 3), (150, 100, 50), np.uint8)
    for strength, step in zip(STRENGTHS, steps, strict=True):
        found = CORRUPTIONS[name](picture, strength, 1)[0, 0].astype(float)
        value = np.clip(150 + 255 * step, 0, 255)
        assert np.allclose(found, [value, value * 2 / 3, value / 3], atol=1)


def test_black_stays_black_in_the_dark_and_becomes_gray_in_the_light() -> None:
    black = np.zeros((SIZE, SIZE, 3), np.uint8)
    assert CORRUPTIONS["dark"](black, 5, 1).max() == 0
    assert np.unique(CORRUPTIONS["bright"](black, 1, 1)).tolist() == [26]


@pytest.mark.parametrize("name", ["defocus", "motion"])
def test_a_blur_leaves_an_even_picture_even_up_to_its_edges(name: str) -> None:
    even = np.full((SIZE, SIZE, 3), (40, 90, 200), np.uint8)
    assert distance(CORRUPTIONS[name](even, 5, 1), even) < 0.01


def test_a_point_out_of_focus_becomes_a_disk_of_the_radius_that_is_defined() -> None:
    point = np.zeros((SIZE, SIZE, 3), np.uint8)
    # A bright spot that is small against the disk.
    point[109:114, 109:114] = 255
    for strength, radius in zip(STRENGTHS, (3, 6, 10), strict=True):
        lit = np.flatnonzero(CORRUPTIONS["defocus"](point, strength, 1)[111, :, 0])
        assert abs((lit[-1] - lit[0] + 1) - (2 * radius + 5)) <= 2


def test_a_blur_is_as_wide_in_a_small_picture_as_in_a_large_one_for_its_size() -> None:
    def width(size: int) -> float:
        edge = np.zeros((size, size, 3), np.uint8)
        edge[:, size // 2 :] = 255
        row = CORRUPTIONS["defocus"](edge, 5, 1)[size // 2, :, 0]
        return float(((row > 5) & (row < 250)).mean())

    assert width(96) == pytest.approx(width(224), abs=0.02)


def test_noise_has_the_deviation_that_is_defined() -> None:
    gray = np.full((SIZE, SIZE, 3), 128, np.uint8)
    noisy = CORRUPTIONS["noise"](gray, 1, 5).astype(float) / 255
    assert noisy.std() == pytest.approx(0.08, abs=0.002)


def test_low_resolution_leaves_as_few_different_pixels_as_is_defined() -> None:
    rows = CORRUPTIONS["low_resolution"](scene(), 5, 1)[:, :, 0]
    changes = np.flatnonzero((np.diff(rows.astype(int), axis=1) != 0).any(axis=0))
    assert len(changes) + 1 <= SIZE // 4 + 1


def test_the_covered_share_is_as_defined_and_lies_within_the_picture() -> None:
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    for strength, share in zip(STRENGTHS, (0.10, 0.25, 0.40), strict=True):
        for seed in range(20):
            covered = CORRUPTIONS["occlusion"](picture, strength, seed).any(axis=2)
            assert covered.mean() == pytest.approx(share, abs=0.01)


def test_another_strength_or_a_picture_that_is_not_square_is_refused() -> None:
    with pytest.raises(BadSetting, match="no strength 2"):
        CORRUPTIONS["dark"](scene(), 2, 1)
    with pytest.raises(BadSetting, match="not square"):
        CORRUPTIONS["dark"](scene()[:100], 1, 1)
