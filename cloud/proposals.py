"""Keeps the products that devices propose, until a person takes them into the catalog or refuses them.

Devices that propose the same thing (by SKU, GTIN or a photo) make one proposal. Photos lie apart from the
catalog's until then, and are deleted when a proposal is refused. What was accepted is settled for the devices
when a release has it: until then they answer it themselves.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import JSON, func, or_, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from cloud.catalog import Catalog
from cloud.database import transaction
from cloud.photos import PhotoStorage
from cloud.tables import Base
from cloud.times import UtcTime, now
from edge.errors import BadProduct, BadSetting, SkipPhoto, SkipRecord, TryLater
from edge.fields import Fields
from edge.heartbeat import Settled
from edge.image import decode
from edge.products import Product

WAITING: Final = "waiting"
STATES: Final = (WAITING, "accepted", "merged", "refused")
LARGEST_PHOTO: Final = 1024 * 1024
MOST_WAITING_PHOTOS: Final = 1000
"""Photos of one device that nobody has decided on, at most: what it is lent out for cannot fill the disk."""

_MOST_PHOTOS: Final = 20
_MOST_LOOK_ALIKES: Final = 50
_SEEN_SIDE: Final = 224


class ProposalRow(Base):
    """A product that is proposed; `target` is the SKU it was taken into, `release` the first that has it."""

    __tablename__ = "proposals"

    id: Mapped[str] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(index=True)
    title: Mapped[str]
    category: Mapped[str]
    gtin: Mapped[str | None] = mapped_column(index=True)
    price: Mapped[str | None]
    state: Mapped[str] = mapped_column(index=True)
    target: Mapped[str | None]
    release: Mapped[int | None]
    created: Mapped[datetime] = mapped_column(UtcTime)
    decided: Mapped[datetime | None] = mapped_column(UtcTime)
    look_alikes: Mapped[list[Any]] = mapped_column(JSON)


class ProposalSourceRow(Base):
    """One time that a device proposed it, by the id of the event."""

    __tablename__ = "proposal_sources"

    id: Mapped[str] = mapped_column(primary_key=True)
    proposal: Mapped[str] = mapped_column(index=True)
    device: Mapped[str] = mapped_column(index=True)
    at: Mapped[datetime] = mapped_column(UtcTime)


class ProposalPhotoRow(Base):
    """A photo that a proposal names, and the device that is to bring it."""

    __tablename__ = "proposal_photos"

    proposal: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True, index=True)
    device: Mapped[str] = mapped_column(index=True)
    received: Mapped[datetime | None] = mapped_column(UtcTime)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A product that devices propose.

    Attributes:
        id: That of the first event about it.
        product: What they say it is.
        state: One of `STATES`.
        target: The SKU under which it went into the catalog.
        release: The first release that has it.
        created: When it came.
        decided: When a person decided.
        look_alikes: SKUs that a device found it too close to.
        devices: Who proposes it.
        photos: SHA-256 of its photos.
        here: Those of them that have arrived.
        known: The product of the catalog with the same SKU or GTIN: accepting adds the photos to that.
    """

    id: str
    product: Product
    state: str
    target: str | None
    release: int | None
    created: datetime
    decided: datetime | None
    look_alikes: tuple[str, ...]
    devices: tuple[str, ...]
    photos: tuple[str, ...]
    here: tuple[str, ...]
    known: Product | None = None


