"""Products that this device has learned itself: what is known of them, their photos, their vectors.

Think of it as a page that the shop's staff wrote by hand and laid on top of the printed catalog: it counts at
once, and goes when the next print has what stands on it. `products.json` is the page and the only place where
a change takes effect; photos and vectors are files that are named by their hash, written before it and swept
away after it. So a kill at any byte leaves the page of before or the page of after.

Vectors belong to an embedding space, photos do not: what is missing in the space of a new release is embedded
from the photos again.
"""

import fcntl
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.disk import sha256_file, storage_error, write_atomically
from edge.errors import BadProduct, PhotoMissing, SegmentBroken, SkipRecord, StorageUnusable
from edge.events import Event
from edge.fields import Fields, canonical_json, parse_json
from edge.products import Product
from edge.segments import Content, Segment, SegmentStack, encode_base, encode_delta, open_segment

FOLDER: Final = "local"
FORMAT: Final = 1
MOST_PRODUCTS: Final = 500
MOST_PHOTOS: Final = 20
"""Photos of one product, at most: more add time to every answer and little to how well it is known."""

STATES: Final = ("kept", "proposed", "accepted", "merged", "refused")
"""What became of a product: `kept` here on purpose, told to the cloud, or settled there."""

_BOOK: Final = "products.json"
_MOST_REFUSED: Final = 50
_MOST_SPACES: Final = 2  # the release that answers, and the one that is on trial


@dataclass(frozen=True, slots=True)
class LocalProduct:
    """Photos of one product that the staff taught this device at one time.

    Attributes:
        id: That of the `proposed` event, a UUIDv7.
        at: When, RFC 3339 with milliseconds.
        product: What they said it is.
        photos: SHA-256 of each of its photos.
        state: One of `STATES`.
        release: The release that answered then.
        space: Its embedding space.
        known: Whether that release could recognize the product already, and the photos are further ones.
        look_alikes: SKUs of the products that it was too close to, and was taught all the same.
        told: Whether the `proposed` event is in the outbox.
        sent: Which photos the server has.
        until: The first release that has it, None while none is known.
    """

    id: str
    at: str
    product: Product
    photos: tuple[str, ...]
    state: str
    release: int
    space: str
    known: bool = False
    look_alikes: tuple[str, ...] = ()
    told: bool = False
    sent: frozenset[str] = frozenset()
    until: int | None = None

    @property
    def answers(self) -> bool:
        """Whether its rows are among those that this device searches."""
        return self.state != "refused"

    def is_in(self, version: int | None) -> bool:
        """Say whether release `version` has taken it over."""
        return self.until is not None and version is not None and self.until <= version

    @property
    def unsent(self) -> tuple[str, ...]:
        """The photos that the server still wants."""
        waiting = self.state == "proposed" and self.told
        return tuple(photo for photo in self.photos if waiting and photo not in self.sent)

    def to_event(self, device: str) -> Event:
        """Return the event that proposes it to the cloud; always the same one."""
        data: dict[str, object] = {
            "proposal": self.id,
            "sku": self.product.sku,
            "title": self.product.title,
            "gtin": self.product.gtin,
            "category": self.product.category,
            "price": self.product.price,
            "photos": list(self.photos),
            "release": self.release,
            "space": self.space,
            "look_alikes": list(self.look_alikes),
        }
        return Event(self.id, self.at, device, "proposed", data)

    def to_record(self) -> dict[str, object]:
        """Return the JSON object that stands in `products.json`."""
        return {
            "id": self.id,
            "at": self.at,
            "product": self.product.to_record(),
            "photos": list(self.photos),
            "state": self.state,
            "release": self.release,
            "space": self.space,
            "known": self.known,
            "look_alikes": list(self.look_alikes),
            "told": self.told,
            "sent": sorted(self.sent),
            "until": self.until,
        }


@dataclass(frozen=True, slots=True)
class _Space:
    """The files of one embedding space: a row per photo, and the segment that is searched (None: empty)."""

    dimension: int
    scale: float
    rows: str
    segment: str | None

    def to_record(self) -> dict[str, object]:
        return {
            "dimension": self.dimension,
            "scale": self.scale,
            "rows": self.rows,
            "segment": self.segment,
        }


