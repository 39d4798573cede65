"""Says of a network file what of it an Edge TPU would run, and why it would not run the rest.

No vendor tool is needed: operations, types and shapes are held against the documented table (Coral,
"TensorFlow models on the Edge TPU"). The compiler makes one partition of a network: from the first operation
that it does not map, everything goes to the CPU. The table says what may be mapped, the compiler what was.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from converter.graph import Graph, Operation, Tensor
from edge.certificate import EdgeTpuMapping

ON_CHIP_BYTES: Final = 8 * 1024 * 1024
"""SRAM that holds weights and the compiled program; what is over is sent anew for every picture."""

_EIGHT_BITS: Final = frozenset({"int8", "uint8"})
_BIASES: Final = frozenset({"int32", "int64"})
_MOST_SOFTMAX: Final = 16_000
_INNERMOST: Final = 3
_MAP_RANK: Final = 4
_STRIDES: Final = 3  # the input of a strided slice that says in which steps

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


def mapping_of(report: EdgeTpuReport) -> EdgeTpuMapping:
    """Return the report as a certificate has it."""
    whole = (("the whole file", report.refused),) if report.refused else ()
    return EdgeTpuMapping(
        operations=report.operations,
        mapped=report.mapped,
        fallbacks=whole or tuple((each.operation, each.reason) for each in report.fallbacks),
        parameter_bytes=report.parameter_bytes,
        on_chip=report.on_chip,
    )


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
    try:
        return _wrong_tensor((*inputs, *outputs)) or check(operation, inputs, outputs)
    except IndexError:
        return "it lacks an input"


def _wrong_tensor(tensors: tuple[Tensor, ...]) -> str | None:
    for tensor in tensors:
        if not tensor.constant and tensor.dtype not in _EIGHT_BITS:
            return f"tensor {tensor.name} is {tensor.dtype}, not 8 bits"
        if tensor.constant and tensor.dtype not in _EIGHT_BITS | _BIASES:
            return f"its parameter {tensor.name} is {tensor.dtype}, not 8 bits"
        if not tensor.constant and any(side > 1 for side in tensor.shape[:-_INNERMOST]):
            return f"tensor {tensor.name} of shape {list(tensor.shape)} has more than three sides over 1"
    return None


def _anything(operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
    return None


def _no_activation(
    operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> str | None:
    return "it has a fused activation" if operation.options.get("fusedActivationFunction") else None


def _even_dilation(
    operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> str | None:
    across, down = _dilation(operation)
    if across != down:
        return f"it is dilated by {across} across and {down} down"
    return _constant_weights(operation, inputs, outputs)


def _no_dilation(operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> str | None:
    across, down = _dilation(operation)
    if (across, down) != (1, 1):
        return f"it is dilated, by {across} across and {down} down"
    return _constant_weights(operation, inputs, outputs)


def _dilation(operation: Operation) -> tuple[int, int]:
    return (operation.options.get("dilationWFactor", 1), operation.options.get("dilationHFactor", 1))


def _constant_weights(
    operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> str | None:
    return None if inputs[1].constant else "its weights are computed, not fixed"


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
    if len(inputs) > _STRIDES and any(step != 1 for step in inputs[_STRIDES].values):
        return f"it slices in steps of {list(inputs[_STRIDES].values)}"
    return None


def _across_and_down(
    operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> str | None:
    """Allow a mean over the width and the height of a map, those two sides of (batch, height, width, n)."""
    rank = len(inputs[0].shape)
    axes = {axis % rank for axis in inputs[1].values} if len(inputs) > 1 and rank else set()
    if rank != _MAP_RANK or not axes <= {1, 2}:
        return f"it goes over the axes {sorted(axes)} of {list(inputs[0].shape)}, not over width and height"
    return None


def _not_the_batch(
    operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> str | None:
    rank = len(inputs[0].shape)
    if rank == _MAP_RANK and len(inputs) > 1 and 0 in {axis % rank for axis in inputs[1].values}:
        return "it goes over the batch"
    return None


def _padded_across_and_down(
    operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> str | None:
    before, after = inputs[0].shape, outputs[0].shape
    if any(
        side != wider
        for place, (side, wider) in enumerate(zip(before, after, strict=False))
        if len(before) != _MAP_RANK or place not in {1, 2}
    ):
        return f"it pads {list(before)} to {list(after)}, not across and down alone"
    return None


def _leading_ones(
    operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> str | None:
    shape = inputs[0].shape
    first = next((place for place, side in enumerate(shape) if side > 1), len(shape))
    return f"it takes a side out of the middle of {list(shape)}" if 1 in shape[first:] else None


def _one_alpha_a_channel(
    operation: Operation, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> str | None:
    if any(side > 1 for side in inputs[1].shape[:-1]):
        return f"its slopes {list(inputs[1].shape)} are not one a channel"
    return None


# https://coral.ai/docs/edgetpu/models-intro/#supported-operations, by the names of TensorFlow Lite.
# Some sizes of resized and reshaped tensors are not mapped, it says, and not which: the compiler can tell.
_UNLIMITED: Final = (
    "ADD",
    "EXPAND_DIMS",
    "L2_NORMALIZATION",
    "LOGISTIC",
    "LSTM",
    "MAXIMUM",
    "MINIMUM",
    "MUL",
    "PACK",
    "QUANTIZE",
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
    "SUB",
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
    "CONV_2D": _even_dilation,
    "DEPTHWISE_CONV_2D": _no_dilation,
    "FULLY_CONNECTED": _fully_connected,
    "MEAN": _across_and_down,
    "PAD": _padded_across_and_down,
    "PRELU": _one_alpha_a_channel,
    "REDUCE_MAX": _not_the_batch,
    "REDUCE_MIN": _not_the_batch,
    "SOFTMAX": _softmax,
    "SQUEEZE": _leading_ones,
    "STRIDED_SLICE": _plain_slices,
    "SUM": _not_the_batch,
}
