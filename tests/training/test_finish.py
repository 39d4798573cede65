"""From a trained network to a model folder that a device opens."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud.training.run import RunFolder
from edge.disk import sha256_file
from edge.embedder import Embedder
from edge.image import decode, fit
from edge.model import open_model
from tests.training.conftest import TOY, ToyCatalog

pytestmark = pytest.mark.training


def silent(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def finished(toy_run: Path, toy_catalog: ToyCatalog) -> Iterator[Path]:
    from cloud.training.finish import finish
    from cloud.training.loop import train_network
    from cloud.training.runtime import prepare

    run = RunFolder(toy_run)
    trained = train_network(toy_catalog.examples, TOY, run, prepare(TOY.seed), silent)
    packshots = [photo for photo in toy_catalog.photos if photo.kind == "packshot"]
    finish(trained, toy_catalog.examples, packshots, recipe=TOY, run=run, name="toy", progress=silent)
    yield run.model


def test_the_model_folder_is_one_that_a_device_opens(finished: Path, toy_catalog: ToyCatalog) -> None:
    model = open_model(finished)
    assert (model.name, model.dimension, model.input_size) == ("toy", 16, 64)
    assert [variant.name for variant in model.variants] == ["int8", "float32", "float16"]
    picture = fit(decode(toy_catalog.photos[0].path.read_bytes()), 64)
    for variant in model.variants:
        assert sha256_file(model.path(variant)) == variant.sha256
        embedding = Embedder.open(model.path(variant), dimension=16, input_size=64).embed(picture)
        assert embedding.local.shape == (2, 2, 16)
        assert abs(float(np.linalg.norm(embedding.vector)) - 1) < 1e-5


def test_the_map_is_what_the_embedding_is_the_mean_of(finished: Path, toy_catalog: ToyCatalog) -> None:
    model = open_model(finished)
    embedder = Embedder.open(model.path(model.variant("float32")), dimension=16, input_size=64)
    embedding = embedder.embed(fit(decode(toy_catalog.photos[0].path.read_bytes()), 64))
    mean = embedding.local.mean(axis=(0, 1))
    assert float(mean @ embedding.vector) / float(np.linalg.norm(mean)) > 0.9999


def test_the_model_says_what_it_is_made_of(finished: Path) -> None:
    model = open_model(finished)
    assert model.extra["backbone"] == TOY.backbone
    assert (finished / "README.md").read_text().startswith("# toy\n")
    assert model.space in (finished.parent / "network.json").read_text()


def test_keeping_everything_gives_the_network_that_was_begun_with(
    toy_run: Path, toy_catalog: ToyCatalog, tmp_path: Path
) -> None:
    from cloud.training.averaging import interpolate
    from cloud.training.network import build_network, embedding_space

    run = RunFolder(toy_run)
    begun, checkpoint = run.begun(), run.checkpoint()
    assert begun is not None and checkpoint is not None
    network = build_network(TOY)
    spaces = []
    for weights in (begun.network, interpolate(begun.network, checkpoint.network, 1.0), checkpoint.network):
        network.embedder.set_weights(weights)
        spaces.append(embedding_space(network, replace(TOY, keep=1.0)))
    assert spaces[0] == spaces[1] != spaces[2]