class Proposals:
    """The proposals of one workspace, with their photos in a folder of their own."""

    def __init__(self, sessions: sessionmaker[Session], photos: PhotoStorage) -> None:
        self._sessions = sessions
        self.photos = photos

    def all(
        self, state: str | None = WAITING, *, catalog: Catalog | None = None, limit: int = 500
    ) -> list[Proposal]:
        """List the proposals in a state, oldest first; None: in any. With a `catalog`, `known` is looked up.

        Raises:
            StorageUnusable: the database refused.
        """
        query = select(ProposalRow).order_by(ProposalRow.created, ProposalRow.id).limit(limit)
        if state is not None:
            query = query.where(ProposalRow.state == state)
        with transaction(self._sessions) as session:
            found = [_proposal(session, row) for row in session.scalars(query)]
        return [_beside(each, catalog) for each in found] if catalog else found

    def newest(self, state: str, *, limit: int) -> list[Proposal]:
        """List the proposals that came into a state last, newest first.

        Raises:
            StorageUnusable: the database refused.
        """
        query = select(ProposalRow).where(ProposalRow.state == state)
        query = query.order_by(ProposalRow.decided.desc(), ProposalRow.id).limit(limit)
        with transaction(self._sessions) as session:
            return [_proposal(session, row) for row in session.scalars(query)]

    def get(self, id_: str, *, catalog: Catalog | None = None) -> Proposal:
        """Return one proposal, by its id or by the start of it that no other has.

        Raises:
            BadProduct: there is none, or there are several.
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            query = select(ProposalRow).where(ProposalRow.id.startswith(id_, autoescape=True)).limit(2)
            rows = list(session.scalars(query))
            if len(rows) != 1 or not id_:
                fault = "several proposals begin with" if len(rows) > 1 else "there is no proposal"
                raise BadProduct(f"{fault} {id_[:60]!r}: `shelfsight-cloud proposals list` shows their ids")
            found = _proposal(session, rows[0])
        return _beside(found, catalog) if catalog else found

    def count_waiting(self) -> int:
        """Count the proposals that nobody has decided on.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            query = select(func.count()).select_from(ProposalRow).where(ProposalRow.state == WAITING)
            return session.scalar(query) or 0

    # What devices bring ---------------------------------------------------------------------------------

    def take_photo(self, device: str, sha256: str, photo: bytes) -> bool:
        """Keep a photo that a proposal of the device names; return whether it was wanted.

        The same photo may be brought again, and one of a proposal that is decided is let go.

        Raises:
            BadSetting: the bytes are not what they are called, too many, or no JPEG.
            TryLater: no proposal of this device names it yet, or too many of its photos wait.
            StorageUnusable, NoSpace: it could not be kept.
        """
        if len(photo) > LARGEST_PHOTO or hashlib.sha256(photo).hexdigest() != sha256:
            raise BadSetting(f"a photo is at most {LARGEST_PHOTO} bytes, and called by their SHA-256")
        if not photo.startswith(b"\xff\xd8\xff"):
            raise BadSetting("a photo of a proposal is a JPEG")
        with transaction(self._sessions) as session:
            wanted, waiting = _wanted(session, device, sha256)
        if not wanted:
            return False
        if waiting >= MOST_WAITING_PHOTOS:
            raise TryLater(
                f"{waiting} photos of this device wait for a person: try again when they are decided on",
                retry_after=3600.0,
            )
        try:
            decode(photo, shrink_to=_SEEN_SIDE)
        except SkipPhoto as error:
            raise BadSetting(f"the photo cannot be read: {error}") from error
        self.photos.add(photo)
        with transaction(self._sessions) as session:
            arrived = update(ProposalPhotoRow).where(ProposalPhotoRow.sha256 == sha256)
            session.execute(arrived.where(ProposalPhotoRow.received.is_(None)).values(received=now()))
        return True

    def settled(self, device: str, ids: Collection[str]) -> dict[str, Settled]:
        """Say what became of a device's proposals, by the ids of its events; those that wait are absent.

        Raises:
            StorageUnusable: the database refused.
        """
        if not ids:
            return {}
        query = (
            select(ProposalSourceRow.id, ProposalRow.state, ProposalRow.release)
            .join(ProposalRow, ProposalRow.id == ProposalSourceRow.proposal)
            .where(ProposalSourceRow.id.in_(list(ids)), ProposalSourceRow.device == device)
            .where(ProposalRow.state != WAITING)
        )
        with transaction(self._sessions) as session:
            return {row[0]: Settled(row[1], row[2]) for row in session.execute(query)}

    # What people decide ---------------------------------------------------------------------------------

    def accept(
        self, id_: str, catalog: Catalog, *, sku: str | None = None, into: str | None = None
    ) -> Proposal:
        """Take a proposal and the photos that are here into the catalog; the next release ships them.

        `sku` is another SKU than the proposed one; `into` a product of the catalog that the photos are added
        to. Where the catalog has the SKU or the GTIN already, they are added to that product. Doing it again
        after a kill does the rest.

        Raises:
            BadProduct: it is decided already, has no photo here, or `into` is not in the catalog.
            StorageUnusable, NoSpace: the catalog could not be written; it still waits.
        """
        found = self.get(id_, catalog=catalog)
        unfinished = found.state in ("accepted", "merged") and bool(self._kept(found))
        if found.state != WAITING and not unfinished:
            raise BadProduct(f"proposal {found.id} is {found.state} already: propose it again to change that")
        if not found.here:
            raise BadProduct(
                f"none of the {len(found.photos)} photos of {found.product.sku!r} has arrived: wait for the "
                "device's next visits, or refuse it"
            )
        target = _target(found, catalog, found.target if unfinished else sku, into)
        is_new = catalog.find(target.sku) is None
        if not unfinished:
            # Before the catalog is changed, so that nobody refuses it meanwhile.
            is_it = is_new and target.sku == found.product.sku
            self._decide(found, "accepted" if is_it else "merged", target.sku)
        if is_new:
            catalog.put_product(target)
        for photo in self._kept(found):
            source = f"proposed by {found.devices[0]}/{photo[:16]}.jpg"
            catalog.add_photo(target.sku, self.photos.read(photo), "in-store", "reference", source)
        self._let_go(found)
        return self.get(found.id)

    def refuse(self, id_: str) -> Proposal:
        """Refuse a proposal and delete its photos; the devices forget it at their next visit.

        Raises:
            BadProduct: it is decided already.
            StorageUnusable: the database refused.
        """
        found = self.get(id_)
        if found.state != WAITING:
            raise BadProduct(f"proposal {found.id} is {found.state} already: remove it from the catalog")
        self._decide(found, "refused", None)
        self._let_go(found)
        return self.get(found.id)

    def published(self, version: int, photos: Collection[str], skus: Collection[str]) -> int:
        """Note which accepted proposals a release has first; return how many.

        `photos` are the SHA-256 of the photos whose vectors it has, `skus` its products with any.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            settled = ProposalRow.state.in_(("accepted", "merged"))
            query = select(ProposalRow.id, ProposalRow.target).where(settled, ProposalRow.release.is_(None))
            targets = {row[0]: row[1] for row in session.execute(query)}
            named = _photos_of(session, targets)
        found = [
            id_
            for id_, target in targets.items()
            if target in skus and any(photo in photos for photo in named.get(id_, ()))
        ]
        with transaction(self._sessions) as session:
            session.execute(update(ProposalRow).where(ProposalRow.id.in_(found)).values(release=version))
        return len(found)

    def _kept(self, found: Proposal) -> list[str]:
        return [photo for photo in found.here if self.photos.path(photo).is_file()]

    def _decide(self, found: Proposal, state: str, target: str | None) -> None:
        # One statement tests and decides, so that two people cannot decide differently.
        waits = update(ProposalRow).where(ProposalRow.id == found.id, ProposalRow.state == WAITING)
        decided = waits.values(state=state, target=target, decided=now()).returning(ProposalRow.id)
        with transaction(self._sessions) as session:
            if session.scalar(decided) is None:
                raise BadProduct(f"proposal {found.id} was decided by somebody else just now: look again")

    def _let_go(self, found: Proposal) -> None:
        """Delete the photos of a decided proposal that no other one waits with."""
        others = (
            select(ProposalPhotoRow.sha256)
            .join(ProposalRow, ProposalRow.id == ProposalPhotoRow.proposal)
            .where(ProposalRow.state == WAITING, ProposalPhotoRow.sha256.in_(found.photos))
        )
        with transaction(self._sessions) as session:
            kept = set(session.scalars(others))
        for photo in set(found.photos) - kept:
            self.photos.path(photo).unlink(missing_ok=True)


def propose(session: Session, id_: str, device: str, at: datetime, data: Mapping[str, Any]) -> None:
    """Keep a `proposed` event's proposal, within the transaction that keeps the event.

    One that is not understood is passed over: the event itself stays for a person to read.
    """
    try:
        product, photos, look_alikes = _read(data)
    except SkipRecord:
        return
    if session.get(ProposalSourceRow, id_) is not None:
        return
    row = _same(session, product, photos)
    if row is None:
        row = ProposalRow(
            id=id_,
            sku=product.sku,
            title=product.title,
            category=product.category,
            gtin=product.gtin,
            price=product.price,
            state=WAITING,
            created=now(),
            look_alikes=[],
        )
        session.add(row)
    row.look_alikes = list(dict.fromkeys([*row.look_alikes, *look_alikes]))[:_MOST_LOOK_ALIKES]
    session.add(ProposalSourceRow(id=id_, proposal=row.id, device=device, at=at))
    for photo in photos:
        if session.get(ProposalPhotoRow, (row.id, photo)) is None:
            session.add(ProposalPhotoRow(proposal=row.id, sha256=photo, device=device, received=None))
    session.flush()


def proposal_ids(status: Mapping[str, Any]) -> list[str]:
    """Read from a device's status which of its proposals it waits for."""
    ids = status.get("proposals")
    return [id_ for id_ in ids if isinstance(id_, str)][:500] if isinstance(ids, list) else []


