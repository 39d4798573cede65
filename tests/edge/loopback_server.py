"""A real HTTP server on loopback whose answers a test can spoil: cut, lie, drip, redirect, refuse."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Reply:
    """What the server sends for one request."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Close the connection (reset it) after this many bytes of the body."""
    drip: tuple[int, float] | None = None
    """Send this many bytes, then wait this many seconds, and so on."""
    state_length: bool = True
    """Whether Content-Length is sent."""
    endless: bool = False
    """Repeat the body until the client goes away."""
    raw: bool = False
    """Send the body and nothing else: status line and headers are in it."""


@dataclass
class Asked:
    """One request as the server saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class LoopbackServer:
    """Serve `files` (path -> bytes) with Range; `spoil` may answer any request instead.

    `spoil` is called with each request and returns a Reply, or None to let the file be served.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[Asked] = []
        self.spoil: Callable[[Asked], Reply | None] = lambda asked: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def paths(self, begin: str = "/") -> list[str]:
        return [asked.path for asked in self.asked if asked.path.startswith(begin)]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def reply(self, asked: Asked) -> Reply:
        spoiled = self.spoil(asked)
        if spoiled is not None:
            return spoiled
        body = self.files.get(asked.path)
        if body is None:
            return Reply(404, json.dumps({"error": "no such thing"}).encode())
        wanted = asked.headers.get("range")
        if wanted is None:
            return Reply(200, body)
        begin = int(wanted.removeprefix("bytes=").rstrip("-"))
        if begin >= len(body):
            return Reply(416)
        return Reply(206, body[begin:], {"Content-Range": f"bytes {begin}-{len(body) - 1}/{len(body)}"})


@contextmanager
def loopback_server() -> Iterator[LoopbackServer]:
    server = LoopbackServer()
    try:
        yield server
    finally:
        server.close()


def _handler(server: LoopbackServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = 5

        def handle(self) -> None:
            with suppress(ConnectionError):  # a client that was killed, or a connection that was cut here
                super().handle()

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            asked = Asked(
                self.command,
                self.path,
                {name.lower(): value for name, value in self.headers.items()},
                self.rfile.read(length),
            )
            server.asked.append(asked)
            try:
                self._send(server.reply(asked))
            except OSError:
                self.close_connection = True

        do_POST = do_HEAD = do_GET  # noqa: N815

        def _send(self, reply: Reply) -> None:
            if reply.raw:
                self.close_connection = True
                self._send_body(reply)
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.state_length and not reply.endless:
                if "Content-Length" not in reply.headers:
                    self.send_header("Content-Length", str(len(reply.body)))
            else:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            if self.command != "HEAD":
                self._send_body(reply)

        def _send_body(self, reply: Reply) -> None:
            if reply.cut_after is not None:
                self._send_and_cut(reply.body[: reply.cut_after])
            elif reply.drip is not None:
                count, wait = reply.drip
                for begin in range(0, len(reply.body), count):
                    self.wfile.write(reply.body[begin : begin + count])
                    time.sleep(wait)
            elif reply.endless:
                while True:
                    self.wfile.write(reply.body)
            else:
                self.wfile.write(reply.body)

        def _send_and_cut(self, body: bytes) -> None:
            self.wfile.write(body)
            self.wfile.flush()
            time.sleep(0.05)  # let the client take what was sent before the reset throws it away
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    return Handler
