"""Immutable, hash-named files of quantized vectors with their products, and what they say together.

Think of a segment as one sealed page of a catalog: a base says everything, each delta after it says only what
changed, and reading them in order gives the catalog of a release. The form is canonical, so the same content
gives the same bytes on every machine, and the hash of the merged content can be signed before any device has
merged it. `docs/formats.md` has the layout byte by byte.
"""

import hashlib
import os
import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadProduct, Incompatible, SegmentBroken, SkipRecord
from edge.fields import Fields, canonical_json, parse_json
from edge.products import Product

MAGIC = b"SHELFSEG"
FORMAT = 1
ALIGNMENT = 64
MAX_DIMENSION = 65_536
# Between these the shortest decimal form of a number is the same in every language, which a canonical header
# needs. 1/127 already covers every unit vector, so no real scale lies outside.
LEAST_SCALE, MOST_SCALE = 0.0001, 0.5

_PREAMBLE = struct.Struct("<8sII")
_BLOCK = 4096  # rows written at a time


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """A whole catalog of vectors: what a base says, or a base and its deltas together.

    `rows` maps a sku to int8 of shape (k, dimension), quantized unit vectors: component = value * scale. A
    product may have no rows: it is known and cannot be recognized yet. Order and repetition of rows carry no
    meaning; two contents are the same when `encode_base` gives the same bytes.
    """

    space: str
    dimension: int
    scale: float
    products: Mapping[str, Product]
    rows: Mapping[str, NDArray[np.int8]]


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One segment file, checked and mapped; `counts[i]` of its rows belong to `products[i]`, in order.

    `rows` is int8 of shape (N, dimension), read-only, mapped from the file: the file must never be written in
    place or cut while a process has it open. `sha256` is what the file was found to have before it was
    mapped, None where nobody asked for it, and `stamp` which file that was (`file_stamp`).
    """

    path: Path
    kind: str
    space: str
    dimension: int
    scale: float
    products: tuple[Product, ...]
    counts: tuple[int, ...]
    removed: tuple[str, ...]
    rows: NDArray[np.int8]
    sha256: str | None = None
    stamp: tuple[int, ...] | None = None


def quantize_rows(vectors: NDArray[np.float32], scale: float) -> NDArray[np.int8]:
    """Round unit vectors of shape (n, D) to int8 steps of `scale`, clipped to ±127 (one scale per space)."""
    steps: NDArray[np.float32] = np.rint(vectors / np.float32(scale))
    return steps.clip(-127, 127).astype(np.int8)


def unit_rows(rows: NDArray[np.int8]) -> NDArray[np.float32]:
    """Dequantize int8 rows to float32 unit vectors, shape (n, dimension).

    The scale cancels out when a row is brought back to unit length, so it is not needed: one rounding less,
    and equal rows give equal vectors wherever they stand.
    """
    vectors = rows.astype(np.float32)
    vectors /= np.maximum(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)), 1)[:, np.newaxis]
    return vectors


def encode_base(content: Content) -> bytes:
    """Write everything in `content` as one base segment; the same content always gives the same bytes.

    Raises:
        Incompatible: Rows that are not int8 of the content's dimension, or a scale outside 0.0001 to 0.5.
        BadProduct: Rows of a sku without a product, or a product filed under another's sku.
    """
    _check_content(content)
    records = [(product, _canonical_rows(content, sku)) for sku, product in sorted(content.products.items())]
    return _encode("base", content, records, removed=[])


def encode_delta(old: Content, new: Content) -> bytes | None:
    """Write what has to be done to `old` to make it `new`, or None when they are the same.

    A new product comes with its rows, a product that only gained rows with those, a re-priced product with
    none. A product that lost a row is both removed and written again, whole: rows have no names of their own.

    Raises:
        Incompatible: Two embedding spaces, dimensions or scales, or rows that do not fit their own content.
        BadProduct: As for `encode_base`.
    """
    _check_content(old)
    _check_content(new)
    _require_same_space(
        (old.space, old.dimension, old.scale), (new.space, new.dimension, new.scale), "new content"
    )
    removed = {sku for sku in old.products if sku not in new.products}
    records: list[tuple[Product, list[bytes]]] = []
    for sku, product in sorted(new.products.items()):
        wanted = _canonical_rows(new, sku)
        had = set(_canonical_rows(old, sku))
        if not had.issubset(wanted):
            removed.add(sku)
            had = set()
        added = [row for row in wanted if row not in had]
        if added or sku in removed or old.products.get(sku) != product:
            records.append((product, added))
    if not records and not removed:
        return None
    return _encode("delta", new, records, removed=sorted(removed))


def open_segment(path: Path, sha256: str | None) -> Segment:
    """Check a segment file and map its rows; the hash, when given, is checked before anything is mapped.

    Raises:
        SegmentBroken: The file is missing, cut short, altered, or says something impossible.
    """
    try:
        with path.open("rb") as file:
            if sha256 is not None:
                _check_hash(file, path, sha256)
            return _read(file, path, sha256)
    except OSError as error:
        raise SegmentBroken(f"segment {path} cannot be read ({error.strerror}); sync again") from error


def file_stamp(path: Path) -> tuple[int, ...]:
    """Say which file lies at `path` and when it was written: hard links are one file; () if there is none."""
    try:
        return _stamp(path.stat())
    except OSError:
        return ()


class SegmentStack:
    """A base segment and its deltas, read as one catalog.

    Every physical row keeps its number for the life of the stack, base first and then each delta in order, so
    that an index over the base stays right when a delta takes products away: rows die, they do not move.

    Attributes:
        space: Identity of the embedding space.
        dimension: Components of a vector.
        scale: One int8 step.
        products: Every product of the merged catalog by sku, sorted.
        skus: The same skus in the same order; `row_product` counts in it.
        alive: Bool of shape (row_count,): False where a delta removed the row's product.
        row_product: int32 of shape (row_count,): index into `skus`, -1 for a dead row.
        row_count: All physical rows, dead ones too.
        base_row_count: How many of them are the base's.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        base = _check_order(segments)
        self.segments = tuple(segments)
        self.space, self.dimension, self.scale = base.space, base.dimension, base.scale
        self._starts = np.cumsum([0, *(len(segment.rows) for segment in segments)])
        self.row_count = int(self._starts[-1])
        self.base_row_count = len(base.rows)
        self.products, self.row_product = _merge(segments, self.row_count)
        self.skus: list[str] = list(self.products)
        self.alive: NDArray[np.bool_] = self.row_product >= 0

    @classmethod
    def open(cls, paths: Sequence[tuple[Path, str]], held: Sequence[Segment] = ()) -> "SegmentStack":
        """Open a base and its deltas, in order, each with the sha256 it must have.

        Of those that are `held` already, checked and mapped for another stack, nothing is read again, where
        it is the very same file and not another of that name.

        Raises:
            SegmentBroken: A file that is not what its hash says, or not a base followed by deltas.
            Incompatible: Segments of two embedding spaces, dimensions or scales.
        """
        known = {(segment.sha256, segment.stamp): segment for segment in held}
        return cls(
            [known.get((sha256, file_stamp(path))) or open_segment(path, sha256) for path, sha256 in paths]
        )

    def with_local(self, local: Segment) -> "SegmentStack":
        """Return a stack with a delta of this device's own on top; the rows of this one keep their numbers.

        Raises:
            SegmentBroken: It is no delta.
            Incompatible: It is of another embedding space, dimension or scale.
        """
        return SegmentStack([*self.segments, local])

    def raw(self, rows: NDArray[np.intp]) -> NDArray[np.int8]:
        """Copy the int8 rows with these numbers, shape (n, dimension)."""
        if len(self.segments) == 1:
            return self.segments[0].rows[rows]
        found = np.empty((len(rows), self.dimension), dtype=np.int8)
        home = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(home):
            here = home == number
            found[here] = self.segments[number].rows[rows[here] - self._starts[number]]
        return found

    def vectors(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Dequantize the rows with these numbers to float32 unit vectors, shape (n, dimension)."""
        return unit_rows(self.raw(rows))

    def rows_of(self, sku: str) -> NDArray[np.intp]:
        """List the numbers of a product's living rows, ascending; empty when it has none or is not known."""
        if sku not in self.products:
            return np.empty(0, dtype=np.intp)
        return self._rows_of(bisect_left(self.skus, sku))

    def content(self) -> Content:
        """Merge the segments to one content: what a new base of this catalog would say."""
        living = np.flatnonzero(self.alive)
        order = living[np.argsort(self.row_product[living], kind="stable")]
        bounds = np.searchsorted(self.row_product[order], np.arange(len(self.skus) + 1))
        raw = self.raw(order)
        rows = {sku: raw[bounds[number] : bounds[number + 1]] for number, sku in enumerate(self.skus)}
        return Content(self.space, self.dimension, self.scale, self.products, rows)

    def merged(self) -> Iterator[bytes]:
        """Write the merged content as one base, piece by piece; together they are the bytes of `encode_base`.

        Rows that no delta has added to stand in the base as they have to stand in the new one, and are copied
        as they lie there: a small delta costs little more than reading the base.
        """
        base, row_product = self.segments[0].rows, self.row_product
        touched = self._touched()
        rows = {int(number): _canonical(self.raw(self._rows_of(number))) for number in touched}
        counts = np.bincount(row_product[self.alive], minlength=len(self.skus))
        counts[touched] = [len(rows[int(number)]) for number in touched]
        records = [
            {**product.to_record(), "rows": count}
            for product, count in zip(self.products.values(), counts.tolist(), strict=True)
        ]
        yield _head("base", self, records, removed=[])
        kept = np.flatnonzero(self.alive[: len(base)] & ~np.isin(row_product[: len(base)], touched))
        places = np.searchsorted(row_product[kept], touched)
        for start, stop, number in zip(
            [0, *places], [*places, len(kept)], [*touched.tolist(), None], strict=True
        ):
            for block in range(start, stop, _BLOCK):
                yield base[kept[block : min(block + _BLOCK, stop)]].tobytes()
            if number is not None:
                yield b"".join(rows[number])

    def merged_sha256(self) -> str:
        """Give the hash that a base of the merged content would have; the release signs this value."""
        found = hashlib.sha256()
        for piece in self.merged():
            found.update(piece)
        return found.hexdigest()

    def _touched(self) -> NDArray[np.int32]:
        """List the places of the products whose rows are not, all and in order, a piece of the base."""
        own, added = np.split(self.row_product, [self.base_row_count])
        disordered = _disordered(self.segments[0].rows, own)
        found = np.unique(np.concatenate([added, own[disordered]]))
        return found[found >= 0]

    def _rows_of(self, number: int) -> NDArray[np.intp]:
        return np.flatnonzero(self.row_product == number)


# --- writing ---------------------------------------------------------------------------------------------


def _encode(
    kind: str, content: Content, records: Sequence[tuple[Product, list[bytes]]], removed: Sequence[str]
) -> bytes:
    counted = [{**product.to_record(), "rows": len(rows)} for product, rows in records]
    head = _head(kind, content, counted, removed)
    return b"".join([head, *(row for _, rows in records for row in rows)])


def _head(
    kind: str,
    content: "Content | SegmentStack",
    records: Sequence[Mapping[str, object]],
    removed: Sequence[str],
) -> bytes:
    """Write all of a segment that comes before its rows."""
    header = {
        "kind": kind,
        "space": content.space,
        "dimension": content.dimension,
        "scale": float(content.scale),
        "products": records,
        "removed": removed,
    }
    text = canonical_json(header)
    head = _PREAMBLE.pack(MAGIC, FORMAT, len(text)) + text
    return head + bytes(-len(head) % ALIGNMENT)


def _canonical_rows(content: Content, sku: str) -> list[bytes]:
    return _canonical(content.rows.get(sku, ()))


def _canonical(rows: Iterable[NDArray[np.int8]]) -> list[bytes]:
    """List a product's rows as bytes, sorted as unsigned bytes, each once."""
    return sorted({row.tobytes() for row in rows})


def _disordered(rows: NDArray[np.int8], row_product: NDArray[np.int32]) -> NDArray[np.intp]:
    """List the rows that do not stand after the one before them, of the same product, as bytes are sorted."""
    # Eight bytes in front, as one number, tell nearly every two rows apart.
    front = np.zeros((len(rows), 8), np.uint8)
    front[:, : rows.shape[1]] = rows[:, :8].view(np.uint8)
    keys = front.view(">u8")[:, 0]
    doubtful = 1 + np.flatnonzero((row_product[1:] == row_product[:-1]) & (keys[1:] <= keys[:-1]))
    wrong = [row for row in doubtful.tolist() if rows[row - 1].tobytes() >= rows[row].tobytes()]
    return np.array(wrong, dtype=np.intp)


def _check_content(content: Content) -> None:
    if not LEAST_SCALE <= content.scale <= MOST_SCALE:
        raise Incompatible(
            f"row scale {content.scale!r} is not {LEAST_SCALE} to {MOST_SCALE}; take the model's row_scale"
        )
    for sku, rows in content.rows.items():
        if sku not in content.products:
            raise BadProduct(f"rows are given for sku {sku!r}, which is not a product; add the product first")
        if rows.dtype != np.int8 or rows.ndim != 2 or rows.shape[1] != content.dimension:
            raise Incompatible(
                f"rows of {sku!r} are {rows.dtype} {rows.shape}, not int8 (k, {content.dimension}); "
                "quantize them with quantize_rows"
            )
    for sku, product in content.products.items():
        if sku != product.sku:
            raise BadProduct(f"product {product.sku!r} is filed under sku {sku!r}; file it under its own")


# --- reading ---------------------------------------------------------------------------------------------


def _check_hash(file: IO[bytes], path: Path, sha256: str) -> None:
    # The open file is hashed, not the path: what is mapped afterwards is what was hashed.
    found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    if found != sha256:
        raise SegmentBroken(f"segment {path} has sha256 {found}, not {sha256}; sync again")
    file.seek(0)


def _read(file: IO[bytes], path: Path, sha256: str | None) -> Segment:
    size = os.fstat(file.fileno()).st_size
    header, rows_at = _read_header(file, path, size)
    kind = header.one_of("kind", ("base", "delta"))
    products, counts = _read_products(header)
    removed = header.texts("removed")
    if not _ascending(removed):
        raise header.bad("removed", removed, "skus sorted, each once")
    if kind == "base" and removed:
        raise header.bad("removed", removed, "empty in a base")
    dimension = header.integer("dimension", least=1, most=MAX_DIMENSION)
    count = sum(counts)
    if size != rows_at + count * dimension:
        raise _broken(path, f"is {size} bytes, not {rows_at} and {count} rows of {dimension}")
    return Segment(
        path=path,
        kind=kind,
        space=header.text("space"),
        dimension=dimension,
        scale=header.number("scale", least=LEAST_SCALE, most=MOST_SCALE),
        products=products,
        counts=counts,
        removed=removed,
        rows=_map_rows(file, rows_at, (count, dimension)),
        sha256=sha256,
        stamp=_stamp(os.fstat(file.fileno())),
    )


def _read_header(file: IO[bytes], path: Path, size: int) -> tuple[Fields, int]:
    """Read the header and where the rows begin; no length is believed that the file cannot hold."""
    preamble = file.read(_PREAMBLE.size)
    if len(preamble) < _PREAMBLE.size:
        raise _broken(path, f"is {size} bytes, too short for a segment")
    magic, version, length = _PREAMBLE.unpack(preamble)
    if magic != MAGIC:
        raise _broken(path, "does not begin as a segment")
    if version != FORMAT:
        raise _broken(path, f"has segment format {version}, and this Shelfsight reads format {FORMAT}")
    end = _PREAMBLE.size + length
    rows_at = end + -end % ALIGNMENT
    if rows_at > size:
        raise _broken(path, f"is {size} bytes, cut off inside its header")
    text = file.read(length)
    if any(file.read(rows_at - end)):
        raise _broken(path, "has something in its padding")
    where = f"the header of segment {path}"
    return Fields(where, parse_json(text, where, SegmentBroken), SegmentBroken), rows_at


def _read_products(header: Fields) -> tuple[tuple[Product, ...], tuple[int, ...]]:
    """Read the records and their row counts; fields of a later Shelfsight are left aside."""
    products: list[Product] = []
    counts: list[int] = []
    for record in header.items("products"):
        fields = Fields(f"{header.where}: a product", record, SegmentBroken)
        counts.append(fields.integer("rows"))
        try:
            products.append(Product.from_record(fields.rest()))
        except SkipRecord as error:
            raise SegmentBroken(f"{header.where}: a product cannot be: {error}") from error
    skus = tuple(product.sku for product in products)
    if not _ascending(skus):
        raise header.bad("products", skus, "sorted by sku, each once")
    return tuple(products), tuple(counts)


def _ascending(texts: Sequence[str]) -> bool:
    return all(before < after for before, after in pairwise(texts))


def _stamp(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _map_rows(file: IO[bytes], offset: int, shape: tuple[int, int]) -> NDArray[np.int8]:
    if shape[0] == 0:  # nothing can be mapped of length zero
        return np.empty(shape, dtype=np.int8)
    mapped = np.memmap(file, dtype=np.int8, mode="r", offset=offset, shape=shape)
    # A plain view: the memmap subclass costs microseconds at every indexing and adds nothing here.
    return np.asarray(mapped)


def _broken(path: Path, what: str) -> SegmentBroken:
    return SegmentBroken(f"segment {path} {what}; sync again")


# --- merging ---------------------------------------------------------------------------------------------


def _merge(segments: Sequence[Segment], row_count: int) -> tuple[dict[str, Product], NDArray[np.int32]]:
    """Replay the segments in order: first what each removes, then the records it writes.

    Returns the living products by sku, sorted, and the place of each row's product among them, int32
    (row_count,), -1 for a dead row. The base's products are not gone through one by one: it is opened again
    with every small delta, while somebody waits for an answer.
    """
    base, *deltas = segments
    products = {product.sku: product for product in base.products}
    # A sku that is removed and written again is another owner than before: the rows it had are dead.
    owners = dict(zip(products, range(len(products)), strict=True))
    owner = np.empty(row_count, dtype=np.int32)
    row = len(base.rows)
    owner[:row] = np.repeat(np.arange(len(products), dtype=np.int32), base.counts)
    owner_count = len(owners)
    for segment in deltas:
        for sku in segment.removed:
            products.pop(sku, None)
            owners.pop(sku, None)
        for product, count in zip(segment.products, segment.counts, strict=True):
            products[product.sku] = product
            number = owners.setdefault(product.sku, owner_count)
            owner_count += number == owner_count
            owner[row : row + count] = number
            row += count
    skus = sorted(products)
    places = np.full(owner_count, -1, dtype=np.int32)
    places[[owners[sku] for sku in skus]] = np.arange(len(skus), dtype=np.int32)
    return {sku: products[sku] for sku in skus}, places[owner]


def _check_order(segments: Sequence[Segment]) -> Segment:
    if not segments or segments[0].kind != "base":
        raise SegmentBroken("a release's segments do not begin with a base; sync again")
    base = segments[0]
    for segment in segments[1:]:
        if segment.kind != "delta":
            raise SegmentBroken(f"segment {segment.path} is a second base; sync again")
        found = (segment.space, segment.dimension, segment.scale)
        _require_same_space((base.space, base.dimension, base.scale), found, f"segment {segment.path}")
    return base


def _require_same_space(wanted: tuple[str, int, float], found: tuple[str, int, float], what: str) -> None:
    if wanted != found:
        raise Incompatible(
            f"{what} has space, dimension and scale {found}, not {wanted}; embed the catalog with one model"
        )
