"""Counts, release by release and hour by hour, how right and how fast its answers were, as devices tell it.

Counted as events are taken, each once, in the transaction that keeps them. The counters of an hour lie in a
few rows, chosen by device, so that batches of many devices do not wait for one row.
"""

import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from sqlalchemy import Select, Table, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from cloud.comparing import Comparison, Times, compare_shares, compare_times
from cloud.database import transaction
from cloud.rollout_devices import note_failures
from cloud.rollout_rules import ShadowCounts
from cloud.tables import Base
from cloud.times import UtcTime, now

KEPT: Final = timedelta(days=90)
_BEFORE: Final = timedelta(days=7)  # where nobody runs the release before any more: so many days before
_OLDEST_NEWS: Final = timedelta(days=7)
_SHARDS: Final = 8
_ENOUGH: Final = 200
_LONGEST_MS: Final = 600_000.0


class AccuracyRow(Base):
    """What devices of one shard told in one hour of one release's answers."""

    __tablename__ = "accuracy"

    release: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hour: Mapped[datetime] = mapped_column(UtcTime, primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    scans: Mapped[int]
    scans_agree: Mapped[int]
    told_right: Mapped[int]
    told_wrong: Mapped[int]
    answers: Mapped[int]
    unknown: Mapped[int]
    timed: Mapped[int]
    log_ms: Mapped[float]
    log_ms_squares: Mapped[float]


class ShadowRow(Base):
    """How a release in shadow answered beside the one in use, as devices of one shard told."""

    __tablename__ = "shadow_answers"

    release: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    shard: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    answers: Mapped[int]
    same_sku: Mapped[int]
    same_verdict: Mapped[int]
    unknown: Mapped[int]
    unknown_before: Mapped[int]
    ms: Mapped[float]
    ms_before: Mapped[float]


class Told(Protocol):
    """An event as it is kept: its kind, when it happened by the device's clock, and what belongs to it."""

    @property
    def kind(self) -> str:
        """The kind of event."""

    @property
    def at(self) -> datetime:
        """When it happened, aware."""

    @property
    def data(self) -> Mapping[str, Any]:
        """What belongs to this kind."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted of a release: scans, people's words, answers and their times."""

    scans: int = 0
    scans_agree: int = 0
    told_right: int = 0
    told_wrong: int = 0
    answers: int = 0
    unknown: int = 0
    timed: int = 0
    log_ms: float = 0.0
    log_ms_squares: float = 0.0

    @property
    def times(self) -> Times:
        """The times of its answers."""
        return Times(self.timed, self.log_ms, self.log_ms_squares)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Counts)))


def count(session: Session, device: str, events: Iterable[Told]) -> None:
    """Count what new events of a device say of releases, in the transaction that keeps these events."""
    events = list(events)
    note_failures(session, device, ((event.kind, event.data) for event in events))
    hours: defaultdict[tuple[int, datetime], Counts] = defaultdict(Counts)
    shadows: defaultdict[int, ShadowCounts] = defaultdict(ShadowCounts)
    for event in events:
        release = event.data.get("release")
        if not isinstance(release, int) or isinstance(release, bool) or not 0 < release < 2**53:
            continue
        if event.kind == "shadowed":
            shadows[release] = _add_shadow(shadows[release], event.data)
        elif (told := _read(event.kind, event.data)) is not None:
            hours[release, _hour(event.at)] += told
    shard = zlib.crc32(device.encode()) % _SHARDS
    # In one order, so that two batches never wait for each other's rows.
    for (release, hour), counts in sorted(hours.items(), key=lambda each: each[0]):
        _increase(session, AccuracyRow, {"release": release, "hour": hour, "shard": shard}, _values(counts))
    for release, answered in sorted(shadows.items()):
        _increase(session, ShadowRow, {"release": release, "shard": shard}, _values(answered))


class Accuracy:
    """How right the releases were, as counted."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def of(self, release: int, since: datetime | None = None, until: datetime | None = None) -> Counts:
        """Sum what was counted of a release, from the hour of `since` to that of `until`.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            return _sum(session, AccuracyRow.release == release, since, until)

    def compare(self, release: int, since: datetime) -> tuple[Comparison, ...]:
        """Compare a release with the one before, by what both were told since then.

        The one before is what the rest of the fleet runs in the same hours, the newest of them that has
        answered enough; where no other answers any more, the newest in the week before `since`.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            present = _sum(session, AccuracyRow.release == release, since, None)
            before = _release_before(session, release, since, None)
            if before is not None:
                past = _sum(session, AccuracyRow.release == before, since, None)
            else:
                before = _release_before(session, release, since - _BEFORE, since)
                if before is None:
                    return _compare(present, Counts())
                past = _sum(session, AccuracyRow.release == before, since - _BEFORE, since)
        return _compare(present, past)

    def shadow(self, release: int) -> ShadowCounts:
        """Sum how a release answered in shadow.

        Raises:
            StorageUnusable: the database refused.
        """
        names = [each.name for each in fields(ShadowCounts)]
        query = select(*(func.coalesce(func.sum(getattr(ShadowRow, name)), 0) for name in names))
        with transaction(self._sessions) as session:
            row = session.execute(query.where(ShadowRow.release == release)).one()
        return ShadowCounts(*(_number(value) for value in row))

    def forget_old(self) -> None:
        """Forget the hours that nobody compares with any more.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            session.execute(delete(AccuracyRow).where(AccuracyRow.hour < now() - KEPT))


