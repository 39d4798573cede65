"""The same recipe on JAX: as good, and finished by TensorFlow."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cloud.commands import main
from edge.image import encode_jpeg
from edge.model import open_model
from tests.training.conftest import TOY, draw_pack

pytestmark = pytest.mark.training


def train(backend: str, data: Path, recipe: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    words = ["--data", str(data), "train", "--name", backend, "--recipe", str(recipe), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "cloud.commands", *words],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = (data / "runs" / backend / "metrics.jsonl").read_text().splitlines()
    return json.loads(done.stdout), [json.loads(line) for line in lines]


def test_a_recipe_reaches_the_same_on_jax_and_tensorflow(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    from cloud.training.network import build_network

    data = tmp_path / "data"
    for product in range(4):
        folder = tmp_path / "shop" / f"pack-{product}"
        folder.mkdir(parents=True)
        for number in range(6):
            (folder / f"{number}.jpg").write_bytes(encode_jpeg(draw_pack(product, number)))
    for given in (["init"], ["catalog", "import", str(tmp_path / "shop")]):
        assert CliRunner().invoke(main, ["--data", str(data), *given]).exit_code == 0
    # New weights are drawn differently by the backends; those of a file are the same.
    weights = tmp_path / "beginning.weights.h5"
    recipe = replace(TOY, weights=str(weights), input_size=32, picture_size=40, blur=0.3, ema=0.5)
    build_network(recipe, weights="none").backbone.save_weights(weights)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())

    told, by_jax = train("jax", data, tmp_path / "recipe.toml")
    _, by_tensorflow = train("tensorflow", data, tmp_path / "recipe.toml")
    assert json.loads((data / "runs" / "jax" / "config.json").read_text())["backend"] == "jax"
    assert open_model(data / "models" / "jax").space == told["space"]
    for one, other, tolerance in zip(by_jax, by_tensorflow, (0.01, 0.05), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=tolerance)
