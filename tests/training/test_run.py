"""The folder of a training, and what it says when it is damaged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud.training.recipe import Recipe
from cloud.training.run import Checkpoint, RunFolder
from edge.errors import BadSetting, StorageUnusable


def test_a_checkpoint_survives_the_disk_in_its_order(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    network = [np.full((2, 3), number, np.float32) for number in range(12)]
    means = np.eye(3, dtype=np.float32)
    run.save_checkpoint(Checkpoint(4, network, [np.zeros(1)], [np.array(7, np.int64)], means))
    found = run.checkpoint()
    assert found is not None and found.epoch == 4 and found.optimizer[0] == 7
    np.testing.assert_array_equal(found.prototypes, means)
    np.testing.assert_array_equal(np.stack(found.network), np.stack(network))


def test_a_new_run_has_neither_weights_nor_checkpoint_nor_metrics(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.checkpoint() is None and run.begun() is None and run.metrics(5) == []


def test_a_damaged_checkpoint_is_told_with_its_cure(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.save_checkpoint(Checkpoint(1, [np.zeros(3)], [np.zeros(1)], [np.zeros(1)], np.eye(2)))
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(StorageUnusable, match="delete it"):
        run.checkpoint()


def test_metrics_of_an_epoch_that_was_not_kept_are_forgotten(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.save_metrics([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}])
    assert run.metrics(1) == [{"epoch": 1, "loss": 2.0}]


def test_a_run_is_not_continued_with_another_recipe(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.begin(Recipe(), {})
    run.begin(replace(Recipe(), keep=0.4), {})
    assert run.recipe().keep == 0.4
    with pytest.raises(BadSetting, match="begun with seed"):
        run.begin(replace(Recipe(), seed=8), {})


def test_a_run_is_not_continued_with_another_catalog(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.begin(Recipe(), {"catalog": "0123"})
    run.begin(Recipe(), {"catalog": "0123"})
    with pytest.raises(BadSetting, match="photos have changed"):
        run.begin(Recipe(), {"catalog": "4567"})