def _compare(present: Counts, past: Counts) -> tuple[Comparison, ...]:
    said, said_before = (each.told_right + each.told_wrong for each in (present, past))
    return (
        compare_shares(
            "agreement with scans", present.scans_agree, present.scans, past.scans_agree, past.scans
        ),
        compare_shares("said to be right", present.told_right, said, past.told_right, said_before),
        compare_shares(
            "known",
            present.answers - present.unknown,
            present.answers,
            past.answers - past.unknown,
            past.answers,
        ),
        compare_times("time of an answer", present.times, past.times),
    )


def _release_before(session: Session, release: int, since: datetime, until: datetime | None) -> int | None:
    """Find the newest older release with enough answers in these hours, or the one with the most."""
    observed = func.sum(
        AccuracyRow.answers + AccuracyRow.scans + AccuracyRow.told_right + AccuracyRow.told_wrong
    )
    columns: list[Any] = [AccuracyRow.release, observed]
    query = _between(select(*columns).where(AccuracyRow.release < release), since, until)
    rows = session.execute(query.group_by(AccuracyRow.release)).all()
    enough = [row[0] for row in rows if row[1] >= _ENOUGH]
    return max(enough) if enough else max(rows, key=lambda row: row[1])[0] if rows else None


def _sum(session: Session, which: Any, since: datetime | None, until: datetime | None) -> Counts:
    names = [each.name for each in fields(Counts)]
    sums = [func.coalesce(func.sum(getattr(AccuracyRow, name)), 0) for name in names]
    query = _between(select(*sums).where(which), since, until)
    return Counts(*(_number(value) for value in session.execute(query).one()))


def _between(query: Select[Any], since: datetime | None, until: datetime | None) -> Select[Any]:
    if since is not None:
        query = query.where(AccuracyRow.hour >= _whole_hour(since))
    return query if until is None else query.where(AccuracyRow.hour < _whole_hour(until))


def _read(kind: str, data: Mapping[str, Any]) -> Counts | None:
    """Read what an event says of an answer; None if it says nothing that is counted."""
    if kind == "searched":
        took = data.get("total_ms")
        counted = Counts(answers=1, unknown=int(data.get("verdict") == "unknown"))
        if not isinstance(took, int | float) or isinstance(took, bool) or not 0 < took < _LONGEST_MS:
            return counted
        return counted + Counts(timed=1, log_ms=math.log(took), log_ms_squares=math.log(took) ** 2)
    if kind == "scanned":
        return Counts(scans=1, scans_agree=int(data.get("agrees") is True))
    if kind == "confirmed":
        return Counts(told_right=1)
    # Whoever chooses one of a short list that was offered as such corrects nothing.
    if kind == "corrected" and (data.get("verdict") == "match" or data.get("sku") is None):
        return Counts(told_wrong=1)
    return None


def _add_shadow(counts: ShadowCounts, data: Mapping[str, Any]) -> ShadowCounts:
    """Add what a `shadowed` event says; one whose numbers cannot be says nothing."""
    answers = data.get("answers")
    if not isinstance(answers, int) or isinstance(answers, bool) or not 0 < answers < 10**7:
        return counts
    names = ("same_sku", "same_verdict", "unknown", "unknown_before")
    shares = {name: data.get(name) for name in names}
    times = {name: data.get(name) for name in ("ms", "ms_before")}
    if not all(isinstance(value, int) and 0 <= value <= answers for value in shares.values()):
        return counts
    if not all(
        isinstance(value, int | float) and 0 <= value <= answers * _LONGEST_MS for value in times.values()
    ):
        return counts
    told: dict[str, Any] = {"answers": answers, **shares, **times}
    return ShadowCounts(**{name: getattr(counts, name) + told[name] for name in told})


def _hour(at: datetime) -> datetime:
    """Return the hour of an event; a device's clock is believed only where it can be right."""
    received = now()
    believed = received - _OLDEST_NEWS <= at <= received + timedelta(hours=1)
    return _whole_hour(min(at, received) if believed else received)


def _whole_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _values(counts: Counts | ShadowCounts) -> dict[str, float]:
    return {each.name: getattr(counts, each.name) for each in fields(counts)}


def _increase(session: Session, row: type[Base], key: Mapping[str, Any], values: Mapping[str, float]) -> None:
    """Add values to the counters of a row, which is made if it is not there; two may do so at once."""
    table = row.__table__
    assert isinstance(table, Table)
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement: Any = insert(table).values(**key, **values)
    more = {name: table.c[name] + statement.excluded[name] for name in values}
    session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=more))


def _number(value: Any) -> Any:
    """Make of a sum what Python counts with: PostgreSQL sums whole numbers to decimals."""
    return value if isinstance(value, int | float) else int(value)
