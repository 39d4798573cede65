"""`shelfsight-cloud train` on a folder of drawn packs, as a user calls it."""

import json
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cloud.commands import main
from edge.image import encode_jpeg
from edge.model import open_model
from tests.training.conftest import TOY, draw_pack


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a data folder with the photos of four products, a sub-folder each."""
    for product in range(4):
        folder = tmp_path / "shop" / f"pack-{product}"
        folder.mkdir(parents=True)
        for number in range(6):
            (folder / f"{number}.jpg").write_bytes(encode_jpeg(draw_pack(product, number)))
    for words in (["init"], ["catalog", "import", str(tmp_path / "shop")]):
        result = CliRunner().invoke(main, ["--data", str(tmp_path / "data"), *words])
        assert result.exit_code == 0, result.output
    return tmp_path / "data"


@pytest.mark.training
def test_a_folder_of_photos_becomes_a_model_and_json_tells_of_it(data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(TOY.to_toml())
    words = [
        "--data",
        str(data),
        "train",
        "--name",
        "mine",
        "--recipe",
        str(recipe),
        "--epochs",
        "1",
        "--json",
    ]
    program = [sys.executable, "-m", "cloud.commands", *words]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [line["file"] for line in told["files"]] == [
        "int8.tflite",
        "edgetpu-int8.tflite",
        "float32.tflite",
        "float16.tflite",
    ]
    assert "epoch 1 of 1: 3 done loss" in done.stderr
    model = open_model(data / "models" / "mine")
    assert (model.name, model.space) == ("mine", told["space"])
    assert not (data / "runs" / "mine" / "pictures").exists()


@pytest.mark.training
def test_a_run_is_trained_once_and_finished_under_other_names(data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    wanted = replace(
        TOY,
        epochs=1,
        ema=0.9,
        center_bias=True,
        dropout=0.1,
        train_sizes=(64,),
        leave_out=("pack-3",),
        weights=str(_weights(tmp_path)),
    )
    recipe.write_text(wanted.to_toml())
    told = _train(data, "--name", "mine", "--recipe", str(recipe), "--json")
    wish = ["--keep", "0.75", "--head", "principal", "--dimension", "24"]
    other = _train(data, "--resume", "mine", *wish, "--as", "general", "--json")
    assert (other["name"], other["run"]) == ("general", "mine")
    assert other["space"] != told["space"], "more of the beginning is another embedding space"
    kept = [tomllib.loads((data / "runs" / "mine" / "recipe.toml").read_text())["keep"]]
    kept += [open_model(data / "models" / name).extra["recipe"]["keep"] for name in ("mine", "general")]
    assert kept == [TOY.keep, TOY.keep, 0.75]
    model = open_model(data / "models" / "general")
    assert (model.dimension, open_model(data / "models" / "mine").dimension) == (24, 16)
    assert model.extra["recipe"]["leave_out"] == ["pack-3"]
    assert model.extra["fitted_skus"] == ["pack-0", "pack-1", "pack-2"]
    assert set(model.extra["parity"]) == {"int8_minus_float", "mean_cosine", "top1_agreement"}
    assert len((data / "runs" / "mine" / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.training
def test_all_photos_are_fitted_last_with_the_decision_of_a_model_that_did_without(
    data: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(replace(TOY, epochs=1, head="whitened", head_dimension=12).to_toml())
    _train(data, "--name", "held", "--recipe", str(recipe), "--json")
    words = ("--name", "whole", "--recipe", str(recipe), "--json")
    _train(data, *words, "--calibrated-by", "held")
    held, whole = (open_model(data / "models" / name) for name in ("held", "whole"))
    assert whole.space != held.space
    for mine, theirs in zip(whole.variants, held.variants, strict=True):
        assert (mine.target, mine.decision) == (theirs.target, theirs.decision)
    configs = [json.loads((data / "runs" / name / "config.json").read_text()) for name in ("held", "whole")]
    assert [config["photos_fit"] + config["photos_validation"] for config in configs] == [24, 24]
    assert [config["photos_validation"] > 0 for config in configs] == [True, False]
    assert "thresholds are those of a model of the same recipe" in (whole.folder / "README.md").read_text()
    refused = {
        ("--calibrated-by", "nobody"): "is no model folder",
        ("--calibrated-by", "held", "--epochs", "2"): "held was made with epochs = 1, not 2",
    }
    for more, told in refused.items():
        result = CliRunner().invoke(
            main, ["--data", str(data), "train", "--name", "other", "--recipe", str(recipe), *more]
        )
        assert result.exit_code == 1
        assert told in result.stderr
    recipe.write_text(replace(TOY, fit_splits=("train", "reference", "validation")).to_toml())
    result = CliRunner().invoke(main, ["--data", str(data), "train", "--recipe", str(recipe)])
    assert result.exit_code == 1
    assert "nothing is left to calibrate by" in result.stderr


def _weights(folder: Path) -> Path:
    """Write random weights as a file: what is read from a file may be kept."""
    from cloud.training.network import build_network

    path = folder / "beginning.weights.h5"
    build_network(TOY).backbone.save_weights(path)
    return path


def _train(data: Path, *words: str) -> Any:
    program = [sys.executable, "-m", "cloud.commands", "--data", str(data), "train", *words]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--name", "../mine"], "is not a folder's name"),
        (["--resume", "none"], "there is no run 'none'"),
        (["--epochs", "0"], "epochs is 0"),
        (["--as", "../mine"], "is not a folder's name"),
        (["--leave-out", "@nowhere.txt"], "--leave-out @nowhere.txt cannot be read"),
        (["--leave-out", "pack-1,pack-9"], "leave_out names 'pack-9'"),
        (["--recipe", "nowhere.toml"], "cannot be read"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_exit_1(data: Path, words: list[str], told: str) -> None:
    result = CliRunner().invoke(main, ["--data", str(data), "train", *words])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ") and told in result.stderr
    assert list((data / "runs").iterdir()) == []
