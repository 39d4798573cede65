import gzip
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from edge.errors import (
    AccessDenied,
    BadSetting,
    CutShort,
    Oversize,
    Packed,
    Redirected,
    ServerBusy,
    ServerUnreachable,
    ShelfsightError,
    Slow,
    StorageUnusable,
    TryLater,
    WrongRange,
)
from edge.transport import Transport
from tests.edge.loopback_server import Asked, LoopbackServer, Reply, loopback_server
from tests.edge.tls_server import serve_tls, write_certificate

BODY = random.Random(7).randbytes(300_000)


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with loopback_server() as server:
        server.files["/v1/files/a"] = BODY
        yield server


@pytest.fixture
def transport(server: LoopbackServer) -> Iterator[Transport]:
    with Transport(server.url, timeout_s=2, rate_window_s=0.4) as transport:
        yield transport


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "a.part"


def download(transport: Transport, part: Path) -> int:
    return transport.download("/v1/files/a", part, size=len(BODY))


def test_a_file_is_downloaded_whole_and_its_bytes_are_counted(transport: Transport, part: Path) -> None:
    steps: list[int] = []

    received = transport.download("/v1/files/a", part, size=len(BODY), progress=steps.append)

    assert part.read_bytes() == BODY
    assert received == transport.bytes_received == sum(steps) == len(BODY)


def test_a_file_that_is_here_already_is_not_asked_for(
    transport: Transport, server: LoopbackServer, part: Path
) -> None:
    part.write_bytes(BODY)

    assert download(transport, part) == 0
    assert server.asked == []


def test_an_empty_file_needs_no_request(transport: Transport, part: Path) -> None:
    assert transport.download("/v1/files/empty", part, size=0) == 0
    assert part.read_bytes() == b""


@pytest.mark.parametrize("cut", [0, 1, 65_536, 299_999])
def test_a_cut_download_is_kept_and_only_the_rest_is_fetched(
    transport: Transport, server: LoopbackServer, part: Path, cut: int
) -> None:
    server.spoil = lambda asked: Reply(200, BODY, cut_after=cut)
    with pytest.raises(CutShort):
        download(transport, part)
    assert part.read_bytes() == BODY[:cut]

    server.spoil = lambda asked: None
    assert download(transport, part) == len(BODY) - cut
    assert part.read_bytes() == BODY
    assert server.asked[-1].headers.get("range") == (f"bytes={cut}-" if cut else None)


def test_a_server_without_ranges_sends_the_whole_again(
    transport: Transport, server: LoopbackServer, part: Path
) -> None:
    part.write_bytes(b"x" * 1000)
    server.spoil = lambda asked: Reply(200, BODY)

    assert download(transport, part) == len(BODY)
    assert part.read_bytes() == BODY


@pytest.mark.parametrize(
    "stated",
    [
        "bytes 0-299999/300000",
        "bytes 1001-299999/300000",
        "bytes 1000-299999/300001",
        "bytes 1000-299999/*",
        "bytes 1000-299998/300000",
        "",
    ],
)
def test_a_lying_range_is_refused_and_the_whole_is_fetched_next(
    transport: Transport, server: LoopbackServer, part: Path, stated: str
) -> None:
    part.write_bytes(BODY[:1000])
    server.spoil = lambda asked: Reply(206, BODY[1000:], {"Content-Range": stated})
    with pytest.raises(WrongRange, match="range"):
        download(transport, part)

    server.spoil = lambda asked: None
    assert download(transport, part) == len(BODY)
    assert part.read_bytes() == BODY


def test_a_range_that_was_not_asked_for_is_refused(
    transport: Transport, server: LoopbackServer, part: Path
) -> None:
    server.spoil = lambda asked: Reply(206, BODY, {"Content-Range": "bytes 0-299999/300000"})
    with pytest.raises(WrongRange):
        download(transport, part)


def test_a_range_beyond_the_file_starts_anew(
    transport: Transport, server: LoopbackServer, part: Path
) -> None:
    part.write_bytes(b"x" * 299_999)
    server.spoil = lambda asked: Reply(416)
    with pytest.raises(WrongRange):
        download(transport, part)
    assert part.read_bytes() == b""


def test_a_part_longer_than_the_file_starts_anew(transport: Transport, part: Path) -> None:
    part.write_bytes(b"x" * 300_001)

    assert download(transport, part) == len(BODY)
    assert part.read_bytes() == BODY


@pytest.mark.parametrize("length", [299_999, 300_001])
def test_a_wrong_length_is_refused_before_the_body_is_read(
    transport: Transport, server: LoopbackServer, part: Path, length: int
) -> None:
    server.spoil = lambda asked: Reply(200, b"", {"Content-Length": str(length)}, cut_after=0)
    with pytest.raises(CutShort if length < len(BODY) else Oversize, match=f"{length} bytes"):
        download(transport, part)


