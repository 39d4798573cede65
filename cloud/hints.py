"""Tells devices at once that there may be something new: server-sent events, on connections that only wait.

A hint says `event: release`, `data: {"version": n, "spread_s": s}`: come within `s` seconds and ask. It is
never the truth: whoever misses one comes by at the next poll, and only the heartbeat says who is offered
what. All connections wait in one thread of their own, which nothing but hints and signs of life wakes.
"""

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from edge.errors import ShelfsightError

MOST_LISTENERS: Final = 20_000
_ALIVE_EVERY_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.2
_UNSENT_BYTES: Final = 4096  # a reader that leaves more lying is dropped
_GONE_AFTER_MS: Final = 30_000
_MOST_OF_ONE: Final = 4  # several programs of one device may listen
_STOP_S: Final = 5.0
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
    b"X-Content-Type-Options: nosniff\r\nX-Accel-Buffering: no\r\nConnection: close\r\n\r\n: listening\n\n"
)
_ALIVE: Final = b": alive\n\n"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hint:
    """Release `version` may be for you: come and ask within `spread_s` seconds, at a moment of your own."""

    version: int
    spread_s: float

    def to_json(self) -> str:
        """Return the JSON that travels, in an event or in a message of MQTT."""
        return json.dumps({"version": self.version, "spread_s": self.spread_s})

    def to_event(self) -> bytes:
        """Return the server-sent event that travels."""
        return f"event: release\ndata: {self.to_json()}\n\n".encode()


class Listeners:
    """The connections that wait for hints."""

    def __init__(self, most: int = MOST_LISTENERS, *, alive_every_s: float = _ALIVE_EVERY_S) -> None:
        self._most, self._alive_every_s = most, alive_every_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._sockets: dict[socket.socket, str] = {}
        self._devices: dict[str, list[socket.socket]] = {}
        self._fresh: bytes = b""
        self._thread: threading.Thread | None = None

    @property
    def are_open(self) -> bool:
        """Whether a connection can be taken over."""
        return self._loop is not None

    def has(self, device: str) -> bool:
        """Whether a device listens."""
        return device in self._devices

    def count(self) -> int:
        """Return how many listen."""
        return len(self._sockets)

    def limit(self, most: int) -> None:
        """Let no more than so many listen, where that is fewer than before."""
        self._most = min(self._most, most)

    def have_room(self) -> bool:
        """Whether one more may listen."""
        return len(self._sockets) < self._most

    def start(self) -> None:
        """Begin to take connections, in a thread of their own."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="hints", daemon=True)
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """End every connection."""
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_STOP_S)

    def take(self, connection: socket.socket, device: str) -> None:
        """Take a device's connection over; of more than a few of one device the oldest ends."""
        loop = self._loop
        if loop is None:
            connection.close()
        else:
            loop.call_soon_threadsafe(self._adopt, connection, device)

    def tell(self, hint: Hint) -> None:
        """Tell everybody who listens, and for a while also those who only begin to."""
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._tell, hint)

    # In the thread of the connections: --------------------------------------------------------------

    async def _run(self) -> None:
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._started.set()
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._alive_every_s)
            if not self._stopping.is_set():
                self._send_all(_ALIVE)
        for connection in list(self._sockets):
            self._drop(connection)

    def _adopt(self, connection: socket.socket, device: str) -> None:
        own = self._devices.get(device, [])
        if len(own) >= _MOST_OF_ONE:
            self._drop(own[0])
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNSENT_BYTES)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _GONE_AFTER_MS)
        except OSError:
            connection.close()
            return
        self._sockets[connection] = device
        self._devices.setdefault(device, []).append(connection)
        asyncio.get_running_loop().add_reader(connection, self._heard, connection)
        # Between its last visit and this moment it may have missed one.
        self._send(connection, _HEAD + self._fresh)

    def _tell(self, hint: Hint) -> None:
        event = hint.to_event()
        self._fresh = event
        asyncio.get_running_loop().call_later(2 * _GONE_AFTER_MS / 1000, self._forget, event)
        self._send_all(event)

    def _forget(self, event: bytes) -> None:
        if self._fresh is event:
            self._fresh = b""

    def _send_all(self, data: bytes) -> None:
        for connection in list(self._sockets):
            self._send(connection, data)

    def _send(self, connection: socket.socket, data: bytes) -> None:
        try:
            whole = connection.send(data) == len(data)
        except OSError:  # gone, or so slow that not even this fits into what is on its way
            whole = False
        if not whole:
            self._drop(connection)

    def _heard(self, connection: socket.socket) -> None:
        # Nobody who listens has anything to say: this is the end of the connection, or to be ignored.
        try:
            ended = not connection.recv(1024)
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        device = self._sockets.pop(connection, None)
        if device is None:
            return
        self._devices[device].remove(connection)
        if not self._devices[device]:
            del self._devices[device]
        asyncio.get_running_loop().remove_reader(connection)
        connection.close()


class Teller(Protocol):
    """Whoever passes hints on."""

    def tell(self, hint: Hint) -> None:
        """Pass a hint on, without waiting."""


class Watch:
    """Looks several times a second whether something new is offered, and has it told: one cheap row."""

    def __init__(
        self, look: Callable[[], Hint | None], *tellers: Teller, every_s: float = _LOOK_EVERY_S
    ) -> None:
        """Take what looks: it returns a hint if there is something new since it was asked last."""
        self._look, self._tellers, self._every_s = look, tellers, every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        is_well = True
        while not self._stopped.wait(self._every_s if is_well else 10 * self._every_s):
            try:
                hint = self._look()
                is_well = True
            except ShelfsightError as error:
                if is_well:
                    _log.error("nobody can be told of releases: %s", error)
                is_well = False
                continue
            if hint is not None:
                for teller in self._tellers:
                    teller.tell(hint)
