"""Events on their way up: packed, in order, each once, and none that holds up the others."""

import gzip
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from devices.config import Settings
from devices.delivery import BATCH, MOST_REFUSED, deliver
from devices.device import Device
from devices.line import Line
from edge.errors import ServerBusy, ServerUnreachable, TryLater
from edge.events import Event, new_event
from edge.outbox import Outbox
from edge.transport import Transport
from tests.edge.loopback_server import Asked, LoopbackServer, Reply, loopback_server

PATH = "/v1/devices/d-1/events"


class Taker:
    """A server's end: keeps what it takes, in the order in which it came."""

    def __init__(self, server: LoopbackServer) -> None:
        self.server = server
        self.taken: list[str] = []
        self.requests = 0
        self.refuses: Callable[[list[Event]], int | None] = lambda events: None
        server.spoil = self.answer

    def answer(self, asked: Asked) -> Reply:
        self.requests += 1
        body = asked.body
        if asked.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        events = [Event.from_record(record) for record in json.loads(body)["events"]]
        status = self.refuses(events)
        if status is not None:
            return Reply(status, b'{"error": "no"}', {"Retry-After": "7"} if status == 503 else {})
        ids = [event.id for event in events]
        self.taken += [id_ for id_ in ids if id_ not in self.taken]
        return Reply(200, json.dumps({"accepted": ids, "refused": []}).encode())

    def deliver(self, outbox: Outbox, line: Line | None = None) -> int:
        with Transport(self.server.url, token="t") as transport:
            return deliver(outbox, transport, PATH, line or Line())


@pytest.fixture
def taker() -> Iterator[Taker]:
    with loopback_server() as server:
        yield Taker(server)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.db") as outbox:
        yield outbox


def fill(outbox: Outbox, count: int, kind: str = "searched") -> list[Event]:
    events = [new_event("d-1", kind, {"number": number}) for number in range(count)]
    outbox.add_many(events)
    return events


def ids(events: list[Event]) -> list[str]:
    return [event.id for event in events]


def refuse(event: Event, status: int) -> Callable[[list[Event]], int | None]:
    return lambda events: status if event in events else None


def test_events_come_packed_and_in_their_order(taker: Taker, outbox: Outbox) -> None:
    events = fill(outbox, BATCH + 20)
    assert taker.deliver(outbox) == BATCH + 20
    assert taker.taken == ids(events)
    assert len(outbox) == 0
    asked = taker.server.asked
    assert [each.headers["content-encoding"] for each in asked] == ["gzip", "gzip"]
    assert len(asked[0].body) < len(gzip.decompress(asked[0].body)) / 3


@pytest.mark.parametrize("status", [415, 400])
def test_a_server_that_does_not_unpack_gets_them_plain_from_then_on(
    status: int, taker: Taker, outbox: Outbox
) -> None:
    fill(outbox, 3)
    answer = taker.answer

    def unpacks_not(asked: Asked) -> Reply:
        return Reply(status) if "content-encoding" in asked.headers else answer(asked)

    taker.server.spoil = unpacks_not
    line = Line()
    assert taker.deliver(outbox, line) == 3
    fill(outbox, 1)
    assert taker.deliver(outbox, line) == 1
    assert ["content-encoding" in each.headers for each in taker.server.asked] == [True, False, False]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_event_that_is_never_taken_is_given_up_and_the_others_arrive(
    status: int, taker: Taker, outbox: Outbox
) -> None:
    events = fill(outbox, BATCH)
    bad = events[123]
    taker.refuses = refuse(bad, status)
    assert taker.deliver(outbox) == BATCH - 1
    assert taker.taken == ids([event for event in events if event != bad])
    assert (len(outbox), outbox.dropped()) == (0, {"searched": 1})
    assert taker.requests < 40


@pytest.mark.parametrize(("kind", "status"), [("searched", 500), ("corrected", 400)])
def test_one_over_which_the_server_breaks_or_that_a_person_said_waits_behind_the_others(
    kind: str, status: int, taker: Taker, outbox: Outbox
) -> None:
    events = fill(outbox, 20, kind)
    taker.refuses = refuse(events[0], status)
    assert taker.deliver(outbox) == 19
    assert taker.taken == ids(events[1:])
    assert outbox.batch() == [events[0]]
    taker.refuses = lambda events: None
    assert taker.deliver(outbox) == 1
    assert outbox.dropped() == {}


