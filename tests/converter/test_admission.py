"""Which network files may be signed, told from the file alone."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from converter.admission import check_graph, check_network_file
from converter.graph import Graph, read_graph
from edge.errors import BadNetwork
from tests.conftest import DATA

TINY = (DATA / "tiny-int8" / "tiny-int8.tflite").read_bytes()
BROKEN = DATA / "broken-models"


def admit(data: bytes, target: str = "cpu", *, input_size: int = 32, dimension: int = 16) -> None:
    check_network_file(data, "tiny.tflite", input_size=input_size, dimension=dimension, target=target)


@pytest.mark.parametrize("name", ["tiny-int8", "tiny-int8-out", "tiny-float32"])
@pytest.mark.parametrize("target", ["cpu", "gpu", "edgetpu", "float32"])
def test_files_of_every_output_type_are_admitted(name: str, target: str) -> None:
    admit((DATA / "tiny-int8" / f"{name}.tflite").read_bytes(), target)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("dimension-8", "gives .*, not an embedding and its map, \\[1, 16\\]"),
        ("float-input", "takes float32"),
        ("input-48", "takes uint8 \\[1, 48, 48, 3\\]"),
        ("int8-input", "takes int8"),
        ("dynamic", "only when it runs"),
    ],
)
def test_another_input_and_other_outputs_are_refused(name: str, told: str) -> None:
    with pytest.raises(BadNetwork, match=told):
        admit((BROKEN / f"{name}.tflite").read_bytes())


def test_a_file_cut_at_any_byte_is_refused() -> None:
    for length in range(0, len(TINY), 61):
        with pytest.raises(BadNetwork, match=r"tiny\.tflite"):
            admit(TINY[:length])


def test_a_compiled_file_is_admitted_for_an_edge_tpu_alone() -> None:
    compiled = (BROKEN / "tiny_edgetpu.tflite").read_bytes()
    admit(compiled, "edgetpu")
    with pytest.raises(BadNetwork, match="compiled for an Edge TPU"):
        admit(compiled, "cpu")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda graph: replace(graph, inputs=(replace(graph.inputs[0], dtype="int8"),)), "takes int8"),
        (lambda graph: replace(graph, inputs=graph.inputs * 2), "takes uint8 .*, uint8"),
        (lambda graph: replace(graph, outputs=graph.outputs[:1]), "not an embedding and its map"),
        (lambda graph: replace(graph, outputs=graph.outputs + graph.outputs[:1]), "not an embedding"),
        (
            lambda graph: replace(graph, outputs=tuple(replace(o, dtype="float16") for o in graph.outputs)),
            "answers in float16",
        ),
        (
            lambda graph: replace(
                graph, outputs=tuple(replace(o, dtype="int8", scales=()) for o in graph.outputs)
            ),
            "what a step of it is worth",
        ),
        (
            lambda graph: replace(graph, tensors=(replace(graph.inputs[0], dynamic=True), *graph.tensors)),
            "only when it runs",
        ),
        (lambda graph: replace(graph, operations=()), "computes nothing"),
        (
            lambda graph: replace(
                graph,
                operations=(replace(graph.operations[0], name="CUSTOM", custom="FlexErf"),),
            ),
            "operation FlexErf, which no TFLite runtime has",
        ),
        (
            lambda graph: replace(graph, operations=(replace(graph.operations[0], name="RANDOM_UNIFORM"),)),
            "RANDOM_UNIFORM",
        ),
        (
            lambda graph: replace(graph, operations=(replace(graph.operations[0], name="STABLEHLO_ADD"),)),
            "STABLEHLO_ADD",
        ),
    ],
)
def test_what_no_device_runs_is_refused(change: Callable[[Graph], Graph], told: str) -> None:
    changed = change(read_graph(TINY, "tiny"))
    with pytest.raises(BadNetwork, match=f"tiny.tflite .*{told}"):
        check_graph(changed, "tiny.tflite", input_size=32, dimension=16, target="cpu")
