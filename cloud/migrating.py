"""Brings the tables of a database up to date when it is opened: the only door to Alembic.

One process does it at a time, in one transaction: a kill in the middle leaves the database as it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, inspect, text

from cloud.tables import Base
from edge.errors import StorageUnusable

NEWEST: Final = "0002"
"""The last migration; a database that has it needs nothing, and Alembic need not even be imported."""

OLDEST: Final = "0001"
"""The tables as they were before there were migrations."""

SCRIPTS: Final = Path(__file__).parent / "migrations"
_LOCK: Final = 0x5E1F_5167  # any number, the same for all: of the advisory lock in PostgreSQL


def bring_up_to_date(engine: Engine) -> None:
    """Make the tables of an empty database, or migrate those of an older one; a current one is not touched.

    Raises:
        StorageUnusable: a newer Shelfsight has changed the tables.
        SQLAlchemyError: the database refused; it is as it was.
    """
    with engine.connect() as connection:
        if _version(connection) == NEWEST:
            return
    with _alone(engine) as connection:
        version = _version(connection)  # another process may have been here while this one waited
        if version is None and not inspect(connection).has_table("devices"):
            Base.metadata.create_all(connection)
            _stamp(connection)
        elif version != NEWEST:
            _migrate(connection, version)


def migration_context(connection: Connection) -> dict[str, Any]:
    """Return how Alembic is set up here, for `migrations/env.py` and for the test of the migrations."""
    return {
        "connection": connection,
        "target_metadata": Base.metadata,
        "render_as_batch": True,  # SQLite changes a column by copying its table
        "compare_type": True,
        "transactional_ddl": True,
    }


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # By hand, because Python's sqlite3 begins no transaction for a change of tables. Tables that are
            # copied must not take with them what points to them: that switch works outside of one only.
            connection.connection.driver_connection.isolation_level = None  # type: ignore[union-attr]
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        try:
            yield connection
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        finally:
            if engine.dialect.name == "sqlite":
                connection.invalidate()  # with its switches; the next one is set up anew


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _stamp(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": NEWEST})


def _migrate(connection: Connection, version: str | None) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise StorageUnusable(
            f"the database has tables of version {version[:20]!r}, and this Shelfsight knows them up to "
            f"{NEWEST}: a newer Shelfsight has changed it, so update Shelfsight here"
        )
    if version is None:
        command.stamp(config, OLDEST)
    command.upgrade(config, NEWEST)
