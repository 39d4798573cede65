"""Tells other TFLite tools what a network file takes and gives: the public TFLite metadata.

    FileNote <-> ModelMetadata (metadata_schema.fbs, what its version 1.0.0 had) <-> buffer TFLITE_METADATA

Our own devices do not read it: they know all of it from the model's or the release's manifest.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import flatbuffers
from flatbuffers import number_types
from flatbuffers.table import Table

from converter.graph import Graph, Tensor, read_graph
from converter.network_file import NetworkNote
from converter.packing import pack_with
from edge.errors import BadNetwork

_Read = TypeVar("_Read")
METADATA_KEY: Final = "TFLITE_METADATA"
_IDENTIFIER: Final = b"M001"
_PARSER_VERSION: Final = "1.0.0"
_UNREADABLE = (struct.error, IndexError, OverflowError, TypeError, UnicodeDecodeError, ValueError)
# Slots of the schema's tables, and what its unions and enumerations call what is written here.
_NAME, _DESCRIPTION, _MODEL_VERSION, _SUBGRAPHS, _AUTHOR, _LICENSE, _LEAST_PARSER = 0, 1, 2, 3, 4, 5, 7
_INPUTS, _OUTPUTS = 2, 3
_DIMENSIONS, _CONTENT, _PROCESS = 2, 3, 4
_UNION_TYPE, _UNION = 0, 1
_FEATURE, _IMAGE = 1, 2
_COLOR, _RGB = 0, 1
_NORMALIZATION = 1
_MEAN, _STD = 0, 1


@dataclass(frozen=True, slots=True)
class TensorNote:
    """What is told of one input or output.

    Attributes:
        name, description: for people and generated code.
        dimensions: names of its sides.
        mean, std: what a tool does to a pixel before it quantizes it: `(raw - mean) / std`; () for outputs.
    """

    name: str
    description: str
    dimensions: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class FileNote:
    """What is told of a network file; `version` is its embedding space, the identity of the float network."""

    name: str
    description: str
    version: str
    license: str
    inputs: tuple[TensorNote, ...]
    outputs: tuple[TensorNote, ...]


def describe(data: bytes, name: str, note: NetworkNote) -> bytes:
    """Return the file with its metadata, and otherwise as it was; the same arguments give the same bytes.

    Raises:
        BadNetwork: not a TFLite file.
    """
    told = file_note(read_graph(data, name), note)
    return pack_with(data, name, METADATA_KEY, _to_bytes(told))


def file_note(graph: Graph, note: NetworkNote) -> FileNote:
    """Say what a file of this network takes and gives."""
    return FileNote(
        name=f"shelfsight {note.backbone}",
        description=(
            f"An embedder for visual product search: a picture in, {note.dimension} numbers out, whose "
            "direction is close to that of other photos of the same product. Compare by cosine similarity, "
            f"and only with vectors of the same embedding space, {note.space}."
        ),
        version=note.space,
        license=note.license,
        inputs=tuple(_picture(tensor, note) for tensor in graph.inputs),
        outputs=tuple(_answer(tensor) for tensor in graph.outputs),
    )


def read_metadata(graph: Graph, name: str) -> FileNote | None:
    """Return what a file's metadata says, as far as it is told here; None where it has none.

    Raises:
        BadNetwork: the metadata is cut or damaged.
    """
    data = graph.metadata.get(METADATA_KEY)
    if data is None:
        return None
    try:
        return _from_bytes(data)
    except _UNREADABLE as error:
        raise BadNetwork(f"the metadata of {name} is damaged ({error}): convert the network again") from error


def _picture(tensor: Tensor, note: NetworkNote) -> TensorNote:
    """Tell of an input: where pixels are quantized, that undoes the normalization, and tools do both.

    A file with floats inside takes raw pixels as they are, so there is nothing to be done to them.
    """
    quantized = bool(tensor.scales)
    return TensorNote(
        name="picture",
        description=(
            f"RGB pixels, 0 to 255, the whole photo squashed to {note.input_size} x {note.input_size}; "
            "they are normalized inside"
        ),
        dimensions=("batch", "height", "width", "color"),
        mean=(-note.input_offset / note.input_scale if quantized else 0.0,),
        std=(1 / note.input_scale if quantized else 1.0,),
    )


def _answer(tensor: Tensor) -> TensorNote:
    if len(tensor.shape) == 2:
        return TensorNote(
            "embedding", "what the picture shows, not of unit length: normalize it", ("batch", "embedding")
        )
    return TensorNote(
        "local",
        "what each place of the picture shows; its mean over the places is the embedding",
        ("batch", "height", "width", "embedding"),
    )


def _to_bytes(note: FileNote) -> bytes:
    builder = flatbuffers.Builder(1024)
    subgraph = _table(
        builder,
        {
            _INPUTS: _tables(builder, [_write_tensor(builder, each, _IMAGE) for each in note.inputs]),
            _OUTPUTS: _tables(builder, [_write_tensor(builder, each, _FEATURE) for each in note.outputs]),
        },
    )
    texts = {
        _NAME: note.name,
        _DESCRIPTION: note.description,
        _MODEL_VERSION: note.version,
        _AUTHOR: "Shelfsight",
        _LICENSE: note.license,
        _LEAST_PARSER: _PARSER_VERSION,
    }
    fields = {slot: builder.CreateString(text) for slot, text in texts.items() if text}
    model = _table(builder, {**fields, _SUBGRAPHS: _tables(builder, [subgraph])})
    builder.Finish(model, file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _write_tensor(builder: Any, note: TensorNote, content: int) -> int:
    properties = _table(builder, {}, {_COLOR: _RGB} if content == _IMAGE else {})
    fields = {
        _NAME: builder.CreateString(note.name),
        _DESCRIPTION: builder.CreateString(note.description),
        _DIMENSIONS: _tables(builder, [builder.CreateString(each) for each in note.dimensions]),
        _CONTENT: _table(builder, {_UNION: properties}, {_UNION_TYPE: content}),
    }
    if note.mean:
        options = _table(builder, {_MEAN: _floats(builder, note.mean), _STD: _floats(builder, note.std)})
        unit = _table(builder, {_UNION: options}, {_UNION_TYPE: _NORMALIZATION})
        fields[_PROCESS] = _tables(builder, [unit])
    return _table(builder, fields)


def _table(builder: Any, offsets: Mapping[int, int], numbers: Mapping[int, int] | None = None) -> int:
    """Write a table: what its slots point to, and its small numbers; return its place."""
    small = numbers or {}
    builder.StartObject(max((*offsets, *small), default=-1) + 1)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, number in small.items():
        builder.PrependUint8Slot(slot, number, 0)
    return int(builder.EndObject())


def _tables(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _floats(builder: Any, numbers: Sequence[float]) -> int:
    builder.StartVector(4, len(numbers), 4)
    for number in reversed(numbers):
        builder.PrependFloat32(number)
    return int(builder.EndVector())


def _from_bytes(data: bytes) -> FileNote:
    if data[4:8] != _IDENTIFIER:
        raise ValueError("it is of an unknown kind")
    model = _Reader(data, Table(data, 0).Indirect(0))
    subgraph = next(iter(model.each(_SUBGRAPHS)), None)
    return FileNote(
        name=model.text(_NAME),
        description=model.text(_DESCRIPTION),
        version=model.text(_MODEL_VERSION),
        license=model.text(_LICENSE),
        inputs=tuple(_read_tensor(each) for each in (subgraph.each(_INPUTS) if subgraph else ())),
        outputs=tuple(_read_tensor(each) for each in (subgraph.each(_OUTPUTS) if subgraph else ())),
    )


def _read_tensor(tensor: "_Reader") -> TensorNote:
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    for unit in tensor.each(_PROCESS):
        options = unit.inner(_UNION)
        if unit.small(_UNION_TYPE) == _NORMALIZATION and options is not None:
            mean, std = options.floats(_MEAN), options.floats(_STD)
    return TensorNote(
        tensor.text(_NAME), tensor.text(_DESCRIPTION), tensor.texts(_DIMENSIONS), mean=mean, std=std
    )


class _Reader:
    """One table of a flatbuffer, read by slots."""

    def __init__(self, data: bytes, place: int) -> None:
        if not 0 <= place < len(data):
            raise IndexError("it leads outside itself")
        self._data = data
        self._table = Table(data, place)

    def text(self, slot: int) -> str:
        offset = self._offset(slot)
        return self._string(self._table.Pos + offset) if offset else ""

    def texts(self, slot: int) -> tuple[str, ...]:
        return tuple(self._vector(slot, self._string))

    def floats(self, slot: int) -> tuple[float, ...]:
        return tuple(
            self._vector(slot, lambda place: float(self._table.Get(number_types.Float32Flags, place)))
        )

    def each(self, slot: int) -> list["_Reader"]:
        return self._vector(slot, lambda place: _Reader(self._data, self._table.Indirect(place)))

    def inner(self, slot: int) -> "_Reader | None":
        offset = self._offset(slot)
        return _Reader(self._data, self._table.Indirect(self._table.Pos + offset)) if offset else None

    def small(self, slot: int) -> int:
        offset = self._offset(slot)
        return int(self._table.Get(number_types.Uint8Flags, self._table.Pos + offset)) if offset else 0

    def _vector(self, slot: int, read: Callable[[int], _Read]) -> list[_Read]:
        offset = self._offset(slot)
        if not offset:
            return []
        start, length = self._table.Vector(offset), self._table.VectorLen(offset)
        if start + 4 * length > len(self._data):
            raise IndexError("a list in it goes on after its end")
        return [read(start + 4 * number) for number in range(length)]

    def _string(self, place: int) -> str:
        return bytes(self._table.String(place)).decode("utf-8", "replace")

    def _offset(self, slot: int) -> int:
        return int(self._table.Offset(4 + 2 * slot))
