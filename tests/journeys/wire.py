"""A wire between two programs: counts what it carries, can be made thin, and can be cut."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Wire:
    """Carry every connection to `port` of this machine on; `url` is where to connect to."""

    def __init__(self, port: int) -> None:
        self.carried_down = 0
        self.is_cut = False
        self.bytes_per_s: float | None = None
        self._to = port
        wire = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                wire._carry(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _carry(self, near: socket.socket) -> None:
        if self.is_cut:
            return
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._to)) as far:
            up = threading.Thread(target=self._pump, args=(near, far, False), daemon=True)
            up.start()
            self._pump(far, near, True)

    def _pump(self, source: socket.socket, target: socket.socket, down: bool) -> None:
        with suppress(OSError):
            source.settimeout(0.05)
            while not self.is_cut:
                try:
                    data = source.recv(16 * 1024)
                except TimeoutError:
                    continue
                if not data:
                    break
                target.sendall(data)
                if down:
                    self.carried_down += len(data)
                    if self.bytes_per_s is not None:
                        time.sleep(len(data) / self.bytes_per_s)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire_to(url: str) -> Iterator[Wire]:
    """Give a wire to the server at `url`."""
    wire = Wire(int(url.rpartition(":")[2]))
    try:
        yield wire
    finally:
        wire.is_cut = True
        wire.close()