def test_an_endless_body_is_stopped_at_the_signed_size(
    transport: Transport, server: LoopbackServer, part: Path
) -> None:
    server.spoil = lambda asked: Reply(200, BODY, endless=True)
    with pytest.raises(Oversize, match="more than"):
        download(transport, part)
    assert part.stat().st_size <= len(BODY)
    with pytest.raises(Oversize, match="more than"):
        transport.get_bytes("/v1/files/a", max_bytes=1000)


def test_a_drip_is_given_up_and_what_came_is_kept(
    transport: Transport, server: LoopbackServer, part: Path
) -> None:
    server.spoil = lambda asked: Reply(200, BODY, drip=(4, 0.05))
    began = time.monotonic()
    with pytest.raises(Slow, match="bytes a second"):
        download(transport, part)
    assert time.monotonic() - began < 3
    assert 0 < part.stat().st_size < 1000


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX-Filler: " + b"x" * 60_000 + b"\r\n\r\n" + b'{"n": 10}'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 60_000


@pytest.mark.parametrize("answer", [HEAD, CHUNKED], ids=["headers", "the head of a chunk"])
def test_a_drip_in_what_surrounds_a_body_is_given_up(
    transport: Transport, server: LoopbackServer, part: Path, answer: bytes
) -> None:
    server.spoil = lambda asked: Reply(body=answer, raw=True, drip=(4, 0.05))
    for ask in (lambda: transport.get_json("/v1/x"), lambda: download(transport, part)):
        began = time.monotonic()
        with pytest.raises(Slow, match="bytes a second"):
            ask()
        assert time.monotonic() - began < 2


def test_an_answer_in_json_that_is_fast_enough_and_never_done_is_given_up(server: LoopbackServer) -> None:
    server.spoil = lambda asked: Reply(200, b'"' + b"x" * 100_000, drip=(500, 0.02))
    began = time.monotonic()
    with Transport(server.url, answer_s=0.5) as transport, pytest.raises(Slow, match="longer than it may"):
        transport.get_json("/v1/x")
    assert time.monotonic() - began < 2


def test_a_slow_file_is_given_all_the_time_it_needs_while_it_keeps_its_rate(
    server: LoopbackServer, part: Path
) -> None:
    server.spoil = lambda asked: Reply(200, BODY, drip=(30_000, 0.06))
    with Transport(server.url, answer_s=0.2, rate_window_s=0.2) as transport:
        assert download(transport, part) == len(BODY)


def test_a_body_without_end_may_drip_but_not_fall_silent(server: LoopbackServer) -> None:
    server.spoil = lambda asked: Reply(200, b"data: 7\n\n" * 4, drip=(9, 0.3), state_length=False)
    with Transport(server.url, rate_window_s=0.1, answer_s=0.1, timeout_s=0.2) as transport:
        assert b"".join(transport.listen("/v1/hints", silence_s=1)) == b"data: 7\n\n" * 4
        with pytest.raises(Slow, match="silent"):
            list(transport.listen("/v1/hints", silence_s=0.15))


@pytest.mark.parametrize(
    "path", ["../etc/passwd", "/v1/files/../x", "/v1//x", "/v1/a?b", "/v1/a b", "/v1/\r\nHost: x", "/.x", ""]
)
def test_a_name_that_no_server_has_is_not_asked_for(
    transport: Transport, server: LoopbackServer, path: str
) -> None:
    with pytest.raises(ServerUnreachable, match="no name"):
        transport.get_bytes(path, max_bytes=10)
    assert server.asked == []


BOMB = gzip.compress(bytes(10_000_000))


def test_a_packed_answer_is_not_unpacked(transport: Transport, server: LoopbackServer) -> None:
    server.spoil = lambda asked: Reply(200, BOMB, {"Content-Encoding": "gzip"})
    with pytest.raises(Packed):
        transport.get_json("/v1/x")
    server.spoil = lambda asked: Reply(500, BOMB, {"Content-Encoding": "gzip"})
    with pytest.raises(ServerBusy):
        transport.get_json("/v1/x")
    assert transport.bytes_received < len(BOMB) + 70_000


def test_an_endless_answer_in_json_is_stopped(transport: Transport, server: LoopbackServer) -> None:
    server.spoil = lambda asked: Reply(200, b"[" * 100_000, endless=True)
    with pytest.raises(Oversize):
        transport.get_json("/v1/x")
    assert transport.bytes_received < 5_000_000


def test_silence_in_the_middle_is_noticed(server: LoopbackServer, part: Path) -> None:
    server.spoil = lambda asked: Reply(200, BODY, drip=(1000, 1.0))
    with Transport(server.url, timeout_s=0.2) as transport, pytest.raises(Slow, match="silent"):
        download(transport, part)


