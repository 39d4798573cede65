"""Devices are told at once: over real sockets of a real server, and through a real Mosquitto."""

import json
import os
import queue
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import urllib3
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from cloud import signing
from cloud.fleet import DeviceInfo, Fleet
from cloud.hints import Hint, Listeners, Watch
from cloud.hints_mqtt import TOPIC, Broker, BrokerTeller
from cloud.news import News, spread_s
from cloud.offers import Offers
from cloud.pace import Pace
from cloud.releases import PublishedRelease, Releases
from cloud.rollouts import Rollouts
from cloud.times import now
from cloud.workspace import Workspace
from edge.errors import BadSetting, StorageUnusable
from tests.cloud.conftest import serving
from tools.servers import mosquitto_program, running_mosquitto

RELEASE = b'event: release\ndata: {"version": 3, "spread_s": 0.0}\n\n'
ON_BOTH = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def mosquitto() -> Iterator[int]:
    """Give the port of a real Mosquitto."""
    if mosquitto_program() is None:
        if os.environ.get("SHELFSIGHT_REQUIRE_SERVERS") == "1":
            pytest.fail("SHELFSIGHT_REQUIRE_SERVERS is set, and there is no Mosquitto")
        pytest.skip("there is no Mosquitto: apt-get install mosquitto")
    with running_mosquitto() as port:
        yield port


def enroll(workspace: Workspace) -> tuple[str, dict[str, str]]:
    fleet = Fleet(workspace.sessions())
    code = fleet.new_code(signing.fingerprint(workspace.metadata))
    device, token = fleet.enroll(code, DeviceInfo("Kiosk 1", "kiosk", "0.1.0"))
    return device, {"Authorization": f"Bearer {token}"}


def offer(workspace: Workspace, version: int) -> None:
    sessions = workspace.sessions()
    Releases(sessions).record(
        PublishedRelease(version, now(), "0" * 64, "tiny", "0" * 16, 6, 18, 4, 5000, 400)
    )
    Rollouts(sessions).start(version, 100)


