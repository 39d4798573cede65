"""A store behind a relay: the real server, the real relay and real devices, each a process."""

import hashlib
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devices.config import Settings
from devices.device import Device
from devices.enrollment import read_enrollment
from edge.errors import ServerBusy, TryLater
from edge.transport import Transport
from tests.journeys.shop import COMMANDS, Shop, run
from tests.journeys.wire import Wire, wire_to

DEVICES = 3


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    made = Shop(tmp_path_factory.mktemp("shop"))
    made.open([1, 2, 3])
    return made


@pytest.fixture(scope="module")
def server(shop: Shop) -> Iterator[str]:
    with shop.server() as url:
        yield url


@pytest.fixture
def wire(server: str) -> Iterator[Wire]:
    """Give the wire between the relay and the running server."""
    with wire_to(server) as wire:
        yield wire


class Relay:
    """A running relay."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self.process = process
        self.url = url

    def health(self) -> dict[str, object]:
        with urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as answer:
            found: dict[str, object] = json.load(answer)
        return found


@contextmanager
def relay_of(folder: Path, server: str, *options: str) -> Iterator[Relay]:
    command: list[str] = [
        str(COMMANDS / "shelfsight"),
        "relay",
        server,
        "--port",
        "0",
        "--data",
        str(folder / "relay"),
        *options,
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield Relay(process, line.split(" at ")[1].split(" ")[0])
        finally:
            process.send_signal(signal.SIGTERM)
            _, complaints = process.communicate(timeout=20)
            assert "Traceback" not in complaints, complaints


def big_file(shop: Shop, size: int) -> str:
    """Put a file among those of the releases; give its name."""
    content = os.urandom(size)
    name = hashlib.sha256(content).hexdigest()
    (shop.cloud_data / "repository" / "files" / name).write_bytes(content)
    return name


def wait_for(happens: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_a_store_costs_one_download_and_goes_on_while_the_server_is_away(
    shop: Shop, wire: Wire, tmp_path: Path
) -> None:
    with relay_of(tmp_path, wire.url) as relay:
        devices = [Device(Settings(data=shop.enroll_another(relay.url, number))) for number in range(DEVICES)]
        processes = [
            subprocess.Popen(
                [COMMANDS / "shelfsight", "sync", "--once", "--json", "--data", device.settings.data],
                stdout=subprocess.PIPE,
                text=True,
            )
            for device in devices
        ]
        reports = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
        assert [(report["installed"], report["error"]) for report in reports] == [(1, None)] * DEVICES
        files = list((tmp_path / "relay" / "relay" / "files").iterdir())
        kept = sum(path.stat().st_size for path in files)
        assert relay.health()["downloaded"] == kept
        brought = sum(report["bytes_received"] for report in reports)
        assert brought > DEVICES * kept
        assert wire.carried_down < kept + 60_000  # and metadata, answers and heads

        spoiled = files[0]
        spoiled.write_bytes(spoiled.read_bytes()[:-1] + b"?")
        with Transport(relay.url) as transport:
            part = tmp_path / "part"
            size = spoiled.stat().st_size
            transport.download(f"/v1/files/{spoiled.name}", part, size=size)
            assert hashlib.sha256(part.read_bytes()).hexdigest() == spoiled.name

            wire.is_cut = True
            part.write_bytes(part.read_bytes()[: size // 2])
            transport.download(f"/v1/files/{spoiled.name}", part, size=size)
            assert hashlib.sha256(part.read_bytes()).hexdigest() == spoiled.name
            assert transport.get_bytes("/v1/metadata/timestamp.json", max_bytes=100_000)
            with pytest.raises(ServerBusy) as refused:
                transport.download("/v1/files/" + "0" * 64, tmp_path / "none", size=1)
            assert refused.value.retry_after
        with pytest.raises(ServerBusy):
            devices[0].sync()
        wire.is_cut = False
        devices[0].record("confirmed", {"sku": "pack-1"})
        assert devices[0].sync().delivered == 1


def test_a_relay_that_is_killed_in_the_middle_goes_on_where_it_was_and_ten_wait_for_one_download(
    shop: Shop, wire: Wire, tmp_path: Path
) -> None:
    size = 3_000_000
    name = big_file(shop, size)
    part = tmp_path / "relay" / "relay" / "parts" / name
    wire.bytes_per_s = 1_500_000

    def fetch(url: str, to: Path) -> None:
        with Transport(url) as transport:
            for _ in range(20):
                try:
                    transport.download(f"/v1/files/{name}", to, size=size)
                except ServerBusy:
                    time.sleep(0.1)
                except TryLater:
                    return  # the relay was killed
                else:
                    return

    with relay_of(tmp_path, wire.url) as relay:
        first = threading.Thread(target=fetch, args=(relay.url, tmp_path / "cut"))
        first.start()
        wait_for(lambda: part.is_file() and part.stat().st_size > size // 3)
        relay.process.kill()
        first.join()
    held, before = part.stat().st_size, wire.carried_down
    assert 0 < held < size
    wire.bytes_per_s = None
    with relay_of(tmp_path, wire.url) as relay:
        targets = [tmp_path / f"whole-{number}" for number in range(10)]
        threads = [threading.Thread(target=fetch, args=(relay.url, target)) for target in targets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {hashlib.sha256(target.read_bytes()).hexdigest() for target in targets} == {name}
        assert relay.health()["downloaded"] == size - held
    # Some of it may still be on its way to the one that was killed; a second download would be megabytes.
    assert wire.carried_down - before < size - held + 200_000


def test_a_relay_keeps_no_more_than_it_may(shop: Shop, wire: Wire, tmp_path: Path) -> None:
    names = [big_file(shop, 400_000) for _ in range(4)]
    kept = tmp_path / "relay" / "relay" / "files"
    with relay_of(tmp_path, wire.url, "--space", "1") as relay, Transport(relay.url) as transport:
        for name in names[:2]:
            transport.download(f"/v1/files/{name}", tmp_path / name, size=400_000)
        for number, name in enumerate(names[:2]):  # as if it were long ago
            at = time.time() - 1000 + number
            os.utime(kept / name, (at, at))
        transport.download(f"/v1/files/{names[2]}", tmp_path / names[2], size=400_000)
        assert {path.name for path in kept.iterdir()} == set(names[1:3])


def test_a_manifest_that_is_not_everybodys_is_passed_on_to_its_devices_and_never_kept(
    tmp_path: Path,
) -> None:
    shop = Shop(tmp_path / "shop")
    shop.open([1, 2])
    before = set((shop.cloud_data / "repository" / "files").iterdir())
    shop.add(3)
    with shop.server() as url, relay_of(tmp_path, url) as relay:
        assert shop.publish()["version"] == 2
        assert shop.cloud("rollout", "start", 2, "--percent", 50).code == 0
        (manifest,) = (
            path.name
            for path in set((shop.cloud_data / "repository" / "files").iterdir()) - before
            if path.read_bytes().startswith(b"{") and b'"rollback_floor"' in path.read_bytes()
        )
        got: dict[bool, set[bool]] = {True: set(), False: set()}
        for number in range(60):  # whoever is in the half of them is decided by their ids
            if got[True] and got[False]:
                break
            enrollment = read_enrollment(shop.enroll_another(relay.url, number))
            with Transport(relay.url, token=enrollment.token) as transport:
                said = transport.post_json(
                    f"/v1/devices/{enrollment.device_id}/heartbeat", {"release": None, "status": {}}
                )
                found = transport.get_bytes(f"/v1/files/{manifest}", max_bytes=1_000_000)
            got[said["offered_release"] == 2].add(found is not None)
            if found is not None:
                assert hashlib.sha256(found).hexdigest() == manifest
        assert got == {True: {True}, False: {False}}
        assert not (tmp_path / "relay" / "relay" / "files" / manifest).exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "own network"),
        (["--host", "8.8.8.8"], "own network"),
        ([], "not enrolled"),
    ],
)
def test_a_relay_that_cannot_be_one_says_so(options: list[str], words: str, tmp_path: Path) -> None:
    said = run("shelfsight", ["relay", *options, "--port", "0", "--data", tmp_path])
    assert said.code == 1
    assert words in said.err
