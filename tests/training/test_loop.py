"""A training that is killed goes on as if it had not been."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cloud.training.run import RunFolder
from tests.training.conftest import TOY, ToyCatalog

pytestmark = pytest.mark.training

# Trains the photos listed in a file; a program of its own, so that it can be killed.
TRAIN = """
import json, sys
from pathlib import Path
from cloud.training.data import LabeledPhoto, choose_examples
from cloud.training.recipe import Recipe
from cloud.training.runtime import prepare
run, photos = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
recipe = Recipe.read(Path(sys.argv[3]))
machine = prepare(recipe.seed)
from cloud.training.loop import train_network
from cloud.training.run import RunFolder
examples = choose_examples([LabeledPhoto(Path(path), *rest) for path, *rest in photos], recipe)
train_network(examples, recipe, RunFolder(run), machine, lambda *_: None)
"""


def silent(*_: object) -> None:
    pass


def test_a_run_writes_its_recipe_its_metrics_and_its_curves(toy_run: Path) -> None:
    run = RunFolder(toy_run)
    assert run.recipe() == TOY
    metrics = run.metrics(TOY.epochs)
    assert [line["epoch"] for line in metrics] == [1, 2]
    assert all(0 <= line["validation_top1"] <= 1 for line in metrics)
    assert json.loads((toy_run / "config.json").read_text())["photos_fit"] == 36
    assert (toy_run / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_training_killed_after_an_epoch_ends_with_the_same_weights(
    toy_run: Path, toy_catalog: ToyCatalog, tmp_path: Path
) -> None:
    listed, recipe = tmp_path / "photos.json", tmp_path / "recipe.toml"
    photos = [[str(p.path), p.sku, p.category, p.kind, p.split] for p in toy_catalog.photos]
    listed.write_text(json.dumps(photos))
    recipe.write_text(TOY.to_toml())
    run = RunFolder(tmp_path / "killed")
    command = [sys.executable, "-c", TRAIN, str(run.folder), str(listed), str(recipe)]
    program = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while not (run.folder / "checkpoint.npz").exists():
            assert time.monotonic() < deadline and program.poll() is None
            time.sleep(0.005)
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait()
    before = run.checkpoint()
    assert before is not None

    from cloud.training.loop import train_network
    from cloud.training.runtime import prepare

    train_network(toy_catalog.examples, TOY, run, prepare(TOY.seed), silent)
    whole, resumed = RunFolder(toy_run).checkpoint(), run.checkpoint()
    assert whole is not None and resumed is not None
    for part in ("network", "learned", "optimizer"):
        for one, other in zip(getattr(whole, part), getattr(resumed, part), strict=True):
            np.testing.assert_array_equal(one, other)
    assert [line["loss"] for line in run.metrics(9)] == [
        line["loss"] for line in RunFolder(toy_run).metrics(9)
    ]


def test_a_finished_run_is_not_trained_again(toy_run: Path, toy_catalog: ToyCatalog) -> None:
    from cloud.training.loop import train_network
    from cloud.training.runtime import prepare

    before = (toy_run / "checkpoint.npz").stat().st_mtime_ns
    trained = train_network(toy_catalog.examples, TOY, RunFolder(toy_run), prepare(TOY.seed), silent)
    assert len(trained.metrics) == 2
    assert (toy_run / "checkpoint.npz").stat().st_mtime_ns == before
