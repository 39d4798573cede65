"""A device in step with its server: the real web application on a socket, the real device beside it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from werkzeug.serving import make_server

from cloud import signing
from cloud.app import create_app
from cloud.catalog import Catalog
from cloud.events import Events
from cloud.fleet import Fleet
from cloud.publishing import publish
from cloud.rollouts import Rollouts
from cloud.workspace import Workspace
from devices.commands import main
from devices.config import OUTBOX_FILE, Settings, load_settings
from devices.device import Device
from devices.doctor import check_server
from devices.enrollment import enroll, read_enrollment
from devices.sync_report import last_sync
from edge.errors import AccessDenied, BadSetting, EnrollmentRefused
from edge.events import new_event
from edge.model import Model
from edge.outbox import Outbox
from edge.products import Product
from edge.release_files import left_out
from tests.devices.conftest import SKUS, events_of, pack
from tests.edge.drawn_release import draw_pack, photograph
from tests.journeys.shop import run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workspace(tiny_model: Model, tmp_path: Path) -> Workspace:
    """Give a cloud with four drawn packs, published as release 1."""
    made = Workspace.create(tmp_path / "cloud")
    signing.create_repository(made.metadata, made.keys)
    for sku in SKUS:
        add(made, sku, photograph(pack(sku)))
    publish(made, tiny_model)
    return made


@pytest.fixture
def url(workspace: Workspace) -> Iterator[str]:
    """Give the address of that cloud's server."""
    server = make_server("127.0.0.1", 0, create_app(workspace), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "device", name="Kiosk 3")


@pytest.fixture
def device(settings: Settings, url: str, workspace: Workspace) -> Device:
    """Give a device that has just been enrolled."""
    enroll(settings, url, new_code(workspace))
    return Device(settings)


def add(workspace: Workspace, sku: str, photo: bytes) -> None:
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    catalog.put_product(Product(sku, sku.title()))
    catalog.add_photo(sku, photo, "packshot", "reference", f"{sku}.jpg")


def new_code(workspace: Workspace) -> str:
    return Fleet(workspace.sessions()).new_code(signing.fingerprint(workspace.metadata))


def kinds_at(workspace: Workspace) -> list[str]:
    return [event.kind for event in reversed(Events(workspace.sessions()).newest())]


def test_a_first_sync_brings_the_release_and_delivers_the_events(
    device: Device, workspace: Workspace
) -> None:
    device.record("searched", {"verdict": "unknown"})
    told: list[tuple[int, int]] = []
    report = device.sync(progress=lambda done, total: told.append((done, total)))
    assert (report.offered, report.installed, report.current, report.error) == (1, 1, 1, None)
    assert (report.delivered, report.waiting, report.next_poll_s) == (2, 0, 60.0)
    assert report.bytes_received > sum(
        path.stat().st_size for path in (device.installation.current()).glob("?" * 64)
    )
    assert told[-1][0] == told[-1][1]
    assert report.clock_lead_s is not None
    assert abs(report.clock_lead_s) < 30
    assert kinds_at(workspace) == ["searched", "installed"]
    assert device.see(photograph(pack(SKUS[2]), seed=8)).candidates[0].product.sku == SKUS[2]
    assert last_sync(device.settings.data) == report


def test_a_second_sync_costs_next_to_nothing(device: Device) -> None:
    device.sync()
    report = device.sync()
    assert (report.installed, report.delivered, report.files) == (None, 0, 0)
    assert report.bytes_received < 1000


def test_a_device_that_is_open_answers_from_the_new_release_at_once(
    device: Device, workspace: Workspace, tiny_model: Model
) -> None:
    device.sync()
    new = photograph(draw_pack(9))
    assert "new tea" not in [found.product.sku for found in device.see(new).candidates]
    add(workspace, "new tea", new)
    publish(workspace, tiny_model)
    assert device.sync().installed == 2
    answer = device.see(new)
    assert (answer.release, answer.candidates[0].product.sku) == (2, "new tea")


def test_a_refused_release_is_told_once_and_the_events_still_go(
    device: Device, workspace: Workspace, tiny_model: Model
) -> None:
    device.sync()
    known = set(workspace.files.iterdir())
    add(workspace, "new tea", photograph(draw_pack(9)))
    publish(workspace, tiny_model)
    for path in set(workspace.files.iterdir()) - known:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    for _ in range(3):
        device.record("searched", {"verdict": "unknown"})
        report = device.sync()
        assert (report.error, report.current, report.delivered >= 1) == ("hash_mismatch", 1, True)
    assert kinds_at(workspace) == ["installed", "searched", "failed", "searched", "searched"]
    assert device.see(photograph(pack(SKUS[0]))).release == 1


def test_a_status_keeps_the_last_refusal_until_a_later_release_is_installed(
    device: Device, workspace: Workspace, tiny_model: Model
) -> None:
    data = device.settings.data
    assert command(data, "sync", "--once") == 0
    assert status(data)["last_refusal"] is None
    known = set(workspace.files.iterdir())
    add(workspace, "new tea", photograph(draw_pack(9)))
    publish(workspace, tiny_model)
    sound = {path: path.read_bytes() for path in set(workspace.files.iterdir()) - known}
    for path, content in sound.items():
        path.write_bytes(content[:-1] + b"?")
    assert command(data, "sync", "--once") == 1
    refused = status(data)["last_refusal"]
    assert (refused["release"], refused["error"]) == (2, "hash_mismatch")

    enrolled = (data / "device.json").read_text()
    (data / "device.json").write_text(json.dumps({**json.loads(enrolled), "url": "http://127.0.0.1:9"}))
    assert command(data, "sync", "--once") == 1
    assert (status(data)["last_error"], status(data)["last_refusal"]) == ("server_unreachable", refused)
    (data / "device.json").write_text(enrolled)
    assert command(data, "sync", "--once") == 1  # refused as before: it keeps its time
    assert status(data)["last_refusal"] == refused
    Rollouts(workspace.sessions()).abort()
    assert command(data, "sync", "--once") == 0  # nothing new
    assert (status(data)["last_error"], status(data)["last_refusal"]) == (None, refused)
    assert (
        f"last refusal  hash_mismatch of release 2, {refused['at']}: "
        in run("shelfsight", ["status", "--data", data]).out
    )

    for path, content in sound.items():
        path.write_bytes(content)
    add(workspace, "newer tea", photograph(draw_pack(10)))
    publish(workspace, tiny_model)
    assert command(data, "sync", "--once") == 0
    assert (status(data)["release"], status(data)["last_refusal"]) == (3, None)


