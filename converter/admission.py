"""Says whether a network file is one that a device can run, before it is signed; nothing is run here.

    bytes -> converter.graph -> one sentence of what is wrong, or nothing

What the file computes is not looked at: that is `converter.certify`'s to measure.
"""

import math
from typing import Final

from converter.graph import EDGE_TPU_OPERATION, Graph, Tensor, read_graph
from edge.errors import BadNetwork

_OUTPUT_TYPES: Final = frozenset({"float32", "uint8", "int8"})
# Operations of TensorFlow Lite that keep something from one picture to the next, draw lots or lead elsewhere.
_UNSTEADY: Final = frozenset(
    {
        "ASSIGN_VARIABLE",
        "CALL",
        "CALL_ONCE",
        "DELEGATE",
        "HASHTABLE",
        "HASHTABLE_FIND",
        "HASHTABLE_IMPORT",
        "HASHTABLE_SIZE",
        "IF",
        "MULTINOMIAL",
        "PLACEHOLDER_FOR_GREATER_OP_CODES",
        "RANDOM_STANDARD_NORMAL",
        "RANDOM_UNIFORM",
        "READ_VARIABLE",
        "VAR_HANDLE",
        "WHILE",
    }
)


def check_network_file(data: bytes, name: str, *, input_size: int, dimension: int, target: str) -> None:
    """Refuse a `.tflite` file that is not what every device expects of a variant.

    Args:
        data: the file.
        name: what to call it.
        input_size, dimension: S and D of its model: it takes `uint8 [1, S, S, 3]` and gives `[1, D]` and
            `[1, h, w, D]`, float32, uint8 or int8.
        target: as in `edge.model.Variant`; only one for `edgetpu` may be compiled for an Edge TPU.

    Raises:
        BadNetwork: not a TFLite file or a cut one, sides that are settled at run time, another input, other
            outputs, or operations that a runtime does not have.
    """
    check_graph(read_graph(data, name), name, input_size=input_size, dimension=dimension, target=target)


def check_graph(graph: Graph, name: str, *, input_size: int, dimension: int, target: str) -> None:
    """Do what `check_network_file` does with a file that has been read.

    Raises:
        BadNetwork: as there.
    """
    for wrong in (
        _wrong_shapes(graph),
        _wrong_input(graph, input_size),
        _wrong_outputs(graph, dimension),
        _wrong_operations(graph, target),
    ):
        if wrong:
            raise BadNetwork(f"{name} {wrong}")


def _wrong_shapes(graph: Graph) -> str | None:
    for tensor in graph.tensors:
        if tensor.dynamic and not tensor.constant:
            return (
                f"settles the sides of {tensor.name or 'a tensor'} only when it runs ({list(tensor.shape)}): "
                "convert it with a fixed batch of 1"
            )
    return None


def _wrong_input(graph: Graph, size: int) -> str | None:
    wanted = (1, size, size, 3)
    if [(each.dtype, each.shape) for each in graph.inputs] == [("uint8", wanted)]:
        return None
    told = ", ".join(f"{each.dtype} {list(each.shape)}" for each in graph.inputs) or "nothing"
    return f"takes {told}, not uint8 {list(wanted)}: convert the network so, with its normalization inside"


def _wrong_outputs(graph: Graph, dimension: int) -> str | None:
    wanted = f"[1, {dimension}] and [1, h, w, {dimension}]"
    shapes = sorted((each.shape for each in graph.outputs), key=len)
    told = " and ".join(str(list(shape)) for shape in shapes) or "nothing"
    if [len(shape) for shape in shapes] != [2, 4] or any(
        shape[0] != 1 or shape[-1] != dimension for shape in shapes
    ):
        return f"gives {told}, not an embedding and its map, {wanted}: convert the right network"
    for tensor in graph.outputs:
        if tensor.dtype not in _OUTPUT_TYPES:
            return f"answers in {tensor.dtype}, not float32, uint8 or int8: convert it so"
        if tensor.dtype != "float32" and not _has_scale(tensor):
            return f"answers in {tensor.dtype} and does not say what a step of it is worth: convert it again"
    return None


def _has_scale(tensor: Tensor) -> bool:
    return len(tensor.scales) == 1 and math.isfinite(tensor.scales[0]) and tensor.scales[0] > 0


def _wrong_operations(graph: Graph, target: str) -> str | None:
    if not graph.operations:
        return "computes nothing: convert the network again"
    for operation in graph.operations:
        if operation.custom == EDGE_TPU_OPERATION:
            if target != "edgetpu":
                return (
                    f"is compiled for an Edge TPU, and its variant is for the target {target}: "
                    "name it edgetpu, or give the file that it was compiled from"
                )
        elif operation.name == "CUSTOM":
            return (
                f"has the operation {operation.custom or 'without a name'}, which no TFLite runtime has: "
                "convert the network with builtin operations alone"
            )
        elif operation.name in _UNSTEADY or operation.name.startswith("STABLEHLO_"):
            return (
                f"has the operation {operation.name}, which not every TFLite runtime runs the same way: "
                "convert the network with plain layers"
            )
    return None
