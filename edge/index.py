"""Find the products whose vectors are nearest to one vector; the only door to Annoy.

Think of it as a card index beside the segments: it may say where to look, never how similar something is.
Annoy's forest of random planes, or cells around centers (`edge.cells`), propose rows of the base; rows of the
deltas are all looked at, and every similarity is computed anew from the signed int8 rows. Distances never
leave this module; what it hands out is cosine similarity, bigger is better.

An Annoy file is mapped and trusted blindly by Annoy: one that was cut at a node boundary loads and then kills
the process at the first question. Hence size and hash are checked before it is mapped, and it is written
whole, once, by this device for itself.
"""

import math
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge.cells import Cells, build_cells
from edge.disk import sha256_file, storage_error, sync_folder, write_atomically
from edge.errors import Incompatible, IndexBroken, ModelBroken, StorageUnusable
from edge.fields import Fields, canonical_json, parse_json
from edge.recipe import IndexRecipe
from edge.scan import RowScan, can_compare
from edge.scoring import ScoreRule
from edge.segments import SegmentStack, file_stamp

if TYPE_CHECKING:
    from annoy import AnnoyIndex

# How many rows Annoy is asked for, first and when those were too few products: a product has tens of photos,
# and rows of products that a delta removed are still in the index.
_CANDIDATES = (200, 1600)
# Components (rows times dimension) up to which looking at every row is out of question the faster way, 1 MB,
# and from which its floats (without NumKong) or its int8 rows (with it) are more than a device has to spare,
# however fast they would be; and from which cells, where there are some, have always been faster than Annoy's
# trees, in a tenth of the space and of the time to build.
_SURELY_SCANNED = 250_000
_NEVER_SCANNED_AS_FLOATS = 8_000_000
_NEVER_SCANNED = 64_000_000
_NEVER_PLANTED = 8_000_000
_WORTH_MISSING_ROWS_MS = 0.2  # a scan misses nothing, and is left for what is that much faster
_TIMED_QUERIES = 24
_CACHES = 32 * 1024 * 1024  # bytes that push an index out of all caches, as decoding and a network do
_BLOCK = 4096  # rows dequantized at a time where all are visited, 4 MB at 256 components
_COMPLETED = 16  # products that get all of their rows looked at, of those that Annoy proposes some rows of
_BEST_ROW = ScoreRule()
_Proposer = Callable[[NDArray[np.float32], int], NDArray[np.intp]]
"""Names about so many base rows that are most similar to a unit vector, dead ones too, in any order."""

METHODS = ("scan", "annoy", "cells")
_TIMED = ("annoy", "scan", "cells")
ANNOY_FILE, CELLS_FILE = "index.ann", "index.cells"


@dataclass(frozen=True, slots=True)
class Hit:
    """One product that was found: its score, and the number and cosine similarity of its most similar row."""

    sku: str
    similarity: float
    row: int
    score: float


