"""Keys change in the cloud while a device sleeps: a real repository, a real server, a real device's trust."""

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from werkzeug.serving import make_server

from cloud import signing
from cloud.app import create_app
from cloud.commands import main
from cloud.workspace import Workspace
from edge.errors import BadSignature, Freeze, Rollback
from edge.transport import Transport
from edge.trust import Trust, manifest_name, trust_root

STORES = 40


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: no test here pulls a plug."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.create(tmp_path / "cloud")
    signing.create_repository(made.metadata, made.keys)
    return made


@pytest.fixture
def transport(workspace: Workspace) -> Iterator[Transport]:
    server = make_server("127.0.0.1", 0, create_app(workspace), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with Transport(f"http://127.0.0.1:{server.server_port}") as transport:
        yield transport
    server.shutdown()
    thread.join()
    server.server_close()


def publish(workspace: Workspace, version: int) -> None:
    files = {manifest_name(version, f"store-{number:03}"): b"{}" * number for number in range(1, STORES + 1)}
    signing.add_targets(
        workspace.metadata,
        workspace.keys,
        {manifest_name(version): b"manifest", **files},
        keep=lambda name: name.startswith(f"releases/{version - 1}"),
    )


def trusted(workspace: Workspace, folder: Path, transport: Transport) -> Trust:
    trust_root(folder, signing.root_bytes(workspace.metadata), signing.fingerprint(workspace.metadata))
    return Trust(folder, transport)


def test_a_device_that_slept_while_every_key_was_changed_takes_the_next_release(
    workspace: Workspace, transport: Transport, tmp_path: Path
) -> None:
    publish(workspace, 1)
    trust = trusted(workspace, tmp_path / "device", transport)
    assert trust.manifest_of(1, "store-007").length == 14
    frozen = (workspace.metadata / "timestamp.json").read_bytes()
    for role in signing.ROLES:
        words = ["keys", "rotate", role, "--data", str(workspace.data)]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
    publish(workspace, 2)

    assert trust.manifest_of(2, "store-007").length == 14
    assert (tmp_path / "device" / "trust" / "root_history" / "5.root.json").is_file()
    fresh = (workspace.metadata / "timestamp.json").read_bytes()
    (workspace.metadata / "timestamp.json").write_bytes(frozen)
    with pytest.raises(BadSignature, match="did not sign"):  # by a key that was replaced
        trust.manifest_of(1)
    (workspace.metadata / "timestamp.json").write_bytes(fresh)
    assert trust.manifest_of(2).length == len("manifest")


def test_a_server_put_back_from_a_backup_is_told_from_the_newest(
    workspace: Workspace, transport: Transport, tmp_path: Path
) -> None:
    publish(workspace, 1)
    backup = {path: path.read_bytes() for path in workspace.metadata.glob("*.json")}
    publish(workspace, 2)
    trust = trusted(workspace, tmp_path / "device", transport)
    trust.manifest_of(2)
    for path in workspace.metadata.glob("*.json"):
        path.unlink()
    for path, data in backup.items():
        path.write_bytes(data)
    with pytest.raises(Rollback, match="restore the newest metadata"):
        trust.manifest_of(1)


def test_the_metadata_of_one_more_release_takes_few_bytes_of_the_wire(
    workspace: Workspace, transport: Transport, tmp_path: Path
) -> None:
    signing.add_targets(workspace.metadata, workspace.keys, {manifest_name(1): b"one"})
    trust = trusted(workspace, tmp_path / "device", transport)
    trust.manifest_of(1)
    signing.add_targets(workspace.metadata, workspace.keys, {manifest_name(2): b"two"})
    before = transport.bytes_received
    trust.manifest_of(2)
    assert transport.bytes_received - before < 2500


def test_a_bin_that_is_proven_to_have_run_out_is_told_though_the_clock_says_otherwise(
    workspace: Workspace, transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role in ("snapshot", "timestamp"):
        monkeypatch.setitem(signing.LIFETIMES, role, timedelta(days=300))
    with monkeypatch.context() as patch:
        patch.setitem(signing.LIFETIMES, "targets", timedelta(days=200))
        publish(workspace, 1)
    signing.add_targets(workspace.metadata, workspace.keys, {manifest_name(2): b"two"})
    trust = trusted(workspace, tmp_path / "device", transport)
    later = datetime.now(UTC) + timedelta(days=250)
    assert trust.manifest_of(2, not_before=later).length == 3
    with pytest.raises(Freeze, match=r"the bin-[0-9a-f]{2} signatures .* ran out at"):
        trust.manifest_of(1, "store-007", not_before=later)
