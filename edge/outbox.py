"""Events that the cloud has not taken yet, kept on disk through every kill and every power cut.

A full outbox forgets its oldest events and counts them by kind, but never what a person took the trouble to
say, which is worth more than what a camera saw: that has an end too, and beyond it a new one is refused, so
that the person is told. A file that has gone bad is set aside and counted, and a new one begun: a device that
cannot remember must still answer.
"""

import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from edge.errors import NoSpace, ShelfsightError, SkipRecord, StorageUnusable
from edge.events import Event

KEPT_KINDS = ("corrected", "proposed")
"""Kinds that are never dropped: somebody said them."""

CAPACITY = 100_000
CAPACITY_BYTES = 64 * 1024 * 1024
KEPT_SHARE = 2
"""What is never dropped may take up to this many times the capacity; then nothing more of it is taken in."""

_SCHEMA_VERSION = 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    record BLOB NOT NULL,
    kept INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS dropped (kind TEXT PRIMARY KEY, count INTEGER NOT NULL);
CREATE TABLE totals (kept INTEGER PRIMARY KEY, events INTEGER NOT NULL, bytes INTEGER NOT NULL);
"""
# Version 1 had an index that nobody used, and counted all events at each one that was added.
_FROM_VERSION_1 = f"""
DROP INDEX events_kind;
ALTER TABLE events ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
UPDATE events SET kept = 1 WHERE kind IN ({", ".join(repr(kind) for kind in KEPT_KINDS)});
"""
_COUNTED = """
CREATE INDEX events_kept ON events (kept, number);
INSERT INTO totals
    SELECT column1, count(number), coalesce(sum(length(record)), 0)
    FROM (VALUES (0), (1)) LEFT JOIN events ON kept = column1 GROUP BY column1;
CREATE TRIGGER event_added AFTER INSERT ON events BEGIN
    UPDATE totals SET events = events + 1, bytes = bytes + length(NEW.record) WHERE kept = NEW.kept;
END;
CREATE TRIGGER event_gone AFTER DELETE ON events BEGIN
    UPDATE totals SET events = events - 1, bytes = bytes - length(OLD.record) WHERE kept = OLD.kept;
END;
CREATE TRIGGER event_changed AFTER UPDATE OF record ON events BEGIN
    UPDATE totals SET bytes = bytes + length(NEW.record) - length(OLD.record) WHERE kept = OLD.kept;
