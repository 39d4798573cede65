"""The quality gate: it stops what nobody could recognize, says why, and lets the rest pass."""

import inspect
import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from edge import matcher, quality
from edge.errors import PhotoUnreadable
from edge.image import Picture, fit
from edge.quality import PROBLEMS, extent, glare, light, quality_problem, sharpness
from tests.edge.drawn_release import draw_pack

MEASURED = Path(__file__).resolve().parents[2] / "benchmarks/results/quality-gate/result.json"
DOCUMENT = MEASURED.parents[3] / "docs/explanation.md"
SIZE = 224
THRESHOLDS = {
    "too_dark": quality.DARKEST_HIGHLIGHT,
    "too_bright": quality.LIGHTEST_SHADOW,
    "glare": quality.MOST_GLARE,
    "blurred": quality.LEAST_SHARPNESS,
    "too_far": quality.LEAST_EXTENT,
}


def scene(seed: int = 3) -> Picture:
    """Draw a pack with print on it before a shelf of other packs, as the network is given it."""
    rng = np.random.default_rng(seed)
    picture = np.repeat(np.repeat(rng.integers(20, 236, (8, 8, 3)), 28, axis=0), 28, axis=1)
    picture[40:190, 60:170] = rng.integers(60, 200, 3)
    for top in range(60, 170, 12):
        picture[top : top + 4, 72 : 72 + int(rng.integers(40, 90))] = 235
    seen = picture + rng.normal(0, 2, picture.shape)
    return seen.clip(0, 255).astype(np.uint8)


def blurred(picture: Picture, radius: float) -> Picture:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.BoxBlur(radius)))


def moved(picture: Picture, way: int, axis: int) -> Picture:
    """Average the picture along a straight way of so many pixels."""
    steps = [np.roll(picture.astype(np.float32), step, axis) for step in range(way)]
    return np.mean(steps, axis=0).astype(np.uint8)


def lit(picture: Picture, radius: float, *, at: tuple[int, int] = (110, 118)) -> Picture:
    """Let a light shine on the picture at (down, across) that fades out over `radius` pixels."""
    down, across = np.mgrid[: picture.shape[0], : picture.shape[1]]
    away = np.hypot(down - at[0], across - at[1]) / radius
    return (picture + 330 * np.exp(-(away**2))[:, :, np.newaxis]).clip(0, 255).astype(np.uint8)


def on_a_wall(thing: Picture, side: int) -> Picture:
    """Show a thing so small before a wall that is lit from one side."""
    wall = np.linspace(170, 205, SIZE)[np.newaxis, :, np.newaxis] * np.ones((SIZE, 1, 3))
    wall[90 : 90 + side, 60 : 60 + side] = fit(thing, side)
    noise = np.random.default_rng(1).normal(0, 1.5, wall.shape)
    return (wall + noise).clip(0, 255).astype(np.uint8)


# --- what is stopped ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_good_picture_has_no_problem(seed: int) -> None:
    assert quality_problem(scene(seed)) is None


def test_only_light_that_leaves_nothing_to_see_is_a_problem() -> None:
    covered_lens = np.random.default_rng(1).integers(0, 12, (300, 400, 3), dtype=np.uint8)
    bare_wall = np.full((300, 400, 3), (180, 170, 150), np.uint8)
    assert quality_problem(covered_lens) == "too_dark"
    assert quality_problem(np.full((300, 400, 3), 254, np.uint8)) == "too_bright"
    assert quality_problem(bare_wall) == "nothing_in_view"
    assert quality_problem(np.full((16, 16, 3), 128, np.uint8)) == "nothing_in_view"
    assert quality_problem((scene() * 0.35).astype(np.uint8)) is None
    assert quality_problem((scene() * 0.12).astype(np.uint8)) == "too_dark"


def test_a_wall_in_uneven_light_is_nothing_and_not_out_of_focus() -> None:
    light_from_above = np.linspace(170, 80, SIZE)[:, np.newaxis, np.newaxis] * np.ones((1, SIZE, 3))
    assert quality_problem(light_from_above.astype(np.uint8)) == "nothing_in_view"


def test_blur_lowers_sharpness_step_by_step_until_it_is_a_problem() -> None:
    ladder = [blurred(scene(), radius) for radius in (0, 1, 2, 4, 6, 9)]
    found = [sharpness(picture) for picture in ladder]
    assert all(sharper > softer for sharper, softer in pairwise(found))
    problems = [quality_problem(picture) for picture in ladder]
    assert problems[:2] == [None, None]
    assert problems[-3:] == ["blurred"] * 3


@pytest.mark.parametrize("axis", [0, 1])
def test_motion_in_either_direction_is_blur(axis: int) -> None:
    assert quality_problem(moved(scene(), 2, axis)) is None
    assert quality_problem(moved(scene(), 24, axis)) == "blurred"


def test_a_camera_that_moves_sideways_is_not_sharp_for_its_sharp_lines_across() -> None:
    one_way = moved(scene(), 16, 1)
    assert sharpness(one_way) == pytest.approx(sharpness(one_way.transpose(1, 0, 2)), rel=0.1)


def test_a_light_that_grows_becomes_glare() -> None:
    found = [glare(lit(scene(), radius)) for radius in (1, 30, 60, 90, 120)]
    assert all(less < more for less, more in pairwise(found))
    assert quality_problem(lit(scene(), 30)) is None
    assert quality_problem(lit(scene(), 120)) == "glare"


def test_the_white_ground_of_a_packshot_is_no_glare() -> None:
    for seed in range(8):
        packshot = draw_pack(seed, SIZE)
        assert glare(packshot) == 0.0
        assert quality_problem(packshot) is None


