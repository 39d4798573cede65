"""The benchmark measures the device's own road, and says what it measured."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from devices.bench import measure
from devices.bench_release import clustered_vectors, install_bench, model_of_release
from devices.bench_scene import draw_shelf_photo
from devices.bench_stages import STAGES, Spread, StageTimes, thread_counts
from devices.config import Settings
from devices.hardware import look
from edge.embedder import Embedder
from edge.errors import BadSetting
from edge.image import Picture, decode
from edge.matcher import Matcher
from edge.model import Model
from tests.conftest import DATA
from tests.devices.conftest import Shelfsight

TINY = DATA / "tiny-int8"


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


def test_bench_prints_every_figure_as_json(tiny_model: Model, shelfsight: Shelfsight) -> None:
    done = shelfsight("bench", "--model", tiny_model.folder, "--vectors", 500, "--rounds", 20, "--json")
    assert done.exit_code == 0, done.output
    figures = json.loads(done.output)
    path = tiny_model.path(tiny_model.variant())
    embedder = Embedder.open(path, dimension=tiny_model.dimension, input_size=tiny_model.input_size)
    assert sorted(figures) == [
        "budget",
        "cold_start_s",
        "counts",
        "decode_ms",
        "delegate",
        "fallback",
        "floor_ms",
        "invoke_ms",
        "model",
        "passes",
        "photos_per_s",
        "profile",
        "ratio_to_floor",
        "reference",
        "rss_mb",
        "runtime",
        "scan_ms",
        "search_method",
        "search_ms",
        "stages_ms",
        "stalled_share",
        "threads",
        "unaccounted_ms",
        "variant",
        "vectors",
        "wanted_delegate",
    ]
    assert figures["vectors"] == 500
    assert 0 < figures["scan_ms"]["p50"] <= figures["scan_ms"]["p99"]
    assert figures["floor_ms"] >= max(figures["invoke_ms"], figures["decode_ms"])
    assert figures["ratio_to_floor"] == pytest.approx(
        figures["scan_ms"]["p50"] / figures["floor_ms"], abs=0.01
    )
    assert 0.05 < figures["cold_start_s"] < 30
    assert 20 < figures["rss_mb"] < 150
    assert list(figures["stages_ms"]) == [*STAGES, "total"]
    assert figures["stages_ms"]["total"] == figures["scan_ms"]
    assert all(0 < each["p50"] <= each["p99"] for each in figures["stages_ms"].values())
    assert list(figures["photos_per_s"]) == [str(each) for each in thread_counts(look().cores)]
    assert (figures["wanted_delegate"], figures["variant"], figures["threads"]) == ("xnnpack", "int8", 1)
    assert figures["delegate"] == embedder.delegate
    assert figures["runtime"] == embedder.runtime
    assert figures["counts"] == (figures["stalled_share"] <= 0.01)


def test_what_an_answer_takes_beyond_its_stages_is_told_and_not_spread_over_them() -> None:
    round_s: dict[str, float] = {"decode": 4, "resize": 2, "gate": 1, "embed": 3, "search": 2, "decide": 1}
    round_s |= {"fitted": 5, "invoke": 2.5, "total": 12.5}
    times = StageTimes.of({name: [each / 1000] * 9 for name, each in round_s.items()})
    assert list(times.stages) == list(STAGES)
    assert {name: each.p50 for name, each in times.stages.items()} == pytest.approx(
        {name: round_s[name] for name in STAGES}
    )
    assert times.unaccounted_ms == pytest.approx(12.5 - (5 + 1 + 3 + 2 + 1))
    assert times.floor_ms == pytest.approx(6.5)


def test_the_slowest_of_a_hundred_is_told_beside_the_median() -> None:
    spread = Spread.of([0.002] * 95 + [0.009] * 5)
    assert [spread.p50, spread.p99] == pytest.approx([2, 9])


def test_a_delegate_that_is_missing_is_said_and_the_next_is_measured(
    several_model: Model, shelfsight: Shelfsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELFSIGHT_DELEGATES", "edgetpu,xnnpack")
    monkeypatch.setenv("SHELFSIGHT_EDGETPU_LIBRARY", "libnowhere.so.1")
    done = shelfsight("bench", "--model", several_model.folder, "--vectors", 100, "--rounds", 10)
    assert done.exit_code == 0, done.output
    assert "1 thread" in done.output
    assert "not run as wanted; edgetpu: " in done.output
    assert "libnowhere.so.1" in done.output


def test_a_vendors_delegate_is_measured_where_it_runs_with_the_memory_of_its_process(
    several_model: Model, foreign_delegate: Path
) -> None:
    settings = Settings(
        data=Path("unused"), delegates=("external",), external_library=str(foreign_delegate), variant="int8"
    )
    alone = measure(several_model, replace(settings, delegates=("none",)), vectors=100, rounds=10)
    isolated = measure(several_model, settings, vectors=100, rounds=10)
    assert (alone.warm.execution.delegate, isolated.warm.execution.delegate) == ("none", "external")
    assert isolated.rss_mb > 1.4 * alone.rss_mb
    assert list(isolated.warm.photos_per_s) == [1]


def test_bench_measures_the_installed_release_and_leaves_it_alone(
    tmp_path: Path, tiny_model: Model, shelfsight: Shelfsight
) -> None:
    data = tmp_path / "device"
    install_bench(tiny_model, tiny_model.variant(), 50, data)
    before = sorted(data.rglob("*"))
    done = shelfsight("bench", "--vectors", 100, "--rounds", 10, "--data", data)
    assert done.exit_code == 0, done.output
    assert "ratio to floor" in done.output
    assert "100 vectors" in done.output
    assert "within the budget of" in done.output
    assert sorted(data.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--model", "nowhere"], 1, "error: nowhere is no model folder"),
        (["--data", "nowhere"], 1, "error: no release is installed"),
        (["--vectors", "1"], 2, "Invalid value for '--vectors'"),
        (["--variant", "int3", "--model", str(TINY)], 1, "has no variant named 'int3'"),
        (["--against", "nowhere.json"], 1, "error: reference nowhere.json cannot be read"),
        (["--profile", "kiosk"], 1, "error: profile 'kiosk' does not exist"),
    ],
)
def test_bench_says_in_one_sentence_what_is_missing(
    arguments: list[str], code: int, said: str, shelfsight: Shelfsight
) -> None:
    done = shelfsight("bench", *arguments)
    assert done.exit_code == code
    assert said in done.output