@dataclass(frozen=True, slots=True)
class IndexRecord:
    """What `index.json` says: the hash of index.ann, and how this device searches this catalog.

    `method` is `scan` (every row is looked at), `annoy` or `cells`; the times are medians of a search in
    milliseconds, None where there was nothing to measure. `cells_sha256` is the hash of index.cells, None
    where that is not used. `base` is the sha256 of the base segment that all this is about and `built` the
    part of the recipe that it was built by (trees, seed): the index goes with a base from release to release,
    and never to another base. Both are None in records of an older Shelfsight, which are not carried over.
    """

    sha256: str
    method: str
    annoy_ms: float | None = None
    scan_ms: float | None = None
    cells_ms: float | None = None
    cells_sha256: str | None = None
    base: str | None = None
    built: tuple[int, int] | None = None

    @classmethod
    def read(cls, path: Path) -> "IndexRecord":
        """Read index.json.

        Raises:
            IndexBroken: It is missing, or is no such record.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise IndexBroken(f"{path} cannot be read; install the release again") from error
        fields = Fields(str(path), parse_json(data, str(path), IndexBroken), IndexBroken)
        sha256, method = fields.sha256("sha256"), fields.one_of("method", METHODS)
        cells_sha256 = fields.sha256("cells_sha256") if method == "cells" else None
        rest = fields.rest()
        annoy_ms, scan_ms, cells_ms = (_milliseconds(rest.get(f"{name}_ms")) for name in _TIMED)
        base, built = rest.get("base"), rest.get("built")
        return cls(
            sha256,
            method,
            annoy_ms,
            scan_ms,
            cells_ms,
            cells_sha256,
            base=base if isinstance(base, str) else None,
            built=(built[0], built[1]) if isinstance(built, list) and len(built) == 2 else None,
        )

    def write(self, path: Path) -> None:
        """Write index.json as canonical JSON.

        Raises:
            NoSpace, StorageUnusable: The folder cannot be written.
        """
        record: dict[str, object] = {"sha256": self.sha256, "method": self.method, "annoy_ms": self.annoy_ms}
        record |= {"scan_ms": self.scan_ms, "cells_ms": self.cells_ms, "cells_sha256": self.cells_sha256}
        record |= {"base": self.base, "built": list(self.built) if self.built else None}
        write_atomically(path, canonical_json(record))


def prepare_index(
    stack: SegmentStack, folder: Path, recipe: IndexRecipe, rule: ScoreRule = _BEST_ROW
) -> IndexRecord:
    """Build index.ann in `folder`, find out which way of searching is faster here, and write index.json.

    An index that is there already is kept, and nothing is measured, if its record says that it was built of
    this very base in this very way, and its files are what the record says.

    Small catalogs are scanned, which misses nothing; in large ones cells or Annoy's trees are faster.
    Machines differ, so this one is asked, with the `rule` that products are scored by. What is not used is
    not kept, but for a small index.ann.

    Raises:
        NoSpace, StorageUnusable: The folder cannot be written.
    """
    carried = _carried(stack, folder, recipe)
    if carried is not None:
        return carried
    components = int(stack.alive.sum()) * stack.dimension
    path = folder / ANNOY_FILE
    if components > _NEVER_PLANTED and can_compare():
        write_atomically(path, b"")
        sha256 = sha256_file(path)
    else:
        sha256 = build_annoy(stack, path, recipe)
    if components <= _SURELY_SCANNED or stack.base_row_count == 0:
        record = IndexRecord(sha256, "scan")
    else:
        record = _measure(stack, folder, sha256, recipe, rule)
    record = replace(record, base=stack.segments[0].sha256, built=(recipe.trees, recipe.seed))
    record.write(folder / "index.json")
    return record


def _carried(stack: SegmentStack, folder: Path, recipe: IndexRecipe) -> IndexRecord | None:
    """Return the record of an index in `folder` that this stack can use as it is, None if there is none."""
    base = stack.segments[0].sha256
    try:
        record = IndexRecord.read(folder / "index.json")
        if base is None or (record.base, record.built) != (base, (recipe.trees, recipe.seed)):
            return None
        _check_file(folder / ANNOY_FILE, record, stack)
        if record.method == "cells":
            _open_cells(folder / CELLS_FILE, record, stack)
    except IndexBroken:
        return None
    return record


def _measure(
    stack: SegmentStack, folder: Path, sha256: str, recipe: IndexRecipe, rule: ScoreRule
) -> IndexRecord:
    """Time the ways in turn on the catalog's own vectors, each time with other data in the caches."""
    components = int(stack.alive.sum()) * stack.dimension
    cells_sha256 = None
    methods = ["annoy"] if (folder / ANNOY_FILE).stat().st_size else []
    if components <= (_NEVER_SCANNED if can_compare() else _NEVER_SCANNED_AS_FLOATS):
        methods.append("scan")
    if can_compare():
        build_cells(stack, folder / CELLS_FILE, recipe.seed)
        cells_sha256 = sha256_file(folder / CELLS_FILE)
        methods.append("cells")
    record = IndexRecord(sha256, methods[0], cells_sha256=cells_sha256)
    times = _times(stack, folder, [replace(record, method=method) for method in methods], recipe, rule)
    fastest = min(times, key=lambda method: times[method])
    if times.get("scan", math.inf) < times[fastest] + _WORTH_MISSING_ROWS_MS:
        fastest = "scan"
    # What is not used would only fill the disk; an empty index.ann says so.
    if fastest != "cells":
        (folder / CELLS_FILE).unlink(missing_ok=True)
        cells_sha256 = None
    if fastest != "annoy":
        write_atomically(folder / ANNOY_FILE, b"")
        sha256 = sha256_file(folder / ANNOY_FILE)
    annoy_ms, scan_ms, cells_ms = (times.get(method) for method in _TIMED)
    return IndexRecord(sha256, fastest, annoy_ms, scan_ms, cells_ms, cells_sha256)