def test_a_server_that_refuses_everything_costs_a_few_events_and_no_more(
    taker: Taker, outbox: Outbox
) -> None:
    fill(outbox, 50)
    taker.refuses = lambda events: 400
    with pytest.raises(TryLater):
        taker.deliver(outbox)
    assert len(outbox) == 50 - MOST_REFUSED
    assert outbox.dropped() == {"searched": MOST_REFUSED}


def test_a_busy_server_gets_nothing_more_and_loses_nothing(taker: Taker, outbox: Outbox) -> None:
    fill(outbox, 50)
    taker.refuses = lambda events: 503
    with pytest.raises(ServerBusy) as refused:
        taker.deliver(outbox)
    assert (refused.value.retry_after, taker.requests, len(outbox)) == (7, 1, 50)


def test_an_answer_that_takes_nothing_ends_it(taker: Taker, outbox: Outbox) -> None:
    fill(outbox, 2)
    taker.server.spoil = lambda asked: Reply(200, b'{"accepted": ["other"]}')
    with pytest.raises(ServerUnreachable, match="none of 2"):
        taker.deliver(outbox)
    assert len(outbox) == 2


def test_a_busy_server_of_events_keeps_no_answer_away_and_is_left_alone_as_it_asked(
    taker: Taker, data: Path
) -> None:
    server = taker.server
    (data / "device.json").write_text(json.dumps({"url": server.url, "device_id": "d-1", "token": "t"}))
    device = Device(Settings(data=data))
    device.record("searched", {})

    def answer(asked: Asked) -> Reply:
        if asked.path.endswith("heartbeat"):
            return Reply(200, b'{"offered_release": null, "next_poll_s": 2, "hints": {"sse": "/h"}}')
        return Reply(503, b"", {"Retry-After": "90"})

    server.spoil = answer
    report = device.sync()
    assert (report.error, report.next_poll_s, report.waiting) == ("server_busy", 90, 1)
    assert report.hints == {"sse": "/h"}
    status = json.loads(server.asked[0].body)["status"]
    assert (status["dropped"], status["outbox"], status["starts"], status["assortment"]) == ({}, 1, 0, "")


def test_visits_share_a_connection_and_outlive_one_that_the_server_closed(taker: Taker, data: Path) -> None:
    opened: list[threading.Thread] = []
    server = taker.server
    (data / "device.json").write_text(json.dumps({"url": server.url, "device_id": "d-1", "token": "t"}))

    def answer(asked: Asked) -> Reply:
        if threading.current_thread() not in opened:  # the server has one for each connection
            opened.append(threading.current_thread())
        return Reply(200, b'{"offered_release": null}')

    server.spoil = answer
    device = Device(Settings(data=data))
    for _ in range(3):
        assert device.sync().error is None
    assert len(opened) == 1

    rude = iter([True])

    def closes_once(asked: Asked) -> Reply:
        if next(rude, False):
            raise ConnectionError("closed without an answer")
        return answer(asked)

    server.spoil = closes_once
    assert device.sync().error is None
    assert len(opened) == 2


@pytest.mark.parametrize(("ahead_s", "said"), [(120, 120), (-50, 0), (10**6, 86_400)])
def test_a_date_to_come_back_at_is_read_by_the_servers_clock(ahead_s: int, said: int) -> None:
    now = 1_000_000_000  # 2001: this device's clock is years ahead of it
    head = (
        f"HTTP/1.1 503 Busy\r\nDate: {formatdate(now, usegmt=True)}\r\nContent-Length: 0\r\n"
        f"Retry-After: {formatdate(now + ahead_s, usegmt=True)}\r\n\r\n"
    )

    class Busy(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(head.encode())

    with socketserver.TCPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with (
            Transport(f"http://127.0.0.1:{server.server_address[1]}") as transport,
            pytest.raises(ServerBusy) as refused,
        ):
            transport.get_json("/healthz")
        thread.join()
    assert refused.value.retry_after == said
