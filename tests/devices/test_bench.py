"""The benchmark measures the device's own road, and says what it measured."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from devices.bench_release import clustered_vectors, install_bench, model_of_release
from devices.bench_scene import draw_shelf_photo
from devices.commands import main
from edge.errors import BadSetting
from edge.image import Picture, decode
from edge.matcher import Matcher
from edge.model import Model


def test_the_photo_is_always_the_same_and_as_heavy_as_a_cameras() -> None:
    photo = draw_shelf_photo(0)
    assert photo == draw_shelf_photo(0)
    assert photo != draw_shelf_photo(1)
    assert decode(photo).shape == (720, 1280, 3)
    assert 120_000 < len(photo) < 300_000


@pytest.mark.parametrize("size", [(640, 480), (1001, 777), (1200, 1600)])
def test_a_photo_of_any_size_is_as_heavy_as_its_pixels(size: tuple[int, int]) -> None:
    photo = draw_shelf_photo(0, size)
    assert decode(photo).shape == (size[1], size[0], 3)
    assert 0.15 < len(photo) / (size[0] * size[1]) < 0.35


def test_a_larger_photo_is_drawn_and_not_enlarged() -> None:
    size = (1920, 1080)
    enlarged = np.asarray(Image.open(BytesIO(draw_shelf_photo(0))).resize(size))
    assert _fineness(decode(draw_shelf_photo(0, size))) > 1.5 * _fineness(enlarged)


def _fineness(picture: Picture) -> float:
    return float(np.abs(np.diff(picture.astype(np.float32), n=2, axis=1)).mean())


def test_invented_photos_lie_as_those_of_real_products_do() -> None:
    vectors = clustered_vectors(200, 5, 64, np.random.default_rng(1))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-5)
    within = np.einsum("pd,pd->p", vectors[:, 0], vectors[:, 1]).mean()
    between = np.einsum("pd,pd->p", vectors[:-1, 0], vectors[1:, 0]).mean()
    assert 0.7 < within < 0.9
    assert between < 0.2


def test_the_installed_bench_release_answers_its_own_photos(tmp_path: Path, tiny_model: Model) -> None:
    bench = install_bench(tiny_model, tiny_model.variant(), 103, tmp_path / "device")
    matcher = Matcher.open(tmp_path / "device" / "releases" / "2")
    assert matcher.stack.row_count == bench.vectors == 103
    assert len(matcher.release.golden) == 4
    best = matcher.match_photo(bench.photo).candidates[0]
    assert best.product.sku == "shelf-0"
    assert best.similarity > 0.99


def test_too_few_vectors_are_refused(tmp_path: Path, tiny_model: Model) -> None:
    with pytest.raises(BadSetting, match="3 vectors"):
        install_bench(tiny_model, tiny_model.variant(), 3, tmp_path)


def test_a_folder_without_a_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="holds no release"):
        model_of_release(tmp_path)


def test_bench_prints_every_figure_as_json(tiny_model: Model) -> None:
    arguments = ["bench", "--model", str(tiny_model.folder), "--vectors", "500", "--rounds", "20", "--json"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    figures = json.loads(done.output)
    assert sorted(figures) == [
        "cold_start_s",
        "decode_ms",
        "floor_ms",
        "invoke_ms",
        "ratio_to_floor",
        "rss_mb",
        "scan_ms",
        "search_ms",
        "vectors",
    ]
    assert figures["vectors"] == 500
    assert 0 < figures["scan_ms"]["p50"] <= figures["scan_ms"]["p99"]
    assert figures["floor_ms"] >= max(figures["invoke_ms"], figures["decode_ms"])
    assert figures["ratio_to_floor"] == pytest.approx(
        figures["scan_ms"]["p50"] / figures["floor_ms"], abs=0.01
    )
    assert 0.05 < figures["cold_start_s"] < 30
    assert 20 < figures["rss_mb"] < 150


def test_bench_measures_the_installed_release_and_leaves_it_alone(tmp_path: Path, tiny_model: Model) -> None:
    data = tmp_path / "device"
    install_bench(tiny_model, tiny_model.variant(), 50, data)
    before = sorted(data.rglob("*"))
    done = CliRunner().invoke(main, ["bench", "--vectors", "100", "--rounds", "10", "--data", str(data)])
    assert done.exit_code == 0, done.output
    assert "ratio to floor" in done.output
    assert "100 vectors" in done.output
    assert sorted(data.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--model", "nowhere"], 1, "error: nowhere is no model folder"),
        (["--data", "nowhere"], 1, "error: no release is installed"),
        (["--vectors", "1"], 2, "Invalid value for '--vectors'"),
    ],
)
def test_bench_says_in_one_sentence_what_is_missing(arguments: list[str], code: int, said: str) -> None:
    done = CliRunner().invoke(main, ["bench", *arguments])
    assert done.exit_code == code
    assert said in done.output
