"""Whether a network file is whole: `tflite-runtime` reads one without looking, and a cut one kills it.

A .tflite file is a flatbuffer: tables that point at vectors, strings and other tables. It is whole when
everything that is pointed at lies within it. Only bounds are checked; what the numbers mean, a runtime sees.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_U32: Final = struct.Struct("<I")
_I32: Final = struct.Struct("<i")
_U16: Final = struct.Struct("<H")


@dataclass(frozen=True, slots=True)
class _Table:
    """The fields of a table that point somewhere, by their numbers in TensorFlow Lite's schema.

    Attributes:
        vectors: bytes of one element; a string is a vector of bytes.
        tables: fields that point at one table.
        lists: fields that point at a vector of tables.
    """

    vectors: Mapping[int, int] = field(default_factory=dict)
    tables: "Mapping[int, _Table]" = field(default_factory=dict)
    lists: "Mapping[int, _Table]" = field(default_factory=dict)


_QUANTIZATION: Final = _Table(vectors={0: 4, 1: 4, 2: 4, 3: 8})
_TENSOR: Final = _Table(vectors={0: 4, 3: 1, 7: 4}, tables={4: _QUANTIZATION})
_OPERATOR: Final = _Table(vectors={1: 4, 2: 4, 5: 1}, tables={4: _Table()})
_SUBGRAPH: Final = _Table(vectors={1: 4, 2: 4, 4: 1}, lists={0: _TENSOR, 3: _OPERATOR})
_MODEL: Final = _Table(
    vectors={3: 1, 5: 4},
    lists={1: _Table(vectors={1: 1}), 2: _SUBGRAPH, 4: _Table(vectors={0: 1}), 6: _Table(vectors={0: 1})},
)


def is_whole(network: bytes) -> bool:
    """Tell whether everything that the network file points at lies within it."""
    try:
        _check_table(network, _U32.unpack_from(network)[0], _MODEL)
    except (struct.error, IndexError):
        return False
    return True


def _check_table(data: bytes, at: int, table: _Table) -> None:
    places = at - _I32.unpack_from(data, at)[0]
    if places < 0:
        raise IndexError
    size, length = _U16.unpack_from(data, places)[0], _U16.unpack_from(data, places + 2)[0]
    if max(places + size, at + length) > len(data):
        raise IndexError

    def target(number: int) -> int | None:
        """Return where a field points; None where the table has none."""
        if 4 + 2 * number >= size:
            return None
        offset = _U16.unpack_from(data, places + 4 + 2 * number)[0]
        return at + offset + _U32.unpack_from(data, at + offset)[0] if offset else None

    for number, item in table.vectors.items():
        if (found := target(number)) is not None:
            _check_vector(data, found, item)
    for number, inner in table.tables.items():
        if (found := target(number)) is not None:
            _check_table(data, found, inner)
    for number, inner in table.lists.items():
        if (found := target(number)) is not None:
            for index in range(_check_vector(data, found, 4)):
                place = found + 4 + 4 * index
                _check_table(data, place + _U32.unpack_from(data, place)[0], inner)


def _check_vector(data: bytes, at: int, item: int) -> int:
    """Check a vector, and return how many elements it has."""
    count: int = _U32.unpack_from(data, at)[0]
    if at + 4 + count * item > len(data):
        raise IndexError
    return count
