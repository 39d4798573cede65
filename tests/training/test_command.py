"""`shelfsight-cloud train` on a folder of drawn packs, as a user calls it."""

import json
import subprocess
import sys
from pathlib import Path

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
    assert [line["file"] for line in told["files"]] == ["int8.tflite", "float32.tflite", "float16.tflite"]
    assert "epoch 1 of 1: 2 done loss" in done.stderr
    model = open_model(data / "models" / "mine")
    assert (model.name, model.space) == ("mine", told["space"])
    assert not (data / "runs" / "mine" / "pictures").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--name", "../mine"], "is not a folder's name"),
        (["--resume", "none"], "there is no run 'none'"),
        (["--epochs", "0"], "epochs is 0"),
        (["--recipe", "nowhere.toml"], "cannot be read"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_exit_1(data: Path, words: list[str], told: str) -> None:
    result = CliRunner().invoke(main, ["--data", str(data), "train", *words])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ") and told in result.stderr
    assert list((data / "runs").iterdir()) == []