END
"""
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})

T = TypeVar("T")


class Outbox:
    """Keep events in the SQLite file at `path` until they are acknowledged.

    It holds at most `capacity` of them and `capacity_bytes` of their JSON, or `KEPT_SHARE` times that where
    all of them are of the `KEPT_KINDS`. May be used from several threads, and from several processes on the
    same file.
    """

    def __init__(self, path: Path, capacity: int = CAPACITY, *, capacity_bytes: int = CAPACITY_BYTES) -> None:
        """Open the file, or begin it.

        Raises:
            StorageUnusable: The folder cannot be written, or a newer Shelfsight made the file.
            NoSpace: The disk is full.
        """
        self._path = path
        self._capacity = _Totals(capacity, capacity_bytes)
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._do(lambda database: None)

    def __enter__(self) -> "Outbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def add(self, event: Event) -> None:
        """Keep the event; it is on the disk when this returns. An event added twice is kept once.

        Raises:
            SkipRecord: The event cannot be written as JSON.
            NoSpace, StorageUnusable: It could not be kept, or too much of what is never dropped is kept.
        """
        self.add_many([event])

    def add_many(self, events: Sequence[Event]) -> None:
        """Keep all of the events, or none of them; otherwise as `add`, and much quicker than one by one.

        Raises:
            SkipRecord: One of them cannot be written as JSON.
            NoSpace, StorageUnusable: They could not be kept.
        """
        rows = [(event.id, event.kind, event.to_bytes(), event.kind in KEPT_KINDS) for event in events]
        said = [kind for _, kind, _, kept in rows if kept]

        def insert(database: sqlite3.Connection) -> bool:
            if said and not _totals(database, kept=True).within(self._capacity, KEPT_SHARE):
                for kind in said:
                    _count_dropped(database, kind, 1)
                return False
            database.executemany(
                "INSERT OR IGNORE INTO events (id, kind, record, kept) VALUES (?, ?, ?, ?)", rows
            )
            _drop_oldest(database, self._capacity)
            return True

        if not self._do(insert):
            raise StorageUnusable(
                f"{self._path} is full of what people said, and the server has taken none of it: bring this "
                "device back to its server."
            )

    def batch(self, limit: int = 500, *, max_bytes: int = 1_000_000) -> list[Event]:
        """Return the oldest events, at most `limit` of them and, after the first, `max_bytes` of JSON.

        Raises:
            NoSpace, StorageUnusable: The file cannot be used.
        """

        def read(database: sqlite3.Connection) -> list[Event]:
            events: list[Event] = []
            total = 0
            rows = database.execute(
                "SELECT id, kind, record FROM events ORDER BY number LIMIT ?", (limit,)
            ).fetchall()
            for id_, kind, record in rows:
                try:
                    event = Event.from_bytes(record if isinstance(record, bytes) else b"")
                except SkipRecord:
                    # A newer Shelfsight wrote it before this one was put back, or the disk spoiled it.
                    database.execute("DELETE FROM events WHERE id = ?", (id_,))
                    _count_dropped(database, kind, 1)
                    continue
                total += len(record)
                if events and total > max_bytes:
                    break
                events.append(event)
            return events

        return self._do(read)

    def acknowledge(self, ids: Iterable[str]) -> None:
        """Forget the events that the cloud has taken.

        Raises:
            NoSpace, StorageUnusable: The file cannot be used.
        """
        taken = [(id_,) for id_ in ids]

        def delete(database: sqlite3.Connection) -> None:
            database.executemany("DELETE FROM events WHERE id = ?", taken)

        self._do(delete)

    def give_up(self, id_: str) -> None:
        """Forget an event that can never be delivered, and count it among the dropped.

        Raises:
            NoSpace, StorageUnusable: The file cannot be used.
        """

        def delete(database: sqlite3.Connection) -> None:
            for (kind,) in database.execute("SELECT kind FROM events WHERE id = ?", (id_,)).fetchall():
                database.execute("DELETE FROM events WHERE id = ?", (id_,))
                _count_dropped(database, kind, 1)

        self._do(delete)

    def postpone(self, id_: str) -> None:
        """Put an event behind all others, so that one that is not taken now does not block them.

        Raises:
            NoSpace, StorageUnusable: The file cannot be used.
        """

        def move(database: sqlite3.Connection) -> None:
            columns = "id, kind, record, kept"
            rows = database.execute(f"SELECT {columns} FROM events WHERE id = ?", (id_,)).fetchall()
            database.execute("DELETE FROM events WHERE id = ?", (id_,))
            database.executemany(f"INSERT INTO events ({columns}) VALUES (?, ?, ?, ?)", rows)

        self._do(move)

    def __len__(self) -> int:
        def count(database: sqlite3.Connection) -> int:
            return _totals(database, kept=True).events + _totals(database, kept=False).events

        return self._do(count)

    def dropped(self) -> Mapping[str, int]:
        """Return how many events of each kind were lost since the file was begun."""

        def read(database: sqlite3.Connection) -> dict[str, int]:
            return dict(database.execute("SELECT kind, count FROM dropped ORDER BY kind").fetchall())

        return self._do(read)

    def damaged_files(self) -> int:
        """Return how many times the file had gone bad and was begun anew."""
        return max(_damage_numbers(self._path), default=0)

    # The file ------------------------------------------------------------------------------------------

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work in one transaction; if the file proves damaged, once more in a new one."""
        with self._lock:
            try:
                return self._once(work)
            except sqlite3.DatabaseError as error:
                if _primary_code(error) not in _DAMAGED:
                    raise _failure(error, self._path) from error
            self.close()
            _set_aside(self._path)
            try:
                return self._once(work)
            except sqlite3.DatabaseError as error:
                raise _failure(error, self._path) from error

    def _once(self, work: Callable[[sqlite3.Connection], T]) -> T:
        # Another process may have set the file aside, or a person deleted it: nobody reads that one again.
        if self._database is not None and _inode(self._path) != self._inode:
            self.close()
        if self._database is None:
            self._database = _open(self._path)
            self._inode = _inode(self._path)
        with _transaction(self._database):
            return work(self._database)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version > _SCHEMA_VERSION:
            raise StorageUnusable(f"{path} was made by a newer Shelfsight: update Shelfsight on this device.")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        if version < _SCHEMA_VERSION:
            _bring_up_to_date(database)
    except (sqlite3.Error, ShelfsightError):
        database.close()
        raise
    return database


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


