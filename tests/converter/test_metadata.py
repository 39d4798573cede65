"""What a network file tells other TFLite tools, and that telling changes nothing in it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.graph import read_graph
from converter.metadata import METADATA_KEY, describe, read_metadata
from converter.network_file import NetworkNote
from converter.packing import pack_with
from edge.embedder import Embedder
from edge.errors import BadNetwork
from tests.conftest import DATA

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
NOTE = NetworkNote("toy", "0123456789abcdef", 32, 16, 1 / 127.5, -1.0, "CC0-1.0")
NAMES = ("tiny-int8", "tiny-int8-out", "tiny-float32")


def read(name: str) -> bytes:
    return (DATA / "tiny-int8" / f"{name}.tflite").read_bytes()


def buffer_places(data: bytes) -> list[int]:
    """Return where the bytes of every buffer begin that has some."""
    from ai_edge_litert.schema_py_generated import Model

    model = Model.GetRootAs(data, 0)
    tables = [model.Buffers(number) for number in range(model.BuffersLength())]
    return [table._tab.Vector(table._tab.Offset(4)) for table in tables if table.DataLength()]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_told_is_read_again(name: str) -> None:
    graph = read_graph(describe(read(name), name, NOTE), name)
    told = read_metadata(graph, name)
    assert told is not None
    assert (told.version, told.license) == ("0123456789abcdef", "CC0-1.0")
    assert "0123456789abcdef" in told.description
    (picture,) = told.inputs
    assert (picture.name, picture.dimensions) == ("picture", ("batch", "height", "width", "color"))
    by_rank = {len(tensor.shape): note.name for tensor, note in zip(graph.outputs, told.outputs, strict=True)}
    assert by_rank == {2: "embedding", 4: "local"}


def test_only_where_pixels_are_quantized_tools_normalize_them_first() -> None:
    for name, wanted in (("tiny-int8", (127.5, 127.5)), ("tiny-float32", (0.0, 1.0))):
        told = read_metadata(read_graph(describe(read(name), name, NOTE), name), name)
        assert told is not None
        ((mean,), (std,)) = told.inputs[0].mean, told.inputs[0].std
        assert (mean, std) == pytest.approx(wanted)


def test_a_file_without_metadata_and_a_note_without_a_license_are_no_fault() -> None:
    assert read_metadata(read_graph(read("tiny-int8"), "tiny"), "tiny") is None
    unlicensed = describe(read("tiny-int8"), "tiny", NetworkNote("toy", "0" * 16, 32, 16, 1.0, 0.0))
    told = read_metadata(read_graph(unlicensed, "tiny"), "tiny")
    assert told is not None and told.license == ""


@pytest.mark.parametrize("name", NAMES)
def test_the_network_stays_what_it_was_to_the_bit(name: str, tmp_path: Path) -> None:
    before, after = tmp_path / "before.tflite", tmp_path / "after.tflite"
    before.write_bytes(read(name))
    after.write_bytes(describe(read(name), name, NOTE))
    picture = np.random.default_rng(3).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    said = [Embedder.open(path, dimension=16, input_size=32).embed(picture) for path in (before, after)]
    np.testing.assert_array_equal(said[0].vector, said[1].vector)
    np.testing.assert_array_equal(said[0].local, said[1].local)
    graphs = [read_graph(path.read_bytes(), path.name) for path in (before, after)]
    assert graphs[0].tensors == graphs[1].tensors and graphs[0].operations == graphs[1].operations
    assert set(graphs[1].metadata) == {*graphs[0].metadata, METADATA_KEY}


@pytest.mark.parametrize("name", NAMES)
def test_every_buffer_begins_at_a_multiple_of_16_bytes(name: str) -> None:
    places = buffer_places(describe(read(name), name, NOTE))
    assert len(places) > 5
    assert {place % 16 for place in places} == {0}
    assert {place % 16 for place in buffer_places(read(name))} != {0}, "the converter does not see to it"


def test_the_same_file_and_note_give_the_same_bytes_and_twice_is_once() -> None:
    once = describe(read("tiny-int8"), "tiny", NOTE)
    assert describe(read("tiny-int8"), "tiny", NOTE) == once == describe(once, "tiny", NOTE)
    changed = pack_with(once, "tiny", METADATA_KEY, b"other")
    assert read_graph(changed, "tiny").metadata[METADATA_KEY] == b"other"
    assert describe(changed, "tiny", NOTE) == once


def test_what_is_no_network_is_not_described() -> None:
    with pytest.raises(BadNetwork, match="half is cut or damaged"):
        describe(read("tiny-int8")[:9000], "half", NOTE)


TOLD = read_graph(describe(read("tiny-int8"), "tiny", NOTE), "tiny").metadata[METADATA_KEY]


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, len(TOLD)),
    st.lists(st.tuples(st.integers(0, len(TOLD) - 1), st.integers(0, 255)), max_size=6),
)
def test_damaged_metadata_is_read_or_refused_by_name(length: int, changes: list[tuple[int, int]]) -> None:
    spoiled = bytearray(TOLD)
    for place, value in changes:
        spoiled[place] = value
    data = pack_with(read("tiny-int8"), "spoiled", METADATA_KEY, bytes(spoiled[:length]))
    try:
        told = read_metadata(read_graph(data, "spoiled"), "spoiled")
    except BadNetwork as error:
        assert "the metadata of spoiled is damaged" in str(error)
    else:
        assert told is not None and length > 8


@pytest.mark.shared
@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the real networks are not in ../shared/fixtures")
def test_the_metadata_of_others_is_read() -> None:
    name = "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    told = read_metadata(read_graph((FIXTURES / name).read_bytes(), name), name)
    assert told is not None
    assert (told.name, told.outputs[0].name) == ("ImageClassifier", "probability")
    assert (told.inputs[0].mean, told.inputs[0].std) == ((127.5,), (127.5,))


@pytest.mark.shared
@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the real networks are not in ../shared/fixtures")
def test_a_compiled_file_is_described_and_its_program_stays() -> None:
    name = "mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu.tflite"
    data = (FIXTURES / name).read_bytes()
    described = describe(data, name, NetworkNote("mobilenet_v1", "0" * 16, 224, 1024, 1 / 128, -1.0))
    before, after = read_graph(data, name), read_graph(described, name)
    assert after.compiled_for_edge_tpu and after.tensors == before.tensors
    told = read_metadata(after, name)
    assert told is not None and told.inputs[0].std == (128.0,)
    program = max(_programs(data), key=len)
    assert program in described


def _programs(data: bytes) -> list[bytes]:
    from ai_edge_litert.schema_py_generated import ModelT

    (subgraph,) = ModelT.InitFromPackedBuf(data, 0).subgraphs
    return [bytes(each.customOptions) for each in subgraph.operators]
