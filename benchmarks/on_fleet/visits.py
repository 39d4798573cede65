"""Plays the visits of many devices to a server, open loop: nobody waits for somebody else's answer.

    python visits.py ADDRESS DEVICES.json SECONDS POLL_S

A process of its own, so that the server's figures are the server's. A visit is what a device does once a minute:
it connects, says how it is, asks whether the signed timestamp has changed, and goes. Each device comes at a
moment of its own within its minute; times count from the moment at which it should have come.
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


async def play(address: str, devices: list[dict[str, str]], seconds: float, poll_s: float) -> Counted:
    """Let every device come by each `poll_s` seconds, for `seconds`."""
    counted = Counted()
    split = urlsplit(address)
    host, port = str(split.hostname), int(split.port or 80)
    phases = random.Random(5)
    moments = sorted(
        (phase + lap * poll_s, number)
        for number, phase in enumerate(phases.uniform(0, poll_s) for _ in devices)
        for lap in range(int(seconds // poll_s) + 1)
        if phase + lap * poll_s < seconds
    )
    began = time.perf_counter() + 0.2
    running: set[asyncio.Task[None]] = set()
    for offset, number in moments:
        due = began + offset
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        counted.late_ms.append(1000 * (time.perf_counter() - due))
        task = asyncio.create_task(_visit(counted, host, port, devices[number], due))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return counted


async def _visit(counted: Counted, host: str, port: int, device: dict[str, str], due: float) -> None:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                await _talk(counted, reader, writer, f"{host}:{port}", device, due)
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
        name = type(error).__name__
        counted.errors[name] = counted.errors.get(name, 0) + 1


async def _talk(
    counted: Counted,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    host: str,
    device: dict[str, str],
    due: float,
) -> None:
    body = json.dumps({"release": None, "status": _STATUS}).encode()
    head = (
        f"POST /v1/devices/{device['id']}/heartbeat HTTP/1.1\r\nHost: {host}\r\nUser-Agent: shelfsight\r\n"
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
    counted = asyncio.run(play(address, listed, float(seconds), float(poll_s)))
    told: dict[str, Any] = vars(counted) | {"cpu_s": time.process_time() - began}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
