"""The models that come with Shelfsight are certified, described, and ready for every device."""

import numpy as np
import pytest

from cloud.bundled import BUNDLED_NAMES, bundled_model
from converter.admission import check_graph
from converter.edgetpu import check_edge_tpu
from converter.graph import read_graph
from converter.metadata import read_metadata
from edge.certificate import read_certificate
from edge.disk import sha256_file
from edge.embedder import Embedder
from edge.model import Model, open_model
from tests.converter.test_metadata import buffer_places


@pytest.fixture(params=BUNDLED_NAMES)
def model(request: pytest.FixtureRequest) -> Model:
    return open_model(bundled_model(request.param))


def test_every_file_was_measured_and_may_be_published(model: Model) -> None:
    certificate = read_certificate(model.folder)
    assert certificate is not None
    assert (certificate.model, certificate.space) == (model.name, model.space)
    assert {variant.target for variant in model.variants} == {"cpu", "gpu", "edgetpu"}
    for variant in model.variants:
        assert sha256_file(model.path(variant)) == variant.sha256
        certificate.check(variant.file, variant.sha256)
        runtimes = {each.runtime.split()[0] for each in certificate.of_file(variant.sha256)}
        assert runtimes >= {"ai-edge-litert", "tflite-runtime", "tensorflow"}
    assert {each.sha256 for each in certificate.files} == {variant.sha256 for variant in model.variants}
    learned = {name for names in certificate.representative.values() for name in names}
    assert len(learned) == 300 and not learned & set(certificate.compared)


def test_every_file_says_what_it_is_and_lies_as_processors_want_it(model: Model) -> None:
    for variant in model.variants:
        data = model.path(variant).read_bytes()
        graph = read_graph(data, variant.file)
        size, dimension = model.input_size, model.dimension
        check_graph(graph, variant.file, input_size=size, dimension=dimension, target=variant.target)
        told = read_metadata(graph, variant.file)
        assert told is not None
        assert (told.version, told.license) == (model.space, "Apache-2.0")
        assert {place % 16 for place in buffer_places(data)} == {0}


def test_the_file_for_an_edge_tpu_is_the_int8_network_and_mapped_whole(model: Model) -> None:
    (edge_tpu,) = (variant for variant in model.variants if variant.target == "edgetpu")
    report = check_edge_tpu(read_graph(model.path(edge_tpu).read_bytes(), edge_tpu.file))
    assert (report.mapped, report.refused, report.on_chip) == (report.operations, None, True)
    assert edge_tpu.decision == model.variant().decision
    picture = np.random.default_rng(4).integers(0, 256, (224, 224, 3)).astype(np.uint8)
    vectors = [
        Embedder.open(model.path(variant), dimension=model.dimension, input_size=224).embed(picture).vector
        for variant in (model.variant(), edge_tpu)
    ]
    np.testing.assert_array_equal(*vectors)
