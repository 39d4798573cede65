"""Keeps what devices tell: each event once, and the state of each shelf slot as it was told last."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, cast

from sqlalchemy import JSON, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from cloud import accuracy, proposals
from cloud.database import transaction, why_not_kept
from cloud.tables import Base
from cloud.times import UtcTime, now
from edge.errors import BadSetting, SkipRecord, StorageUnusable
from edge.events import MOST_BYTES, Event

MOST_IN_A_BATCH: Final = 1000
LARGEST_BATCH: Final = 500 * (MOST_BYTES + 2)  # bytes; a device's 500 events are taken, however long each is


class EventRow(Base):
    """One event, as its device told it."""

    __tablename__ = "events"

    id: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(index=True)
    at: Mapped[datetime] = mapped_column(UtcTime, index=True)
    received: Mapped[datetime] = mapped_column(UtcTime)
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


class SlotRow(Base):
    """The state of one shelf slot, by the newest `slot_changed` event about it."""

    __tablename__ = "slots"

    device: Mapped[str] = mapped_column(primary_key=True)
    slot: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    sku: Mapped[str | None]
    seen: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(UtcTime)


_TABLE: Final = cast(Table, EventRow.__table__)


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """An event that a device told; `at` is the device's clock, `received` ours."""

    id: str
    device: str
    kind: str
    at: datetime
    received: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Slot:
    """How a slot stands: `state` since `at`, the product that belongs there and the one that was seen."""

    device: str
    slot: str
    state: str
    sku: str | None
    seen: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that can never be taken, and why; the device need not send it again."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch: the ids that are kept now (new or known before), and those that cannot be."""

    accepted: tuple[str, ...]
    refused: tuple[RefusedEvent, ...]


class Events:
    """Everything the devices told."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def take(self, device: str, records: Sequence[object]) -> Taken:
        """Keep a batch of a device's events, each id once, however often it is sent.

        `records` are JSON objects in the form of `edge.events`. Whatever they say, they are kept as events
        of the device that brought them.

        Raises:
            BadSetting: a batch that is too long.
            StorageUnusable: the database refused; nothing of the batch was kept.
        """
        if len(records) > MOST_IN_A_BATCH:
            raise BadSetting(f"{len(records)} events are too many at once: send at most {MOST_IN_A_BATCH}")
        events: dict[str, KeptEvent] = {}
        refused: list[RefusedEvent] = []
        for record in records:
            try:
                event = _read(device, record)
            except SkipRecord as error:
                refused.append(RefusedEvent(_id_of(record), str(error)))
            else:
                events[event.id] = event
        self._keep(list(events.values()))
        return Taken(tuple(events), tuple(refused))

    def newest(self, limit: int = 50) -> list[KeptEvent]:
        """Return the events that arrived last, newest first.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            rows = session.scalars(
                select(EventRow).order_by(EventRow.at.desc(), EventRow.id.desc()).limit(limit)
            )
            return [KeptEvent(row.id, row.device, row.kind, row.at, row.received, row.data) for row in rows]

    def count_by_kind(self) -> dict[str, int]:
        """Return how many events of each kind are kept.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            query = select(EventRow.kind, func.count()).group_by(EventRow.kind).order_by(EventRow.kind)
            return {row[0]: row[1] for row in session.execute(query)}

    def slots(self, limit: int = 1000) -> list[Slot]:
        """Return the shelf slots as they stand now, sorted by device and slot.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            rows = session.scalars(select(SlotRow).order_by(SlotRow.device, SlotRow.slot).limit(limit))
            return [Slot(**{name: getattr(row, name) for name in Slot.__slots__}) for row in rows]

    def _keep(self, events: Sequence[KeptEvent]) -> None:
        # Two batches may tell of the same slot side by side; the second then finds the row of the first.
        try:
            with transaction(self._sessions) as session:
                _insert_new(session, events)
        except StorageUnusable as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
            with transaction(self._sessions) as session:
                _insert_new(session, events)


def _insert_new(session: Session, events: Sequence[KeptEvent]) -> None:
    if not events:
        return
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    taken = insert(_TABLE).on_conflict_do_nothing(index_elements=["id"]).returning(_TABLE.c.id)
    # By id, so that of two deliveries of the same events neither waits for the other's.
    rows = [
        {name: getattr(event, name) for name in KeptEvent.__slots__}
        for event in sorted(events, key=attrgetter("id"))
    ]
    ids = set(session.connection().scalars(taken, rows))
    new = [event for event in events if event.id in ids]
    for event in new:
        if event.kind == "slot_changed":
            _change_slot(session, event)
        elif event.kind == "proposed":
            proposals.propose(session, event.id, event.device, event.at, event.data)
    if new:
        accuracy.count(session, new[0].device, new)


def _change_slot(session: Session, event: KeptEvent) -> None:
    slot, state = event.data.get("slot"), event.data.get("state")
    if not isinstance(slot, str) or not isinstance(state, str):
        return
    row = session.get(SlotRow, (event.device, slot))
    if row is None:
        row = SlotRow(device=event.device, slot=slot)
        session.add(row)
    elif row.at > event.at:
        return  # an outbox that was emptied late brings old news
    row.state, row.at = state, event.at
    row.sku, row.seen = _text_or_none(event.data.get("sku")), _text_or_none(event.data.get("seen"))


def _read(device: str, record: object) -> KeptEvent:
    event = Event.from_record(record)
    try:
        at = datetime.fromisoformat(event.at)
    except ValueError as error:
        raise SkipRecord(f"event {event.id} happened at {event.at}, which is no time: {error}") from error
    if (why := why_not_kept(event.data)) is not None:
        raise SkipRecord(f"event {event.id} {why}")
    return KeptEvent(event.id, device, event.kind, at, now(), event.data)


def _id_of(record: object) -> str:
    found = record.get("id") if isinstance(record, dict) else None
    return found if isinstance(found, str) else ""


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None
