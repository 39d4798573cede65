"""Hints: they ring the loop awake, soon and not too often, and their line never harms the poll."""

import getpass
import queue
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from devices.bell import Bell
from devices.config import Settings, load_settings
from devices.enrollment import Enrollment
from devices.hint import LONGEST_SPREAD_S, Hint
from devices.hints import BURST, Hints, sse_place
from devices.hints_mqtt import mqtt_hints
from edge.errors import BadSetting, ServerUnreachable
from tests.edge.tls_server import write_certificate
from tools.servers import mosquitto_program, running_mosquitto

RELEASE = b'event: release\ndata: {"version": 2, "spread_s": 0}\n\n'


class HintServer:
    """Sends each connection what is put into its queue; None cuts it."""

    def __init__(self) -> None:
        self.lines: queue.Queue[queue.Queue[bytes | None]] = queue.Queue()
        self.tokens: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.tokens.append(self.headers.get("Authorization"))
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                self.wfile.write(b": hello\n\n")
                mine: queue.Queue[bytes | None] = queue.Queue()
                outer.lines.put(mine)
                while (piece := mine.get()) is not None:
                    self.wfile.write(piece)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[HintServer]:
    made = HintServer()
    yield made
    made.close()


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def hints(bell: Bell, tmp_path: Path) -> Iterator[Hints]:
    made = Hints(Settings(data=tmp_path), bell, random.Random(1))
    yield made
    made.close()


def test_a_hint_rings_at_once_and_the_line_shows_the_token(
    server: HintServer, bell: Bell, hints: Hints
) -> None:
    hints.point(Enrollment(server.url, "d-1", "secret"), {"sse": "/v1/hints"}, 1)
    line = server.lines.get(timeout=5)
    assert not bell.wait(0.1)
    began = time.monotonic()
    line.put(RELEASE)
    assert bell.wait(5)
    assert time.monotonic() - began < 1
    assert server.tokens == ["Bearer secret"]


def test_a_hint_of_what_the_device_has_rings_nothing(server: HintServer, bell: Bell, hints: Hints) -> None:
    hints.point(Enrollment(server.url, "d-1", "t"), {"sse": "/v1/hints"}, 2)
    server.lines.get(timeout=5).put(RELEASE)
    assert not bell.wait(0.3)


def test_a_line_that_breaks_is_made_anew_and_what_was_missed_is_polled_for(
    server: HintServer, bell: Bell, hints: Hints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devices.hints.MISSED_SPREAD_S", 0.1)
    hints.point(Enrollment(server.url, "d-1", "t"), {"sse": "/v1/hints"}, 1)
    server.lines.get(timeout=5).put(None)
    server.lines.get(timeout=10)
    assert bell.wait(5)


def test_the_line_is_kept_while_the_server_names_the_same_place(
    server: HintServer, bell: Bell, hints: Hints
) -> None:
    enrollment = Enrollment(server.url, "d-1", "t")
    hints.point(enrollment, {"sse": "/v1/hints"}, 1)
    line = server.lines.get(timeout=5)
    hints.point(enrollment, {"sse": "/v1/hints"}, 1)
    with pytest.raises(queue.Empty):
        server.lines.get(timeout=0.2)
    hints.point(enrollment, {}, 1)  # the server has no hints any more
    line.put(RELEASE)
    assert not bell.wait(0.3)


def test_hints_without_end_do_not_make_a_device_poll_without_end(
    server: HintServer, bell: Bell, hints: Hints
) -> None:
    hints.point(Enrollment(server.url, "d-1", "t"), {"sse": "/v1/hints"}, 1)
    line = server.lines.get(timeout=5)
    rung = 0
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        line.put(RELEASE * 10)
        rung += bell.wait(0.02)
        bell.hush()
    assert 1 <= rung <= BURST


def test_hints_that_prove_true_are_all_followed_at_once_and_those_that_do_not_are_not(
    server: HintServer, bell: Bell, hints: Hints
) -> None:
    enrollment, place = Enrollment(server.url, "d-1", "t"), {"sse": "/v1/hints"}
    hints.point(enrollment, place, 1)
    line = server.lines.get(timeout=5)

    def rings(version: int) -> bool:
        line.put(b'event: release\ndata: {"version": %d, "spread_s": 0}\n\n' % version)
        rung = bell.wait(1.0)
        bell.hush()
        return rung

    for version in range(2, 2 + 3 * BURST):
        assert rings(version), f"release {version} was waited for"
        hints.point(enrollment, place, version)  # the poll brought it
    assert [rings(1_000_000 + lie) for lie in range(BURST + 1)] == [True] * BURST + [False]


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ('{"version": 3, "spread_s": 2}', Hint(3, 2.0)),
        ('{"version": true, "spread_s": 1e9}', Hint(None, LONGEST_SPREAD_S)),
        ('{"version": "3", "spread_s": NaN}', Hint(None, 0.0)),
        ('{"spread_s": -1}', Hint(None, 0.0)),
        ("[" * 100_000, Hint(None, 0.0)),
        (b"\xff", Hint(None, 0.0)),
    ],
)
def test_whatever_a_hint_says_it_is_a_hint(said: str | bytes, hint: Hint) -> None:
    assert Hint.read(said) == hint


