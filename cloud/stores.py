"""Keeps the stores, what is sold in which, and which devices changed theirs.

A store's *assortment* bears its name. A product without places is sold everywhere; one with places is sold in
those stores, and in the stores of those regions that take their region's products. A place that is no store
any more stays written down: what was sold there alone must not suddenly be sold everywhere.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import and_, delete, exists, func, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from cloud.catalog import ProductRow
from cloud.database import transaction
from cloud.fleet import CodeRow, DeviceRow
from cloud.releases import ReleaseRow
from cloud.tables import Base
from cloud.times import UtcTime, now
from cloud.windows import Window
from edge.errors import BadProduct, BadSetting
from edge.release import ASSORTMENT

WHOLE_CATALOG: Final = ""
"""The assortment of devices without a store, and of every device while no store is defined."""


class StoreRow(Base):
    """One shop, and what it takes."""

    __tablename__ = "stores"

    name: Mapped[str] = mapped_column(primary_key=True)
    region: Mapped[str | None] = mapped_column(index=True)
    takes_region: Mapped[bool]
    timezone: Mapped[str]
    window: Mapped[str]
    created: Mapped[datetime] = mapped_column(UtcTime)


class PlaceRow(Base):
    """One store or region in which a product is sold."""

    __tablename__ = "places"

    sku: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[str] = mapped_column(primary_key=True, index=True)


class MoveRow(Base):
    """A device that came from another store, and the newest release then: what it takes must be newer."""

    __tablename__ = "moves"

    device: Mapped[str] = mapped_column(primary_key=True)
    assortment: Mapped[str]
    after: Mapped[int]


@dataclass(frozen=True, slots=True)
class Store:
    """A shop: its region, whether it takes the region's products too, and when its devices may be changed.

    `timezone` is an IANA name, `window` `HH:MM-HH:MM` by the clock there; empty is any time.

    Raises:
        BadSetting: A name that cannot be one, or a window or time zone that is none.
    """

    name: str
    region: str | None = None
    takes_region: bool = True
    timezone: str = "UTC"
    window: str = ""

    def __post_init__(self) -> None:
        for text in (self.name, self.region):
            if text is not None and not ASSORTMENT.fullmatch(text):
                raise BadSetting(
                    f"{text[:70]!r} cannot name a store or region: use small letters, digits and hyphens, "
                    "63 at most"
                )
        if self.name == self.region:
            raise BadSetting(f"store {self.name} is named like its region: give it a name of its own")
        Window.parse(self.window or "00:00-01:00", self.timezone)

    def sells(self, places: Collection[str]) -> bool:
        """Say whether a product that has these places is sold here."""
        return not places or self.name in places or (self.takes_region and self.region in places)

    def to_record(self) -> dict[str, object]:
        """Write the store as `store list --json` prints it."""
        return {name: getattr(self, name) for name in Store.__slots__}


def all_stores(session: Session) -> list[Store]:
    """Return the stores, sorted by name."""
    return [_store(row) for row in session.scalars(select(StoreRow).order_by(StoreRow.name))]


class Stores:
    """The stores of a retailer."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def put(self, store: Store) -> bool:
        """Add a store, or change what is known of it; return whether it is new.

        Raises:
            BadSetting: Its name is a region's, or its region's name a store's.
            StorageUnusable: The database refused.
        """
        with transaction(self._sessions) as session:
            is_region = session.scalar(select(exists().where(StoreRow.region == store.name)))
            if is_region or (store.region and session.get(StoreRow, store.region)):
                raise BadSetting(
                    f"{store.name if is_region else store.region} would be a store and a region: "
                    "give one of them another name"
                )
            row = session.get(StoreRow, store.name)
            values = store.to_record()
            if row is None:
                session.add(StoreRow(**values, created=now()))
                return True
            for name, value in values.items():
                setattr(row, name, value)
            return False

    def remove(self, name: str) -> None:
        """Forget a store that has no devices; what is sold there alone is then sold nowhere.

        Raises:
            BadSetting: There is no such store, or devices belong to it.
            StorageUnusable: The database refused.
        """
        with transaction(self._sessions) as session:
            row = _require(session, name)
            count = session.scalar(select(func.count()).where(DeviceRow.store == name)) or 0
            if count:
                raise BadSetting(
                    f"{count} devices belong to store {name}: "
                    "give them another with `fleet move`, or remove them"
                )
            session.delete(row)

    def all(self) -> list[Store]:
        """Return the stores, sorted by name.

        Raises:
            StorageUnusable: The database refused.
        """
        with transaction(self._sessions) as session:
            return all_stores(session)

    def require(self, name: str) -> Store:
        """Return one store.

        Raises:
            BadSetting: There is no such store.
            StorageUnusable: The database refused.
        """
        with transaction(self._sessions) as session:
            return _store(_require(session, name))

    # What is sold where ---------------------------------------------------------------------------------

    def places(self) -> dict[str, frozenset[str]]:
        """Return where products are sold by SKU; those that are sold everywhere are absent.

        Raises:
            StorageUnusable: The database refused.
        """
        found: dict[str, set[str]] = {}
        with transaction(self._sessions) as session:
            for sku, place in session.execute(select(PlaceRow.sku, PlaceRow.place)):
                found.setdefault(sku, set()).add(place)
        return {sku: frozenset(places) for sku, places in found.items()}

    def known_places(self) -> frozenset[str]:
        """Return the names of all stores and regions.

        Raises:
            StorageUnusable: The database refused.
        """
        return frozenset(name for store in self.all() for name in (store.name, store.region) if name)

    def stock(self, place: str, skus: Iterable[str]) -> int:
        """Sell products in a store or region too; return how many were not yet.

        What was sold everywhere is sold there alone from now on.

        Raises:
            BadSetting: There is no such store or region.
            BadProduct: The catalog holds no such product; nothing was changed.
            StorageUnusable: The database refused.
        """
        self._require_place(place)
        with transaction(self._sessions) as session:
            changed = 0
            for sku in dict.fromkeys(skus):
                _require_product(session, sku)
                if session.get(PlaceRow, (sku, place)) is None:
                    session.add(PlaceRow(sku=sku, place=place))
                    changed += 1
            return changed

    def unstock(self, place: str, skus: Iterable[str], *, everywhere: bool = False) -> int:
        """Sell products in a store or region no more; return how many were sold there.

        Raises:
            BadProduct: The catalog holds no such product, it is sold everywhere, or this is its last place
                and nobody said that it is to be sold `everywhere` then. Nothing was changed.
            StorageUnusable: The database refused.
        """
        with transaction(self._sessions) as session:
            changed = 0
            for sku in dict.fromkeys(skus):
                _require_product(session, sku)
                places = set(session.scalars(select(PlaceRow.place).where(PlaceRow.sku == sku)))
                if not places:
                    raise BadProduct(
                        f"product {sku!r} is sold everywhere: name the places where it is, with `store stock`"
                    )
                if places == {place} and not everywhere:
                    raise BadProduct(
                        f"{place} is the only place of product {sku!r}: `catalog remove` takes it out of the "
                        "catalog, --everywhere sells it in every store"
                    )
                session.execute(delete(PlaceRow).where(PlaceRow.sku == sku, PlaceRow.place == place))
                changed += place in places
            return changed

    def set_places(self, places: Mapping[str, Collection[str]]) -> int:
        """Sell each of these products in these places and in no other; return how many changed.

        Raises:
            StorageUnusable: The database refused; then none of them was changed.
        """
        known = self.places()
        changed = {
            sku: each for sku, each in places.items() if known.get(sku, frozenset()) != frozenset(each)
        }
        with transaction(self._sessions) as session:
            for sku, each in changed.items():
                session.execute(delete(PlaceRow).where(PlaceRow.sku == sku))
                session.add_all(PlaceRow(sku=sku, place=place) for place in sorted(set(each)))
        return len(changed)

    # Devices --------------------------------------------------------------------------------------------

    def move(self, device: str, store: str | None) -> bool:
        """Give a device to a store, None: to none; return whether it was another's.

        With the next release that is published it gets what is sold there.

        Raises:
            BadSetting: There is no such device or store.
            StorageUnusable: The database refused.
        """
        with transaction(self._sessions) as session:
            if store is not None:
                _require(session, store)
            row = session.get(DeviceRow, device)
            if row is None:
                raise BadSetting(f"there is no device {device!r}: `shelfsight-cloud fleet` lists them")
            if row.store == store:
                return False
            row.store = store
            newest = session.scalar(select(func.max(ReleaseRow.version))) or 0
            session.merge(MoveRow(device=device, assortment=store or WHOLE_CATALOG, after=newest))
            return True

    def awaited(self) -> dict[str, int]:
        """Return the assortments that devices moved to, and above which version they need a release.

        Raises:
            StorageUnusable: The database refused.
        """
        here = exists().where(DeviceRow.id == MoveRow.device)
        query = select(MoveRow.assortment, func.max(MoveRow.after)).where(here).group_by(MoveRow.assortment)
        with transaction(self._sessions) as session:
            return {row[0]: row[1] for row in session.execute(query)}

    def arrived(self, assortment: str, version: int) -> None:
        """Forget the moves that wait for a release of this assortment, now that there is release `version`.

        Raises:
            StorageUnusable: The database refused.
        """
        met = and_(MoveRow.assortment == assortment, MoveRow.after < version)
        with transaction(self._sessions) as session:
            session.execute(delete(MoveRow).where(met))

    def wants_whole_catalog(self) -> bool:
        """Say whether there is a device, or a code for one, that no store's assortment is for.

        Raises:
            StorageUnusable: The database refused.
        """
        names = select(StoreRow.name)
        with transaction(self._sessions) as session:
            if not session.scalar(select(exists(names))):
                return True
            devices = exists().where(or_(DeviceRow.store.is_(None), DeviceRow.store.not_in(names)))
            unused = and_(CodeRow.store.is_(None), CodeRow.device.is_(None), CodeRow.expires > now())
            return bool(session.scalar(select(or_(devices, exists().where(unused)))))

    def _require_place(self, place: str) -> None:
        if place not in self.known_places():
            raise BadSetting(f"{place!r} is neither a store nor a region: add it with `store add`")


def _require(session: Session, name: str) -> StoreRow:
    row = session.get(StoreRow, name)
    if row is None:
        raise BadSetting(f"there is no store {name!r}: `shelfsight-cloud store list` shows those there are")
    return row


def _require_product(session: Session, sku: str) -> None:
    row = session.get(ProductRow, sku)
    if row is None or row.removed_at is not None:
        raise BadProduct(f"the catalog holds no product {sku!r}: `catalog list` shows those it holds")


def _store(row: StoreRow) -> Store:
    return Store(row.name, row.region, row.takes_region, row.timezone, row.window)
