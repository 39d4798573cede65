"""Reads what is in a `.tflite` file without running it; the only reader of its format.

    bytes -> flatbuffer (the schema that LiteRT brings along) -> Graph: tensors, operations, inputs, outputs

The file may come from anywhere and be cut anywhere: whatever it does to the reader becomes one error.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from edge.errors import BadNetwork

EDGE_TPU_OPERATION: Final = "edgetpu-custom-op"
_FEW_VALUES: Final = 16
# What the flatbuffers package and numpy raise at offsets and lengths that lead nowhere.
_UNREADABLE = (
    struct.error,
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    TypeError,
    UnicodeDecodeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a network.

    Attributes:
        name: as the file has it.
        shape: sides; `dynamic` sides are whatever the file stands at.
        dtype: such as `uint8`, `int8`, `int32`, `float32`.
        dynamic: a side of it is settled only when the network runs.
        constant: bytes that the file holds of it; 0 of what is computed.
        scales: of its quantization, one or one a channel; () where it is not quantized.
        zero_points: likewise.
        values: of a constant of at most 16 numbers int32, such as the axes of a mean; () of everything else.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    dynamic: bool
    constant: int
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    values: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of a network: `name` as in TensorFlow Lite, such as CONV_2D; tensors by their numbers.

    `custom` is the name of an operation that TensorFlow Lite does not define. A missing optional input is -1.
    """

    name: str
    custom: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Graph:
    """A network as its file describes it.

    Attributes:
        size: the file's bytes.
        tensors, operations: numbered as they lie here.
        inputs, outputs: some of the tensors.
        metadata: what else is in it by its name, such as `TFLITE_METADATA` (`converter.metadata`).
    """

    size: int
    tensors: tuple[Tensor, ...]
    operations: tuple[Operation, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: Mapping[str, bytes] = field(repr=False)

    @property
    def compiled_for_edge_tpu(self) -> bool:
        """Say whether an Edge TPU is needed to run it."""
        return any(each.custom == EDGE_TPU_OPERATION for each in self.operations)


def read_graph(data: bytes, name: str) -> Graph:
    """Read a `.tflite` file's bytes; `name` is told where they are not one.

    Raises:
        BadNetwork: not a TFLite file, a cut or damaged one, one of several networks, or one for servers.
    """
    if data[4:8] != b"TFL3":
        raise BadNetwork(f"{name} is no TFLite file ({len(data)} bytes): convert the network again")
    try:
        graph = _read(data, name)
    except _UNREADABLE as error:
        raise BadNetwork(
            f"{name} is cut or damaged ({type(error).__name__}, {len(data)} bytes): convert the network again"
        ) from error
    if graph is None:
        raise BadNetwork(f"{name} holds several networks, or none: convert one network to a file")
    return graph


def _read(data: bytes, name: str) -> Graph | None:
    from ai_edge_litert.schema_py_generated import ModelT

    model = ModelT.InitFromPackedBuf(data, 0)
    if model.subgraphs is None or len(model.subgraphs) != 1:
        return None
    (subgraph,) = model.subgraphs
    if any(buffer.offset > 1 for buffer in model.buffers):
        raise BadNetwork(f"{name} has weights outside its tables, as files over 2 GB do: no device takes it")
    tensors = tuple(_tensor(each, model.buffers) for each in subgraph.tensors)
    operations = tuple(_operation(each, model.operatorCodes[each.opcodeIndex]) for each in subgraph.operators)
    for each in operations:
        if any(not -1 <= place < len(tensors) for place in (*each.inputs, *each.outputs)):
            raise IndexError("an operation names a tensor that is not there")
    return Graph(
        size=len(data),
        tensors=tensors,
        operations=operations,
        inputs=tuple(tensors[place] for place in subgraph.inputs),
        outputs=tuple(tensors[place] for place in subgraph.outputs),
        metadata={_text(each.name): _content(model.buffers[each.buffer]) for each in model.metadata or ()},
    )


def _tensor(each: Any, buffers: Any) -> Tensor:
    data = buffers[each.buffer].data
    shape = tuple(map(int, each.shape)) if each.shape is not None else ()
    signature = tuple(map(int, each.shapeSignature)) if each.shapeSignature is not None else ()
    quantization = each.quantization
    scales = quantization.scale if quantization is not None else None
    zero_points = quantization.zeroPoint if quantization is not None else None
    return Tensor(
        name=_text(each.name),
        shape=shape,
        dtype=_dtypes()[each.type],
        dynamic=-1 in signature or any(side < 1 for side in shape),
        constant=len(data) if data is not None else 0,
        scales=tuple(map(float, scales)) if scales is not None else (),
        zero_points=tuple(map(int, zero_points)) if zero_points is not None else (),
        values=_values(data) if _dtypes()[each.type] == "int32" and data is not None else (),
    )


def _values(data: Any) -> tuple[int, ...]:
    """Read a few numbers int32, little-endian as the format has them."""
    few = len(data) if len(data) <= _FEW_VALUES * 4 else 0
    return tuple(number for (number,) in struct.iter_unpack("<i", bytes(data[:few])))


def _content(buffer: Any) -> bytes:
    return b"" if buffer.data is None else bytes(buffer.data)


def _operation(each: Any, code: Any) -> Operation:
    # Old files have the number in a byte, newer ones have 127 there and the number elsewhere.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return Operation(
        name=_operations()[number],
        custom=_text(code.customCode),
        inputs=tuple(map(int, each.inputs)) if each.inputs is not None else (),
        outputs=tuple(map(int, each.outputs)) if each.outputs is not None else (),
        options={
            # As tuples, for arrays do not compare as values do.
            name: tuple(value.tolist()) if hasattr(value, "tolist") else value
            for name, value in (vars(each.builtinOptions) if each.builtinOptions is not None else {}).items()
        },
    )


def _text(name: bytes | None) -> str:
    return "" if name is None else name.decode("utf-8", "replace")


@cache
def _operations() -> Mapping[int, str]:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    return _names(BuiltinOperator)


@cache
def _dtypes() -> Mapping[int, str]:
    from ai_edge_litert.schema_py_generated import TensorType

    return {number: name.lower() for number, name in _names(TensorType).items()}


def _names(enumeration: type) -> Mapping[int, str]:
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}