def _times(
    stack: SegmentStack, folder: Path, records: list[IndexRecord], recipe: IndexRecipe, rule: ScoreRule
) -> dict[str, float]:
    ways = {each.method: SearchIndex.open(stack, folder / ANNOY_FILE, each, recipe) for each in records}
    rows = np.linspace(0, stack.base_row_count - 1, _TIMED_QUERIES).astype(np.intp)
    times: dict[str, list[float]] = {method: [] for method in ways}
    other = np.zeros(_CACHES, dtype=np.uint8)
    for query in stack.vectors(rows):
        for method, index in ways.items():
            other += 1
            began = time.perf_counter()
            index.search(query, 5, rule)
            times[method].append(1000 * (time.perf_counter() - began))
    return {method: round(median(each), 3) for method, each in times.items()}


def build_annoy(stack: SegmentStack, path: Path, recipe: IndexRecipe) -> str:
    """Build the index over the base rows of `stack`, write it to `path` and return its sha256.

    Dead rows are indexed too: the index belongs to the base segment and stays right under any delta. One
    thread and a fixed seed make two builds on one machine equal byte for byte (several threads do not). A
    base without rows gives an empty file. 10,000 vectors of 256 components take 0.12 s and 16 MB of disk.

    Raises:
        NoSpace: The disk is full; `path` is as it was.
        StorageUnusable: The folder cannot be written; `path` is as it was.
    """
    if stack.base_row_count == 0:
        write_atomically(path, b"")
        return sha256_file(path)
    forest = _new_forest(stack.dimension)
    forest.set_seed(recipe.seed)
    for rows, vectors in _blocks(stack, np.arange(stack.base_row_count)):
        for row, vector in zip(rows.tolist(), vectors.tolist(), strict=True):
            forest.add_item(row, vector)
    forest.build(recipe.trees, n_jobs=1)
    part = path.with_name(f".{path.name}.part")
    try:
        _save(forest, part)
        sha256 = sha256_file(part)
        part.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)
    return sha256


