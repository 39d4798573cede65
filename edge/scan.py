"""Look at every row, quickly: the only door to NumKong.

Rows and query are int8 there, so that 10,000 rows of 256 components take a quarter of the memory of floats
and a twentieth of a millisecond of an x86 core. What it gives is a little off, as the query was rounded, and
it says by how much at most: whoever names products looks again, exactly, at the few that may be meant.
Without NumKong (it is not made for every processor) numpy does the same with floats, more slowly.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.segments import unit_rows

# Components (rows times dimension) up to which floats fit into a core's caches: another library is no gain.
_FEW: Final = 250_000


class RowScan:
    """The similarities of many rows to one vector after the other.

    Attributes:
        fast: Whether NumKong does it.
    """

    def __init__(self, rows: NDArray[np.int8]) -> None:
        """Take over int8 rows, shape (n, dimension), of any length; they are copied."""
        numbers = _numkong() if rows.size > _FEW else None
        self.fast = numbers is not None
        if numbers is None:
            self._vectors = unit_rows(rows)
            return
        self._numkong = numbers
        self._packed = numbers.dots_pack(np.ascontiguousarray(rows), "int8")
        self._lengths = _lengths(rows)

    def similarities(self, query: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        """Measure the cosine of every row to a unit vector, float32 (n,), and how far it is off at most."""
        if not self.fast:
            return np.einsum("ij,j->i", self._vectors, query), 0.0
        step = float(np.abs(query).max()) / 127
        rounded = np.rint(query / step)
        off = query - rounded * np.float32(step)
        dots = self._numkong.dots_packed(rounded.astype(np.int8)[np.newaxis], self._packed)
        similarities = np.asarray(dots)[0].astype(np.float32)
        similarities *= np.float32(step)
        similarities /= self._lengths
        # A row of unit length sees no more of what was rounded off than its length (Cauchy and Schwarz).
        return similarities, float(np.sqrt(np.einsum("i,i->", off, off))) + 1e-5


def can_compare() -> bool:
    """Say whether NumKong is here."""
    return _numkong() is not None


def compare_rows(
    query: NDArray[np.int8], rows: NDArray[np.int8], places: Sequence[slice]
) -> NDArray[np.float32]:
    """Multiply an int8 vector, (1, dimension), with some of the rows, (n, dimension), by NumKong.

    Returns float32 dot products of the rows of all `places`, one place after the other.
    """
    cdist = _numkong().cdist
    dots = [np.asarray(cdist(query, rows[place], "dot")) for place in places]
    found: NDArray[np.float32] = np.concatenate(dots, axis=1)[0].astype(np.float32)
    return found


def _lengths(rows: NDArray[np.int8]) -> NDArray[np.float32]:
    """Measure the rows' lengths, in blocks: as floats they would be four times as large."""
    lengths = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), 4096):
        block = rows[start : start + 4096].astype(np.float32)
        lengths[start : start + 4096] = np.sqrt(np.einsum("ij,ij->i", block, block))
    return np.maximum(lengths, 1)


@cache
def _numkong() -> Any:
    try:
        import numkong
    except ImportError:
        return None
    return numkong