def _read(data: Mapping[str, Any]) -> tuple[Product, list[str], list[str]]:
    fields = Fields("a proposal", dict(data), SkipRecord)
    product = Product.from_record(data)
    photos = list(dict.fromkeys(fields.sha256s("photos")))
    if not 0 < len(photos) <= _MOST_PHOTOS:
        raise SkipRecord(f"a proposal has {len(photos)} photos: give 1 to {_MOST_PHOTOS}")
    look_alikes = data.get("look_alikes")
    skus = look_alikes if isinstance(look_alikes, list) else []
    return product, photos, [sku[:200] for sku in skus if isinstance(sku, str)][:_MOST_LOOK_ALIKES]


def _same(session: Session, product: Product, photos: Sequence[str]) -> ProposalRow | None:
    """Return the waiting proposal of the same thing: by SKU, GTIN or a photo."""
    shown = select(ProposalPhotoRow.proposal).where(ProposalPhotoRow.sha256.in_(photos))
    same = [ProposalRow.sku == product.sku, ProposalRow.id.in_(shown)]
    if product.gtin is not None:
        same.append(ProposalRow.gtin == product.gtin)
    query = select(ProposalRow).where(ProposalRow.state == WAITING, or_(*same))
    return session.scalars(query.order_by(ProposalRow.created, ProposalRow.id).limit(1)).first()