@dataclass(frozen=True, slots=True)
class _Book:
    """What `products.json` says."""

    products: tuple[LocalProduct, ...] = ()
    spaces: Mapping[str, _Space] = field(default_factory=dict)

    def photos(self) -> list[str]:
        return list(dict.fromkeys(photo for each in self.products if each.answers for photo in each.photos))

    def to_bytes(self) -> bytes:
        return canonical_json(
            {
                "format": FORMAT,
                "products": [each.to_record() for each in self.products],
                "spaces": [{"space": space, **each.to_record()} for space, each in self.spaces.items()],
            }
        )


Rows = Mapping[str, NDArray[np.int8]]
"""The vector of each photo, by its SHA-256: int8 (dimension,)."""


class LocalProducts:
    """The products that the device in the folder `data` has learned itself.

    May be used from several threads and processes; a change waits for another that is being written.
    """

    def __init__(self, data: Path) -> None:
        self.folder = data / FOLDER

    def all(self) -> tuple[LocalProduct, ...]:
        """List them, oldest first; those that were refused are among the newest, without photos."""
        return self._read().products

    def edition(self) -> tuple[int, int]:
        """Say what changes whenever anything of them does; (0, 0) before the first."""
        try:
            stat = (self.folder / _BOOK).stat()
        except OSError:
            return 0, 0
        return stat.st_mtime_ns, stat.st_ino

    def is_empty(self) -> bool:
        """Say, without opening a file, whether nothing was ever learned here."""
        return self.edition() == (0, 0)

    def photo(self, sha256: str) -> bytes:
        """Return the bytes of a photo.

        Raises:
            PhotoMissing: It is not there, or not what it was.
        """
        try:
            photo = self._photo(sha256).read_bytes()
        except OSError as error:
            raise PhotoMissing(f"local photo {sha256} cannot be read: teach the product again") from error
        if hashlib.sha256(photo).hexdigest() != sha256:
            raise PhotoMissing(f"local photo {sha256} has rotted: teach the product again")
        return photo

    # What is searched -----------------------------------------------------------------------------------

    def segment(self, space: str, dimension: int, scale: float) -> Segment | None:
        """Open the delta with their rows in one embedding space; None where there are none.

        Raises:
            SegmentBroken: Its file is missing or has rotted: make it again with `rebuild`.
        """
        for final in (False, True):
            found = self._space(self._read(), space, dimension, scale)
            if found is None or found.segment is None:
                return None
            try:
                return open_segment(self.folder / found.segment, found.segment)
            except SegmentBroken:
                if final:  # else it was replaced between the two looks
                    raise
        return None

    def over(self, stack: SegmentStack, version: int) -> Segment | None:
        """Give the delta that goes on top of the segments of release `version`; None where there is none.

        What the release has taken over is left out, and what it says of a product goes before what was said
        here: a product that it knows gets further rows and keeps its title and price. Nothing that is wrong
        with these files may keep a device from an answer: then the release answers alone.
        """
        try:
            wanted = {each.product.sku for each in self.all() if each.answers and not each.is_in(version)}
            found = self.segment(stack.space, stack.dimension, stack.scale)
        except (SegmentBroken, StorageUnusable):
            return None
        if found is None or not wanted & {product.sku for product in found.products}:
            return None
        chosen = np.array([product.sku in wanted for product in found.products])
        products = [product for product in found.products if product.sku in wanted]
        return replace(
            found,
            products=tuple(stack.products.get(product.sku, product) for product in products),
            counts=tuple(np.array(found.counts)[chosen].tolist()),
            rows=found.rows[np.repeat(chosen, found.counts)],
        )

    def missing(self, space: str, dimension: int, scale: float) -> list[str] | None:
        """List the photos that have no vector in this space yet; None where nothing is to be made again."""
        book = self._read()
        if not book.photos():
            return None
        found = self._space(book, space, dimension, scale)
        known = self._rows(found) if found else {}
        left = [photo for photo in book.photos() if photo not in known]
        try:
            self.segment(space, dimension, scale)
        except SegmentBroken:
            return left
        return left or None

    def rebuild(
        self, space: str, dimension: int, scale: float, rows: Rows, lost: Collection[str] = ()
    ) -> None:
        """Take vectors of photos in this space, and write its segment anew without the `lost` photos.

        Raises:
            NoSpace, StorageUnusable: The folder cannot be written.
        """

        def change(book: _Book) -> _Book:
            left = (
                replace(each, photos=tuple(photo for photo in each.photos if photo not in lost))
                for each in book.products
            )
            products = tuple(each for each in left if each.photos or not each.answers)
            return self._with_rows(replace(book, products=products), space, (dimension, scale), rows)

        self._change(change)

    # What changes ---------------------------------------------------------------------------------------

    def add(
        self, product: LocalProduct, photos: Mapping[str, bytes], *, dimension: int, scale: float, rows: Rows
    ) -> None:
        """Keep a product with its photos and vectors, by SHA-256; it is on the disk when this returns.

        Raises:
            BadProduct: There are too many products or photos.
            NoSpace, StorageUnusable: The folder cannot be written; nothing has changed.
        """

        def change(book: _Book) -> _Book:
            _check_room(book, product)
            for sha256, photo in photos.items():
                if not self._photo(sha256).exists():
                    write_atomically(self._photo(sha256), photo)
            grown = replace(book, products=(*book.products, product))
            return self._with_rows(grown, product.space, (dimension, scale), rows)

        try:
            (self.folder / "photos").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, self.folder) from error
        self._change(change)

    def forget(self, sku: str) -> tuple[LocalProduct, ...]:
        """Drop what was learned of a product, and return it.

        Raises:
            BadProduct: Nothing was.
            NoSpace, StorageUnusable: The folder cannot be written.
        """
        gone = tuple(each for each in self.all() if each.product.sku == sku)
        if not gone:
            raise BadProduct(
                f"this device has learned no product {sku!r}: `shelfsight status` lists those it has"
            )
        self.replace({each.id: None for each in gone})
        return gone

    def replace(self, changed: Mapping[str, LocalProduct | None]) -> None:
        """Put others in the place of products, by their ids; None drops one.

        Raises:
            NoSpace, StorageUnusable: The folder cannot be written; nothing has changed.
        """

        def change(book: _Book) -> _Book:
            now = [changed.get(each.id, each) for each in book.products]
            kept = tuple(each for each in now if each is not None)
            refused = [each.id for each in kept if each.state == "refused"][:-_MOST_REFUSED]
            return replace(book, products=tuple(each for each in kept if each.id not in refused))

        if changed:
            self._change(change)

    def update(self, id_: str, how: Callable[[LocalProduct], LocalProduct]) -> None:
        """Change one product, if it is still there.

        Raises:
            NoSpace, StorageUnusable: The folder cannot be written; nothing has changed.
        """

        def change(book: _Book) -> _Book:
            now = tuple(how(each) if each.id == id_ else each for each in book.products)
            return replace(book, products=now)

        self._change(change)

    # The files ------------------------------------------------------------------------------------------

    def _photo(self, sha256: str) -> Path:
        return self.folder / "photos" / f"{sha256}.jpg"

    def _read(self) -> _Book:
        try:
            data = (self.folder / _BOOK).read_bytes()
        except FileNotFoundError:
            return _Book()
        except OSError as error:
            raise storage_error(error, self.folder / _BOOK) from error
        try:
            return _read_book(data)
        except SkipRecord:
            # Written whole or not at all, so the disk has spoiled it. It must keep nobody from an answer.
            return _Book()

    def _change(self, change: Callable[[_Book], _Book]) -> None:
        """Write what `change` makes of the book, with the segment of every space; then sweep."""
        with self._locked():
            before = self._read()
            after = change(before)
            if after == before:
                return
            after = replace(after, spaces={name: self._written(after, name) for name in after.spaces})
            write_atomically(self.folder / _BOOK, after.to_bytes())
            self._sweep(after)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            handle = (self.folder / ".lock").open("a")
        except OSError as error:
            raise storage_error(error, self.folder) from error
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @staticmethod
    def _space(book: _Book, space: str, dimension: int, scale: float) -> _Space | None:
        found = book.spaces.get(space)
        return found if found and (found.dimension, found.scale) == (dimension, scale) else None

    def _rows(self, space: _Space) -> dict[str, NDArray[np.int8]]:
        """Read the vectors of the photos; those of a file that has rotted are missing, and made again."""
        try:
            segment = open_segment(self.folder / space.rows, space.rows)
        except SegmentBroken:
            return {}
        return {photo.sku: segment.rows[place] for place, photo in enumerate(segment.products)}

    def _with_rows(self, book: _Book, name: str, form: tuple[int, float], rows: Rows) -> _Book:
        """Put vectors of photos into a space of the book, the newest of its spaces then."""
        dimension, scale = form
        found = self._space(book, name, dimension, scale)
        known = {**(self._rows(found) if found else {}), **rows}
        others = {other: each for other, each in book.spaces.items() if other != name}
        newest = dict(list(others.items())[-(_MOST_SPACES - 1) :])
        space = _Space(dimension, scale, self._write_rows(name, form, known), None)
        return replace(book, spaces={**newest, name: space})

    def _write_rows(self, name: str, form: tuple[int, float], rows: Rows) -> str:
        each = {photo: row[np.newaxis] for photo, row in rows.items()}
        content = Content(name, form[0], form[1], {photo: Product(photo) for photo in each}, each)
        return self._write(encode_base(content))

    def _written(self, book: _Book, name: str) -> _Space:
        """Write the files of a space anew: the rows of the book's photos alone, and the segment of them."""
        space, wanted = book.spaces[name], set(book.photos())
        rows = {photo: row for photo, row in self._rows(space).items() if photo in wanted}
        products: dict[str, Product] = {}
        vectors: dict[str, list[NDArray[np.int8]]] = {}
        for each in book.products:
            found = [rows[photo] for photo in each.photos if photo in rows]
            if each.answers and found:
                products[each.product.sku] = each.product  # the newest word on it
                vectors.setdefault(each.product.sku, []).extend(found)
        empty = Content(name, space.dimension, space.scale, {}, {})
        full = replace(
            empty, products=products, rows={sku: np.stack(found) for sku, found in vectors.items()}
        )
        delta = encode_delta(empty, full)
        return replace(
            space,
            rows=self._write_rows(name, (space.dimension, space.scale), rows),
            segment=None if delta is None else self._write(delta),
        )

    def _write(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.folder / sha256
        if not path.exists() or sha256_file(path) != sha256:  # what has rotted is written anew
            write_atomically(path, data)
        return sha256

    def _sweep(self, book: _Book) -> None:
        """Delete the files that nothing names any more; what another process has mapped stays mapped."""
        named = {each.rows for each in book.spaces.values()} | {each.segment for each in book.spaces.values()}
        named |= {_BOOK, ".lock", "photos"}
        photos = {f"{photo}.jpg" for photo in book.photos()}
        with suppress(OSError):  # the next change sweeps again
            for path in self.folder.iterdir():
                if path.name not in named:
                    path.unlink(missing_ok=True)
            for path in (self.folder / "photos").iterdir():
                if path.name not in photos:
                    path.unlink(missing_ok=True)


def _check_room(book: _Book, product: LocalProduct) -> None:
    if sum(each.answers for each in book.products) >= MOST_PRODUCTS:
        raise BadProduct(
            f"this device has learned {MOST_PRODUCTS} products: publish a release with them, or forget some"
        )
    same = [each for each in book.products if each.answers and each.product.sku == product.product.sku]
    count = len({photo for each in [*same, product] for photo in each.photos})
    if count > MOST_PHOTOS:
        raise BadProduct(
            f"product {product.product.sku!r} would have {count} local photos: give at most {MOST_PHOTOS}"
        )


def _read_book(data: bytes) -> _Book:
    fields = Fields(_BOOK, parse_json(data, _BOOK, SkipRecord), SkipRecord)
    written = fields.integer("format", least=1)
    if written > FORMAT:
        raise StorageUnusable(f"{_BOOK} was written by a newer Shelfsight: update Shelfsight on this device.")
    spaces = dict(fields.each("spaces", _read_space))
    return _Book(fields.each("products", _read_product), spaces)


def _read_space(fields: Fields) -> tuple[str, _Space]:
    segment = fields.take("segment")
    return fields.text("space"), _Space(
        dimension=fields.integer("dimension", least=1),
        scale=fields.number("scale", above=0.0),
        rows=fields.sha256("rows"),
        segment=segment if isinstance(segment, str) else None,
    )


def _read_product(fields: Fields) -> LocalProduct:
    until = fields.take("until")
    return LocalProduct(
        id=fields.text("id"),
        at=fields.text("at"),
        product=Product.from_record(fields.inner("product").rest()),
        photos=fields.sha256s("photos"),
        state=fields.one_of("state", STATES),
        release=fields.integer("release"),
        space=fields.text("space"),
        known=fields.take("known") is True,
        look_alikes=fields.texts("look_alikes"),
        told=fields.take("told") is True,
        sent=frozenset(fields.sha256s("sent")),
        until=until if isinstance(until, int) else None,
    )
