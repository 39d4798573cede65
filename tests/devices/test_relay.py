"""The parts of a relay: what it keeps of metadata, how it shares one line of hints."""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from devices.relay.app import Relay, create_app
from devices.relay.fanout import MOST_LISTENERS
from tests.edge.loopback_server import Asked, LoopbackServer, Reply, loopback_server


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with loopback_server() as server:
        yield server


@pytest.fixture
def relay(server: LoopbackServer, tmp_path: Path) -> Relay:
    return Relay(server.url, tmp_path, 1_000_000)


@pytest.fixture
def client(relay: Relay) -> FlaskClient:
    return create_app(relay).test_client()


def away(asked: Asked) -> Reply | None:
    raise ConnectionError("closed without an answer")


def test_a_timestamp_is_asked_for_each_time_and_a_numbered_file_is_not(
    server: LoopbackServer, client: FlaskClient
) -> None:
    server.files = {"/v1/metadata/timestamp.json": b"1", "/v1/metadata/3.bin-1f.json": b"3"}
    for body in (b"1", b"2"):
        server.files["/v1/metadata/timestamp.json"] = body
        assert client.get("/v1/metadata/timestamp.json").data == body
        assert client.get("/v1/metadata/3.bin-1f.json").data == b"3"
    assert len(server.paths("/v1/metadata/timestamp")) == 2
    assert len(server.paths("/v1/metadata/3")) == 1


def test_an_etag_is_sent_along_and_its_answer_understood(server: LoopbackServer, client: FlaskClient) -> None:
    def answer(asked: Asked) -> Reply:
        known = asked.headers.get("if-none-match") == '"a"'
        return Reply(304) if known else Reply(200, b"body", {"ETag": '"a"'})

    server.spoil = answer
    for _ in range(2):
        assert client.get("/v1/metadata/timestamp.json").data == b"body"
    assert "if-none-match" in server.asked[1].headers


def test_what_was_seen_is_given_while_the_server_is_away_even_by_a_new_relay(
    server: LoopbackServer, relay: Relay, client: FlaskClient, tmp_path: Path
) -> None:
    server.files = {"/v1/metadata/timestamp.json": b"1"}
    assert client.get("/v1/metadata/2.root.json").status_code == 404
    assert client.get("/v1/metadata/timestamp.json").status_code == 200
    server.spoil = away
    assert client.get("/v1/metadata/timestamp.json").data == b"1"
    again = create_app(Relay(server.url, tmp_path, 1_000_000)).test_client()
    assert again.get("/v1/metadata/timestamp.json").data == b"1"
    lacking = again.get("/v1/metadata/7.targets.json")
    assert (lacking.status_code, lacking.headers["Retry-After"]) == (503, "11")
    assert again.get("/healthz").json["server"] == server.url  # type: ignore[index]


@pytest.mark.parametrize("name", ["..", "a.txt", "a.b.c.d.json", "%2e%2e%2fsecret.json", "x" * 65 + ".json"])
def test_a_name_that_no_server_has_asks_nobody(
    name: str, server: LoopbackServer, client: FlaskClient
) -> None:
    assert client.get(f"/v1/metadata/{name}").status_code in (404, 308)
    assert server.asked == []


def test_what_a_device_says_is_passed_on_as_it_is_with_its_own_token(
    server: LoopbackServer, client: FlaskClient
) -> None:
    server.spoil = lambda asked: Reply(429, b'{"error": "x"}', {"Retry-After": "9", "X-Inner": "1"})
    sent = {"Authorization": "Bearer mine", "Content-Encoding": "gzip", "Cookie": "no"}
    said = client.post("/v1/devices/d-1/events", data=b"\x1f\x8bpacked", headers=sent)
    assert (said.status_code, said.data, said.headers["Retry-After"]) == (429, b'{"error": "x"}', "9")
    assert "X-Inner" not in said.headers
    asked = server.asked[0]
    assert (asked.path, asked.body) == ("/v1/devices/d-1/events", b"\x1f\x8bpacked")
    assert asked.headers["authorization"] == "Bearer mine"
    assert asked.headers["content-encoding"] == "gzip"
    assert "cookie" not in asked.headers