def _wanted(session: Session, device: str, sha256: str) -> tuple[bool, int]:
    """Say whether a photo belongs to a waiting proposal of the device, and how many of its photos wait.

    Raises:
        TryLater: no proposal of the device names it.
    """
    mine = select(ProposalSourceRow.proposal).where(ProposalSourceRow.device == device)
    states = list(
        session.scalars(
            select(ProposalRow.state)
            .join(ProposalPhotoRow, ProposalPhotoRow.proposal == ProposalRow.id)
            .where(ProposalPhotoRow.sha256 == sha256, ProposalRow.id.in_(mine))
        )
    )
    if not states:
        raise TryLater("no proposal of this device names this photo: send the `proposed` event first")
    waiting = session.scalar(
        select(func.count())
        .select_from(ProposalPhotoRow)
        .join(ProposalRow, ProposalRow.id == ProposalPhotoRow.proposal)
        .where(ProposalPhotoRow.device == device, ProposalPhotoRow.received.is_not(None))
        .where(ProposalRow.state == WAITING)
    )
    return WAITING in states, waiting or 0


def _target(found: Proposal, catalog: Catalog, sku: str | None, into: str | None) -> Product:
    if into is not None:
        product = catalog.find(into)
        if product is None:
            raise BadProduct(f"the catalog holds no product {into!r} to add the photos to")
        return product
    if sku is not None:
        said = found.product
        known = catalog.find(sku)
        return known or Product(sku, said.title, said.category, said.gtin, said.price)
    return found.known or found.product


def _proposal(session: Session, row: ProposalRow) -> Proposal:
    photos = list(
        session.scalars(
            select(ProposalPhotoRow)
            .where(ProposalPhotoRow.proposal == row.id)
            .order_by(ProposalPhotoRow.received, ProposalPhotoRow.sha256)
        )
    )
    sources = select(ProposalSourceRow.device).where(ProposalSourceRow.proposal == row.id)
    devices = session.scalars(sources.order_by(ProposalSourceRow.at, ProposalSourceRow.id))
    return Proposal(
        id=row.id,
        product=Product(row.sku, row.title, row.category, row.gtin, row.price),
        state=row.state,
        target=row.target,
        release=row.release,
        created=row.created,
        decided=row.decided,
        look_alikes=tuple(row.look_alikes),
        devices=tuple(dict.fromkeys(devices)),
        photos=tuple(photo.sha256 for photo in photos),
        here=tuple(photo.sha256 for photo in photos if photo.received is not None),
    )


def _beside(proposal: Proposal, catalog: Catalog) -> Proposal:
    return replace(proposal, known=catalog.find(proposal.product.sku, proposal.product.gtin))


def _photos_of(session: Session, ids: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    query = select(ProposalPhotoRow).where(ProposalPhotoRow.proposal.in_(list(ids)))
    for row in session.scalars(query):
        found.setdefault(row.proposal, []).append(row.sha256)
    return found
