"""The web server as a fleet needs it, over real sockets."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from flask import Flask
from waitress import wasyncore

from cloud import serving
from cloud.serving import WebServer

QUESTION = b"GET /wait HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@contextmanager
def running(app: Flask) -> Iterator[int]:
    """Run the web server in a thread; gives its port."""
    server = WebServer(app, "127.0.0.1", 0, largest_body=1000)
    first = server._servers[0]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.port
    finally:
        first.task_dispatcher.shutdown()
        first._refusing.shutdown()
        first.trigger.pull_trigger(lambda: wasyncore.close_all(first._map, ignore_all=True))
        thread.join(timeout=10)


@pytest.fixture
def go() -> threading.Event:
    """Give what lets the requests for /wait be answered."""
    return threading.Event()


@pytest.fixture
def app(go: threading.Event) -> Flask:
    made = Flask(__name__)

    @made.get("/wait")
    def wait() -> str:
        go.wait(20)
        return "waited"

    return made


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def answer(line: socket.socket) -> bytes:
    """Read one answer."""
    read = b""
    while b"\r\n\r\n" not in read or len(read.partition(b"\r\n\r\n")[2]) < length(read):
        piece = line.recv(4096)
        assert piece, read
        read += piece
    return read


def length(read: bytes) -> int:
    found = re.search(rb"Content-Length: (\d+)", read)
    return int(found[1]) if found else 0


def test_when_too_many_requests_wait_further_ones_are_told_at_once_to_come_later(
    app: Flask, go: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_MOST_WAITING", 3)
    with ExitStack() as lines, running(app) as port:
        waiting = [lines.enter_context(connect(port)) for _ in range(serving._THREADS + 3)]
        for line in waiting:
            line.sendall(QUESTION)
            time.sleep(0.05)  # so that a free thread takes it
        refused = lines.enter_context(connect(port))
        refused.sendall(QUESTION)
        said = answer(refused)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b'"code": "server_busy"' in said
        later = next(part for part in said.split(b"\r\n") if part.startswith(b"Retry-After: "))
        assert 5 <= int(later.removeprefix(b"Retry-After: ")) <= 15
        go.set()
        assert all(answer(line).startswith(b"HTTP/1.1 200 ") for line in waiting)


def test_of_many_connections_that_rest_the_longest_resting_are_closed(
    app: Flask, go: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_MOST_RESTING", 2)
    monkeypatch.setattr(serving, "_YOUNG_S", 0.2)
    go.set()
    with ExitStack() as lines, running(app) as port:
        resting = [lines.enter_context(connect(port)) for _ in range(5)]
        for line in resting:
            line.sendall(QUESTION)
            assert answer(line).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.01)
        assert [line.recv(100) for line in resting[:3]] == [b"", b"", b""]
        for line in resting[3:]:
            line.sendall(QUESTION)
            assert answer(line).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("begun", [b"GET /wait HTT", b"POST /wait HTTP/1.1\r\nContent-Length: 900\r\n\r\n"])
def test_a_request_that_drips_is_not_waited_for(
    begun: bytes, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_ARRIVES_WITHIN_S", 0.5)
    with running(app) as port, connect(port) as line:
        line.sendall(begun)
        line.settimeout(0.1)
        end = time.monotonic() + 10
        with pytest.raises(ConnectionError):
            while time.monotonic() < end:  # never silent: no timeout of silence would end it
                line.sendall(b"x")
                try:
                    if not line.recv(100):
                        raise ConnectionResetError
                except TimeoutError:
                    continue


def test_a_request_that_comes_slowly_but_comes_is_answered(
    app: Flask, go: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_ARRIVES_WITHIN_S", 0.5)
    go.set()
    with running(app) as port, connect(port) as line:
        line.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n")
        for _ in range(5):
            line.sendall(b"x" * 100)
            time.sleep(0.3)  # 333 bytes a second
        assert answer(line).startswith(b"HTTP/1.1 200 ")