def test_a_release_that_took_the_device_down_three_times_stays_refused_for_that(
    device: Device, workspace: Workspace, tiny_model: Model
) -> None:
    data = device.settings.data
    device.sync()
    add(workspace, "new tea", photograph(draw_pack(9)))
    publish(workspace, tiny_model)
    (data / "tried").write_text('{"release": 2, "count": 3}')
    assert command(data, "sync", "--once") == 1
    told = status(data)
    assert (told["release"], told["set_aside"], told["last_error"]) == (1, [2], "trial_failed")
    assert (told["last_refusal"]["release"], told["last_refusal"]["error"]) == (2, "trial_crashed")
    assert [kind for kind in kinds_at(workspace) if kind == "rolled_back"] == ["rolled_back"]


def command(data: Path, *arguments: str) -> int:
    return run("shelfsight", [*arguments, "--data", data]).code


def status(data: Path) -> Any:
    return run("shelfsight", ["status", "--json", "--data", data]).json()


def test_an_event_that_the_server_never_takes_does_not_block_the_others(
    device: Device, workspace: Workspace
) -> None:
    device.sync()
    with Outbox(device.settings.data / OUTBOX_FILE) as outbox:
        outbox.add(replace(new_event("d", "searched", {}), at="2026-11-23T99:99:99.000Z"))
    device.record("confirmed", {"sku": SKUS[0]})
    assert device.sync().waiting == 0
    assert kinds_at(workspace)[-1] == "confirmed"


def test_a_device_fetches_the_file_of_an_accelerator_when_its_settings_name_one(
    device: Device, workspace: Workspace, several_model: Model
) -> None:
    publish(workspace, several_model)  # release 2, with a file for every target
    first = device.sync()
    assert (first.installed, first.error) == (2, None)
    spared = left_out(device.installation.current())
    assert len(spared) == 2
    assert device.sync().files == 0

    settings = replace(device.settings, delegates=("edgetpu", "xnnpack"), edgetpu_library="none.so.1")
    with_coral = Device(settings)
    report = with_coral.sync()
    assert (report.installed, report.files, report.error, report.current) == (None, 1, None, 2)
    (brought,) = spared - left_out(device.installation.current())
    assert brought == several_model.variant("edgetpu").sha256
    # Nothing is plugged in here: it answers all the same, and says by what.
    assert with_coral.see(photograph(pack(SKUS[2]), seed=8)).candidates[0].product.sku == SKUS[2]
    assert "fell_back" in [event.kind for event in events_of(settings.data)]


def test_a_code_works_once_and_a_device_is_enrolled_once(
    settings: Settings, url: str, workspace: Workspace, tmp_path: Path
) -> None:
    code = new_code(workspace)
    first = enroll(settings, url, f" {code.lower()} ")
    assert read_enrollment(settings.data) == first
    assert (settings.data / "device.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(BadSetting, match="--replace"):
        enroll(settings, url, new_code(workspace))
    with pytest.raises(EnrollmentRefused, match="wrong, used or expired"):
        enroll(replace(settings, data=tmp_path / "other"), url, code)
    assert enroll(settings, url, new_code(workspace), replace=True).device_id != first.device_id


def test_a_device_whose_token_is_not_known_is_told_to_enroll_again(device: Device) -> None:
    path = device.settings.data / "device.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "token": "stolen"}))
    with pytest.raises(AccessDenied, match="enroll"):
        device.sync()
    report = last_sync(device.settings.data)
    assert report is not None
    assert report.error == "access_denied"


def test_the_doctor_finds_the_server_well(device: Device) -> None:
    assert check_server(device.settings).level == "ok"


def test_the_sync_loop_ends_cleanly_on_sigterm(device: Device) -> None:
    script = "from devices.commands import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", script, "sync", "--json", "--data", str(device.settings.data)],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["installed"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    assert events_of(device.settings.data) == []


def test_a_person_enrolls_a_device_by_command_and_its_name_stays(
    url: str, workspace: Workspace, tmp_path: Path
) -> None:
    data = tmp_path / "shop"
    options = ["--name", "Dairy", "--profile", "kiosk-x86", "--json", "--data", str(data)]
    said = CliRunner().invoke(main, ["enroll", url, new_code(workspace), *options])
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["url"] == url
    synced = CliRunner().invoke(main, ["sync", "--once", "--data", str(data)])
    assert synced.stdout.startswith("release 1 installed ("), synced.output
    known = Fleet(workspace.sessions()).devices()
    assert [(device.name, device.release) for device in known] == [("Dairy", 1)]
    assert kinds_at(workspace) == ["enrolled", "installed"]
    settings = load_settings(data, environment={})
    assert (settings.name, settings.look_interval_s) == ("Dairy", 0.7)
