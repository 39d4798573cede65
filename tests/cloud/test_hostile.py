"""A real server, over sockets, and callers that mean no good; and a PostgreSQL that goes and comes back."""

import os
import resource
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
import urllib3
from sqlalchemy import text

from cloud import database, signing
from cloud.database import DEEPEST, transaction
from cloud.events import Events
from cloud.fleet import DeviceInfo, Fleet
from cloud.workspace import Workspace
from edge.errors import StorageUnusable
from edge.events import new_event
from tests.cloud.conftest import connections_closed, serving
from tools.servers import Postgres, postgres_programs, running_postgres

ON_BOTH = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
ODD: list[Any] = [
    None, True, -1, 2**31, 2**63, 2**64, 2**200, 1.5, 1e308, "", "\0", "x" * 5000, "\U0001f600\u202e",
    [], [[]], {}, {"a": {"\0": 1}}, [2**70], [{}],
]  # fmt: skip


class Caller:
    """One device, as it calls a server at `address`."""

    def __init__(self, workspace: Workspace) -> None:
        fleet = Fleet(workspace.sessions())
        code = fleet.new_code(signing.fingerprint(workspace.metadata))
        self.device, token = fleet.enroll(code, DeviceInfo("Kiosk 1", "kiosk", "0.1.0"))
        self.headers = {"Authorization": f"Bearer {token}"}
        self.address = ""
        self._http = urllib3.PoolManager(retries=False, timeout=20, maxsize=20)

    def post(self, what: str, body: Any) -> urllib3.BaseHTTPResponse:
        given = {"body": body} if isinstance(body, bytes) else {"json": body}
        where = f"{self.address}/v1/devices/{self.device}/{what}"
        return self._http.request("POST", where, headers=self.headers, **given)

    def beat(self) -> urllib3.BaseHTTPResponse:
        return self.post("heartbeat", {"release": None, "status": {}})


@ON_BOTH
def test_whatever_a_device_says_no_answer_is_that_the_server_broke(workspace: Workspace) -> None:
    caller, other = Caller(workspace), Caller(workspace)
    told: Counter[int] = Counter()
    with serving(workspace) as address:
        caller.address = other.address = address
        for raw in (
            b"", b"{", b"NaN", b"null", b"\xff\xfe", b'{"release":NaN,"status":{}}',
            b'{"release":1e999,"status":{}}', b'{"release":' + b"9" * 5000 + b',"status":{}}',
            b'{"release":1,"release":2,"status":{}}', b'{"release":null,"status":{"a":"\\ud800"}}',
            *(b'{"release":null,"status":{"a":' + b"[" * n + b"]" * n + b"}}" for n in (60, 900, 20_000)),
            b'{"release":null,"status":{"a":' + b'{"a":' * 600 + b"1" + b"}" * 600 + b"}}",
        ):  # fmt: skip
            told[caller.post("heartbeat", raw).status] += 1
        assert set(told) == {400}
        for odd in ODD:
            for body in (
                {"release": odd, "status": {}},
                {"release": 1, "status": odd},
                *({"release": 1, "status": {name: odd}} for name in ("set_aside", "proposed", "dropped")),
            ):
                told[caller.post("heartbeat", body).status] += 1
            events = []
            for kind in (
                "failed",
                "rolled_back",
                "slot_changed",
                "scanned",
                "shadowed",
                "proposed",
                "searched",
            ):
                for name in ("release", "slot", "state", "error", "answers", "sku", "total_ms", "photos"):
                    data = {"release": 1, "slot": "s", "state": "empty", "answers": 3, name: odd}
                    events.append({**new_event("d", "searched", {}).to_record(), "kind": kind, "data": data})
            told[caller.post("events", {"events": events}).status] += 1
            for name in ("id", "at", "kind", "device", "data", "format"):
                record = {**new_event("d", "searched", {}).to_record(), name: odd}
                told[caller.post("events", {"events": [record]}).status] += 1
        assert set(told) == {200, 400}
        caller.device = "%00"
        assert caller.beat().status == 401
        assert other.beat().status == 200


def test_what_is_nested_without_end_is_refused_and_the_events_beside_it_are_kept(
    workspace: Workspace,
) -> None:
    def nested(depth: int) -> Any:
        return [] if depth == 1 else [nested(depth - 1)]

    kept = new_event("d", "searched", {"a": nested(DEEPEST - 1)})
    refused = new_event("d", "searched", {"a": nested(DEEPEST)})
    taken = Events(workspace.sessions()).take("d-1", [refused.to_record(), kept.to_record()])
    assert taken.accepted == (kept.id,)
    assert [(each.id, "50 deep" in each.reason) for each in taken.refused] == [(refused.id, True)]


