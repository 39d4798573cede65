"""An older database is brought up to date when it is opened, and the migrations say what the models say."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, make_url, text

from cloud import migrating
from cloud.database import load_tables, open_database
from cloud.fleet import Fleet
from cloud.migrating import NEWEST, OLDEST, SCRIPTS, bring_up_to_date, migration_context
from cloud.tables import Base
from edge.errors import StorageUnusable
from tests.cloud.conftest import connections_closed

DEVICE = """INSERT INTO devices (id, name, device_class, software, token_sha256, enrolled, last_seen, status)
VALUES ('d-1', 'Kiosk 1', 'kiosk', '0.1.0', '0', '2026-11-01 08:00:00', '2026-11-01 08:00:00', '{}')"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the address of a database with nothing in it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/shop.db"
        return
    postgres = request.getfixturevalue("postgres")
    name = postgres.create()
    with connections_closed():
        yield postgres.url(name).replace("postgresql:", "postgresql+psycopg:")
    postgres.drop(name)


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    load_tables()
    made = create_engine(url)
    yield made
    made.dispose()


def make_old(engine: Engine, version: str = OLDEST) -> None:
    """Make the tables as an older Shelfsight made them, with a device in them."""
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(SCRIPTS))
        command.upgrade(config, version)
        connection.execute(text(DEVICE))
        if version == OLDEST:
            connection.execute(text("DROP TABLE alembic_version"))


def differences(engine: Engine) -> list[Any]:
    """List what would have to be changed in a database to bring it to what the models say."""
    with engine.connect() as connection:
        options = migration_context(connection)
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))


def described(engine: Engine) -> dict[str, object]:
    """Describe every column and index of a database."""
    found = inspect(engine)
    columns: dict[str, object] = {
        f"{table}.{column['name']}": (repr(column["type"]), column["nullable"])
        for table in found.get_table_names()
        for column in found.get_columns(table)
    }
    for table in found.get_table_names():
        columns[f"{table} indexes"] = sorted(
            (str(index["name"]), tuple(index["column_names"])) for index in found.get_indexes(table)
        )
        columns[f"{table} key"] = found.get_pk_constraint(table)["constrained_columns"]
    return columns


def test_the_migrations_lead_to_what_the_models_say(engine: Engine, url: str, tmp_path: Path) -> None:
    make_old(engine)
    bring_up_to_date(engine)
    assert differences(engine) == []


def test_an_old_database_becomes_like_a_new_one(
    engine: Engine, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    make_old(engine)
    bring_up_to_date(engine)
    if engine.dialect.name == "sqlite":
        other = create_engine(f"sqlite:///{tmp_path}/new.db")
    else:
        new = request.getfixturevalue("postgres").create()
        other = create_engine(engine.url.set(database=new))
    bring_up_to_date(other)
    assert described(engine) == described(other)
    other.dispose()


def test_what_is_in_an_old_database_stays(engine: Engine, url: str, tmp_path: Path) -> None:
    make_old(engine)
    (device,) = Fleet(open_database(tmp_path, url)).devices()
    assert (device.id, device.name, device.store) == ("d-1", "Kiosk 1", None)


def test_a_current_database_is_opened_without_alembic(
    engine: Engine, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_up_to_date(engine)
    monkeypatch.setattr(migrating, "_alone", None)
    open_database(tmp_path, url)


def test_a_database_of_a_newer_shelfsight_is_refused_by_name(
    engine: Engine, url: str, tmp_path: Path
) -> None:
    bring_up_to_date(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9901'"))
    before = described(engine)
    with pytest.raises(StorageUnusable, match=rf"'9901', and this Shelfsight knows them up to {NEWEST}"):
        open_database(tmp_path, url)
    assert described(engine) == before


@pytest.mark.parametrize("is_old", [True, False], ids=["old", "empty"])
def test_of_processes_that_open_a_database_at_once_one_migrates_it(engine: Engine, is_old: bool) -> None:
    if is_old:
        make_old(engine)
    start = threading.Barrier(4)
    failed: list[BaseException] = []

    def open_it() -> None:
        own = create_engine(engine.url, connect_args={"timeout": 30} if "sqlite" in str(engine.url) else {})
        start.wait()
        try:
            bring_up_to_date(own)
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)
        finally:
            own.dispose()

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert differences(engine) == []


def test_a_migration_that_is_cut_leaves_the_database_as_it_was(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    make_old(engine)
    before = described(engine)
    with monkeypatch.context() as patch:
        patch.setattr("alembic.command.upgrade", _cut_after(command.upgrade, Killed))
        with pytest.raises(Killed):
            bring_up_to_date(engine)
    assert described(engine) == before
    bring_up_to_date(engine)
    assert differences(engine) == []


def _cut_after(real: Any, error: type[BaseException]) -> Any:
    def cut(*args: object) -> None:
        real(*args)
        raise error

    return cut


def test_migrations_are_numbered_without_a_gap() -> None:
    scripts = list(ScriptDirectory(str(SCRIPTS)).walk_revisions())
    assert [script.revision for script in scripts] == [
        f"{number:04}" for number in range(len(scripts), 0, -1)
    ]
    assert (scripts[0].revision, scripts[-1].revision) == (NEWEST, OLDEST)


def test_the_password_of_a_database_is_not_told(tmp_path: Path) -> None:
    address = make_url("postgresql://shop:secret@127.0.0.1:1/none").render_as_string(hide_password=False)
    with pytest.raises(StorageUnusable, match=r"shop:\*\*\*@127.0.0.1:1/none cannot be opened") as refused:
        open_database(tmp_path, address)
    assert "secret" not in str(refused.value)
