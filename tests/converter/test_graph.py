"""Reading a network file without running it, whole, cut and spoiled."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.graph import EDGE_TPU_OPERATION, read_graph
from edge.errors import BadNetwork
from tests.conftest import DATA

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
TINY = (DATA / "tiny-int8" / "tiny-int8-out.tflite").read_bytes()


def test_a_graph_has_the_networks_tensors_and_operations() -> None:
    graph = read_graph(TINY, "tiny")
    (picture,) = graph.inputs
    assert (picture.dtype, picture.shape, picture.dynamic) == ("uint8", (1, 32, 32, 3), False)
    assert sorted(tensor.shape for tensor in graph.outputs) == [(1, 4, 4, 16), (1, 16)]
    assert {each.name for each in graph.operations} == {"QUANTIZE", "CONV_2D", "MEAN"}
    weights = [graph.tensors[each.inputs[1]] for each in graph.operations if each.name == "CONV_2D"]
    assert all(tensor.dtype == "int8" and tensor.constant for tensor in weights)
    assert all(len(tensor.scales) == tensor.shape[0] for tensor in weights), "one scale a channel"
    assert (graph.size, graph.compiled_for_edge_tpu) == (len(TINY), False)


def test_every_cut_is_refused_by_name() -> None:
    for length in range(0, len(TINY), 97):
        with pytest.raises(BadNetwork, match="tiny"):
            read_graph(TINY[:length], "tiny")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(8, len(TINY) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_spoiled_file_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    spoiled = bytearray(TINY)
    for place, value in changes:
        spoiled[place] = value
    try:
        graph = read_graph(bytes(spoiled), "spoiled")
    except BadNetwork as error:
        assert "spoiled" in str(error)
    else:
        assert all(-1 <= each < len(graph.tensors) for step in graph.operations for each in step.inputs)


@pytest.mark.parametrize("data", [b"", b"TFL3", b"    TFL3", b"    TFL3" + bytes(40), b"hello" * 9])
def test_what_is_no_network_is_refused(data: bytes) -> None:
    with pytest.raises(BadNetwork, match="convert"):
        read_graph(data, "this")


@pytest.mark.shared
@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the real networks are not in ../shared/fixtures")
@pytest.mark.parametrize(
    ("name", "operations", "compiled"),
    [
        ("mobilenet_v1_1.0_224_quant_embedding_extractor", 28, False),
        ("mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu", 1, True),
        ("mobilenet_v2_1.0_224_quant_edgetpu", 1, True),
        ("tf2_mobilenet_v2_1.0_224_ptq", 68, False),
    ],
)
def test_real_files_are_read_compiled_ones_too(name: str, operations: int, compiled: bool) -> None:
    graph = read_graph((FIXTURES / f"{name}.tflite").read_bytes(), name)
    assert (len(graph.operations), graph.compiled_for_edge_tpu) == (operations, compiled)
    assert [tensor.shape for tensor in graph.inputs] == [(1, 224, 224, 3)]


@pytest.mark.shared
@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the real networks are not in ../shared/fixtures")
def test_of_a_compiled_file_its_ends_are_read_as_they_were_before() -> None:
    name = "mobilenet_v1_1.0_224_quant_embedding_extractor"
    source, made = (
        read_graph((FIXTURES / f"{each}.tflite").read_bytes(), each) for each in (name, f"{name}_edgetpu")
    )
    (operation,) = made.operations
    assert (operation.name, operation.custom) == ("CUSTOM", EDGE_TPU_OPERATION)
    assert [
        [(tensor.dtype, tensor.shape, tensor.scales, tensor.zero_points) for tensor in ends]
        for ends in (made.inputs, made.outputs)
    ] == [
        [(tensor.dtype, tensor.shape, tensor.scales, tensor.zero_points) for tensor in ends]
        for ends in (source.inputs, source.outputs)
    ]
    assert made.outputs[0].dtype == "uint8" and made.outputs[0].scales
