"""Keeps the products and which photos show them.

A photo with split `test` measures; it is never a reference and never trained on. Bytes that are a test photo
anywhere in the catalog are therefore never given out as a reference, even if they were imported twice.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

from sqlalchemy import ForeignKey, Select, delete, func, or_, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from cloud.database import transaction
from cloud.photos import PhotoStorage
from cloud.tables import Base
from cloud.times import UtcTime, now
from edge.errors import BadProduct
from edge.image import decode
from edge.products import Product

Kind = Literal["packshot", "in-store"]
Split = Literal["reference", "train", "validation", "test"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SPLITS: tuple[Split, ...] = get_args(Split)
_VALIDATION_SIZE = 224  # decoding at this size still reads the whole file, at a third of the time


class ProductRow(Base):
    """A product; `removed_at` is set when it left the catalog, so that old events still find its title."""

    __tablename__ = "products"

    sku: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    category: Mapped[str] = mapped_column(index=True)
    gtin: Mapped[str | None] = mapped_column(index=True)
    price: Mapped[str | None]
    created: Mapped[datetime] = mapped_column(UtcTime)
    removed_at: Mapped[datetime | None] = mapped_column(UtcTime)


class PhotoRow(Base):
    """One photo of one product, known by its bytes."""

    __tablename__ = "photos"

    sku: Mapped[str] = mapped_column(ForeignKey("products.sku"), primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True, index=True)
    kind: Mapped[str]
    split: Mapped[str] = mapped_column(index=True)
    source: Mapped[str]
    added: Mapped[datetime] = mapped_column(UtcTime)


@dataclass(frozen=True, slots=True)
class ReferencePhoto:
    """A labeled photo: whose it is, the SHA-256 of its bytes, and where it came from."""

    sku: str
    sha256: str
    kind: Kind
    split: Split
    source: str


_KINDS: Final[Mapping[str, Kind]] = {name: name for name in KINDS}
_SPLITS: Final[Mapping[str, Split]] = {name: name for name in SPLITS}
_OF_A_PRODUCT: Final = (
    ProductRow.sku,
    ProductRow.title,
    ProductRow.category,
    ProductRow.gtin,
    ProductRow.price,
)
_OF_A_REFERENCE: Final = (PhotoRow.sku, PhotoRow.sha256, PhotoRow.kind, PhotoRow.split, PhotoRow.source)


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A product with the number of its photos and the SHA-256 of the one to show it by, if there is any."""

    product: Product
    photos: int
    cover: str | None


@dataclass(frozen=True, slots=True)
class CatalogPage:
    """Some of the products that were looked for, and how many there are in all."""

    entries: tuple[CatalogEntry, ...]
    total: int


