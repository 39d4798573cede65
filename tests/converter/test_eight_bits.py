"""An int8 file that answers in uint8: the same numbers, and nothing left for a CPU."""

from pathlib import Path

import numpy as np
import pytest

from converter.edgetpu import check_edge_tpu
from converter.eight_bits import answer_in_uint8
from converter.graph import read_graph
from edge.embedder import Embedder
from edge.errors import BadNetwork
from tests.conftest import DATA

TINY = (DATA / "tiny-int8" / "tiny-int8.tflite").read_bytes()


def test_an_edge_tpu_runs_it_whole_and_the_float_answers_it_did_not() -> None:
    graph = read_graph(answer_in_uint8(TINY, "tiny"), "tiny")
    assert {tensor.dtype for tensor in (*graph.inputs, *graph.outputs)} == {"uint8"}
    report = check_edge_tpu(graph)
    assert (report.mapped, report.fallbacks) == (report.operations, ())
    assert check_edge_tpu(read_graph(TINY, "tiny")).mapped < report.operations


def test_the_answers_are_the_same_numbers(tmp_path: Path) -> None:
    before, after = tmp_path / "before.tflite", tmp_path / "after.tflite"
    before.write_bytes(TINY)
    after.write_bytes(answer_in_uint8(TINY, "tiny"))
    embedders = [Embedder.open(path, dimension=16, input_size=32) for path in (before, after)]
    for seed in range(10):
        picture = np.random.default_rng(seed).integers(0, 256, (32, 32, 3)).astype(np.uint8)
        said = [embedder.embed(picture) for embedder in embedders]
        np.testing.assert_array_equal(said[0].vector, said[1].vector)
        np.testing.assert_array_equal(said[0].local, said[1].local)


def test_it_is_made_the_same_way_each_time_and_names_no_operation_that_it_has_not() -> None:
    from ai_edge_litert.schema_py_generated import ModelT

    made = answer_in_uint8(TINY, "tiny")
    assert made == answer_in_uint8(TINY, "tiny")
    model = ModelT.InitFromPackedBuf(made, 0)
    used = {operation.opcodeIndex for operation in model.subgraphs[0].operators}
    assert used == set(range(len(model.operatorCodes)))


def test_a_float_file_and_one_that_answers_in_8_bits_already_are_refused() -> None:
    for name in ("tiny-float32", "tiny-int8-out"):
        with pytest.raises(BadNetwork, match=f"{name} has outputs that are not made of int8"):
            answer_in_uint8((DATA / "tiny-int8" / f"{name}.tflite").read_bytes(), name)
