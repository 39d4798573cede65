"""The line between a virtual device and the server: some are slow, all lose something.

It speaks HTTP itself, on bare streams: of ten thousand devices a process has but the processor time for what
they say, not for ten thousand sessions of a client that can do more.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from edge.errors import CutShort, ServerBusy, ServerUnreachable, TryLater

_PIECE: Final = 4096
_CONNECT_S: Final = 10.0  # these three as `edge.transport`
_SILENCE_S: Final = 10.0
_ANSWER_S: Final = 60.0
_DEAD_S: Final = 60.0  # of a line of hints: as `devices.hints`


@dataclass(frozen=True, slots=True)
class Quality:
    """How good a line is: requests lost (0..1), bytes a second, seconds there and back."""

    loss: float
    bytes_per_s: float
    round_trip_s: float


FAST: Final = Quality(0.0, 10e6, 0.01)


@dataclass(slots=True)
class Traffic:
    """What went over a device's line: bytes received by what they were for, bytes sent; heads and bodies."""

    received: Counter[str] = field(default_factory=Counter)
    sent: int = 0


class LineDown(ServerUnreachable):
    """The simulated line lost a request: planned, and no fault of the server's."""


@dataclass(frozen=True, slots=True)
class _Head:
    """The first lines of an answer."""

    status: int
    fields: Mapping[str, str]
    size: int

    @classmethod
    def read(cls, data: bytes) -> "_Head":
        first, *lines = data.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        return cls(
            int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}, len(data)
        )

    @property
    def retry_after(self) -> float | None:
        wait = self.fields.get("retry-after", "")
        return float(wait) if wait.isdigit() else None


class Link:
    """One connection to the server over a bad line; use it in a `with` block."""

    def __init__(self, base_url: str, token: str, quality: Quality, chance: random.Random) -> None:
        self._place, self._quality, self._chance = _place(base_url), quality, chance
        self._common = _common(self._place, token)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.traffic = Traffic()

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request makes another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def post(self, path: str, body: Mapping[str, object], kind: str) -> Any:
        """Send JSON, and return the JSON that comes back; `kind` says under which name its bytes are counted.

        Raises:
            TryLater: the line or the server failed.
        """
        data = bytearray()
        status = await self._ask("POST", path, data, kind, json.dumps(body).encode())
        if status not in (200, 201):
            raise TryLater(f"{path} answered {status}", status=status)
        return json.loads(data)

    async def get(self, path: str, kind: str, held: bytearray | None = None) -> bytes | None:
        """Return the body at `path`, or None where there is nothing.

        What is `held` of it already is not asked for again, and grows by what comes, also where the line
        breaks.

        Raises:
            CutShort: the line broke in the middle of the body.
            TryLater: the line or the server failed.
        """
        data = bytearray() if held is None else held
        status = await self._ask("GET", path, data, kind)
        if status == 404:
            return None
        if status not in (200, 206):
            raise TryLater(f"{path} answered {status}", status=status)
        return bytes(data)

    async def _ask(self, method: str, path: str, into: bytearray, kind: str, body: bytes = b"") -> int:
        await asyncio.sleep(self._quality.round_trip_s)
        lost = self._chance.random() < self._quality.loss
        if lost and self._chance.random() < 0.5:
            self.close()
            raise LineDown("the line was down")
        asked = f"{method} {path} HTTP/1.1\r\n{self._common}"
        if body:
            asked += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        if into:
            asked += f"Range: bytes={len(into)}-\r\n"
        request = f"{asked}\r\n".encode("latin-1") + body
        try:
            head = await self._head(request, kind)
            if head.status >= 300:
                await self._body(head, bytearray(), kind, cut=None)
            else:
                if head.status != 206:
                    into.clear()  # all of it comes again
                whole = int(head.fields.get("content-length", "0"))
                await self._body(head, into, kind, cut=int(whole * self._chance.random()) if lost else None)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError, IndexError) as error:
            self.close()
            raise ServerUnreachable(f"{path}: {type(error).__name__}") from error
        except BaseException:
            self.close()
            raise
        if head.status == 429 or head.status >= 500:
            raise ServerBusy(
                f"{path} answered {head.status}", retry_after=head.retry_after, status=head.status
            )
        return head.status

    async def _head(self, request: bytes, kind: str) -> _Head:
        """Send a request; on a connection that rested once more, for the server closes those."""
        rested = self._streams is not None
        try:
            return await self._exchange(request, kind)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            if not rested:
                raise
            return await self._exchange(request, kind)

    async def _exchange(self, request: bytes, kind: str) -> _Head:
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            async with asyncio.timeout(_CONNECT_S):
                self._streams = await asyncio.open_connection(*self._place, limit=4 * _PIECE)
        reader, writer = self._streams
        writer.write(request)
        self.traffic.sent += len(request)
        async with asyncio.timeout(_SILENCE_S):
            data = await reader.readuntil(b"\r\n\r\n")
        self.traffic.received[kind] += len(data)
        return _Head.read(data)

    async def _body(self, head: _Head, into: bytearray, kind: str, cut: int | None) -> None:
        """Read a body into `into`, as fast as the line is; the line breaks after `cut` bytes, if ever."""
        assert self._streams is not None
        reader, left = self._streams[0], int(head.fields.get("content-length", "0"))
        if cut is not None:
            left = min(left, cut)
        async with asyncio.timeout(_ANSWER_S + left / self._quality.bytes_per_s):
            while left:
                piece = await reader.read(min(_PIECE, left))
                if not piece:
                    raise CutShort("the server closed the connection in the middle of a body")
                into += piece
                left -= len(piece)
                self.traffic.received[kind] += len(piece)
                if left:
                    await asyncio.sleep(len(piece) / self._quality.bytes_per_s)
        if cut is not None:
            raise CutShort(f"the line broke after {cut} bytes")
        if head.fields.get("connection", "").lower() == "close":
            self.close()