@contextmanager
def asking(address: str, device: str, token: dict[str, str]) -> Iterator[socket.socket]:
    """Ask for hints on a connection of one's own."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        asked = f"GET /v1/devices/{device}/hints HTTP/1.1\r\nHost: {host}\r\n"
        line.sendall(f"{asked}Authorization: {token['Authorization']}\r\n\r\n".encode())
        yield line


@contextmanager
def listening(address: str, device: str, token: dict[str, str]) -> Iterator[socket.socket]:
    """Open a device's connection for hints, as far as its first sign of life."""
    with asking(address, device, token) as line:
        head = read_until(line, b": listening\n\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Type: text/event-stream\r\n" in head
        yield line


def read_until(line: socket.socket, end: bytes) -> bytes:
    read = b""
    while not read.endswith(end):
        piece = line.recv(4096)
        assert piece, read
        read += piece
    return read


def heartbeat(address: str, device: str, token: dict[str, str]) -> Any:
    body = {"release": None, "status": {}}
    with urllib3.PoolManager(retries=False) as http:
        return http.request(
            "POST", f"{address}/v1/devices/{device}/heartbeat", json=body, headers=token
        ).json()


@ON_BOTH
def test_a_device_hears_of_a_release_at_once_and_is_offered_it(workspace: Workspace) -> None:
    device, token = enroll(workspace)
    with serving(workspace) as address:
        answer = heartbeat(address, device, token)
        assert (answer["hints"], answer["next_poll_s"]) == ({"sse": f"/v1/devices/{device}/hints"}, 60)
        with listening(address, device, token) as line:
            assert heartbeat(address, device, token)["next_poll_s"] == 120  # it hears of releases anyhow
            began = time.monotonic()
            offer(workspace, 3)
            assert read_until(line, b"\n\n") == RELEASE
            assert time.monotonic() - began < 1.5
            assert heartbeat(address, device, token)["offered_release"] == 3
            with asking(address, device, token) as late:  # it may have come between visit and listening
                assert read_until(late, b"}\n\n").endswith(b": listening\n\n" + RELEASE)


def test_many_that_listen_keep_no_thread_from_answering(workspace: Workspace) -> None:
    device, token = enroll(workspace)
    other, other_token = enroll(workspace)
    with serving(workspace) as address, ExitStack() as lines:  # more than the server has threads
        for each in [(device, token), (other, other_token)]:
            for _ in range(6):
                lines.enter_context(listening(address, *each))
        began = time.monotonic()
        heartbeat(address, device, token)
        assert time.monotonic() - began < 2


def test_hints_are_for_the_device_itself(workspace: Workspace) -> None:
    device, _ = enroll(workspace)
    with serving(workspace) as address, urllib3.PoolManager(retries=False) as http:
        answer = http.request(
            "GET", f"{address}/v1/devices/{device}/hints", headers={"Authorization": "Bearer x"}
        )
        assert answer.status == 401


def test_a_server_without_hints_names_none(workspace: Workspace) -> None:
    device, token = enroll(workspace)
    with serving(workspace, "--no-hints") as address, urllib3.PoolManager(retries=False) as http:
        assert "hints" not in heartbeat(address, device, token)
        answer = http.request("GET", f"{address}/v1/devices/{device}/hints", headers=token)
        assert (answer.status, answer.json()["code"]) == (404, "not_found")


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    made = Listeners(most=5, alive_every_s=0.1)
    made.start()
    yield made
    made.stop()


def joined(listeners: Listeners, device: str) -> socket.socket:
    """Give the device's end of a connection that was handed over."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname(), timeout=10)
        ours, _ = server.accept()
    listeners.take(ours, device)
    return theirs


def wait_for(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_whoever_goes_is_forgotten_and_whoever_stays_gets_signs_of_life(listeners: Listeners) -> None:
    stays, goes = joined(listeners, "d-1"), joined(listeners, "d-2")
    read_until(stays, b": alive\n\n: alive\n\n")
    assert listeners.has("d-2")
    goes.close()
    wait_for(lambda: not listeners.has("d-2"))
    assert (listeners.has("d-1"), listeners.count()) == (True, 1)
    stays.close()


def test_there_is_room_for_so_many(listeners: Listeners) -> None:
    lines = [joined(listeners, f"d-{number}") for number in range(5)]
    wait_for(lambda: not listeners.have_room())
    lines[0].close()
    wait_for(listeners.have_room)
    for line in lines:
        line.close()


def test_of_many_connections_of_one_device_the_oldest_ends(listeners: Listeners) -> None:
    lines = [joined(listeners, "d-1") for _ in range(5)]
    read_until(lines[4], b": alive\n\n")
    assert listeners.count() == 4
    while lines[0].recv(4096):
        pass
    for line in lines:
        line.close()


def test_a_reader_that_does_not_read_is_dropped(listeners: Listeners) -> None:
    slow = joined(listeners, "d-1")
    wait_for(lambda: listeners.has("d-1"))
    end = time.monotonic() + 20
    while listeners.has("d-1"):
        listeners.tell(Hint(3, 0.0))
        assert time.monotonic() < end
    slow.close()


def test_listeners_that_stop_end_every_connection(listeners: Listeners) -> None:
    line = joined(listeners, "d-1")
    read_until(line, b": alive\n\n")
    listeners.stop()
    while line.recv(4096):
        pass
    line.close()


@ON_BOTH
def test_news_is_what_is_offered_to_more_devices(workspace: Workspace) -> None:
    sessions = workspace.sessions()
    offer(workspace, 1)
    news = News(sessions, Offers(sessions))
    rollouts = Rollouts(sessions)
    assert news.look() is None
    offer(workspace, 3)
    assert news.look() == Hint(3, 0.0)
    assert news.look() is None
    rollouts.pause(3)
    assert news.look() is None
    rollouts.resume(3)
    assert news.look() == Hint(3, 0.0)
    rollouts.abort(3)
    assert news.look() is None


def test_many_devices_come_one_after_the_other() -> None:
    assert [spread_s(count) for count in (1, 99, 1000, 10_000)] == [0.0, 0.0, 5.0, 50.0]


def test_a_database_that_fails_ends_no_watch(caplog: pytest.LogCaptureFixture) -> None:
    looks: queue.Queue[Hint | None] = queue.Queue()
    told: queue.Queue[Hint] = queue.Queue()

    class Told:
        def tell(self, hint: Hint) -> None:
            told.put(hint)

    def look() -> Hint | None:
        found = looks.get(timeout=10)
        if found is None:
            raise StorageUnusable("the database refused")
        return found

    for each in (None, None, Hint(3, 0.0), Hint(4, 0.0)):
        looks.put(each)
    watch = Watch(look, Told(), every_s=0.01)
    watch.start()
    assert [told.get(timeout=10).version for _ in range(2)] == [3, 4]
    looks.put(Hint(5, 0.0))  # for the look that is waiting
    watch.stop()
    assert caplog.text.count("nobody can be told of releases: the database refused") == 1


def test_the_pace_is_slower_for_many_and_for_those_who_wait(workspace: Workspace) -> None:
    class Many(Fleet):
        def count(self) -> int:
            return 30_000

    sessions = workspace.sessions()
    offers, listeners = Offers(sessions), Listeners()
    assert Pace(Fleet(sessions), offers, listeners).next_poll_s("d-1") == 60
    many = Pace(Many(sessions), offers, listeners)
    assert many.next_poll_s("d-1") == 150
    many.waiting = lambda: 200
    assert many.next_poll_s("d-1") == 300


@contextmanager
def subscribed(port: int) -> Iterator["queue.Queue[dict[str, Any]]"]:
    """Listen at the broker as a device does; gives what comes."""
    heard: queue.Queue[dict[str, Any]] = queue.Queue()
    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda client, *_: client.subscribe(TOPIC, qos=1)
    client.on_message = lambda _client, _data, message: heard.put(json.loads(message.payload))
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


def test_a_broker_passes_hints_on_and_keeps_the_last_one(mosquitto: int) -> None:
    teller = BrokerTeller(Broker("127.0.0.1", mosquitto))
    teller.tell(Hint(2, 0.0))  # before it is connected: not lost
    teller.start()
    with subscribed(mosquitto) as heard:
        assert heard.get(timeout=10) == {"version": 2, "spread_s": 0.0}
        teller.tell(Hint(3, 1.5))
        assert heard.get(timeout=10) == {"version": 3, "spread_s": 1.5}
    with subscribed(mosquitto) as heard:  # one that was switched off meanwhile
        assert heard.get(timeout=10) == {"version": 3, "spread_s": 1.5}
    teller.stop()


def test_a_server_tells_through_the_broker_and_where_it_is(workspace: Workspace, mosquitto: int) -> None:
    device, token = enroll(workspace)
    with serving(workspace, "--mqtt", f"127.0.0.1:{mosquitto}") as address:
        place = heartbeat(address, device, token)["hints"]["mqtt"]
        assert place == {"host": "127.0.0.1", "port": mosquitto, "topic": TOPIC, "tls": False}
        with subscribed(mosquitto) as heard:
            offer(workspace, 3)
            assert heard.get(timeout=10) == {"version": 3, "spread_s": 0.0}


@pytest.mark.parametrize("text", ["broker", "broker:", ":1883", "broker:0", "broker:99999", "broker:x"])
def test_what_is_no_broker_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="is no broker"):
        Broker.parse(text)
