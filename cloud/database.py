"""The one database: its tables' common base, and how a session to it is opened.

Each room declares its own tables on `Base` and is the only one that queries them.
"""

import importlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from edge.errors import StorageUnusable

DATABASE_NAME = "shelfsight.db"
# Imported here and not at the top: each of them imports `Base` from this module.
_ROOMS_WITH_TABLES = ("cloud.catalog", "cloud.releases", "cloud.rollouts", "cloud.fleet", "cloud.events")
_BUSY_TIMEOUT_S = 30


class Base(DeclarativeBase):
    """What every table of the cloud derives from."""


def open_database(data: Path, url: str | None = None) -> sessionmaker[Session]:
    """Open the database of a data folder, or the one at `url`, and make the tables that it lacks.

    Raises:
        StorageUnusable: the database cannot be opened, or is not one.
    """
    for room in _ROOMS_WITH_TABLES:
        importlib.import_module(room)
    where = url or f"sqlite:///{data / DATABASE_NAME}"
    try:
        is_sqlite = make_url(where).get_backend_name() == "sqlite"
        engine = create_engine(where, connect_args={"factory": _SelfClosing} if is_sqlite else {})
        if is_sqlite:
            event.listen(engine, "connect", _harden_sqlite)
        create_all(engine)
    except (SQLAlchemyError, ImportError) as error:
        raise StorageUnusable(
            f"the database {where} cannot be opened ({_first_line(error)}): "
            "check who may use its folder, or restore the file from a backup"
        ) from error
    return sessionmaker(engine, expire_on_commit=False)


def create_all(engine: Engine) -> None:
    """Make the tables that the database lacks; those that exist stay as they are."""
    Base.metadata.create_all(engine)


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
