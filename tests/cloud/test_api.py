"""What devices call, asked as a device asks it; ranges over a real socket."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3
from flask import Flask
from flask.testing import FlaskClient

from cloud import signing
from cloud.events import LARGEST_BATCH, Events
from cloud.fleet import Fleet
from cloud.releases import PublishedRelease, Releases
from cloud.rollouts import Rollouts
from cloud.rooms import rooms_of
from cloud.times import now
from cloud.turns import Turns
from cloud.unpacking import ENCODINGS
from cloud.workspace import Workspace
from edge.errors import TransferBroken
from edge.events import MOST_BYTES, new_event
from edge.transport import Transport
from tests.cloud.conftest import serving
from tests.cloud.test_unpacking import packed

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def published(workspace: Workspace) -> Workspace:
    (workspace.files / SHA256).write_bytes(CONTENT)
    return workspace


@pytest.fixture
def address(published: Workspace) -> Iterator[str]:
    """Give the address of `shelfsight-cloud serve`, in a process of its own."""
    with serving(published) as url:
        yield url


def enroll(client: FlaskClient, workspace: Workspace) -> tuple[str, dict[str, str]]:
    code = Fleet(workspace.sessions()).new_code(signing.fingerprint(workspace.metadata))
    device = {"name": "Kiosk 1", "class": "kiosk", "version": "0.1.0"}
    answer = client.post("/v1/devices/enroll", json={"code": code, "device": device})
    assert answer.status_code == 201, answer.text
    return answer.json["device_id"], {"Authorization": f"Bearer {answer.json['token']}"}


def test_metadata_is_sent_as_it_was_signed(client: FlaskClient, workspace: Workspace) -> None:
    root = client.get("/v1/metadata/1.root.json")
    assert root.data == signing.root_bytes(workspace.metadata)
    assert "immutable" in root.headers["Cache-Control"]
    timestamp = client.get("/v1/metadata/timestamp.json")
    assert timestamp.headers["Cache-Control"] == "no-cache"
    again = client.get("/v1/metadata/timestamp.json", headers={"If-None-Match": timestamp.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize(
    "name",
    [
        "2.root.json",
        ".lock",
        "root.json",
        "1.root.json.bak",
        "01.root.json",
        "..%2f..%2fkeys%2froot.pem",
        "0.root.json",
    ],
)
def test_metadata_that_is_not_there_is_a_404_that_nobody_caches(client: FlaskClient, name: str) -> None:
    answer = client.get(f"/v1/metadata/{name}")
    assert answer.status_code == 404
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json["code"] == "not_found"


def test_a_file_is_sent_whole_or_in_the_range_that_is_asked_for(address: str) -> None:
    with urllib3.PoolManager(retries=False) as http:
        whole = http.request("GET", f"{address}/v1/files/{SHA256}")
        assert (whole.status, whole.data) == (200, CONTENT)
        assert whole.headers["ETag"] == f'"{SHA256}"'
        assert whole.headers["Accept-Ranges"] == "bytes"
        assert "immutable" in whole.headers["Cache-Control"]
        rest = http.request("GET", f"{address}/v1/files/{SHA256}", headers={"Range": "bytes=100000-"})
        assert (rest.status, rest.data) == (206, CONTENT[100_000:])
        assert rest.headers["Content-Range"] == f"bytes 100000-{len(CONTENT) - 1}/{len(CONTENT)}"
        beyond = http.request("GET", f"{address}/v1/files/{SHA256}", headers={"Range": "bytes=102400-"})
        assert beyond.status == 416
        head = http.request("HEAD", f"{address}/v1/files/{SHA256}")
        assert (head.status, head.data, head.headers["Content-Length"]) == (200, b"", str(len(CONTENT)))
        same = http.request("GET", f"{address}/v1/files/{SHA256}", headers={"If-None-Match": f'"{SHA256}"'})
        assert (same.status, same.data) == (304, b"")


def test_the_devices_own_transport_goes_on_where_a_download_ended(address: str, tmp_path: Path) -> None:
    part = tmp_path / "file.part"
    part.write_bytes(CONTENT[:60_000])
    with Transport(address) as transport:
        received = transport.download(f"/v1/files/{SHA256}", part, size=len(CONTENT))
    assert received == len(CONTENT) - 60_000
    assert part.read_bytes() == CONTENT


def test_a_file_of_another_size_than_signed_is_not_taken(address: str, tmp_path: Path) -> None:
    with Transport(address) as transport, pytest.raises(TransferBroken):
        transport.download(f"/v1/files/{SHA256}", tmp_path / "file.part", size=len(CONTENT) - 1)


@pytest.mark.parametrize(
    "name", ["0" * 64, SHA256.upper(), SHA256[:-1], "..%2fmetadata%2ftimestamp.json", "x"]
)
def test_what_is_not_a_file_of_a_release_is_not_sent(
    client: FlaskClient, published: Workspace, name: str
) -> None:
    assert published.files.exists()
    assert client.get(f"/v1/files/{name}").status_code == 404


def test_a_device_enrolls_and_is_given_the_root_that_its_code_names(
    client: FlaskClient, workspace: Workspace
) -> None:
    code = Fleet(workspace.sessions()).new_code(signing.fingerprint(workspace.metadata))
    device = {"name": "Kiosk 1", "class": "kiosk", "version": "0.1.0", "camera": "unheard of"}
    answer = client.post("/v1/devices/enroll", json={"code": code, "device": device})
    assert answer.status_code == 201
    assert answer.json["root"].encode() == signing.root_bytes(workspace.metadata)
    assert set(answer.json) == {"device_id", "token", "root", "server_time"}
    (known,) = Fleet(workspace.sessions()).devices()
    assert (known.id, known.name, known.software) == (answer.json["device_id"], "Kiosk 1", "0.1.0")


def test_a_wrong_code_is_refused_and_many_are_held_back(client: FlaskClient) -> None:
    body = {"code": "AAAA-BBBB-CCCCCCCCCC", "device": {}}
    for _ in range(10):
        answer = client.post("/v1/devices/enroll", json=body)
        assert (answer.status_code, answer.json["code"]) == (403, "enrollment_refused")
    answer = client.post("/v1/devices/enroll", json=body)
    assert (answer.status_code, answer.json["code"]) == (429, "server_busy")
    assert 0 < int(answer.headers["Retry-After"]) <= 60


def test_a_heartbeat_brings_the_offer(client: FlaskClient, workspace: Workspace) -> None:
    device, token = enroll(client, workspace)
    body: dict[str, Any] = {"release": None, "status": {"free_mb": 5}}
    first = client.post(f"/v1/devices/{device}/heartbeat", json=body, headers=token)
    assert first.json["offered_release"] is None
    assert first.json["next_poll_s"] == 60
    sessions = workspace.sessions()
    Releases(sessions).record(PublishedRelease(3, now(), "0" * 64, "tiny", "0" * 16, 6, 18, 4, 5000, 400))
    Rollouts(sessions).start(3, 100)
    second = client.post(f"/v1/devices/{device}/heartbeat", json=body, headers=token)
    assert second.json["offered_release"] == 3
    client.post(f"/v1/devices/{device}/heartbeat", json={**body, "release": 3}, headers=token)
    (known,) = Fleet(sessions).devices()
    assert (known.release, known.status) == (3, {"free_mb": 5})


def test_of_more_devices_than_can_be_served_at_once_each_is_told_when_its_turn_is(
    app: Flask, client: FlaskClient, workspace: Workspace
) -> None:
    fleet = [enroll(client, workspace) for _ in range(3)]
    sessions = workspace.sessions()
    Releases(sessions).record(PublishedRelease(2, now(), "0" * 64, "tiny", "0" * 16, 6, 18, 4, 5000, 400))
    Rollouts(sessions).start(2, 100)
    replace(rooms_of(app), turns=Turns(a_second=0.1, at_once=1)).attach(app)

    def said(number: int, release: int) -> dict[str, Any]:
        device, token = fleet[number]
        body = {"release": release, "status": {}}
        answer = client.post(f"/v1/devices/{device}/heartbeat", json=body, headers=token)
        heard: dict[str, Any] = answer.json
        return heard

    assert said(0, 1)["offered_release"] == 2
    second, third = said(1, 1), said(2, 1)
    assert (second["offered_release"], third["offered_release"]) == (None, None)
    assert second["next_poll_s"] == pytest.approx(10, abs=1)
    assert third["next_poll_s"] == pytest.approx(20, abs=1)
    assert said(0, 1)["offered_release"] == 2  # whose turn it was may try again
    assert said(1, 2)["next_poll_s"] == 60  # who has it waits for nothing


def test_events_are_taken_once_and_acknowledged_each_time(client: FlaskClient, workspace: Workspace) -> None:
    device, token = enroll(client, workspace)
    records = [new_event(device, "searched", {"verdict": "match"}).to_record() for _ in range(3)]
    for _ in range(2):
        answer = client.post(
            f"/v1/devices/{device}/events", json={"events": [*records, {"id": "bad"}]}, headers=token
        )
        assert answer.json["accepted"] == [record["id"] for record in records]
        assert [refused["id"] for refused in answer.json["refused"]] == ["bad"]
    assert Events(workspace.sessions()).count_by_kind() == {"searched": 3}


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", "Basic d3Jvbmc="])
@pytest.mark.parametrize("call", ["heartbeat", "events"])
def test_without_its_token_a_device_is_not_let_in(
    client: FlaskClient, workspace: Workspace, call: str, authorization: str | None
) -> None:
    device, _ = enroll(client, workspace)
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = client.post(f"/v1/devices/{device}/{call}", json={}, headers=headers)
    assert (answer.status_code, answer.json["code"]) == (401, "access_denied")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_one_device_cannot_speak_for_another(client: FlaskClient, workspace: Workspace) -> None:
    _, token = enroll(client, workspace)
    other, _ = enroll(client, workspace)
    answer = client.post(f"/v1/devices/{other}/heartbeat", json={"release": 1, "status": {}}, headers=token)
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"release":1}',
        b'{"release":"1","status":{}}',
        b'{"release":-1,"status":{}}',
        b'{"release":true,"status":{}}',
        b'{"release":NaN,"status":{}}',
        b'{"release":1,"status":[]}',
        b'{"release":1,"status":{"x":"' + b"y" * 20_000 + b'"}}',
        b"\xff\xfe",
    ],
)
def test_a_heartbeat_that_makes_no_sense_is_refused_by_one_sentence(
    client: FlaskClient, workspace: Workspace, body: bytes
) -> None:
    device, token = enroll(client, workspace)
    answer = client.post(f"/v1/devices/{device}/heartbeat", data=body, headers=token)
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    assert answer.json["code"] == "bad_setting"
    assert answer.json["error"]


def test_a_body_that_is_too_long_is_refused(client: FlaskClient, workspace: Workspace) -> None:
    device, token = enroll(client, workspace)
    for path, size in (
        (f"{device}/heartbeat", 65_537),
        (f"{device}/events", LARGEST_BATCH + 1),
        ("enroll", 65_537),
    ):
        answer = client.post(f"/v1/devices/{path}", data=b"x" * size, headers=token)
        assert (answer.status_code, answer.json["code"]) == (413, "request_entity_too_large")


def test_the_longest_batch_that_a_device_sends_is_taken(client: FlaskClient, workspace: Workspace) -> None:
    device, token = enroll(client, workspace)
    records = [new_event(device, "searched", {"x": "y" * (MOST_BYTES - 300)}).to_record() for _ in range(100)]
    answer = client.post(f"/v1/devices/{device}/events", json={"events": records}, headers=token)
    assert len(answer.json["accepted"]) == 100


def test_a_damaged_server_says_try_later_and_keeps_its_paths_to_itself(
    client: FlaskClient, workspace: Workspace
) -> None:
    (workspace.metadata / "timestamp.json").write_bytes(b"{")
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert str(workspace.data) not in answer.text


def test_health_names_the_release_and_how_long_the_signature_lasts(client: FlaskClient) -> None:
    answer = client.get("/healthz")
    assert answer.json["status"] == "ok"
    assert answer.json["release"] is None
    assert answer.json["timestamp_expires"].endswith("Z")
    assert answer.json["warnings"] == []


def test_health_warns_a_month_before_the_offline_signatures_run_out(
    client: FlaskClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(signing.LIFETIMES, "targets", timedelta(days=20))
    signing.renew(workspace.metadata, workspace.keys)
    answer = client.get("/healthz").json
    assert answer["status"] == "ok"
    assert answer["warnings"][0].startswith("targets runs out on")


def test_health_tells_that_the_signature_ran_out(
    client: FlaskClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(signing.LIFETIMES, "timestamp", timedelta(seconds=-60))
    signing.tick(workspace.metadata, workspace.keys)
    assert client.get("/healthz").json["status"] == "stale"


def test_every_answer_forbids_what_no_answer_needs(client: FlaskClient) -> None:
    for path in ("/healthz", "/v1/metadata/timestamp.json", "/nothing"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert json.loads(client.get("/nothing").data)["status"] == 404


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_events_may_be_packed(client: FlaskClient, workspace: Workspace, encoding: str) -> None:
    device, token = enroll(client, workspace)
    events = [new_event(device, "searched", {"verdict": "match"}).to_record() for _ in range(50)]
    plain = json.dumps({"events": events}).encode()
    body = packed(plain, encoding)
    assert len(body) < len(plain) / 5
    headers = {**token, "Content-Encoding": encoding, "Content-Type": "application/json"}
    answer = client.post(f"/v1/devices/{device}/events", data=body, headers=headers)
    assert answer.json == {"accepted": [event["id"] for event in events], "refused": []}
    assert answer.headers["Accept-Encoding"] == ", ".join(ENCODINGS)
    assert Events(workspace.sessions()).count_by_kind() == {"searched": 50}


def test_a_packed_bomb_is_refused(client: FlaskClient, workspace: Workspace) -> None:
    device, token = enroll(client, workspace)
    body = packed(bytes(LARGEST_BATCH + 1), "gzip")
    answer = client.post(
        f"/v1/devices/{device}/events", data=body, headers={**token, "Content-Encoding": "gzip"}
    )
    assert (answer.status_code, answer.json["code"]) == (413, "request_entity_too_large")


def test_a_coding_that_is_not_known_is_refused_with_those_that_are(
    client: FlaskClient, workspace: Workspace
) -> None:
    device, token = enroll(client, workspace)
    for path, encoding, known in (("events", "br", ", ".join(ENCODINGS)), ("heartbeat", "gzip", "identity")):
        headers = {**token, "Content-Encoding": encoding}
        answer = client.post(f"/v1/devices/{device}/{path}", data=b"{}", headers=headers)
        assert (answer.status_code, answer.json["code"]) == (415, "unsupported_media_type")
        assert answer.headers["Accept-Encoding"] == known


def test_a_text_that_no_database_keeps_is_named_and_holds_nothing_up(
    client: FlaskClient, workspace: Workspace
) -> None:
    device, token = enroll(client, workspace)
    good = new_event(device, "searched", {}).to_record()
    bad = new_event(device, "slot_changed", {"slot": "A\0", "state": "ok"}).to_record()
    answer = client.post(f"/v1/devices/{device}/events", json={"events": [bad, good]}, headers=token)
    assert answer.json["accepted"] == [good["id"]]
    assert [refused["id"] for refused in answer.json["refused"]] == [bad["id"]]
    body = {"release": None, "status": {"delegate": "\0"}}
    assert client.post(f"/v1/devices/{device}/heartbeat", json=body, headers=token).status_code == 400


def test_a_release_with_a_number_beyond_32_bits_is_kept(client: FlaskClient, workspace: Workspace) -> None:
    device, token = enroll(client, workspace)
    body = {"release": 2**52, "status": {}}
    assert client.post(f"/v1/devices/{device}/heartbeat", json=body, headers=token).status_code == 200
    assert Fleet(workspace.sessions()).devices()[0].release == 2**52
