"""Everything that a recipe can ask for at once, and that a stop in the middle of it changes nothing."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud.training.recipe import Recipe
from cloud.training.run import RunFolder
from tests.training.conftest import TOY, ToyCatalog

pytestmark = pytest.mark.training

RICH = replace(
    TOY,
    epochs=2,
    losses={"arcface": 1.0, "supervised_contrastive": 0.5},
    products_per_batch=3,
    photos_per_product=2,
    hard_share=0.5,
    packshots_per_batch=2,
    category_weight=0.5,
    center_bias=True,
    dropout=0.2,
    train_sizes=(32, 64),
    ema=0.8,
    remember=0.5,
    paste=0.5,
    blur=0.3,
    perspective=0.3,
    jpeg=0.3,
)


def train(recipe: Recipe, catalog: ToyCatalog, folder: Path, epochs: int = 99) -> RunFolder:
    from cloud.training.loop import train_network
    from cloud.training.runtime import prepare

    run = RunFolder(folder)
    machine = prepare(recipe.seed)
    told: list[int] = []

    def on_epoch(epoch: int, _top1: float) -> bool:
        told.append(epoch)
        return len(told) < epochs

    train_network(catalog.examples, recipe, run, machine, lambda *_: None, on_epoch=on_epoch)
    return run


def test_a_stop_between_two_sizes_changes_nothing(toy_catalog: ToyCatalog, tmp_path: Path) -> None:
    whole = train(RICH, toy_catalog, tmp_path / "whole")
    stopped = train(RICH, toy_catalog, tmp_path / "stopped", epochs=1)
    first = stopped.checkpoint()
    assert first is not None and first.epoch == 1
    train(RICH, toy_catalog, tmp_path / "stopped")
    one, other = whole.checkpoint(), stopped.checkpoint()
    assert one is not None and other is not None and other.epoch == 2
    for part in ("network", "learned", "optimizer"):
        for mine, theirs in zip(getattr(one, part), getattr(other, part), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(one.prototypes, other.prototypes)
    metrics = whole.metrics(9)
    for line in metrics:
        assert {"arcface", "supervised_contrastive", "category", "memory"} <= set(line)
        wanted = line["arcface"] + 0.5 * sum(
            line[n] for n in ("supervised_contrastive", "category", "memory")
        )
        assert math.isclose(line["loss"], wanted, abs_tol=1e-3)
        assert line["images_per_second"] > 0 and 0 <= line["waiting"] <= 1
    assert (whole.folder / "views.png").read_bytes().startswith(b"\x89PNG")
    assert one.optimizer[0] == 2 * 36 / (3 * 2), "the schedule goes on at a change of size"
    averaged, trained = one.network, one.learned[: len(one.network)]
    assert any(not np.array_equal(a, b) for a, b in zip(averaged, trained, strict=True)), "it is an average"


@pytest.mark.parametrize("lesson", ["relations", "cosine", "logits"])
def test_teachers_are_learned_from_and_stay_as_they_were(
    lesson: str, toy_run: Path, toy_catalog: ToyCatalog, tmp_path: Path
) -> None:
    from cloud.training.network import build_network, save_network

    teacher = build_network(TOY)
    checkpoint = RunFolder(toy_run).checkpoint()
    assert checkpoint is not None
    teacher.embedder.set_weights(checkpoint.network)
    save_network(teacher, TOY, tmp_path)
    before = (tmp_path / "network.keras").read_bytes()
    taught = replace(
        TOY,
        losses={"cosine_softmax": 0.001},
        teachers=(str(tmp_path / "network.keras"),),
        teacher_weight=5.0,
        lesson=lesson,
        dimension=24,
        epochs=3,
        warmup_epochs=0.0,
    )
    metrics = train(taught, toy_catalog, tmp_path / "run").metrics(9)
    assert metrics[-1]["lessons"] < metrics[0]["lessons"]
    assert (tmp_path / "network.keras").read_bytes() == before
    assert json.loads((tmp_path / "network.json").read_text())["dimension"] == TOY.dimension


def test_a_missing_teacher_is_told_by_its_path(toy_catalog: ToyCatalog, tmp_path: Path) -> None:
    from edge.errors import BadSetting

    with pytest.raises(BadSetting, match=r"nowhere/network\.keras cannot be read"):
        train(replace(TOY, teachers=("nowhere/network.keras",)), toy_catalog, tmp_path / "run")
