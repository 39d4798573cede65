"""From a trained network to a model folder that a device opens."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cloud.training.data import choose_examples
from cloud.training.run import RunFolder
from edge.certificate import read_certificate
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
    assert [variant.name for variant in model.variants] == ["int8", "edgetpu-int8", "float32", "float16"]
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


def test_every_file_is_certified_on_the_validation_photos(finished: Path, toy_catalog: ToyCatalog) -> None:
    model, certificate = open_model(finished), read_certificate(finished)
    assert certificate is not None
    assert (certificate.model, certificate.space) == ("toy", model.space)
    assert certificate.float_sha256 == model.variant("float32").sha256
    assert sorted(certificate.compared) == sorted(
        photo.path.stem[:12] for photo in toy_catalog.examples.validation
    )
    assert {name: len(photos) for name, photos in certificate.representative.items()} == {
        "kind-0": 12,
        "kind-1": 12,
    }
    for variant in model.variants:
        (measured,) = certificate.of_file(variant.sha256)
        assert (measured.target, measured.size) == (variant.target, variant.size)
        assert measured.photos == 12 and measured.recall is not None
        assert [one.photos for one in measured.categories] == [6, 6]
        assert (measured.edge_tpu is not None) == (variant.target == "edgetpu")
    cpu, edge_tpu = (certificate.of_file(each.sha256)[0] for each in model.variants[:2])
    assert cpu.cosines == edge_tpu.cosines, "the same numbers, one file with floats at its end"
    card = (finished / "README.md").read_text()
    assert "## Parity certificate" in card and "by the documented table" in card


def test_without_validation_photos_files_are_compared_on_fitted_ones_that_do_not_find_themselves(
    finished: Path, toy_run: Path, toy_catalog: ToyCatalog, tmp_path: Path
) -> None:
    from cloud.training.file_measures import certify_files, load_photos, measure_file
    from converter.files import WrittenFile
    from converter.network_file import read_note

    recipe = replace(TOY, fit_splits=("train", "reference", "validation"), calibration_photos=12)
    examples = choose_examples(toy_catalog.photos, recipe)
    photos = load_photos(examples, [], recipe, RunFolder(tmp_path), silent)
    learned = {name for names in photos.representative_names().values() for name in names}
    compared = {photos.names[place] for place in photos.compared.tolist()}
    assert not photos.is_validated and len(learned) == 12 and len(compared) == len(examples.fit) - 12
    assert not learned & compared
    note, model = read_note(toy_run / "network.keras"), open_model(finished)
    files = []
    for name in ("float32", "int8", "edgetpu-int8"):
        variant = model.variant(name)
        written = WrittenFile(variant.target, model.path(variant))
        measure = partial(measure_file, decision=variant.decision, progress=silent)
        files.append(measure(written, photos, note, files))
    assert files[2].run.references is files[1].run.references
    certificate = certify_files("toy", note.space, files, photos)
    assert set(certificate.compared) == compared
    exact = certificate.files[0]
    assert exact.recall is not None and exact.recall < 1, "a photo that found itself would be right always"


def test_photos_are_balanced_over_categories_and_then_over_products() -> None:
    from cloud.training.file_measures import balanced

    categories = ["fruit"] * 6 + ["milk"] * 2
    products = [0, 0, 0, 0, 1, 2, 3, 3]
    order = balanced(categories, products).tolist()
    assert [categories[place] for place in order[:4]] == ["fruit", "milk", "fruit", "milk"]
    assert [products[place] for place in order if categories[place] == "fruit"] == [0, 1, 2, 0, 0, 0]
    assert sorted(order) == list(range(8))


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
