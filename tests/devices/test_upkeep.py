"""The scrub and the repair of releases at rest, as a visit to the server does them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from devices import upkeep
from devices.device import Device
from devices.upkeep import look_after
from edge.release_files import is_whole
from edge.transport import Transport
from edge.updater import Updater
from tests.devices.conftest import events_of
from tests.edge.loopback_server import LoopbackServer, loopback_server


@pytest.fixture
def server(data: Path) -> Iterator[LoopbackServer]:
    """Give a server that has the files of the release in use."""
    with loopback_server() as server:
        for path in (data / "releases" / "1").iterdir():
            server.files[f"/v1/files/{path.name}"] = path.read_bytes()
        yield server


@pytest.fixture
def updater(device: Device, server: LoopbackServer) -> Iterator[Updater]:
    with Transport(server.url, timeout_s=2) as transport:
        yield Updater(device.installation, transport)


def rot(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(bytes(data))


def test_a_file_that_rotted_is_found_fetched_again_and_told(device: Device, updater: Updater) -> None:
    folder = device.installation.current()
    network = device.matcher().variant.sha256
    edition = device.installation.edition()
    rot(folder / network)

    look_after(device, updater, "d-1")

    assert is_whole(folder)
    assert device.installation.edition() != edition  # so that it is mapped anew
    (event,) = [each for each in events_of(device.settings.data) if each.kind == "repaired"]
    assert event.data == {"release": 1, "files": [network]}


def test_a_round_begins_when_it_is_due_and_not_before(
    device: Device, updater: Updater, server: LoopbackServer
) -> None:
    look_after(device, updater, "d-1")
    (device.installation.current() / "index.json").write_bytes(b"{}")
    look_after(device, updater, "d-1")
    assert not is_whole(device.installation.current())

    note = device.settings.data / "scrubbed"
    for written in (
        (datetime.now(UTC) - timedelta(hours=30)).isoformat(),
        (datetime.now(UTC) + timedelta(days=400)).isoformat(),  # the clock was wrong then, or is now
        "rotten itself",
    ):
        note.write_text(written)
        look_after(device, updater, "d-1")
        assert is_whole(device.installation.current())
        (device.installation.current() / "index.json").write_bytes(b"{}")
    assert server.asked == []  # an index is built here


def test_rounds_of_two_devices_drift_apart(device: Device) -> None:
    note = device.settings.data / "scrubbed"
    note.write_text((datetime.now(UTC) - timedelta(hours=24)).isoformat())
    assert len({upkeep._is_due(device, f"d-{number}") for number in range(50)}) == 2


def test_a_large_release_is_read_over_several_visits(
    device: Device, updater: Updater, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "BUDGET", 1000)
    note = device.settings.data / "scrubbed"
    visits = 0
    while not note.exists():
        look_after(device, updater, "d-1")
        visits += 1
    assert visits > 3


def test_a_server_that_is_away_keeps_the_visit_from_nothing_and_the_rot_is_remembered(
    device: Device, updater: Updater, server: LoopbackServer
) -> None:
    folder = device.installation.current()
    name = device.installation.rotten() or next(
        path.name for path in folder.iterdir() if len(path.name) == 64
    )
    rot(folder / str(name))
    lost = server.files.pop(f"/v1/files/{name}")
    look_after(device, updater, "d-1")
    assert not is_whole(folder)

    server.files[f"/v1/files/{name}"] = lost
    look_after(device, updater, "d-1")  # no new round is due
    assert is_whole(folder)


def test_a_program_that_dies_before_it_answers_is_not_started_a_fourth_time_with_its_release(
    device: Device, release_folder: Path
) -> None:
    from tests.devices.conftest import install_release

    install_release(device.settings.data, release_folder, version=2)
    for _ in range(3):
        Device(device.settings).recover(answers=True)
    assert device.installation.current_version() == 2

    started = Device(device.settings)
    started.recover(answers=True)
    assert started.installation.current_version() == 1
    (event,) = [each for each in events_of(device.settings.data) if each.kind == "rolled_back"]
    assert (event.data["release"], event.data["to"]) == (2, 1)

    started.matcher()
    assert not (device.settings.data / "starts").exists()
    for _ in range(5):  # those that only sync do not count
        Device(replace(device.settings)).recover()
    assert started.installation.current_version() == 1