@pytest.mark.parametrize(
    ("server", "address", "place"),
    [
        ("https://a.example", "/v1/hints", ("https://a.example", "/v1/hints")),
        ("https://a.example/shop", "/v1/hints", ("https://a.example/shop", "/v1/hints")),
        ("http://a.example:80", "http://A.example:81/h", ("http://A.example:81", "/h")),
        ("http://a.example", "https://a.example/h", ("https://a.example", "/h")),
    ],
)
def test_hints_come_from_the_server_itself(server: str, address: str, place: tuple[str, str]) -> None:
    assert sse_place(server, address) == place


@pytest.mark.parametrize(
    "address",
    ["https://b.example/h", "//b.example/h", "http://a.example/h", "https://u@a.example/h", "h", "", 7, None,
     "https://a.example:x/h", "ftp://a.example/h"],
)  # fmt: skip
def test_a_token_is_shown_to_no_other_machine(address: object) -> None:
    with pytest.raises(BadSetting, match="not from https"):
        sse_place("https://a.example", address)


def test_a_device_can_be_told_not_to_listen(server: HintServer, bell: Bell, tmp_path: Path) -> None:
    settings = load_settings(tmp_path, environment={"SHELFSIGHT_HINTS": "off"})
    Hints(settings, bell, random.Random(1)).point(Enrollment(server.url, "d", "t"), {"sse": "/v1/hints"}, 1)
    with pytest.raises(queue.Empty):
        server.lines.get(timeout=0.2)
    with pytest.raises(BadSetting, match="auto, sse, mqtt, off"):
        load_settings(tmp_path, environment={"SHELFSIGHT_HINTS": "carrier pigeon"})


def test_a_bell_that_is_not_heard_now_is_heard_later_and_a_stop_always(bell: Bell) -> None:
    bell.ring()
    assert not bell.wait(0.05, deaf=True)
    assert bell.wait(5)
    bell.hush()
    threading.Timer(0.05, bell.stop).start()
    began = time.monotonic()
    assert not bell.wait(30, deaf=True)
    assert time.monotonic() - began < 5
    assert bell.stopped


@pytest.fixture
def broker() -> Iterator[int]:
    """Start a real Mosquitto on loopback; give its port."""
    if mosquitto_program() is None:
        pytest.skip("Mosquitto is not installed")
    with running_mosquitto() as port:
        yield port


def test_a_broker_rings_too(broker: int, bell: Bell, tmp_path: Path) -> None:
    from paho.mqtt.publish import single

    topic = "shelfsight/releases"
    place = {"host": "127.0.0.1", "port": broker, "topic": topic, "tls": False}
    hints = Hints(replace(Settings(data=tmp_path), hints="mqtt"), bell, random.Random(1))
    try:
        hints.point(Enrollment("http://127.0.0.1:9", "d-1", "t"), {"mqtt": place, "sse": "/v1/hints"}, 1)

        def rung() -> bool:
            single(topic, b'{"version": 2, "spread_s": 0}', hostname="127.0.0.1", port=broker)
            return bell.wait(0.2)

        _wait_for(rung)
    finally:
        hints.close()


def test_where_no_broker_is_reached_the_server_itself_is_listened_to(
    server: HintServer, bell: Bell, hints: Hints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devices.hints.TRIES", 1)
    nowhere = {"host": "127.0.0.1", "port": free_port(), "topic": "t", "tls": False}
    enrollment = Enrollment(server.url, "d-1", "t")

    def listened() -> bool:
        hints.point(enrollment, {"mqtt": nowhere, "sse": "/v1/hints"}, 1)
        return not server.lines.empty()

    assert not listened()
    _wait_for(listened)


# paho-mqtt leaves the socket of a refused certificate to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("trusted", [True, False])
def test_a_broker_shows_a_certificate_where_the_server_says_so(trusted: bool, tmp_path: Path) -> None:
    program = mosquitto_program()
    if program is None:
        pytest.skip("Mosquitto is not installed")
    certificate, port = write_certificate(tmp_path, days=9), free_port()
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser {getpass.getuser()}\n"
        f"certfile {certificate}\nkeyfile {certificate}\n"
    )
    settings = replace(Settings(data=tmp_path), hints="mqtt", mqtt_ca=str(certificate) if trusted else "")
    place = {"host": "127.0.0.1", "port": port, "topic": "releases", "tls": True}
    stood = threading.Event()
    with subprocess.Popen([program, "-c", configuration], stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(lambda: _listens(port))
            lines = mqtt_hints(place, settings, "d-1", stood.set, closed=stood)
            if trusted:
                assert list(lines) == []  # it stood, and was closed then
            else:
                with pytest.raises(ServerUnreachable, match="certificate"):
                    list(lines)
            assert stood.is_set() == trusted
        finally:
            process.terminate()


@pytest.mark.parametrize(
    "place", [None, {}, {"host": "h", "port": 0, "topic": "t"}, {"host": "h", "port": 1}]
)
def test_what_is_no_broker_is_refused(place: object, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="no broker"):
        next(mqtt_hints(place, Settings(data=tmp_path), "d", lambda: None, threading.Event()))


def _wait_for(happens: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not happens():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
