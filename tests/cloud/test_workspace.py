"""The data folder and its database."""

from pathlib import Path

import pytest
from sqlalchemy import text

from cloud.database import open_database, transaction
from cloud.workspace import Workspace
from edge.errors import BadSetting, StorageUnusable


def test_a_made_data_folder_can_be_opened_again(tmp_path: Path) -> None:
    made = Workspace.create(tmp_path / "shop")
    assert Workspace.open(tmp_path / "shop") == made
    assert made.database.is_file()
    assert made.photos.is_dir() and made.files.is_dir() and made.metadata.is_dir()


def test_making_a_data_folder_twice_keeps_what_is_there(tmp_path: Path) -> None:
    Workspace.create(tmp_path)
    (tmp_path / "photos" / "kept").write_text("kept")
    Workspace.create(tmp_path)
    assert (tmp_path / "photos" / "kept").read_text() == "kept"


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    assert Workspace.create(tmp_path).keys.stat().st_mode & 0o077 == 0


def test_a_folder_that_was_never_made_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(StorageUnusable, match="run `shelfsight-cloud init --data"):
        Workspace.open(tmp_path)


def test_a_data_folder_that_cannot_be_made_names_itself(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageUnusable, match="file"):
        Workspace.create(tmp_path / "file" / "shop")


def test_a_database_that_is_not_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shelfsight.db").write_bytes(b"this is not a database, but long enough to look at" * 40)
    with pytest.raises(StorageUnusable, match="cannot be opened"):
        open_database(tmp_path)


def test_an_unknown_database_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="'no-such-database' is no kind of database"):
        open_database(tmp_path, "no-such-database://somewhere")
    with pytest.raises(BadSetting, match="is no kind of database"):
        open_database(tmp_path, "shop.db")


def test_sqlite_writes_through_to_the_disk_and_lets_readers_read(tmp_path: Path) -> None:
    sessions = open_database(tmp_path)
    with transaction(sessions) as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA synchronous")) == 2
        assert session.scalar(text("PRAGMA foreign_keys")) == 1


def test_what_the_database_refuses_becomes_one_sentence(tmp_path: Path) -> None:
    sessions = open_database(tmp_path)
    with pytest.raises(StorageUnusable, match="the database refused"), transaction(sessions) as session:
        session.execute(text("SELECT * FROM no_such_table"))