Heard = Callable[[int | None, float], None]
"""Told (version, seconds to spread over) of a hint; None: which version is not said."""


async def hear_hints(address: str, token: str, heard: Heard, traffic: Traffic) -> float | None:
    """Listen to server-sent events until the line breaks; return the seconds that are asked to be waited."""
    split = urlsplit(address)
    line: _HintLine | None = None
    try:
        async with asyncio.timeout(_CONNECT_S):
            loop = asyncio.get_running_loop()
            _, line = await loop.create_connection(lambda: _HintLine(heard, traffic), *_place(address))
        line.ask(
            f"GET {split.path} HTTP/1.1\r\n{_common(_place(address), token)}Accept: text/event-stream\r\n\r\n"
        )
        await line.ended
        return line.retry_after
    except (OSError, TimeoutError):
        return None
    finally:
        if line is not None:
            line.close()


class _HintLine(asyncio.Protocol):
    """A line of hints, without a task that wakes at every sign of life: all lines get theirs at once."""

    def __init__(self, heard: Heard, traffic: Traffic) -> None:
        self._heard, self._traffic = heard, traffic
        self._held = b""
        self._is_open = False
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.retry_after: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._look()

    def ask(self, request: str) -> None:
        assert self._transport is not None
        self._transport.write(request.encode("latin-1"))
        self._traffic.sent += len(request)

    def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._last = self._loop.time()
        self._traffic.received["hints"] += len(data)
        if self._is_open and not self._held and data.startswith(b":"):
            return  # a sign of life, and nothing else
        self._held += data
        if not self._is_open:
            head, found, self._held = self._held.partition(b"\r\n\r\n")
            if not found:
                self._held = head
                return
            self._opened(_Head.read(head))
        *lines, self._held = self._held.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._hint(line[5:])

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _opened(self, head: _Head) -> None:
        self._is_open, self.retry_after = True, head.retry_after
        if head.status != 200 and self._transport is not None:
            self._transport.abort()

    def _hint(self, data: bytes) -> None:
        with suppress(ValueError, AttributeError, TypeError):
            said = json.loads(data)
            self._heard(said.get("version"), float(said.get("spread_s", 0.0)))

    def _look(self) -> None:
        """End a line on which nothing came for long."""
        left = self._last + _DEAD_S - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
        elif self._transport is not None:
            self._transport.abort()


def _place(address: str) -> tuple[str, int]:
    split = urlsplit(address)
    return str(split.hostname), split.port or 80


def _common(place: tuple[str, int], token: str) -> str:
    """Return the fields of every request: those that a real device sends."""
    return (
        f"Host: {place[0]}:{place[1]}\r\nAccept-Encoding: identity\r\nUser-Agent: shelfsight\r\n"
        f"Authorization: Bearer {token}\r\n"
    )