def _bring_up_to_date(database: sqlite3.Connection) -> None:
    with _transaction(database):
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version == _SCHEMA_VERSION:
            return  # another process was quicker
        for statement in _SCHEMA.split(";"):
            database.execute(statement)
        if version == 1:
            for statement in _FROM_VERSION_1.split(";"):
                database.execute(statement)
        for statement in re.split(r";\n(?=CREATE|INSERT)", _COUNTED):
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")


@dataclass(frozen=True, slots=True)
class _Totals:
    """How many events, and how many bytes of JSON."""

    events: int
    bytes: int

    def within(self, capacity: "_Totals", times: int = 1) -> bool:
        return self.events < capacity.events * times and self.bytes < capacity.bytes * times


def _totals(database: sqlite3.Connection, *, kept: bool) -> _Totals:
    row = database.execute("SELECT events, bytes FROM totals WHERE kept = ?", (kept,)).fetchone()
    return _Totals(*row)


def _drop_oldest(database: sqlite3.Connection, capacity: _Totals) -> None:
    kept, others = _totals(database, kept=True), _totals(database, kept=False)
    over = kept.events + others.events - capacity.events
    over_bytes = kept.bytes + others.bytes - capacity.bytes
    if (over <= 0 and over_bytes <= 0) or others.events == 0:
        return
    oldest = database.execute(
        "SELECT number, kind, length(record) FROM events WHERE kept = 0 ORDER BY number"
    )
    gone: list[tuple[int]] = []
    dropped: Counter[str] = Counter()
    for number, kind, size in oldest:
        if over <= 0 and over_bytes <= 0:
            break
        gone.append((number,))
        dropped[kind] += 1
        over, over_bytes = over - 1, over_bytes - size
    oldest.close()
    database.executemany("DELETE FROM events WHERE number = ?", gone)
    for kind, count in dropped.items():
        _count_dropped(database, kind, count)


def _count_dropped(database: sqlite3.Connection, kind: str, count: int) -> None:
    database.execute(
        "INSERT INTO dropped (kind, count) VALUES (?, ?) "
        "ON CONFLICT (kind) DO UPDATE SET count = count + excluded.count",
        (kind, count),
    )


def _primary_code(error: sqlite3.DatabaseError) -> int:
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE)
    return code & 0xFF


def _failure(error: sqlite3.DatabaseError, path: Path) -> ShelfsightError:
    if _primary_code(error) == sqlite3.SQLITE_FULL:
        return NoSpace(f"no space left on the disk of {path}: free some and try again.")
    return StorageUnusable(f"{path} cannot be used ({error}): check its folder and who may write there.")


def _damage_numbers(path: Path) -> list[int]:
    suffixes = (found.name.rpartition("-")[2] for found in path.parent.glob(f"{path.name}.damaged-*"))
    return [int(suffix) for suffix in suffixes if suffix.isdecimal()]


def _set_aside(path: Path) -> None:
    """Move the damaged file out of the way, keeping the newest such file only, for a person to look at."""
    earlier = _damage_numbers(path)
    try:
        path.replace(path.with_name(f"{path.name}.damaged-{max(earlier, default=0) + 1}"))
        for number in earlier:
            path.with_name(f"{path.name}.damaged-{number}").unlink(missing_ok=True)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise StorageUnusable(f"{path} is damaged and cannot be moved ({error}): delete it.") from error