class Catalog:
    """The products of a shop and their photos, in a database and a folder."""

    def __init__(self, sessions: sessionmaker[Session], photos: PhotoStorage) -> None:
        self.sessions = sessions
        self.photos = photos

    def put_product(self, product: Product) -> bool:
        """Add the product, or replace what was known of its SKU; return whether anything changed.

        Raises:
            StorageUnusable: the database refused.
        """
        return self.put_products([product]) == 1

    def put_products(self, products: Iterable[Product]) -> int:
        """Add or replace many products in one transaction; return how many are new or changed.

        Raises:
            StorageUnusable: the database refused; then none of them was changed.
        """
        with transaction(self.sessions) as session:
            return sum([_put(session, product) for product in products])

    def remove(self, sku: str) -> None:
        """Take a product and its photos out of the catalog: the next release no longer knows it.

        The bytes of its photos stay in the photo storage, where other products or releases may need them.

        Raises:
            BadProduct: the catalog holds no such product.
            StorageUnusable: the database refused.
        """
        with transaction(self.sessions) as session:
            self._require(session, sku)
            session.execute(delete(PhotoRow).where(PhotoRow.sku == sku))
            left = update(ProductRow).where(ProductRow.sku == sku).values(removed_at=now())
            session.execute(left)

    def products(self) -> list[Product]:
        """Return the products of the catalog, sorted by SKU."""
        with transaction(self.sessions) as session:
            query = select(*_OF_A_PRODUCT).where(ProductRow.removed_at.is_(None)).order_by(ProductRow.sku)
            return [Product(*row) for row in session.execute(query)]

    def find(self, sku: str, gtin: str | None = None) -> Product | None:
        """Return the product with this SKU, else the one with this GTIN; None where the catalog has neither.

        Raises:
            StorageUnusable: the database refused.
        """
        same = [ProductRow.sku == sku, *([ProductRow.gtin == gtin] if gtin is not None else [])]
        query = select(ProductRow).where(ProductRow.removed_at.is_(None), or_(*same))
        with transaction(self.sessions) as session:
            row = session.scalars(query.order_by(ProductRow.sku != sku, ProductRow.sku).limit(1)).first()
            return None if row is None else _product(row)

    def page(self, search: str = "", *, offset: int = 0, limit: int = 24) -> CatalogPage:
        """Return products `offset` to `offset + limit`, sorted by SKU, as people look through them.

        `search` is looked for in SKU, title, category and GTIN, in any case. A product is shown by its first
        packshot, else by its first in-store photo; a test photo is never shown.
        """
        looked_at = (ProductRow.sku, ProductRow.title, ProductRow.category, ProductRow.gtin)
        wanted = ProductRow.removed_at.is_(None) & or_(
            *(column.icontains(search, autoescape=True) for column in looked_at)
        )
        own = PhotoRow.sku == ProductRow.sku
        photos = select(func.count()).where(own).correlate(ProductRow).scalar_subquery()
        shown = select(PhotoRow.sha256).where(own, PhotoRow.split != "test").correlate(ProductRow)
        in_order = shown.order_by(PhotoRow.kind != "packshot", PhotoRow.source, PhotoRow.sha256)
        cover = in_order.limit(1).scalar_subquery()
        query = select(ProductRow, photos, cover).where(wanted).order_by(ProductRow.sku)
        with transaction(self.sessions) as session:
            total = session.scalar(select(func.count()).select_from(ProductRow).where(wanted)) or 0
            rows = session.execute(query.offset(offset).limit(limit)).all()
            entries = tuple(CatalogEntry(_product(row), count, sha256) for row, count, sha256 in rows)
            return CatalogPage(entries, total)

    def add_photo(self, sku: str, photo: bytes, kind: Kind, split: Split, source: str) -> bool:
        """Keep a photo of a product; return whether the product did not have these bytes yet.

        Bytes that the product already has are not decoded again; a test photo stays one, and a photo that is
        added again as a test photo becomes one.

        Raises:
            BadProduct: the catalog holds no such product.
            SkipPhoto: the photo cannot be decoded (which kind says why).
            StorageUnusable: the database or the photo storage refused.
            NoSpace: the disk is full.
        """
        sha256 = hashlib.sha256(photo).hexdigest()
        if not self._knows(sku, sha256):
            decode(photo, shrink_to=_VALIDATION_SIZE)
        self.photos.add(photo)
        with transaction(self.sessions) as session:
            self._require(session, sku)
            row = session.get(PhotoRow, (sku, sha256))
            if row is None:
                values = {"sku": sku, "sha256": sha256, "kind": kind, "split": split, "source": source}
                session.add(PhotoRow(added=now(), **values))
                return True
            if "test" in (row.split, split):
                row.split = "test"
            elif row.source == source:
                row.kind, row.split = kind, split
            return False

    def reference_photos(
        self, splits: Collection[Split] | None = None, kinds: Collection[Kind] | None = None
    ) -> list[ReferencePhoto]:
        """Return the photos that may be searched in or trained on, sorted by SKU and source.

        `splits` and `kinds` narrow the choice. Test photos, and bytes that are a test photo of any product,
        are never among them.
        """
        held_out = select(PhotoRow.sha256).where(PhotoRow.split == "test")
        query = select(*_OF_A_REFERENCE).where(PhotoRow.sha256.not_in(held_out))
        if splits is not None:
            query = query.where(PhotoRow.split.in_(splits))
        if kinds is not None:
            query = query.where(PhotoRow.kind.in_(kinds))
        return self._references(query)

    def test_photos(self) -> list[ReferencePhoto]:
        """Return the photos that measure, sorted by SKU and source."""
        return self._references(select(*_OF_A_REFERENCE).where(PhotoRow.split == "test"))

    def _references(self, query: Select[str, str, str, str, str]) -> list[ReferencePhoto]:
        # Columns, not rows of the table: a hundred thousand photos are listed at every publish.
        in_order = query.order_by(PhotoRow.sku, PhotoRow.source, PhotoRow.sha256)
        with transaction(self.sessions) as session:
            return [
                ReferencePhoto(sku, sha256, _KINDS[kind], _SPLITS[split], source)
                for sku, sha256, kind, split, source in session.execute(in_order)
            ]

    def withheld_count(self) -> int:
        """Count the photos that are no references because their bytes are a test photo of some product."""
        held_out = select(PhotoRow.sha256).where(PhotoRow.split == "test")
        query = select(func.count()).where(PhotoRow.split != "test", PhotoRow.sha256.in_(held_out))
        with transaction(self.sessions) as session:
            return session.scalar(query) or 0

    def photo_counts(self) -> dict[str, int]:
        """Return how many photos each product has, test photos included; products without any are absent."""
        with transaction(self.sessions) as session:
            rows = session.execute(select(PhotoRow.sku, func.count()).group_by(PhotoRow.sku))
            return {row[0]: row[1] for row in rows}

    def _knows(self, sku: str, sha256: str) -> bool:
        with transaction(self.sessions) as session:
            return session.get(PhotoRow, (sku, sha256)) is not None

    @staticmethod
    def _require(session: Session, sku: str) -> None:
        row = session.get(ProductRow, sku)
        if row is None or row.removed_at is not None:
            raise BadProduct(f"the catalog holds no product {sku!r}: `catalog list` shows those it holds")


def _put(session: Session, product: Product) -> bool:
    values = {
        "title": product.title,
        "category": product.category,
        "gtin": product.gtin,
        "price": product.price,
        "removed_at": None,
    }
    row = session.get(ProductRow, product.sku)
    if row is None:
        session.add(ProductRow(sku=product.sku, created=now(), **values))
        return True
    changed = {name: value for name, value in values.items() if getattr(row, name) != value}
    for name, value in changed.items():
        setattr(row, name, value)
    return bool(changed)


def _product(row: ProductRow) -> Product:
    return Product(row.sku, row.title, row.category, row.gtin, row.price)
