"""Settings of the cloud's commands: the file, then the environment, then flags."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cloud.commands import main
from cloud.database import open_database
from cloud.fleet import DeviceInfo, Fleet
from cloud.workspace import Workspace
from tests.cloud.conftest import connections_closed
from tools.servers import Postgres


def code(workspace: Workspace, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(
        main, ["--data", str(workspace.data), "fleet", "code", "--json", *arguments], env=environment
    )


def ttl(result: Result) -> float:
    assert result.exit_code == 0, result.output
    return float(json.loads(result.stdout)["ttl_hours"])


def write(workspace: Workspace, text: str) -> None:
    (workspace.data / "cloud.toml").write_text(text)


def test_a_flag_goes_before_the_environment_and_that_before_the_file(workspace: Workspace) -> None:
    assert ttl(code(workspace)) == 24
    write(workspace, "[fleet.code]\nttl = 2\n[serve]\nport = 9000\n")
    assert ttl(code(workspace)) == 2
    assert ttl(code(workspace, SHELFSIGHT_FLEET_CODE_TTL="3")) == 3
    assert ttl(code(workspace, "--ttl", "4", SHELFSIGHT_FLEET_CODE_TTL="3")) == 4


def test_the_file_of_a_commands_own_data_folder_is_read(workspace: Workspace, tmp_path: Path) -> None:
    write(workspace, "[fleet.code]\nttl = 2\n")
    asked = ["--data", str(tmp_path), "fleet", "code", "--json", "--data", str(workspace.data)]
    assert ttl(CliRunner().invoke(main, asked)) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[fleet.code]\ntt1 = 2\n", "did you mean 'ttl'?"),
        ("[fleet.code]\nport = 2\n", "'port' that does not exist"),
        ("[fleet]\ncode = 2\n", "is a value: make it a section"),
        ("ttl 2\n", "is not TOML"),
    ],
)
def test_a_setting_that_cannot_be_is_one_sentence(workspace: Workspace, text: str, said: str) -> None:
    write(workspace, text)
    refused = code(workspace)
    assert refused.exit_code == 1
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_value_of_the_wrong_kind_is_wrong_usage(workspace: Workspace) -> None:
    write(workspace, '[fleet.code]\nttl = "soon"\n')
    assert code(workspace).exit_code == 2


@pytest.fixture
def other_database(postgres: Postgres, shop_template: str) -> Iterator[str]:
    """Give the address of a database that no folder knows."""
    name = postgres.create(shop_template)
    with connections_closed():
        yield postgres.url(name)
    postgres.drop(name)


def fleet_of(data: Path, *arguments: str, **environment: str) -> Result:
    asked = ["--data", str(data), "fleet", "--json", *arguments]
    return CliRunner().invoke(main, asked, env=environment)


def test_init_keeps_the_address_of_the_database_for_every_command(
    tmp_path: Path, other_database: str
) -> None:
    data = tmp_path / "shop"
    made = CliRunner().invoke(main, ["init", "--data", str(data), "--database", other_database])
    assert made.exit_code == 0, made.output
    assert not (data / "shelfsight.db").exists()
    written = data / "cloud.toml"
    assert written.read_text() == f'database = "{other_database}"\n'
    assert written.stat().st_mode & 0o077 == 0
    Fleet(open_database(data, other_database)).new_code("ABCDEFGHIJ")
    assert fleet_of(data).exit_code == 0
    assert CliRunner().invoke(main, ["init", "--data", str(data)]).exit_code == 0  # again: all stays
    elsewhere = CliRunner().invoke(
        main, ["init", "--data", str(data), "--database", f"sqlite:///{tmp_path}/x.db"]
    )
    assert (elsewhere.exit_code, "names another database" in elsewhere.stderr) == (1, True)


def test_the_database_may_stand_in_the_environment_the_file_or_on_the_line(
    workspace: Workspace, other_database: str
) -> None:
    enrolled = Fleet(open_database(workspace.data, other_database))
    enrolled.enroll(enrolled.new_code("ABCDEFGHIJ"), DeviceInfo("Kiosk 1", "kiosk", "0.1.0"))
    assert json.loads(fleet_of(workspace.data).stdout) == []
    for found in (
        fleet_of(workspace.data, "--database", other_database),
        fleet_of(workspace.data, SHELFSIGHT_DATABASE=other_database),
    ):
        assert [device["name"] for device in json.loads(found.stdout)] == ["Kiosk 1"]
    write(workspace, f'database = "{other_database}"\n')
    assert [device["name"] for device in json.loads(fleet_of(workspace.data).stdout)] == ["Kiosk 1"]
    own = f"sqlite:///{workspace.database}"
    assert json.loads(fleet_of(workspace.data, "--database", own).stdout) == []


def test_a_folder_without_its_database_says_that_it_may_be_elsewhere(workspace: Workspace) -> None:
    workspace.database.unlink()
    refused = fleet_of(workspace.data)
    assert refused.exit_code == 1
    assert "name the one it was made with by --database" in refused.stderr


def test_an_address_that_is_none_is_one_sentence(workspace: Workspace) -> None:
    write(workspace, "database = 7\n")
    refused = fleet_of(workspace.data)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "database is 7" in refused.stderr
