"""Plays the visits of many devices to a server, open loop: nobody waits for somebody else's answer.

    python visits.py ADDRESS DEVICES.json SECONDS POLL_S

A process of its own, so that the server's figures are the server's. A visit is what a device does once a
minute: it says how it is and asks whether the signed timestamp has changed, on the connection of its last
visit or a new one. Each device comes at a moment of its own within its minute; times count from the moment at
which it should have come.
"""

import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_TIMEOUT_S = 10.0
_STATUS = {
    "version": "0.1.0",
    "device_class": "kiosk",
    "set_aside": [],
    "pending_events": 0,
    "delegate": "cpu",
    "wanted": "cpu",
    "runtime": "ai-edge-litert 2.3.0",
    "clock_lead_s": 0.2,
    "uptime_s": 86400,
    "disk_free": 12_345_678_901,
}


@dataclass
class Counted:
    """What came of the visits: milliseconds of each request, and errors by their kind."""

    heartbeat_ms: list[float] = field(default_factory=list)
    timestamp_ms: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    late_ms: list[float] = field(default_factory=list)
    kept_lines: int = 0


class Player:
    """All the devices, each with the connection that it keeps until the server closes it."""

    def __init__(self, address: str, devices: list[dict[str, str]]) -> None:
        split = urlsplit(address)
        self._host, self._port = str(split.hostname), int(split.port or 80)
        self._devices = devices
        self._kept: dict[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}
        self.counted = Counted()

    async def play(self, seconds: float, poll_s: float) -> None:
        """Let every device come by each `poll_s` seconds, for `seconds`."""
        phases = random.Random(5)
        moments = sorted(
            (phase + lap * poll_s, number)
            for number, phase in enumerate(phases.uniform(0, poll_s) for _ in self._devices)
            for lap in range(int(seconds // poll_s) + 1)
            if phase + lap * poll_s < seconds
        )
        began = time.perf_counter() + 0.2
        running: set[asyncio.Task[None]] = set()
        for offset, number in moments:
            due = began + offset
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            self.counted.late_ms.append(1000 * (time.perf_counter() - due))
            task = asyncio.create_task(self._visit(number, due))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
        for _, writer in self._kept.values():
            writer.close()

    async def _visit(self, number: int, due: float) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                line = await self._line(number)
                try:
                    await self._talk(line, self._devices[number], due)
                except BaseException:
                    line[1].close()
                    raise
                self._kept[number] = line
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            name = type(error).__name__
            self.counted.errors[name] = self.counted.errors.get(name, 0) + 1

    async def _line(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        kept = self._kept.pop(number, None)
        if kept is not None:
            if not kept[0].at_eof():
                self.counted.kept_lines += 1
                return kept
            kept[1].close()
        return await asyncio.open_connection(self._host, self._port)

    async def _talk(
        self, line: tuple[asyncio.StreamReader, asyncio.StreamWriter], device: dict[str, str], due: float
    ) -> None:
        reader, writer = line
        counted, host = self.counted, f"{self._host}:{self._port}"
        body = json.dumps({"release": None, "status": _STATUS}).encode()
        head = (
            f"POST /v1/devices/{device['id']}/heartbeat HTTP/1.1\r\nHost: {host}\r\n"
            f"User-Agent: shelfsight\r\n"
            f"Authorization: Bearer {device['token']}\r\nAccept-Encoding: identity\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        status, _ = await _answer(reader)
        heard = time.perf_counter()
        counted.heartbeat_ms.append(1000 * (heard - due))
        _note(counted, status, 200)
        asked = f"If-None-Match: {device['etag']}\r\n" if "etag" in device else ""
        writer.write(f"GET /v1/metadata/timestamp.json HTTP/1.1\r\nHost: {host}\r\n{asked}\r\n".encode())
        status, headers = await _answer(reader)
        counted.timestamp_ms.append(1000 * (time.perf_counter() - heard))
        _note(counted, status, 304 if asked else 200)
        device["etag"] = headers.get("etag", device.get("etag", '""'))


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    await reader.readexactly(int(headers.get("content-length", 0)))
    return int(lines[0].split()[1]), headers


def _note(counted: Counted, status: int, wanted: int) -> None:
    if status != wanted:
        counted.errors[f"status {status}"] = counted.errors.get(f"status {status}", 0) + 1


def main() -> None:
    """Play, and print what was counted as JSON."""
    address, devices, seconds, poll_s = sys.argv[1:]
    began = time.process_time()
    listed: list[dict[str, str]] = json.loads(Path(devices).read_text())
    player = Player(address, listed)
    asyncio.run(player.play(float(seconds), float(poll_s)))
    told: dict[str, Any] = vars(player.counted) | {"cpu_s": time.process_time() - began}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