def test_a_packed_body_is_refused(transport: Transport, server: LoopbackServer, part: Path) -> None:
    server.spoil = lambda asked: Reply(200, BODY, {"Content-Encoding": "gzip"})
    with pytest.raises(Packed, match="gzip"):
        download(transport, part)
    assert server.asked[-1].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(transport: Transport, server: LoopbackServer, status: int) -> None:
    server.spoil = lambda asked: Reply(status, b"", {"Location": "http://elsewhere.invalid/"})
    with pytest.raises(Redirected, match=r"elsewhere\.invalid"):
        transport.get_json("/v1/x")
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_server_says_when_to_come_back(
    transport: Transport, server: LoopbackServer, status: int
) -> None:
    server.spoil = lambda asked: Reply(status, b'{"error": "resting\\u001b[31m"}', {"Retry-After": "17"})
    with pytest.raises(ServerBusy, match=r"resting\[31m") as caught:
        transport.post_json("/v1/x", {})
    assert caught.value.retry_after == 17


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        (timedelta(seconds=600), 500, 601),
        (timedelta(days=-1), 0, 0),
        ("-5", 0, 0),
        ("nan", 0, 0),
        ("inf", 86400, 86400),
        ("999999999999", 86400, 86400),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(
    transport: Transport, server: LoopbackServer, value: str | timedelta, least: float, most: float
) -> None:
    if isinstance(value, timedelta):  # from now, not from when the tests were collected
        value = format_datetime(datetime.now(UTC) + value, usegmt=True)
    server.spoil = lambda asked: Reply(503, b"", {"Retry-After": value})
    with pytest.raises(ServerBusy) as caught:
        transport.get_json("/v1/x")
    assert caught.value.retry_after is not None
    assert least <= caught.value.retry_after <= most


def test_a_retry_after_that_says_nothing_is_none(transport: Transport, server: LoopbackServer) -> None:
    server.spoil = lambda asked: Reply(503, b"", {"Retry-After": "soon"})
    with pytest.raises(ServerBusy) as caught:
        transport.get_json("/v1/x")
    assert caught.value.retry_after is None


@pytest.mark.parametrize("status", [401, 403])
def test_an_unknown_device_is_told_to_enroll(
    transport: Transport, server: LoopbackServer, status: int
) -> None:
    server.spoil = lambda asked: Reply(status)
    with pytest.raises(AccessDenied, match="enroll"):
        transport.get_json("/v1/x")


def test_other_refusals_are_told_with_the_servers_words(transport: Transport, server: LoopbackServer) -> None:
    server.spoil = lambda asked: Reply(400, b'{"error": "no such event"}')
    with pytest.raises(TryLater, match="no such event"):
        transport.post_json("/v1/x", {})


def test_what_is_not_there_is_none_for_bytes_and_an_error_for_the_rest(
    transport: Transport, part: Path
) -> None:
    assert transport.get_bytes("/v1/metadata/9.root.json", max_bytes=10) is None
    with pytest.raises(ServerUnreachable, match="404"):
        transport.get_json("/nowhere")
    with pytest.raises(ServerUnreachable, match="404"):
        transport.download("/nowhere", part, size=10)


def test_json_goes_there_and_back_with_the_token(server: LoopbackServer) -> None:
    server.spoil = lambda asked: Reply(200, b'{"n": 1}')
    with Transport(server.url + "/", token="secret") as transport:
        assert transport.post_json("/v1/x", {"a": "ä"}) == {"n": 1}
        assert transport.get_json("v1/y") == {"n": 1}
    sent, asked = server.asked
    assert (sent.method, sent.path, sent.body) == ("POST", "/v1/x", b'{"a": "\\u00e4"}')
    assert sent.headers["authorization"] == "Bearer secret"
    assert asked.path == "/v1/y"


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"", b"\xff", b"[" * 100_000])
def test_an_answer_that_is_not_json_names_the_address(
    transport: Transport, server: LoopbackServer, body: bytes
) -> None:
    server.spoil = lambda asked: Reply(200, body)
    with pytest.raises(ServerUnreachable, match=server.url):
        transport.get_json("/v1/x")


@pytest.mark.parametrize(
    "address",
    ["", "shelfsight.example.com", "htps://host", "ftp://host/", "http://", "https://host:x", "http://h?q=1"],
)
def test_a_mistyped_address_is_refused_by_name(address: str) -> None:
    with pytest.raises(BadSetting) as caught:
        Transport(address)
    assert repr(address) in str(caught.value)


def test_a_name_that_does_not_resolve_is_told() -> None:
    with (
        Transport("http://no-such-host.invalid") as transport,
        pytest.raises(ServerUnreachable, match=r"no-such-host\.invalid"),
    ):
        transport.get_json("/v1/x")


def test_nothing_listening_is_told() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with Transport(url) as transport, pytest.raises(ServerUnreachable, match=url):
            transport.get_json("/v1/x")


