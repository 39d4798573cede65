"""The one database: how a session to it is opened, and what it can keep."""

import importlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    URL,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from cloud.migrating import bring_up_to_date
from edge.errors import BadSetting, StorageUnusable

DATABASE_NAME = "shelfsight.db"
# Imported only when a database is opened: each of them imports this module.
_ROOMS_WITH_TABLES = (
    "cloud.catalog",
    "cloud.releases",
    "cloud.stores",
    "cloud.rollouts",
    "cloud.rollout_devices",
    "cloud.accuracy",
    "cloud.conductor",
    "cloud.wave",
    "cloud.fleet",
    "cloud.events",
    "cloud.proposals",
)
DEEPEST: Final = 50
"""How deep JSON that is kept may be nested."""

_BUSY_TIMEOUT_S = 30
_CONNECT_TIMEOUT_S = 10
# A database server that vanishes from the network, without a word, is noticed.
_PATIENCE: Final = {
    "connect_timeout": _CONNECT_TIMEOUT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_DRIVERS: Final = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}


def open_database(data: Path, url: str | None = None) -> sessionmaker[Session]:
    """Open the database of a data folder, or the one at `url`, and bring its tables up to date.

    Raises:
        BadSetting: `url` is not the address of a database.
        StorageUnusable: the database cannot be opened, is not one, or was made by a newer Shelfsight.
    """
    where = _address(data, url)
    load_tables()
    try:
        is_sqlite = where.get_backend_name() == "sqlite"
        engine = create_engine(
            where,
            connect_args={"factory": _SelfClosing} if is_sqlite else _PATIENCE,
            pool_pre_ping=not is_sqlite,  # a database server may have been started anew
        )
        if is_sqlite:
            event.listen(engine, "connect", _harden_sqlite)
        else:
            event.listen(engine, "do_connect", _connect_self_closing)
            event.listen(engine, "connect", _bound_waits)
        bring_up_to_date(engine)
    except (SQLAlchemyError, ImportError) as error:
        raise StorageUnusable(
            f"the database {shown(where)} cannot be opened ({_first_line(error)}): {_cure(where, error)}"
        ) from error
    return sessionmaker(engine, expire_on_commit=False)


def load_tables() -> None:
    """Import every room that has tables, so that `Base.metadata` knows them all."""
    for room in _ROOMS_WITH_TABLES:
        importlib.import_module(room)


def why_not_kept(value: object) -> str | None:
    """Return what keeps a JSON value out of the databases, in words that follow a name; None: it is kept.

    PostgreSQL keeps a NUL in no text, and whoever reads what is nested without end meets Python's own end.
    """
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            return f"is nested more than {DEEPEST} deep"
        inner: list[object] = []
        for each in level:
            if isinstance(each, Mapping):
                inner += [*each, *each.values()]
            elif isinstance(each, list):
                inner += each
            elif isinstance(each, str) and "\0" in each:
                return "has a text with a NUL in it, which no database keeps"
        level = inner
    return None


def shown(where: URL) -> str:
    """Write the address of a database as people may read it: without its password."""
    return where.render_as_string(hide_password=True)


@contextmanager
def transaction(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """Run one transaction: committed when the block ends, rolled back when it raises.

    Raises:
        StorageUnusable: the database refused (a full disk, a lock held too long, a damaged file).
    """
    try:
        with sessions.begin() as session:
            yield session
    except SQLAlchemyError as error:
        raise StorageUnusable(
            f"the database refused ({_first_line(error)}): check free disk space and that no other program "
            "holds it, then run the command again"
        ) from error


class _SelfClosing(sqlite3.Connection):
    """Close with its last user: Python 3.13 warns of connections that are left to the collector."""

    def __del__(self) -> None:
        self.close()


def _connect_self_closing(_dialect: object, _record: object, where: list[Any], how: dict[str, Any]) -> Any:
    """Connect to PostgreSQL so that the connection closes with its last user; else psycopg warns of it."""
    import psycopg

    class Closing(psycopg.Connection[Any]):
        def __del__(self, *_: object) -> None:
            self.close()

    return Closing.connect(*where, **how)


def _bound_waits(connection: Any, _record: object) -> None:
    # As on SQLite: whoever holds a lock for ever must not hold every thread of the server.
    connection.execute(f"SET lock_timeout = {_BUSY_TIMEOUT_S * 1000}")
    connection.commit()


def _address(data: Path, url: str | None) -> URL:
    if url is None:
        return URL.create("sqlite", database=str(data / DATABASE_NAME))
    try:
        where = make_url(url)
        where = where.set(drivername=_DRIVERS.get(where.drivername, where.drivername))
        backend = where.get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise BadSetting(_no_address(url)) from error
    if backend not in ("sqlite", "postgresql"):
        raise BadSetting(_no_address(url))
    return where


def _no_address(url: str) -> str:
    kind = url.partition(":")[0][:20]
    return (
        f"{kind!r} is no kind of database that Shelfsight can use: "
        "give --database an address like postgresql://user@host/name, or leave it out"
    )


def _cure(where: URL, error: BaseException) -> str:
    if isinstance(error, ImportError):
        return "pip install 'shelfsight[postgres]'"
    if where.get_backend_name() == "postgresql":
        return "check that it runs, and the address, user and password in --database"
    return "check who may use its folder, or restore the file from a backup"


def _harden_sqlite(connection: Any, _record: object) -> None:
    # WAL lets the server read while a command writes; FULL brings each commit to the disk, so that a kill
    # or a power cut loses nothing that was reported as done.
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_S * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
