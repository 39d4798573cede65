"""Events that the cloud has not taken yet, kept on disk through every kill and every power cut.

A full outbox forgets its oldest events and counts them by kind, but never a correction: what a person took
the trouble to say is worth more than what a camera saw. A file that has gone bad is set aside and counted,
and a new one begun: a device that cannot remember must still answer.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from edge.errors import NoSpace, ShelfsightError, SkipRecord, StorageUnusable
from edge.events import Event

KEPT_KINDS = ("corrected",)
"""Kinds that are never dropped."""

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    record BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS events_kind ON events (kind, number);
CREATE TABLE IF NOT EXISTS dropped (kind TEXT PRIMARY KEY, count INTEGER NOT NULL);
"""
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
_NOT_KEPT = f"kind NOT IN ({', '.join(repr(kind) for kind in KEPT_KINDS)})"

T = TypeVar("T")


class Outbox:
    """Keep events in the SQLite file at `path` until they are acknowledged; at most `capacity` of them.

    May be used from several threads, and from several processes on the same file.
    """

    def __init__(self, path: Path, capacity: int = 100_000) -> None:
        """Open the file, or begin it.

        Raises:
            StorageUnusable: The folder cannot be written, or a newer Shelfsight made the file.
            NoSpace: The disk is full.
        """
        self._path = path
        self._capacity = capacity
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
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
            NoSpace, StorageUnusable: It could not be kept.
        """
        record = event.to_bytes()

        def insert(database: sqlite3.Connection) -> None:
            database.execute(
                "INSERT OR IGNORE INTO events (id, kind, record) VALUES (?, ?, ?)",
                (event.id, event.kind, record),
            )
            _drop_oldest(database, self._capacity)

        self._do(insert)

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

    def __len__(self) -> int:
        return self._do(_count)

    def dropped(self) -> Mapping[str, int]:
        """Return how many events of each kind were lost to the capacity since the file was begun."""

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
        if self._database is None:
            self._database = _open(self._path)
        with _transaction(self._database):
            return work(self._database)


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version > _SCHEMA_VERSION:
            raise StorageUnusable(f"{path} was made by a newer Shelfsight: update Shelfsight on this device.")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        if version < _SCHEMA_VERSION:
            with _transaction(database):
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
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


def _count(database: sqlite3.Connection) -> int:
    count: int = database.execute("SELECT count(*) FROM events").fetchone()[0]
    return count


def _drop_oldest(database: sqlite3.Connection, capacity: int) -> None:
    over = _count(database) - capacity
    if over <= 0:
        return
    oldest = database.execute(
        f"SELECT number, kind FROM events WHERE {_NOT_KEPT} ORDER BY number LIMIT ?",
        (over,),
    ).fetchall()
    for number, kind in oldest:
        database.execute("DELETE FROM events WHERE number = ?", (number,))
        _count_dropped(database, kind, 1)


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
