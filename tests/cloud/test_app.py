"""The server as a whole: what its process loads, and the commands around it."""

import json
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cloud import signing, ticking
from cloud.commands import main
from cloud.fleet import DeviceInfo, Fleet
from cloud.ticking import Ticker
from cloud.workspace import Workspace
from edge.errors import StorageUnusable
from edge.model import Model
from tests.cloud.conftest import ROOT, database_flag, serving


def run(workspace: Workspace, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--data", str(workspace.data), *database_flag(workspace), *arguments])


def refuse_to_serve(workspace: Workspace, *arguments: str) -> str:
    """Run `serve` where it cannot listen; give the one line that it says."""
    command = [sys.executable, "-c", "from cloud.commands import main; main()", "serve", *arguments]
    finished = subprocess.run(
        [*command, "--data", str(workspace.data), *database_flag(workspace)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr.count("\n") == 1
    return finished.stderr


def test_a_running_server_has_loaded_no_model_no_index_and_no_tensorflow(workspace: Workspace) -> None:
    script = """
import sys
from pathlib import Path
from cloud.app import create_app
from cloud.workspace import Workspace
client = create_app(Workspace.open(Path(sys.argv[1]), *sys.argv[2:])).test_client()
for path in ("/", "/healthz", "/metrics", "/v1/catalog", "/v1/releases", "/v1/rollouts", "/v1/fleet"):
    assert client.get(path).status_code == 200, path
heavy = {"tensorflow", "keras", "annoy", "ai_edge_litert", "tflite_runtime"}
doors = {"edge.embedder", "edge.matcher", "edge.index", "converter"}
print(sorted((heavy | doors) & set(sys.modules)))
"""
    finished = subprocess.run(
        [sys.executable, "-c", script, str(workspace.data), *database_flag(workspace)[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout == "[]\n"


def test_a_port_that_is_taken_is_one_clear_sentence(workspace: Workspace) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refuse_to_serve(workspace, "--port", str(port))
    assert said.startswith(f"error: the server cannot listen on 127.0.0.1 port {port}")
    assert "--port" in said


def test_an_address_of_another_machine_is_one_clear_sentence(workspace: Workspace) -> None:
    assert "cannot listen on 192.0.2.1" in refuse_to_serve(workspace, "--host", "192.0.2.1", "--port", "0")


def test_a_folder_that_was_never_initialized_is_named(tmp_path: Path) -> None:
    for arguments in (
        ["serve"],
        ["publish"],
        ["tick"],
        ["keys"],
        ["fleet"],
        ["fleet", "code"],
        ["rollout", "status"],
    ):
        result = CliRunner().invoke(main, [*arguments, "--data", str(tmp_path / "nothing")])
        assert result.exit_code == 1, arguments
        assert "shelfsight-cloud init" in result.stderr


def test_the_server_signs_a_stale_timestamp_when_it_starts(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(signing.LIFETIMES, "timestamp", timedelta(seconds=-60))
        signing.tick(workspace.metadata, workspace.keys)
    assert signing.timestamp_expires(workspace.metadata) < datetime.now(UTC)
    ticker = Ticker(workspace.metadata, workspace.keys)
    ticker.start()
    ticker.stop()
    assert signing.timestamp_expires(workspace.metadata) > datetime.now(UTC) + timedelta(hours=23)
    assert not ticker.tick_if_due()


def test_a_server_whose_keys_are_lost_goes_on_and_says_so(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ticking, "_DUE", timedelta(days=2))
    (workspace.keys / "snapshot.pem").unlink()
    ticker = Ticker(workspace.metadata, workspace.keys)
    with pytest.raises(StorageUnusable, match=r"snapshot\.pem"):
        ticker.tick_if_due()
    ticker.start()
    ticker.stop()
    assert "could not be signed again" in caplog.text


def test_ctrl_c_stops_the_server_too(workspace: Workspace) -> None:
    with serving(workspace, stop_by=signal.SIGINT):
        pass


@pytest.mark.usefixtures("catalog")
def test_publish_reports_what_it_made(workspace: Workspace, tiny_model: Model) -> None:
    first = run(workspace, "publish", "--model", str(tiny_model.folder))
    assert first.exit_code == 0, first.output
    assert first.stdout.startswith("Release 1: 6 products, 18 vectors, model tiny-int8, ")
    assert "A new device that answers on its CPU fetches" in first.stdout
    again = run(workspace, "publish", "--model", str(tiny_model.folder))
    assert (again.exit_code, again.stdout) == (0, "Nothing changed since release 1: no new release.\n")
    record = json.loads(run(workspace, "publish", "--model", str(tiny_model.folder), "--json").stdout)
    assert (record["version"], record["changed"], record["new_bytes"]) == (1, False, 0)


@pytest.mark.usefixtures("catalog")
def test_publish_tells_of_every_file_what_was_measured_and_what_it_left_out(
    workspace: Workspace, several_model: Model
) -> None:
    said = run(workspace, "publish", "--model", str(several_model.folder))
    assert said.exit_code == 0, said.output
    lines = said.stdout.splitlines()[1:4]
    assert lines == [
        "  int8 (cpu): 27,720 bytes, recall -0.42 points, 5.4% of the decisions flipped",
        "  edgetpu (edgetpu): 27,760 bytes, recall -0.42 points, 5.4% of the decisions flipped",
        "  float16 (gpu): 46,016 bytes, recall -0.21 points, 6.9% of the decisions flipped",
    ]
    assert said.stderr == ""  # nobody asked for the file that is not compiled
    asked = ("publish", "--model", str(several_model.folder), "--json")
    record = json.loads(run(workspace, *asked).stdout)
    assert [each["name"] for each in record["variants"]] == ["int8", "edgetpu", "float16"]
    variant = several_model.variant("float16")
    assert record["variants"][2] == {
        "name": "float16",
        "target": "gpu",
        "precision": "float16",
        "sha256": variant.sha256,
        "size": variant.size,
        "recall_change": -0.21,
        "flipped": 0.0688,
    }
    assert record["left_out"] == []
    named = run(workspace, "publish", "--model", str(several_model.folder), "--target", "edgetpu")
    assert named.stderr.startswith("left out file edgetpu-int8 of target edgetpu: it is not compiled")
    one = json.loads(run(workspace, *asked, "--target", "cpu").stdout)
    assert ([each["name"] for each in one["variants"]], one["left_out"]) == (["int8"], [])
    two = json.loads(run(workspace, *asked, "--target", "gpu", "--target", "float32").stdout)
    assert [each["target"] for each in two["variants"]] == ["cpu", "float32", "gpu"]


@pytest.mark.usefixtures("catalog")
def test_publish_refuses_what_lost_more_than_the_retailer_tolerates(
    workspace: Workspace, several_model: Model
) -> None:
    asked = ("publish", "--model", str(several_model.folder), "--tolerance")
    refused = run(workspace, *asked, "0.3")
    assert refused.exit_code == 1
    assert "file int8 of model tiny-several loses 0.42 points of recall" in refused.stderr
    assert "worst: aisle" in refused.stderr
    assert run(workspace, *asked, "-1").exit_code == 2
    assert run(workspace, "publish", "--model", str(several_model.folder), "--target", "tpu").exit_code == 2
    assert run(workspace, *asked, "0.42").exit_code == 0


@pytest.mark.usefixtures("catalog")
def test_the_targets_may_stand_in_the_settings(workspace: Workspace, several_model: Model) -> None:
    (workspace.data / "cloud.toml").write_text('[publish]\ntarget = ["gpu"]\ntolerance = 0.5\n')
    record = json.loads(run(workspace, "publish", "--model", str(several_model.folder), "--json").stdout)
    assert [each["target"] for each in record["variants"]] == ["cpu", "gpu"]


@pytest.mark.usefixtures("catalog")
def test_publish_without_the_offline_keys_says_where_they_are_missing(
    workspace: Workspace, tiny_model: Model, tmp_path: Path
) -> None:
    (tmp_path / "stick").mkdir()
    for name in ("root-1.pem", "root-2.pem", "root-3.pem", "targets.pem"):
        (workspace.keys / name).rename(tmp_path / "stick" / name)
    refused = run(workspace, "publish", "--model", str(tiny_model.folder))
    assert refused.exit_code == 1
    assert f"{workspace.keys / 'targets.pem'} is not there" in refused.stderr
    assert run(workspace, "tick").exit_code == 0
    stick = str(tmp_path / "stick")
    assert run(workspace, "publish", "--model", str(tiny_model.folder), "--keys", stick).exit_code == 0
    assert "private key not here" in run(workspace, "keys").stdout


def test_a_model_folder_without_a_model_is_named(workspace: Workspace, tmp_path: Path) -> None:
    result = run(workspace, "publish", "--model", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert str(tmp_path) in result.stderr


@pytest.mark.usefixtures("catalog")
def test_a_rollout_is_widened_held_and_stopped(workspace: Workspace, tiny_model: Model) -> None:
    assert "Nothing is offered yet" in run(workspace, "rollout", "status").stdout
    run(workspace, "publish", "--model", str(tiny_model.folder), "--percent", "10")
    line, *why = run(workspace, "rollout", "status").stdout.splitlines()
    assert line == "release 1 on stable: active, 10 % of the devices, on 0 devices"
    assert "a person decides about the share" in why[0]
    assert why[1].endswith("start by a person: to 10 %")
    assert "50 %" in run(workspace, "rollout", "start", "1", "--percent", "50").stdout
    assert "paused" in run(workspace, "rollout", "pause").stdout
    assert "active" in run(workspace, "rollout", "resume", "1").stdout
    assert "aborted" in run(workspace, "rollout", "abort").stdout
    refused = run(workspace, "rollout", "resume")
    assert (refused.exit_code, "for good" in refused.stderr) == (1, True)
    (record,) = json.loads(run(workspace, "rollout", "status", "--json").stdout)
    assert (record["version"], record["state"], record["percent"]) == (1, "aborted", 50)
    assert run(workspace, "rollout", "start", "1", "--percent", "101").exit_code == 2


def test_the_fleet_is_listed_and_gives_codes(workspace: Workspace) -> None:
    assert "fleet code" in run(workspace, "fleet").stdout
    code = run(workspace, "fleet", "code").stdout.strip()
    assert code.endswith(signing.fingerprint(workspace.metadata))
    assert json.loads(run(workspace, "fleet", "code", "--ttl", "1", "--json").stdout)["ttl_hours"] == 1
    fleet = Fleet(workspace.sessions())
    device, _ = fleet.enroll(code, DeviceInfo("Kiosk 1", "kiosk", "0.1.0"))
    fleet.seen(device, 3, {"free_mb": 9})
    assert f"{device}  Kiosk 1 (kiosk)  release 3" in run(workspace, "fleet").stdout
    (record,) = json.loads(run(workspace, "fleet", "--json").stdout)
    assert (record["id"], record["release"], record["status"]) == (device, 3, {"free_mb": 9})
    assert run(workspace, "fleet", "code", "--ttl", "0").exit_code == 2
    assert run(workspace, "fleet", "remove", device).exit_code == 0
    assert json.loads(run(workspace, "fleet", "--json").stdout) == []


def test_keys_are_listed_and_renewed(workspace: Workspace) -> None:
    record = json.loads(run(workspace, "keys", "--json").stdout)
    assert record["fingerprint"] == signing.fingerprint(workspace.metadata)
    assert {role["role"]: role["version"] for role in record["roles"]}["root"] == 1
    renewed = json.loads(run(workspace, "keys", "--renew", "--json").stdout)
    assert {role["role"]: role["version"] for role in renewed["roles"]}["root"] == 2


def test_tick_warns_before_the_offline_signatures_run_out(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(signing.LIFETIMES, "targets", timedelta(days=20))
    signing.renew(workspace.metadata, workspace.keys)
    result = run(workspace, "tick")
    assert result.exit_code == 0
    assert "warning: targets runs out on" in result.stderr
    assert "keys --renew" in result.stderr
    assert "timestamp_expires" in json.loads(run(workspace, "tick", "--json").stdout)


@pytest.mark.parametrize("command", ["publish", "rollout", "fleet", "serve", "tick", "keys"])
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert "--data" in result.stdout or "Commands:" in result.stdout
