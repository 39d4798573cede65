"""Says of a network file what of it an Edge TPU would run, and why it would not run the rest.

No vendor tool is needed: operations, types and shapes are held against the documented table (Coral,
"TensorFlow models on the Edge TPU"). The compiler makes one partition of a network: from the first operation
that it does not map, everything goes to the CPU. The table says what may be mapped, the compiler what was.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from converter.graph import Graph, Operation, Tensor

ON_CHIP_BYTES: Final = 8 * 1024 * 1024
"""SRAM that holds weights and the compiled program; what is over is sent anew for every picture."""

_EIGHT_BITS: Final = frozenset({"int8", "uint8"})
_BIASES: Final = frozenset({"int32", "int64"})
_MOST_SOFTMAX: Final = 16_000
_INNERMOST: Final = 3

_Check = Callable[[Operation, tuple[Tensor, ...], tuple[Tensor, ...]], str | None]


@dataclass(frozen=True, slots=True)
class Fallback:
    """An operation that goes to the CPU: its place in the network, its name and why."""

    place: int
    operation: str
    reason: str


@dataclass(frozen=True, slots=True)
class EdgeTpuReport:
    """What an Edge TPU would run of a network.

    Attributes:
        operations: how many operations the network has.
        mapped: how many of them the Edge TPU would run: those before the first fallback.
        fallbacks: the others, the first because of itself.
        parameter_bytes: weights and biases of the mapped ones.
        on_chip: whether those fit into `ON_CHIP_BYTES`.
        refused: why the whole file cannot be compiled; None where it can.
    """

    operations: int
    mapped: int
    fallbacks: tuple[Fallback, ...]
    parameter_bytes: int
    on_chip: bool
    refused: str | None = None


def check_edge_tpu(graph: Graph) -> EdgeTpuReport:
    """Hold a network against what is documented of the Edge TPU."""
    refused = _refusal(graph)
    fallbacks: list[Fallback] = []
    parameters: dict[int, int] = {}
    for place, operation in enumerate(graph.operations):
        reason = _reason(graph, operation)
        if reason is None and fallbacks:
            reason = f"operation {fallbacks[0].place} before it goes to the CPU"
        if reason is not None:
            fallbacks.append(Fallback(place, operation.custom or operation.name, reason))
        else:
            parameters |= {
                number: graph.tensors[number].constant for number in operation.inputs if number >= 0
            }
    size = sum(parameters.values())
    return EdgeTpuReport(
        operations=len(graph.operations),
        mapped=0 if refused else len(graph.operations) - len(fallbacks),
        fallbacks=tuple(fallbacks),
        parameter_bytes=size,
        on_chip=size <= ON_CHIP_BYTES,
        refused=refused,
    )


def _refusal(graph: Graph) -> str | None:
    """Return why the compiler would not take the file at all."""
    if graph.compiled_for_edge_tpu:
        return "it is compiled for an Edge TPU already"
    for tensor in graph.inputs:
        if tensor.dtype not in _EIGHT_BITS:
            return f"its input is {tensor.dtype}: convert it to full int8 with 8-bit input and output"
    dynamic = next((tensor for tensor in graph.tensors if tensor.dynamic), None)
    if dynamic is not None:
        return f"the sides of {dynamic.name} are settled at run time: convert it with a fixed batch of 1"
    return None


def _reason(graph: Graph, operation: Operation) -> str | None:
    """Return why an Edge TPU does not run an operation; None where it does."""
    if operation.custom:
        return "the Edge TPU knows no custom operation"
    check = _TABLE.get(operation.name)
    if check is None:
        return "the Edge TPU does not know it"
    inputs = tuple(graph.tensors[number] for number in operation.inputs if number >= 0)
    outputs = tuple(graph.tensors[number] for number in operation.outputs)
    for tensor in (*inputs, *outputs):
        if not tensor.constant and tensor.dtype not in _EIGHT_BITS:
            return f"tensor {tensor.name} is {tensor.dtype}, not 8 bits"
        if tensor.constant and tensor.dtype not in _EIGHT_BITS | _BIASES:
            return f"its parameter {tensor.name} is {tensor.dtype}, not 8 bits"
        if not tensor.constant and any(side > 1 for side in tensor.shape[:-_INNERMOST]):
            return f"tensor {tensor.name} of shape {list(tensor.shape)} has more than three sides over 1"
    return check(operation, inputs, outputs)


def _anything(operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
    return None


def _no_activation(
    operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> str | None:
    return "it has a fused activation" if operation.options.get("fusedActivationFunction") else None


def _even_dilation(
    operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> str | None:
    across, down = (operation.options.get(f"dilation{side}Factor", 1) for side in ("W", "H"))
    return None if across == down else f"it is dilated by {across} across and {down} down"


def _constant_weights(
    operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> str | None:
    if not inputs[1].constant:
        return "its weights are computed, not fixed"
    return _even_dilation(operation, inputs, outputs)


def _fully_connected(
    operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> str | None:
    if operation.options.get("weightsFormat"):
        return "its weights are shuffled"
    if any(side > 1 for side in outputs[0].shape[:-1]):
        return f"its output {list(outputs[0].shape)} has more than one side over 1"
    return None


def _padding_of_zeros(
    operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> str | None:
    if any(tensor.constant for tensor in inputs) and len(inputs) > 2:
        return "one of its more than two inputs is constant"
    return _no_activation(operation, inputs, outputs)


def _softmax(operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> str | None:
    long = [side for side in inputs[0].shape if side > 1]
    if len(long) > 1 or max(long, default=1) > _MOST_SOFTMAX:
        return f"its input {list(inputs[0].shape)} is no row of at most {_MOST_SOFTMAX} numbers"
    return None


def _plain_slices(
    operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> str | None:
    if operation.options.get("ellipsisMask") or operation.options.get("newAxisMask"):
        return "it slices by an ellipsis or a new axis"
    return None


# https://coral.ai/docs/edgetpu/models-intro/#supported-operations, by the names of TensorFlow Lite.
_UNLIMITED: Final = (
    "ADD",
    "EXPAND_DIMS",
    "L2_NORMALIZATION",
    "LOGISTIC",
    "LSTM",
    "MAXIMUM",
    "MEAN",
    "MINIMUM",
    "MUL",
    "PACK",
    "PAD",
    "PRELU",
    "QUANTIZE",
    "REDUCE_MAX",
    "REDUCE_MIN",
    "RELU",
    "RELU6",
    "RELU_N1_TO_1",
    "RESHAPE",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "RSQRT",
    "SLICE",
    "SPACE_TO_DEPTH",
    "SPLIT",
    "SQUARED_DIFFERENCE",
    "SQUEEZE",
    "SUB",
    "SUM",
    "TANH",
    "TRANSPOSE",
    "TRANSPOSE_CONV",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
)
_TABLE: Final[Mapping[str, _Check]] = {
    **dict.fromkeys(_UNLIMITED, _anything),
    "AVERAGE_POOL_2D": _no_activation,
    "MAX_POOL_2D": _no_activation,
    "CONCATENATION": _padding_of_zeros,
    "CONV_2D": _constant_weights,
    "DEPTHWISE_CONV_2D": _constant_weights,
    "FULLY_CONNECTED": _fully_connected,
    "SOFTMAX": _softmax,
    "STRIDED_SLICE": _plain_slices,
}
