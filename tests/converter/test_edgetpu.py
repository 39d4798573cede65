"""What of a network an Edge TPU would run, by the documented table."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from converter.edgetpu import ON_CHIP_BYTES, check_edge_tpu
from converter.graph import Graph, Operation, Tensor, read_graph
from tests.conftest import DATA


def read(name: str) -> Graph:
    path = DATA / "tiny-int8" / name
    return read_graph(path.read_bytes(), path.name)


def tensor(shape: tuple[int, ...], dtype: str = "int8", constant: int = 0) -> Tensor:
    return Tensor(f"{dtype}{shape}", shape, dtype, False, constant, (0.1,), (0,))


def numbers(*values: int) -> Tensor:
    return Tensor("numbers", (len(values),), "int32", False, 4 * len(values), (), (), values)


def one(name: str, *inputs: Tensor, output: tuple[int, ...] = (1, 8, 8, 4), **options: Any) -> Graph:
    """Make a network of one operation."""
    tensors = (*inputs, tensor(output))
    operation = Operation(name, "", tuple(range(len(inputs))), (len(inputs),), options)
    return Graph(1000, tensors, (operation,), inputs[:1], tensors[-1:], {})


PICTURE = tensor((1, 8, 8, 4))
WEIGHTS = tensor((4, 3, 3, 4), constant=144)
EVEN = {"dilationWFactor": 2, "dilationHFactor": 2}
FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"


def test_a_network_of_eight_bits_from_end_to_end_is_mapped_whole() -> None:
    report = check_edge_tpu(read("tiny-int8-out.tflite"))
    assert (report.operations, report.mapped, report.fallbacks) == (6, 6, ())
    assert report.refused is None
    assert report.on_chip and 0 < report.parameter_bytes < ON_CHIP_BYTES


def test_from_the_first_operation_that_is_not_mapped_all_goes_to_the_cpu() -> None:
    report = check_edge_tpu(read("tiny-int8.tflite"))
    assert (report.mapped, [each.operation for each in report.fallbacks]) == (
        5,
        ["DEQUANTIZE", "MEAN", "DEQUANTIZE"],
    )
    assert report.fallbacks[1].reason == "operation 5 before it goes to the CPU"


def test_a_float_network_is_not_mapped_at_all() -> None:
    report = check_edge_tpu(read("tiny-float32.tflite"))
    assert report.mapped == 0
    assert all("not 8 bits" in each.reason or "does not know" in each.reason for each in report.fallbacks)


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        (one("CONV_2D", PICTURE, PICTURE), "weights are computed"),
        (one("CONV_2D", PICTURE, WEIGHTS, dilationWFactor=2, dilationHFactor=1), "dilated by 2 across and 1"),
        (one("CONV_2D", PICTURE, tensor((4,), "float32", 16)), "parameter float32(4,) is float32"),
        (one("AVERAGE_POOL_2D", PICTURE, fusedActivationFunction=3), "fused activation"),
        (one("MAX_POOL_2D", PICTURE, fusedActivationFunction=1), "fused activation"),
        (one("CONCATENATION", PICTURE, PICTURE, WEIGHTS), "more than two inputs"),
        (one("FULLY_CONNECTED", PICTURE, WEIGHTS, weightsFormat=1), "shuffled"),
        (one("FULLY_CONNECTED", PICTURE, WEIGHTS, output=(1, 4, 4)), "more than one side over 1"),
        (one("SOFTMAX", tensor((1, 20_000))), "no row of at most 16000"),
        (one("SOFTMAX", tensor((1, 4, 4))), "no row of at most 16000"),
        (one("STRIDED_SLICE", PICTURE, ellipsisMask=1), "ellipsis"),
        (one("DEPTHWISE_CONV_2D", PICTURE, WEIGHTS, **EVEN), "dilated, by 2 across and 2 down"),
        (one("STRIDED_SLICE", PICTURE, *[numbers(1)] * 2, numbers(1, 2, 2, 1)), "in steps of [1, 2, 2, 1]"),
        (one("MEAN", PICTURE, numbers(3)), "not over width and height"),
        (one("MEAN", tensor((1, 8)), numbers(-1)), "not over width and height"),
        (one("SUM", PICTURE, numbers(0)), "over the batch"),
        (one("REDUCE_MAX", PICTURE, numbers(-4)), "over the batch"),
        (one("PAD", PICTURE, output=(1, 8, 8, 6)), "pads [1, 8, 8, 4] to [1, 8, 8, 6]"),
        (one("SQUEEZE", tensor((1, 5, 1, 10)), output=(1, 5, 10)), "out of the middle of [1, 5, 1, 10]"),
        (one("PRELU", PICTURE, tensor((8, 8, 4), constant=256)), "not one a channel"),
        (one("CONV_2D", PICTURE), "lacks an input"),
        (one("GATHER", PICTURE), "does not know it"),
        (one("ADD", tensor((2, 8, 8, 4)), PICTURE), "more than three sides over 1"),
        (one("ADD", tensor((1, 8, 8, 4), "int16"), PICTURE), "is int16, not 8 bits"),
    ],
)
def test_what_the_table_limits_is_told(graph: Graph, told: str) -> None:
    (fallback,) = check_edge_tpu(graph).fallbacks
    assert told in fallback.reason, fallback.reason


@pytest.mark.parametrize(
    ("name", "inputs", "options"),
    [
        (
            "CONV_2D",
            (PICTURE, WEIGHTS, tensor((4,), "int32", 16)),
            EVEN,
        ),
        ("DEPTHWISE_CONV_2D", (PICTURE, WEIGHTS), {"fusedActivationFunction": 3}),
        ("AVERAGE_POOL_2D", (PICTURE,), {"fusedActivationFunction": 0}),
        ("CONCATENATION", (PICTURE, WEIGHTS), {}),
        ("SOFTMAX", (tensor((1, 1001)),), {}),
        ("STRIDED_SLICE", (PICTURE,), {"ellipsisMask": 0, "newAxisMask": 0}),
        ("RESHAPE", (PICTURE,), {}),
        ("STRIDED_SLICE", (PICTURE, numbers(0), numbers(8), numbers(1, 1, 1, 1)), {}),
        ("MEAN", (PICTURE, numbers(1, 2)), {}),
        ("MEAN", (PICTURE, numbers(-3, -2)), {}),
        ("SUM", (PICTURE, numbers(1, 2)), {}),
        ("PAD", (tensor((1, 6, 6, 4)),), {}),
        ("SQUEEZE", (tensor((1, 1, 5, 10)),), {}),
        ("PRELU", (PICTURE, tensor((1, 1, 4), constant=4)), {}),
    ],
)
def test_what_the_table_allows_is_mapped(
    name: str, inputs: tuple[Tensor, ...], options: Mapping[str, Any]
) -> None:
    report = check_edge_tpu(one(name, *inputs, **options))
    assert (report.mapped, report.fallbacks) == (1, ())


def test_a_network_that_the_compiler_would_not_take_is_refused() -> None:
    graph = one("ADD", PICTURE, PICTURE)
    assert "input is float32" in str(
        check_edge_tpu(replace(graph, inputs=(tensor((1,), "float32"),))).refused
    )
    moving = replace(graph, tensors=(replace(PICTURE, dynamic=True), *graph.tensors[1:]))
    report = check_edge_tpu(moving)
    assert "settled at run time" in str(report.refused)
    assert report.mapped == 0


def test_weights_over_the_budget_are_told_and_shared_ones_counted_once() -> None:
    large = tensor((4, 3, 3, 4), constant=ON_CHIP_BYTES // 2 + 1)
    once = one("CONV_2D", PICTURE, large)
    twice = replace(once, operations=once.operations * 2)
    assert check_edge_tpu(twice).parameter_bytes == large.constant
    assert check_edge_tpu(twice).on_chip
    both = replace(once, tensors=(*once.tensors, large))
    again = replace(once.operations[0], inputs=(0, 3))
    report = check_edge_tpu(replace(both, operations=(*once.operations, again)))
    assert (report.parameter_bytes, report.on_chip) == (2 * large.constant, False)


@pytest.mark.shared
@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the real networks are not in ../shared/fixtures")
def test_the_table_agrees_with_what_the_compiler_made_of_real_networks() -> None:
    # The compiler made one custom operation of each: it mapped the whole network.
    for name in ("mobilenet_v1_1.0_224_quant_embedding_extractor", "tf2_mobilenet_v2_1.0_224_ptq"):
        graph = read_graph((FIXTURES / f"{name}.tflite").read_bytes(), name)
        report = check_edge_tpu(graph)
        assert (report.mapped, report.refused) == (len(graph.operations), None)
    name = "mobilenet_v2_1.0_224_quant_edgetpu"
    compiled = check_edge_tpu(read_graph((FIXTURES / f"{name}.tflite").read_bytes(), name))
    assert compiled.refused == "it is compiled for an Edge TPU already"
