"""Rows sorted into cells around centers, of which a search opens only the nearest few.

Think of it as a warehouse: what is alike stands in one aisle, and whoever looks for something walks the few
aisles where it can be. It is the inverted file of J. Sivic, A. Zisserman: Video Google (ICCV 2003), with the
rows kept as int8 and compared by NumKong (`edge.scan`). For large catalogs it is faster than Annoy's trees,
it takes a quarter of their space, and it is built in a fraction of the time.

    index.cells   header, cell sizes, centers (float32), row numbers (int32), the int8 rows cell by cell

The file is written and mapped under the rules of Annoy's: whole or not at all, checked before it is mapped.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.disk import storage_error, sync_folder
from edge.errors import IndexBroken
from edge.scan import compare_rows
from edge.segments import SegmentStack

_MAGIC: Final = b"SHELFCEL"
_HEADER: Final = struct.Struct("<8sIIIf40x")  # cells, dimension, rows, slack; 64 bytes
_CELLS_PER_ROOT: Final = 2.4  # cells for n rows: this times the square root of n
_MOST_CELLS: Final = 4096
_SAMPLED: Final = 32  # rows a cell that the centers are found from
_STEPS: Final = 6
_ASKED: Final = 512  # rows that are asked for, to see how far cells have to be opened
_FOUND: Final = 0.998  # of their nearest rows of other products
_LEAST_SLACK: Final = 0.36  # photos that customers take lie further from everything than references do
_BLOCK: Final = 4096


@dataclass(frozen=True, slots=True)
class Cells:
    """The rows of a base segment in cells.

    Attributes:
        slack: a search opens the cells whose centers are at most so much less similar than the nearest: few
            where a picture has its place, many where it lies between all.
        centers: float32 (cells, dimension), of unit length.
        starts, ends: where each cell lies in the two below, (cells,).
        numbers: int32 (n,): each row's number in the base.
        rows: int8 (n, dimension), of nearly equal lengths.
    """

    slack: float
    centers: NDArray[np.float32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    numbers: NDArray[np.int32]
    rows: NDArray[np.int8]

    @classmethod
    def open(cls, path: Path, rows: int, dimension: int) -> "Cells":
        """Map the file that `build_cells` wrote of a base of that many rows; its hash is checked already.

        Raises:
            IndexBroken: it is missing, or of other rows.
        """
        try:
            mapped = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise IndexBroken(f"{path} cannot be mapped ({error}); install the release again") from error
        data = np.asarray(mapped)
        header = data[: _HEADER.size].tobytes()
        magic, cells, wide, count, slack = _HEADER.unpack(header.ljust(_HEADER.size, b"\0"))
        size = _HEADER.size + 4 * cells + 4 * cells * wide + 4 * count + count * wide
        if (magic, wide, count, size) != (_MAGIC, dimension, rows, len(data)):
            raise IndexBroken(f"{path} does not hold {rows} rows in cells; install the release again")
        parts = np.split(data, np.cumsum([_HEADER.size, 4 * cells, 4 * cells * wide, 4 * count]))
        ends = np.cumsum(parts[1].view(np.int32), dtype=np.int64)
        return cls(
            slack=slack,
            starts=np.append(0, ends[:-1]),
            ends=ends,
            centers=parts[2].view(np.float32).reshape(cells, wide),
            numbers=parts[3].view(np.int32),
            rows=parts[4].view(np.int8).reshape(count, wide),
        )

    def nearest(self, query: NDArray[np.float32], count: int) -> NDArray[np.intp]:
        """Name about `count` rows that are most similar to a unit vector, in no order."""
        # Equal rows may leave a cell empty, which NumKong cannot look into.
        closeness = np.where(self.ends > self.starts, self.centers @ query, np.float32(-2))
        chosen = np.flatnonzero(closeness >= closeness.max() - self.slack)
        step = np.float32(np.abs(query).max() / 127)
        rounded = np.rint(query / step).astype(np.int8)[np.newaxis]
        starts, ends = self.starts[chosen].tolist(), self.ends[chosen].tolist()
        places = [slice(start, end) for start, end in zip(starts, ends, strict=True)]
        similarities = compare_rows(rounded, self.rows, places)
        numbers: NDArray[np.intp]
        numbers = np.concatenate([self.numbers[place] for place in places]).astype(np.intp)
        if count >= len(similarities):
            return numbers
        found: NDArray[np.intp] = numbers[similarities >= np.partition(similarities, -count)[-count]]
        return found


def build_cells(stack: SegmentStack, path: Path, seed: int) -> None:
    """Sort the base rows of `stack` into cells and write them to `path`, which is whole or as it was.

    Raises:
        NoSpace: The disk is full.
        StorageUnusable: The folder cannot be written.
    """
    rows = stack.base_row_count
    random = np.random.default_rng(seed)
    cells = int(np.clip(round(_CELLS_PER_ROOT * rows**0.5), 1, min(_MOST_CELLS, rows)))
    sample = np.sort(random.permutation(rows)[: _SAMPLED * cells])
    centers = _centers(stack.vectors(sample), cells, random)
    cell_of = np.empty(rows, np.int32)
    for start in range(0, rows, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, rows))
        cell_of[block] = np.argmax(stack.vectors(block) @ centers.T, axis=1)
    order = np.argsort(cell_of, kind="stable")
    slack = _slack(stack, centers, cell_of, random)
    header = _HEADER.pack(_MAGIC, cells, stack.dimension, rows, slack)
    sizes = np.bincount(cell_of, minlength=cells).astype(np.int32)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            for piece in (header, sizes, centers, order.astype(np.int32)):
                file.write(piece if isinstance(piece, bytes) else piece.tobytes())
            for start in range(0, rows, _BLOCK):
                file.write(stack.raw(order[start : start + _BLOCK]).tobytes())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def _centers(vectors: NDArray[np.float32], cells: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Find centers by spherical k-means; one that nothing is nearest to begins again at some row."""
    centers = vectors[random.permutation(len(vectors))[:cells]].copy()
    for _ in range(_STEPS):
        nearest = np.argmax(vectors @ centers.T, axis=1)
        order = np.argsort(nearest, kind="stable")
        sizes = np.bincount(nearest, minlength=cells)
        held = np.flatnonzero(sizes)
        starts = (np.cumsum(sizes) - sizes)[held]
        centers[held] = np.add.reduceat(vectors[order], starts, axis=0)
        empty = np.flatnonzero(sizes == 0)
        centers[empty] = vectors[random.integers(0, len(vectors), len(empty))]
        centers /= np.maximum(np.linalg.norm(centers, axis=1, keepdims=True), 1e-12)
    return centers


def _slack(
    stack: SegmentStack,
    centers: NDArray[np.float32],
    cell_of: NDArray[np.int32],
    random: np.random.Generator,
) -> float:
    """Find out which cells to open, so that nearly every row's nearest row of another product is found.

    Leaving out its own product makes a row as hard to place as a photo that is not in the catalog.
    """
    asked = np.sort(random.permutation(stack.base_row_count)[:_ASKED])
    queries, own = stack.vectors(asked), stack.row_product[asked]
    best = np.full(len(asked), -2, np.float32)
    nearest = np.zeros(len(asked), np.intp)
    for start in range(0, stack.base_row_count, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, stack.base_row_count))
        similarities = queries @ stack.vectors(block).T
        similarities[own[:, np.newaxis] == stack.row_product[block]] = -2
        found = np.argmax(similarities, axis=1)
        values = similarities[np.arange(len(asked)), found]
        better = values > best
        best[better], nearest[better] = values[better], block[found[better]]
    closeness = queries @ centers.T
    gaps = closeness.max(axis=1) - closeness[np.arange(len(asked)), cell_of[nearest]]
    return max(_LEAST_SLACK, float(np.quantile(gaps, _FOUND)))
