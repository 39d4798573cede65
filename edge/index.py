"""Find the products whose vectors are nearest to one vector; the only door to Annoy.

Think of it as a card index beside the segments: it may say where to look, never how similar something is.
Annoy's forest of random planes proposes rows of the base, rows of the deltas are all looked at, and every
similarity is computed anew from the signed int8 rows. Distances never leave this module; what it hands out is
cosine similarity, bigger is better.

An Annoy file is mapped and trusted blindly by Annoy: one that was cut at a node boundary loads and then kills
the process at the first question. Hence size and hash are checked before it is mapped, and it is written
whole, once, by this device for itself.
"""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge.disk import sha256_file, storage_error, sync_folder, write_atomically
from edge.errors import Incompatible, IndexBroken, ModelBroken, StorageUnusable
from edge.fields import Fields, canonical_json, parse_json
from edge.recipe import IndexRecipe
from edge.scoring import ScoreRule
from edge.segments import SegmentStack

if TYPE_CHECKING:
    from annoy import AnnoyIndex

# How many rows Annoy is asked for, first and when those were too few products: a product has tens of photos,
# and rows of products that a delta removed are still in the index.
_CANDIDATES = (200, 1600)
# Components (rows times dimension) up to which looking at every row is out of question the faster way, 1 MB,
# and from which its 32 MB of float32 are more than a device has to spare, however fast it would be.
_SURELY_SCANNED = 250_000
_NEVER_SCANNED = 8_000_000
_TIMED_QUERIES = 24
_CACHES = 8 * 1024 * 1024  # bytes that push an index out of a core's own caches, as a network does
_BLOCK = 4096  # rows dequantized at a time where all are visited, 4 MB at 256 components
_COMPLETED = 16  # products that get all of their rows looked at, of those that Annoy proposes some rows of
_BEST_ROW = ScoreRule()


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

    `method` is `scan` (every row is looked at) or `annoy`; the times are medians of a search in milliseconds,
    or None where the size of the catalog left nothing to measure.
    """

    sha256: str
    method: str
    annoy_ms: float | None = None
    scan_ms: float | None = None

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
        sha256, method = fields.sha256("sha256"), fields.one_of("method", ("scan", "annoy"))
        times = [fields.rest().get(name) for name in ("annoy_ms", "scan_ms")]
        return cls(sha256, method, *(each if isinstance(each, float) else None for each in times))

    def write(self, path: Path) -> None:
        """Write index.json as canonical JSON.

        Raises:
            NoSpace, StorageUnusable: The folder cannot be written.
        """
        times = {"annoy_ms": self.annoy_ms, "scan_ms": self.scan_ms}
        write_atomically(path, canonical_json({"sha256": self.sha256, "method": self.method, **times}))


def prepare_index(
    stack: SegmentStack, folder: Path, recipe: IndexRecipe, rule: ScoreRule = _BEST_ROW
) -> IndexRecord:
    """Build index.ann in `folder`, find out which way of searching is faster here, and write index.json.

    Where memory is fast and the catalog small, looking at every row beats Annoy: on a server CPU, between two
    runs of a network, 10,000 x 256 take 0.4 ms by scan and 0.8 ms by Annoy, and they meet near 20,000 rows.
    Machines differ, so this one is asked, with the `rule` that products are scored by. A scan also misses
    nothing.

    Raises:
        NoSpace, StorageUnusable: The folder cannot be written.
    """
    path = folder / "index.ann"
    sha256 = build_annoy(stack, path, recipe)
    components = int(stack.alive.sum()) * stack.dimension
    if components <= _SURELY_SCANNED or stack.base_row_count == 0:
        record = IndexRecord(sha256, "scan")
    elif components > _NEVER_SCANNED:
        record = IndexRecord(sha256, "annoy")
    else:
        record = _measure(stack, path, sha256, recipe, rule)
    record.write(folder / "index.json")
    return record


def _measure(
    stack: SegmentStack, path: Path, sha256: str, recipe: IndexRecipe, rule: ScoreRule
) -> IndexRecord:
    """Time both ways in turn on the catalog's own vectors, each time with other data in the caches."""
    ways = {
        method: SearchIndex.open(stack, path, IndexRecord(sha256, method), recipe)
        for method in ("annoy", "scan")
    }
    rows = np.linspace(0, stack.base_row_count - 1, _TIMED_QUERIES).astype(np.intp)
    times: dict[str, list[float]] = {"annoy": [], "scan": []}
    other = np.zeros(_CACHES, dtype=np.uint8)
    for query in stack.vectors(rows):
        for method, index in ways.items():
            other += 1
            began = time.perf_counter()
            index.search(query, 5, rule)
            times[method].append(1000 * (time.perf_counter() - began))
    annoy_ms, scan_ms = (round(median(times[method]), 3) for method in ("annoy", "scan"))
    return IndexRecord(sha256, "scan" if scan_ms <= annoy_ms else "annoy", annoy_ms, scan_ms)


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
    for rows, vectors in _base_blocks(stack, np.arange(stack.base_row_count)):
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
    """Search over a segment stack: Annoy over the base and a scan over the deltas, or a scan over everything.

    Attributes:
        exact: Whether every living row is looked at.
    """

    def __init__(self, stack: SegmentStack, forest: "AnnoyIndex | None", recipe: IndexRecipe) -> None:
        self._stack = stack
        self._forest = forest
        self._recipe = recipe
        living = np.flatnonzero(stack.alive)
        # Product by product, so that each is scored in one pass.
        self._living = living[np.argsort(stack.row_product[living], kind="stable")]
        self._row_counts = np.bincount(stack.row_product[living], minlength=len(stack.skus))
        self._ends = np.cumsum(self._row_counts)
        self._scanned_rows = self._living
        if forest is not None:
            self._scanned_rows = self._living[self._living >= stack.base_row_count]
        self._scanned = stack.vectors(self._scanned_rows)
        self._scanned_products, self._starts = self._products_of(self._scanned_rows)
        self.exact = forest is None

    @classmethod
    def open(cls, stack: SegmentStack, path: Path, record: IndexRecord, recipe: IndexRecipe) -> "SearchIndex":
        """Check the index file that `build_annoy` wrote for this stack, and map it if it is to be used.

        Raises:
            IndexBroken: The file is missing, is not a whole number of nodes of this dimension, has another
                hash, or holds another number of rows than the base.
        """
        _check_file(path, record.sha256, stack)
        if record.method == "scan" or stack.base_row_count == 0:
            return cls(stack, None, recipe)
        forest = _new_forest(stack.dimension)
        try:
            forest.load(str(path))
        except OSError as error:
            raise IndexBroken(
                f"index {path} cannot be mapped ({error}); install the release again"
            ) from error
        if forest.get_n_items() != stack.base_row_count:
            raise IndexBroken(
                f"index {path} holds {forest.get_n_items()} rows and the base {stack.base_row_count}; "
                "install the release again"
            )
        return cls(stack, forest, recipe)

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
        scanned = np.einsum("ij,j->i", self._scanned, query)
        if self._forest is None:
            groups = _Groups(self._scanned_rows, scanned, self._scanned_products, self._starts)
            return self._best(groups, count + spare, rule)
        for wanted in _CANDIDATES:
            groups = self._proposed(query, scanned, wanted)
            if len(groups.products) >= count:
                return self._best(self._completed(groups, query, count + spare, rule), count + spare, rule)
        return self._best(self._everything(query, scanned), count, rule)

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

    def _candidates(self, query: NDArray[np.float32], wanted: int) -> NDArray[np.intp]:
        """Ask Annoy for base rows; the living ones of them, ascending."""
        assert self._forest is not None
        search_k = max(self._recipe.search_k, 2 * wanted)
        found = np.array(self._forest.get_nns_by_vector(query.tolist(), wanted, search_k), dtype=np.intp)
        found.sort()
        return found[self._stack.alive[found]]

    def _proposed(self, query: NDArray[np.float32], scanned: NDArray[np.float32], wanted: int) -> "_Groups":
        """Measure the rows that Annoy proposes, beside those that are always looked at."""
        rows = self._candidates(query, wanted)
        similarities = np.einsum("ij,j->i", self._stack.vectors(rows), query)
        return self._grouped(
            np.concatenate([rows, self._scanned_rows]), np.concatenate([similarities, scanned])
        )

    def _completed(
        self, groups: "_Groups", query: NDArray[np.float32], count: int, rule: ScoreRule
    ) -> "_Groups":
        """Look at every row of the most promising products, where more than a product's best row counts.

        Annoy proposes the nearest rows, so what it left out of a product adds little; but a rule that takes
        the mean would hold it against products of many rows.
        """
        if rule.temperature <= 0:
            return groups
        scores = rule.scores(groups.similarities, groups.starts, self._row_counts[groups.products])
        most = max(count, _COMPLETED)
        if most < len(scores):
            chosen = np.sort(groups.products[np.argpartition(scores, -most)[-most:]])
        else:
            chosen = groups.products
        rows = np.concatenate([self._rows_of(number) for number in chosen.tolist()])
        similarities = np.einsum("ij,j->i", self._stack.vectors(rows), query)
        return _Groups(rows, similarities, *self._products_of(rows))

    def _everything(self, query: NDArray[np.float32], scanned: NDArray[np.float32]) -> "_Groups":
        """Look at every living row: only where hundreds of candidates were fewer products than wanted."""
        living = np.flatnonzero(self._stack.alive[: self._stack.base_row_count])
        blocks = [np.einsum("ij,j->i", vectors, query) for _, vectors in _base_blocks(self._stack, living)]
        return self._grouped(np.concatenate([living, self._scanned_rows]), np.concatenate([*blocks, scanned]))

    def _best(self, groups: "_Groups", count: int, rule: ScoreRule) -> list[Hit]:
        """Name the best `count` products, best first."""
        if len(groups.starts) == 0:
            return []
        scores = rule.scores(groups.similarities, groups.starts, self._row_counts[groups.products])
        # Sorting thousands to name five would take longer than looking at them.
        least = np.partition(scores, -count)[-count] if count < len(scores) else scores.min()
        some = np.flatnonzero(scores >= least)
        named = some[np.argsort(-scores[some], kind="stable")][:count]  # equal ones stay in the order of skus
        ends = np.append(groups.starts[1:], len(groups.rows))
        hits = []
        for number in named.tolist():
            start, end = groups.starts[number], ends[number]
            best = start + int(groups.similarities[start:end].argmax())
            sku = self._stack.skus[groups.products[number]]
            similarity = float(groups.similarities[best])
            hits.append(Hit(sku, similarity, int(groups.rows[best]), float(scores[number])))
        return hits

    def _grouped(self, rows: NDArray[np.intp], similarities: NDArray[np.float32]) -> "_Groups":
        """Bring living rows in any order, no row twice, into groups by product."""
        places = np.argsort(self._stack.row_product[rows], kind="stable")
        return _Groups(rows[places], similarities[places], *self._products_of(rows[places]))

    def _products_of(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """Name the products of rows that are grouped by product, and where the rows of each begin."""
        products = self._stack.row_product[rows]
        starts = np.flatnonzero(np.diff(products, prepend=-1))
        return products[starts], starts

    def _rows_of(self, product: int) -> NDArray[np.intp]:
        """List a product's living rows, ascending."""
        return self._living[self._ends[product] - self._row_counts[product] : self._ends[product]]


@dataclass(frozen=True, slots=True)
class _Groups:
    """Living rows and their similarities, (n,), those of each product together; products and rows ascend.

    `products` and `starts`, (products,), say whose they are and where those of each begin.
    """

    rows: NDArray[np.intp]
    similarities: NDArray[np.float32]
    products: NDArray[np.int32]
    starts: NDArray[np.intp]


def _base_blocks(
    stack: SegmentStack, rows: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        yield block, stack.vectors(block)


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


def _check_file(path: Path, sha256: str, stack: SegmentStack) -> None:
    node = 4 * (stack.dimension + 3)  # n_descendants, two children, then the components, each 4 bytes
    try:
        size = path.stat().st_size
        found = sha256_file(path)
    except (OSError, StorageUnusable) as error:
        raise IndexBroken(f"index {path} cannot be read; install the release again") from error
    if size % node or (size == 0) != (stack.base_row_count == 0):
        raise IndexBroken(
            f"index {path} is {size} bytes, not nodes of {node} over {stack.base_row_count} rows; "
            "install the release again"
        )
    if found != sha256:
        raise IndexBroken(f"index {path} has sha256 {found}, not {sha256}; install the release again")
