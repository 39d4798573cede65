"""Settings of the cloud's commands: the file, then the environment, then flags."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cloud.commands import main
from cloud.workspace import Workspace


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