def test_a_code_is_never_sent_twice(server: LoopbackServer, client: FlaskClient) -> None:
    server.files = {"/v1/metadata/timestamp.json": b"1"}
    client.get("/v1/metadata/timestamp.json")  # so that there is a line to break
    server.spoil = away
    assert client.post("/v1/devices/enroll", json={"code": "x"}).status_code == 503
    assert len(server.paths("/v1/devices/enroll")) == 1
    assert client.post("/v1/devices/d-1/heartbeat", json={}).status_code == 503


def test_the_servers_hints_are_taken_over_and_shared(server: LoopbackServer, client: FlaskClient) -> None:
    go_on = threading.Event()
    answer = {"offered_release": 1, "hints": {"sse": "/v1/devices/d-1/hints", "mqtt": {"host": "h"}}}
    event = b'event: release\ndata: {"version": 2, "spread_s": 1}\n\n'

    def reply(asked: Asked) -> Reply:
        if asked.path.endswith("hints"):
            go_on.wait(5)
            return Reply(200, event + b": " * 100, state_length=False, drip=(len(event), 5.0))
        return Reply(200, json.dumps(answer).encode())

    server.spoil = reply
    lines = [client.get(f"/v1/devices/d-{number}/hints").response for number in (1, 2)]
    assert [next(iter(line)) for line in lines] == [b": listening\n\n"] * 2
    said = client.post("/v1/devices/d-2/heartbeat", json={}, headers={"Authorization": "Bearer t2"})
    assert said.get_json(force=True)["hints"] == {"sse": "/v1/devices/d-2/hints"}
    go_on.set()
    for line in lines:
        heard = next(iter(line))
        assert isinstance(heard, bytes)
        assert json.loads(heard.split(b"data: ")[1]) == {"version": 2, "spread_s": 1.0}
    listened = [asked for asked in server.asked if asked.path.endswith("hints")]
    assert [asked.headers["authorization"] for asked in listened] == ["Bearer t2"]


def test_listeners_are_bounded(client: FlaskClient) -> None:
    client.head("/v1/devices/d/hints")  # hears nothing, and takes no place
    lines = [client.get("/v1/devices/d/hints") for _ in range(MOST_LISTENERS)]
    for line in lines:
        next(iter(line.response))
    refused = client.get("/v1/devices/d/hints")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "60")
    for line in lines:
        line.close()
    assert client.get("/v1/devices/d/hints").status_code == 200


def test_bytes_that_the_server_gives_under_another_hash_are_passed_on_to_nobody(
    server: LoopbackServer, client: FlaskClient, tmp_path: Path
) -> None:
    right, wrong = b"x" * 5000, b"y" * 5000
    path = f"/v1/files/{hashlib.sha256(right).hexdigest()}"
    public = {"Cache-Control": "public"}
    server.spoil = lambda asked: Reply(200, wrong, public)
    refused = client.get(path)
    assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
    assert wrong not in refused.data
    assert not list((tmp_path / "files").iterdir()) and not list((tmp_path / "parts").iterdir())
    server.spoil = lambda asked: Reply(200, right, public)
    with client.get(path) as whole:
        assert whole.data == right


FULL = """
import resource, signal, sys
from pathlib import Path
from devices.relay.app import Relay, create_app
client = create_app(Relay(sys.argv[1], Path(sys.argv[2]), 10**9)).test_client()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for path in sys.argv[3:]:
    answer = client.get(path)
    print(answer.status_code, len(answer.data), answer.headers.get("Retry-After"))
"""


def test_a_relay_whose_disk_is_full_passes_on_what_it_cannot_keep(
    server: LoopbackServer, tmp_path: Path
) -> None:
    small, large = "/v1/files/" + "a" * 64, "/v1/files/" + "b" * 64
    sizes = {small: 300_000, large: 17 * 1024 * 1024}
    timestamp = "/v1/metadata/timestamp.json"

    def answer(asked: Asked) -> Reply | None:
        size = sizes.get(asked.path)
        return None if size is None else Reply(200, b"x" * size, {"Cache-Control": "public"})

    server.spoil, server.files = answer, {timestamp: b"t" * 2000}
    # The kernel refuses to let a file grow: the nearest thing to a full disk that needs no privilege.
    done = subprocess.run(
        [sys.executable, "-c", FULL, server.url, str(tmp_path), timestamp, small, large, timestamp],
        capture_output=True,
        text=True,
        check=True,
    )
    said = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in said] == ["200", "200", "503", "200"], done.stderr
    assert [said[number][1] for number in (0, 1, 3)] == ["2000", "300000", "2000"]
    assert said[2][2] == "10"
    assert "no space" in done.stderr