def test_tls_to_a_server_without_tls_is_told(server: LoopbackServer) -> None:
    url = server.url.replace("http:", "https:")
    with Transport(url, timeout_s=1) as transport, pytest.raises(ServerUnreachable, match=url):
        transport.get_json("/v1/x")


@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0-OpenSSH_9.6\r\n", b"", b"\x00" * 100, b"HTTP/1.1 abc\r\n\r\n"]
)
def test_a_server_that_is_not_http_is_told(greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.settimeout(5)
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import socket, sys; l = socket.socket(fileno=int(sys.argv[1])); c = l.accept()[0];"
                "c.recv(1000); c.sendall(bytes.fromhex(sys.argv[2])); c.close()",
                str(listener.fileno()),
                greeting.hex(),
            ],
            pass_fds=[listener.fileno()],
        )
        with Transport(url, timeout_s=5) as transport, pytest.raises(ServerUnreachable, match=url):
            transport.get_json("/v1/x")
        process.wait(10)


def test_a_folder_that_is_not_there_is_told(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(StorageUnusable, match="missing"):
        transport.download("/v1/files/a", tmp_path / "missing" / "a.part", size=len(BODY))


WRITE_LIMITED = """
import resource, signal, sys
from pathlib import Path
from edge.errors import NoSpace
from edge.transport import Transport
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    Transport(sys.argv[1]).download("/v1/files/a", Path(sys.argv[2]), size=300_000)
except NoSpace as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_is_no_space_and_the_part_is_kept(
    server: LoopbackServer, part: Path
) -> None:
    # The kernel refuses to let the file grow: the nearest thing to a full disk that needs no privilege.
    done = subprocess.run(
        [sys.executable, "-c", WRITE_LIMITED, server.url, str(part)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no space left" in done.stdout
    assert part.read_bytes() == BODY[:100_000]


DOWNLOAD = """
import sys
from pathlib import Path
from edge.transport import Transport
Transport(sys.argv[1]).download("/v1/files/a", Path(sys.argv[2]), size=300_000)
"""


def test_a_killed_download_goes_on_where_it_was(
    server: LoopbackServer, transport: Transport, part: Path
) -> None:
    server.spoil = lambda asked: Reply(200, BODY, drip=(20_000, 0.1))
    process = subprocess.Popen([sys.executable, "-c", DOWNLOAD, server.url, str(part)])
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size >= 60_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    held = part.stat().st_size
    assert 60_000 <= held < 300_000

    server.spoil = lambda asked: None
    assert download(transport, part) == len(BODY) - held
    assert part.read_bytes() == BODY


def test_after_any_broken_request_the_next_one_is_served(
    transport: Transport, server: LoopbackServer
) -> None:
    spoilers: list[Reply | None] = [
        Reply(200, b'{"n": 1}', cut_after=3),
        Reply(503, b"x" * 5_000),
        Reply(302, b"moved", {"Location": "/"}),
        Reply(404),
        None,
    ]
    replies = iter(spoilers)

    def spoil(asked: Asked) -> Reply | None:
        return next(replies) or Reply(200, b'{"n": 1}')

    server.spoil = spoil
    for _ in spoilers[:-1]:
        with pytest.raises(ShelfsightError):
            transport.get_json("/v1/x")
    assert transport.get_json("/v1/x") == {"n": 1}


def test_the_end_of_a_trusted_certificate_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = write_certificate(tmp_path, days=30)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serve_tls(certificate) as url, Transport(url, timeout_s=2) as transport:
        end = transport.certificate_end()
        assert end is not None
        assert abs(end - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)
        assert transport.get_bytes("/healthz", max_bytes=10) == b"{}"


@pytest.mark.parametrize(
    ("days", "name", "said"),
    [
        (30, "127.0.0.1", "self-signed"),
        (-1, "127.0.0.1", "expired"),
        (30, "127.0.0.2", "not valid for"),
    ],
)
def test_a_certificate_that_must_not_be_trusted_is_refused_with_the_reason(
    days: float, name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = write_certificate(tmp_path, days=days, name=name)
    if said != "self-signed":
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serve_tls(certificate) as url, Transport(url, timeout_s=2) as transport:
        with pytest.raises(ServerUnreachable, match="no trusted TLS connection") as refusal:
            transport.certificate_end()
        assert said in str(refusal.value)


def test_plain_http_has_no_certificate_and_a_dead_address_is_said(server: LoopbackServer) -> None:
    with Transport(server.url) as transport:
        assert transport.certificate_end() is None
    with Transport("https://127.0.0.1:9") as transport, pytest.raises(ServerUnreachable) as refusal:
        transport.certificate_end()
    assert str(refusal.value) == (
        "no HTTP server answers at https://127.0.0.1:9 (connection refused): check the address and that the "
        "server is up."
    )