@pytest.mark.parametrize("what", ["half a head", "half a body", "hints that nobody reads"])
def test_two_thousand_lines_that_bring_nothing_keep_no_device_away(
    what: str, workspace: Workspace, files: None
) -> None:
    caller = Caller(workspace)
    with serving(workspace) as address, ExitStack() as lines:
        caller.address, (host, port) = address, address.removeprefix("http://").split(":")
        token = f"Authorization: {caller.headers['Authorization']}\r\n"
        path = f"/v1/devices/{caller.device}"
        first = {
            "half a head": f"GET {path}/hints HTTP/1.1\r\nHost: x\r\n{token}",
            "half a body": f"POST {path}/events HTTP/1.1\r\nHost: x\r\n{token}Content-Length: 9999\r\n\r\n{{",
            "hints that nobody reads": f"GET {path}/hints HTTP/1.1\r\nHost: x\r\n{token}\r\n",
        }[what]
        for _ in range(2000):
            line = lines.enter_context(socket.create_connection((host, int(port)), timeout=10))
            line.sendall(first.encode())
        for _ in range(5):
            began = time.monotonic()
            assert caller.beat().status == 200
            assert time.monotonic() - began < 5


@pytest.fixture
def files() -> Iterator[None]:
    """Allow this process many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4000:
        pytest.skip("this process may not have so many files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(("most", "listening"), [("1024", 312), ("256:", 400)])
def test_where_few_files_may_be_open_few_may_listen_and_all_may_poll(
    most: str, listening: int, workspace: Workspace, files: None
) -> None:
    callers = [Caller(workspace) for _ in range(100)]
    by = ["prlimit", f"--nofile={most}"]  # "256:" is a limit that the server may raise by itself
    with serving(workspace, by=by) as address, ExitStack() as lines:
        host, port = address.removeprefix("http://").split(":")
        heard: Counter[bytes] = Counter()
        for caller in callers * 4:  # a device may listen four times
            line = lines.enter_context(socket.create_connection((host, int(port)), timeout=10))
            token = caller.headers["Authorization"]
            path = f"/v1/devices/{caller.device}/hints"
            line.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
            heard[line.recv(4096)[:12]] += 1
        assert heard[b"HTTP/1.1 200"] == listening
        assert heard[b"HTTP/1.1 429"] == 400 - listening
        callers[0].address = address
        assert callers[0].beat().status == 200


@pytest.fixture
def mortal() -> Iterator[Postgres]:
    """Give a PostgreSQL of one's own, which a test may kill."""
    if postgres_programs() is None:
        if os.environ.get("SHELFSIGHT_REQUIRE_SERVERS") == "1":
            pytest.fail("SHELFSIGHT_REQUIRE_SERVERS is set, and there is no PostgreSQL")
        pytest.skip("there is no PostgreSQL: apt-get install postgresql")
    with running_postgres() as running, connections_closed():
        yield running


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 15
    while not is_so():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_a_database_that_goes_away_under_load_is_503_and_when_it_is_back_all_is_well(
    mortal: Postgres, tmp_path: Path
) -> None:
    workspace = Workspace.create(tmp_path / "data", mortal.url(mortal.create()))
    signing.create_repository(workspace.metadata, workspace.keys)
    caller, told, done = Caller(workspace), Counter[tuple[int, str | None]](), threading.Event()
    command = Path(f"/proc/{mortal.pid}/cmdline").read_bytes().split(b"\0")[:-1]
    folder = Path(os.fsdecode(command[command.index(b"-k") + 1]))

    def ask() -> None:
        while not done.is_set():
            answer = caller.beat()
            told[answer.status, answer.headers.get("Retry-After")] += 1

    with serving(workspace) as address:
        caller.address = address
        asking = [threading.Thread(target=ask) for _ in range(12)]
        for each in asking:
            each.start()
        until(lambda: told[200, None] > 50)
        owner = folder.stat()
        os.kill(mortal.pid, signal.SIGQUIT)  # at once, in the middle of everything
        until(lambda: told[503, "10"] > 50)
        until(lambda: not (folder / "data/postmaster.pid").exists())
        user: dict[str, Any] = (
            {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.getuid() == 0 else {}
        )
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, **user) as again:
            try:
                before = told[200, None]
                until(lambda: told[200, None] > before + 100)
                done.set()
                for each in asking:
                    each.join(20)
                assert not any(each.is_alive() for each in asking)
                assert set(told) == {(200, None), (503, "10")}
                assert stuck(folder) == []
            finally:
                again.send_signal(signal.SIGINT)


def stuck(folder: Path) -> list[Any]:
    """List the sessions that began something and do not end it."""
    with psycopg.connect(f"host={folder} user=postgres dbname=postgres") as own:
        return own.execute(
            "SELECT state, query FROM pg_stat_activity WHERE datname LIKE 'shop_%' "
            "AND state <> 'idle' AND state_change < now() - interval '2 seconds'"
        ).fetchall()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_lock_that_somebody_holds_for_ever_is_not_waited_for_so_long(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_S", 1)
    fleet = Fleet(workspace.sessions())
    with transaction(workspace.sessions()) as holder:
        holder.execute(text("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE"))
        began = time.monotonic()
        with pytest.raises(StorageUnusable, match="lock timeout"):
            fleet.count()
        assert time.monotonic() - began < 5
    assert fleet.count() == 0