class SearchIndex:
    """Search over a segment stack: a scan of all rows, or cells or Annoy for the base and a scan of deltas.

    Either only names the products that may be meant; what they score is computed from all of their rows.

    Attributes:
        method: `scan`, `annoy` or `cells`.
        fast: Whether rows are scanned by NumKong.
    """

    def __init__(
        self,
        stack: SegmentStack,
        method: str = "scan",
        propose: _Proposer | None = None,
        key: tuple[object, ...] | None = None,
    ) -> None:
        self.method = method
        self._key = key
        self._stack = stack
        self._propose = propose
        living = np.flatnonzero(stack.alive)
        # Product by product, so that each is scored in one pass.
        self._living = living[np.argsort(stack.row_product[living], kind="stable")]
        self._row_counts = np.bincount(stack.row_product[living], minlength=len(stack.skus))
        self._starts = np.cumsum(self._row_counts) - self._row_counts
        self._scanned_rows = self._living
        if propose is not None:
            self._scanned_rows = self._living[self._living >= stack.base_row_count]
        self._scan = RowScan(stack.raw(self._scanned_rows))
        self._scanned = self._groups_of(self._scanned_rows)
        self.fast = self._scan.fast

    @property
    def exact(self) -> bool:
        """Whether every living row is looked at."""
        return self._propose is None

    @classmethod
    def open(
        cls,
        stack: SegmentStack,
        path: Path,
        record: IndexRecord,
        recipe: IndexRecipe,
        held: "SearchIndex | None" = None,
    ) -> "SearchIndex":
        """Check the index file at `path` that `build_annoy` wrote for this stack, and map what is to be used.

        Where `held` has the same files of the same base open, they are not checked and mapped once more.

        Raises:
            IndexBroken: The file is missing, is not a whole number of nodes of this dimension, has another
                hash, holds another number of rows than the base or belongs to another base; or the cells
                beside it do not fit.
        """
        if record.base not in (None, stack.segments[0].sha256):
            raise IndexBroken(f"index {path} is of another base segment; install the release again")
        key = _key(stack, path, record, recipe)
        if held is not None and key is not None and held._key == key:
            return cls(stack, record.method, held._propose, key)
        _check_file(path, record, stack)
        if key is None:
            return cls(stack)
        if record.method == "cells":
            cells = _open_cells(path.with_name(CELLS_FILE), record, stack)
            return cls(stack, "cells", cells.nearest, key)
        return cls(stack, "annoy", _open_annoy(path, stack, recipe), key)

    def search(
        self, vector: NDArray[np.float32], count: int, rule: ScoreRule = _BEST_ROW, *, spare: int = 0
    ) -> list[Hit]:
        """List the `count` products that score best for `vector`, best first, each with its best living row.

        `vector` is float32 of shape (dimension,), of any length but zero. Without a `rule` a product scores
        the similarity of its best row. Equal scores are ordered by sku. The list is shorter only when fewer
        products have rows, and up to `spare` longer where those are known without looking further.

        Raises:
            Incompatible: A vector of another dimension.
            ModelBroken: A vector that is zero or not finite.
        """
        query = self._unit(vector)
        scanned, error = self._scan.similarities(query)
        if self._propose is None:
            groups = self._scanned.with_similarities(scanned)
            return self._best(self._promising(groups, count + spare, rule, error), query, count + spare, rule)
        for wanted in _CANDIDATES:
            groups = self._proposed(query, scanned, wanted)
            if len(groups.products) >= count:
                # What was proposed are the nearest rows, and what is left out of a product adds little; but a
                # rule that takes the mean would hold that against products of many rows.
                most = max(count + spare, _COMPLETED)
                products = self._promising(groups, most, rule, error)
                return self._best(products, query, count + spare, rule)
        groups = self._grouped(*self._everything(query))
        return self._best(self._promising(groups, count, rule, error), query, count, rule)

    def _unit(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        if vector.shape != (self._stack.dimension,):
            raise Incompatible(
                f"a vector of shape {vector.shape} cannot be searched among vectors of "
                f"{self._stack.dimension} components; use the model of this release"
            )
        length = float(np.sqrt(np.einsum("i,i->", vector, vector)))
        # Annoy sorts with NaN in undefined ways, so this is more than good manners.
        if not np.isfinite(length) or length == 0:
            raise ModelBroken(f"the model gave a vector of length {length}; convert the network again")
        return (vector / length).astype(np.float32)

    def _proposed(self, query: NDArray[np.float32], scanned: NDArray[np.float32], wanted: int) -> "_Groups":
        """Measure the rows that are proposed, beside those that are always looked at."""
        assert self._propose is not None
        found = np.sort(self._propose(query, wanted))
        rows = found[self._stack.alive[found]]
        similarities = np.einsum("ij,j->i", self._stack.vectors(rows), query)
        return self._grouped(
            np.concatenate([rows, self._scanned_rows]), np.concatenate([similarities, scanned])
        )

    def _everything(self, query: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Look at every living row: only where hundreds of candidates were fewer products than wanted."""
        blocks = [np.einsum("ij,j->i", vectors, query) for _, vectors in _blocks(self._stack, self._living)]
        return self._living, np.concatenate([np.empty(0, np.float32), *blocks])

    def _promising(self, groups: "_Groups", count: int, rule: ScoreRule, error: float) -> NDArray[np.int32]:
        """Name every product that may be among the best `count`, where similarities are off by `error`."""
        if rule.temperature > 0:
            groups = self._plausible(groups, count, rule, error)
        scores = rule.scores(groups.similarities, groups.starts, groups.counts)
        # A score lies no further off than the similarities that it was made of.
        return groups.products[scores >= _largest(scores, count) - 2 * error]

    def _plausible(self, groups: "_Groups", count: int, rule: ScoreRule, error: float) -> "_Groups":
        """Leave out products whose best row alone rules them out, so that few have to be scored."""
        best = np.maximum.reduceat(groups.similarities, groups.starts) if len(groups.starts) else np.zeros(0)
        logs = np.log(groups.counts)
        least = best - rule.temperature * rule.count_weight * logs
        most = least + rule.temperature * logs
        some = np.flatnonzero(most >= _largest(least, count) - 2 * error)
        ends = np.append(groups.starts[1:], len(groups.similarities))
        lengths = ends[some] - groups.starts[some]
        places, starts = _runs(groups.starts[some], lengths)
        return _Groups(groups.similarities[places], groups.products[some], starts, groups.counts[some])

    def _best(
        self, products: NDArray[np.int32], query: NDArray[np.float32], count: int, rule: ScoreRule
    ) -> list[Hit]:
        """Score products, ascending, by all of their rows, exactly, and name the best `count`, best first."""
        if len(products) == 0:
            return []
        counts = self._row_counts[products]
        places, starts = _runs(self._starts[products], counts)
        rows = self._living[places]
        similarities = np.einsum("ij,j->i", self._stack.vectors(rows), query)
        scores = rule.scores(similarities, starts, counts)
        named = np.argsort(-scores, kind="stable")[:count]  # equal ones stay in the order of skus
        hits = []
        for number in named.tolist():
            start = int(starts[number])
            best = start + int(similarities[start : start + int(counts[number])].argmax())
            sku = self._stack.skus[products[number]]
            hits.append(Hit(sku, float(similarities[best]), int(rows[best]), float(scores[number])))
        return hits

    def _grouped(self, rows: NDArray[np.intp], similarities: NDArray[np.float32]) -> "_Groups":
        """Bring living rows in any order, no row twice, into groups by product."""
        places = np.argsort(self._stack.row_product[rows], kind="stable")
        return self._groups_of(rows[places]).with_similarities(similarities[places])

    def _groups_of(self, rows: NDArray[np.intp]) -> "_Groups":
        """Say where each product begins among rows that are grouped by product, with no similarities yet."""
        products = self._stack.row_product[rows]
        starts = np.flatnonzero(np.diff(products, prepend=-1))
        named = products[starts]
        return _Groups(np.empty(0, np.float32), named, starts, self._row_counts[named])


@dataclass(frozen=True, slots=True)
class _Groups:
    """Similarities of living rows, (n,), those of each product together; products ascend.

    `products` and `starts`, (products,), say whose they are and where those of each begin, `counts` how many
    living rows each has in all.
    """

    similarities: NDArray[np.float32]
    products: NDArray[np.int32]
    starts: NDArray[np.intp]
    counts: NDArray[np.intp]

    def with_similarities(self, similarities: NDArray[np.float32]) -> "_Groups":
        """Return the same groups with other similarities."""
        return _Groups(similarities, self.products, self.starts, self.counts)


def _largest(values: NDArray[np.floating], count: int) -> float:
    """Return the `count`-th largest value, the least where there are fewer."""
    if len(values) == 0:
        return 0.0
    return float(np.partition(values, -count)[-count] if count < len(values) else values.min())


def _runs(
    starts: NDArray[np.integer], lengths: NDArray[np.integer]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """List the places of several runs one after the other, and where each run begins in that list."""
    begins = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - begins, lengths), begins


def _blocks(
    stack: SegmentStack, rows: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        yield block, stack.vectors(block)


def _milliseconds(value: object) -> float | None:
    return value if isinstance(value, float) else None


def _new_forest(dimension: int) -> "AnnoyIndex":
    # Imported on use: what only reads a release must not need a compiled Annoy.
    from annoy import AnnoyIndex

    return AnnoyIndex(dimension, "angular")


def _save(forest: "AnnoyIndex", part: Path) -> None:
    """Write a built forest and bring it to the disk; failures are OSError with an errno."""
    try:
        forest.save(str(part))
    except OSError as error:
        # Annoy puts the errno into its text, in parentheses at the end, and nowhere else.
        errno = re.search(r"\((\d+)\)$", str(error))
        raise OSError(int(errno[1]) if errno else 0, str(error)) from error
    forest.unload()
    handle = os.open(part, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _key(
    stack: SegmentStack, path: Path, record: IndexRecord, recipe: IndexRecipe
) -> tuple[object, ...] | None:
    """Name what a search over a base is made of: what has the same name proposes the same rows.

    None where every row is looked at, which nothing is kept for.
    """
    if record.method == "scan" or stack.base_row_count == 0:
        return None
    name = path if record.method == "annoy" else path.with_name(CELLS_FILE)
    files = (record.sha256, record.cells_sha256, file_stamp(name))
    return (record.method, stack.segments[0].sha256, *files, recipe.search_k)


def _open_annoy(path: Path, stack: SegmentStack, recipe: IndexRecipe) -> _Proposer:
    """Map an index file whose hash is checked already."""
    forest = _new_forest(stack.dimension)
    try:
        forest.load(str(path))
    except OSError as error:
        raise IndexBroken(f"index {path} cannot be mapped ({error}); install the release again") from error
    if forest.get_n_items() != stack.base_row_count:
        raise IndexBroken(
            f"index {path} holds {forest.get_n_items()} rows and the base {stack.base_row_count}; "
            "install the release again"
        )

    def propose(query: NDArray[np.float32], wanted: int) -> NDArray[np.intp]:
        search_k = max(recipe.search_k, 2 * wanted)
        return np.array(forest.get_nns_by_vector(query.tolist(), wanted, search_k), dtype=np.intp)

    return propose


def _open_cells(path: Path, record: IndexRecord, stack: SegmentStack) -> Cells:
    if record.cells_sha256 is None or not path.is_file() or sha256_file(path) != record.cells_sha256:
        raise IndexBroken(f"{path} is missing or spoiled; install the release again")
    return Cells.open(path, stack.base_row_count, stack.dimension)


def _check_file(path: Path, record: IndexRecord, stack: SegmentStack) -> None:
    node = 4 * (stack.dimension + 3)  # n_descendants, two children, then the components, each 4 bytes
    try:
        size = path.stat().st_size
        found = sha256_file(path)
    except (OSError, StorageUnusable) as error:
        raise IndexBroken(f"index {path} cannot be read; install the release again") from error
    if size % node or (record.method == "annoy" and (size == 0) != (stack.base_row_count == 0)):
        raise IndexBroken(
            f"index {path} is {size} bytes, not nodes of {node} over {stack.base_row_count} rows; "
            "install the release again"
        )
    if found != record.sha256:
        raise IndexBroken(f"index {path} has sha256 {found}, not {record.sha256}; install the release again")