def test_the_soft_shadow_under_a_packshot_is_no_glare_and_a_lamp_that_leaves_the_border_is() -> None:
    down, across = np.mgrid[:SIZE, :SIZE]
    away = np.hypot((down - 150) / 60, (across - 112) / 90)
    shadow = (255 - 180 * np.clip(1 - away, 0, 1) ** 2)[:, :, np.newaxis] * np.ones(3)
    shadow[30:150, 50:170] = 90
    assert glare(shadow.astype(np.uint8)) == 0.0
    assert quality_problem(shadow.astype(np.uint8)) is None
    darker_around = shadow.copy()
    darker_around[[0, 1, 2, 3, -1, -2, -3, -4]] = 60
    darker_around[:, [0, 1, 2, 3, -1, -2, -3, -4]] = 60
    assert glare(darker_around.astype(np.uint8)) > 0.05


def test_a_thing_far_away_before_a_plain_wall_is_too_far() -> None:
    thing = scene()[40:190, 60:170]
    assert [quality_problem(on_a_wall(thing, side)) for side in (110, 95, 70, 30)] == [
        None, None, "too_far", "too_far",
    ]  # fmt: skip


def test_how_far_a_thing_is_before_a_busy_ground_is_not_guessed() -> None:
    crowd = scene(4)
    crowd[90:120, 60:90] = fit(scene()[40:190, 60:170], 30)
    assert quality_problem(crowd) is None


def test_extent_is_the_box_around_what_stands_out() -> None:
    picture = np.full((SIZE, SIZE, 3), 200, np.uint8)
    picture[50:100, 40:140] = 60
    assert extent(picture, 140) == pytest.approx(50 * 100 / SIZE**2, rel=0.02)
    assert extent(np.full((SIZE, SIZE, 3), 200, np.uint8), 0) == 0.0


def test_light_is_told_by_the_brightest_and_the_darkest_channel() -> None:
    blue = np.zeros((64, 64, 3), np.uint8)
    blue[..., 2] = 180
    assert light(blue) == (0.0, 180.0, 0.0)
    blue[:2, :3] = 255  # six of 1024 of the grid: a spark
    assert light(blue)[:2] == (0.0, 180.0)


# --- at any size -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [160, 192, 224, 288])
def test_the_verdict_does_not_hang_on_the_size_of_the_network(size: int) -> None:
    sharp = Image.fromarray(scene()).resize((900, 900), Image.Resampling.BICUBIC)
    smeared = sharp.filter(ImageFilter.GaussianBlur(22))
    assert quality_problem(fit(np.asarray(sharp), size)) is None
    assert quality_problem(fit(np.asarray(smeared), size)) == "blurred"


def test_a_large_picture_is_judged_as_a_network_would_see_it() -> None:
    large = np.asarray(Image.fromarray(scene()).resize((1600, 1200), Image.Resampling.BICUBIC))
    assert sharpness(large) < quality.LEAST_SHARPNESS  # pixel by pixel it is soft, as every large photo is
    assert quality_problem(large) is None


def test_where_there_is_no_contrast_nothing_is_called_blurred() -> None:
    faint = (120 + 0.06 * blurred(scene(), 6).astype(np.float32)).astype(np.uint8)
    assert sharpness(blurred(scene(), 6)) < quality.LEAST_SHARPNESS
    assert sharpness(faint) == 1.0


def test_a_tiny_picture_is_not_called_blurred() -> None:
    assert sharpness(fit(scene(), 16)) == 1.0


@pytest.mark.parametrize("wrong", [np.zeros((20, 20, 4), np.uint8), np.zeros((20, 20, 3), np.float32)])
def test_what_is_no_picture_is_refused(wrong: Picture) -> None:
    with pytest.raises(PhotoUnreadable, match="height, width, 3"):
        quality_problem(wrong)


# --- what is documented is what is done --------------------------------------------------------------------


def test_every_reason_that_an_answer_can_have_is_documented_and_no_other() -> None:
    section = DOCUMENT.read_text(encoding="utf-8").split("## Reasons")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", section, flags=re.MULTILINE)
    verdicts = {"match", "unsure", "unknown"}
    given = set(re.findall(r'"([a-z_]+)"', inspect.getsource(matcher._judge))) - verdicts
    assert {reason for reason, _ in documented} == given | set(PROBLEMS)
    assert {reason for reason, verdict in documented if verdict == "unsure"} >= set(PROBLEMS)


def test_the_documented_thresholds_are_those_in_the_code() -> None:
    section = DOCUMENT.read_text(encoding="utf-8").split("## The quality gate")[1]
    rows = re.findall(r"^\| `(\w+)` \|.*\| (?:below|above) ([\d.]+)", section, flags=re.MULTILINE)
    assert {reason: float(threshold) for reason, threshold in rows} == {
        **THRESHOLDS,
        "nothing_in_view": quality.LEAST_SPREAD,
    }


# --- the thresholds are those that were measured -----------------------------------------------------------


def test_the_thresholds_are_the_measured_ones_and_no_looser() -> None:
    gates = json.loads(MEASURED.read_bytes())["gates"]
    assert set(gates) == set(PROBLEMS) - {"nothing_in_view"}  # there, nothing is there to be answered
    assert {name: gate["threshold"] for name, gate in gates.items()} == THRESHOLDS
    assert all(gate["strict_enough"] for gate in gates.values())


def test_what_was_measured_stops_few_good_pictures_and_mostly_wrong_answers() -> None:
    result = json.loads(MEASURED.read_bytes())
    assert {name: kind["stopped"] for name, kind in result["good"].items() if kind["stopped"] > 0.005} == {}
    assert result["all_spoiled"]["right_of_stopped"] < 0.5 < result["all_spoiled"]["right_of_passed"]
