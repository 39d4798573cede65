"""The line between a virtual device and the server: some are slow, all lose something."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from edge.errors import CutShort, ServerBusy, ServerUnreachable, TryLater

_PIECE = 4096
_NO_END = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10, sock_read=20)


@dataclass(frozen=True, slots=True)
class Quality:
    """How good a line is: requests lost (0..1), bytes a second, seconds there and back."""

    loss: float
    bytes_per_s: float
    round_trip_s: float


FAST = Quality(0.0, 10e6, 0.01)


@dataclass(slots=True)
class Traffic:
    """What went over a device's line since it was last looked at: bytes of bodies and heads, and requests."""

    received: int = 0
    requests: int = 0


class Link:
    """One connection to the server over a bad line; use it in an `async with` block."""

    def __init__(self, base_url: str, token: str, quality: Quality, chance: random.Random) -> None:
        self._base_url, self._quality, self._chance = base_url, quality, chance
        self._headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"}
        self._session: aiohttp.ClientSession | None = None
        self.traffic = Traffic()

    async def __aenter__(self) -> "Link":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1), headers=self._headers, timeout=_TIMEOUT
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, path: str, body: Mapping[str, object]) -> Any:
        """Send JSON, and return the JSON that comes back.

        Raises:
            TryLater: the line or the server failed.
        """
        status, data = await self._ask("POST", path, json=body)
        if status != 200:
            raise TryLater(f"{path} answered {status}")
        return json.loads(data)

    async def get(self, path: str, held: bytes = b"") -> bytes | None:
        """Return the body at `path`, or None where there is nothing; go on after the bytes that are `held`.

        Raises:
            CutShort: the line broke; `partial` of the error has what came.
            TryLater: the line or the server failed.
        """
        asked = {"Range": f"bytes={len(held)}-"} if held else {}
        status, data = await self._ask("GET", path, headers=asked)
        if status == 404:
            return None
        return held + data if status == 206 else data

    async def _ask(self, method: str, path: str, **how: Any) -> tuple[int, bytes]:
        assert self._session is not None
        await asyncio.sleep(self._quality.round_trip_s)
        lost = self._chance.random() < self._quality.loss
        if lost and self._chance.random() < 0.5:
            raise ServerUnreachable("the line was down")
        self.traffic.requests += 1
        try:
            async with self._session.request(method, self._base_url + path, **how) as response:
                self.traffic.received += sum(
                    len(name) + len(value) + 4 for name, value in response.raw_headers
                )
                if response.status == 429 or response.status >= 500:
                    wait = response.headers.get("Retry-After", "")
                    raise ServerBusy(
                        f"{path} answered {response.status}",
                        retry_after=float(wait) if wait.isdigit() else None,
                    )
                return response.status, await self._body(response, lost)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ServerUnreachable(f"{path}: {type(error).__name__}") from error

    async def _body(self, response: aiohttp.ClientResponse, lost: bool) -> bytes:
        data = bytearray()
        whole = int(response.headers.get("Content-Length", "0"))
        cut = self._chance.randrange(whole + 1) if lost else None
        async for piece in response.content.iter_chunked(_PIECE):
            data += piece
            self.traffic.received += len(piece)
            if cut is not None and len(data) >= cut:
                response.close()
                raise PartlyHere(bytes(data[:cut]))
            if whole > _PIECE:
                await asyncio.sleep(len(piece) / self._quality.bytes_per_s)
        return bytes(data)


async def hints(address: str, token: str) -> AsyncIterator[tuple[int | None, float]]:
    """Listen to server-sent events until the line breaks; give the version and the seconds to spread over."""
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    try:
        async with (
            aiohttp.ClientSession(headers=headers, timeout=_NO_END) as session,
            session.get(address) as response,
        ):
            if response.status != 200:
                return
            async for line in response.content:
                if line.startswith(b"data:"):
                    said = json.loads(line[5:])
                    yield said.get("version"), float(said.get("spread_s", 0.0))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return


class PartlyHere(CutShort):
    """The line broke in the middle of a body; `partial` is what came."""

    def __init__(self, partial: bytes) -> None:
        super().__init__(f"the line broke after {len(partial)} bytes")
        self.partial = partial
