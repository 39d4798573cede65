"""How fast a device keeps what it has to tell, and brings it to the server.

`durable`: events added one by one, each on the disk when the call returns. `batched`: added 500 at a time,
read back, packed for the wire and forgotten as after the answer. `delivered`: the same road with the server
in it, `shelfsight-cloud serve` in a process of its own.
"""

import gzip
import json
import os
import statistics
import time
from pathlib import Path

from cloud import signing
from cloud.fleet import DeviceInfo, Fleet
from cloud.processes import running_server
from cloud.workspace import Workspace
from devices.delivery import BATCH, deliver
from devices.line import Line
from edge.events import Event, new_event
from edge.outbox import CAPACITY, Outbox
from edge.transport import Transport


def measure(scratch: Path, *, quick: bool = False) -> dict[str, object]:
    """Return `outbox.durable_per_s` and `outbox.batched_per_s`, and what explains them."""
    scratch.mkdir(parents=True, exist_ok=True)
    some, many = (200, 5_000) if quick else (3_000, 100_000)
    batched, packed = _batched(scratch / "batched.db", many)
    return {
        "outbox.durable_per_s": round(_durable(scratch / "durable.db", some, full=0)),
        "outbox.durable_full_per_s": round(
            _durable(scratch / "full.db", some, full=many if quick else CAPACITY)
        ),
        "outbox.batched_per_s": round(batched),
        "outbox.delivered_per_s": round(_delivered(scratch, many // 10)),
        "outbox.wire_bytes_an_event": round(packed, 1),
        "outbox.fsync_ms": round(_fsync_ms(scratch / "fsync"), 3),
    }


def _searched(number: int) -> Event:
    """Make an event as a kiosk tells most of."""
    data = {
        "verdict": "match",
        "sku": f"sku-{number % 997:05d}",
        "similarity": 0.5 + number % 499 / 1000,
        "release": 7,
        "ms": 4 + number % 13,
    }
    return new_event("d-0123456789ab", "searched", data)


def _durable(path: Path, count: int, *, full: int) -> float:
    """Add events one by one, to an outbox that is full already with `full` of them; return them a second."""
    events = [_searched(number) for number in range(count)]
    with Outbox(path, capacity=full or CAPACITY) as outbox:
        for begin in range(0, full, BATCH):
            outbox.add_many([_searched(number) for number in range(begin, begin + BATCH)])
        began = time.perf_counter()
        for event in events:
            outbox.add(event)
        return count / (time.perf_counter() - began)


def _batched(path: Path, count: int) -> tuple[float, float]:
    """Return events a second on the whole road but the server, and bytes on the wire an event."""
    sent = 0
    with Outbox(path) as outbox:
        began = time.perf_counter()
        for begin in range(0, count, BATCH):
            outbox.add_many([_searched(number) for number in range(begin, begin + BATCH)])
        while batch := outbox.batch(BATCH):
            body = {"events": [event.to_record() for event in batch]}
            sent += len(gzip.compress(json.dumps(body, allow_nan=False).encode(), 5))
            outbox.acknowledge(event.id for event in batch)
        return count / (time.perf_counter() - began), sent / count


def _delivered(scratch: Path, count: int) -> float:
    """Return how many events a second come from the disk of a device onto the disk of a server."""
    workspace = Workspace.create(scratch / "cloud")
    signing.create_repository(workspace.metadata, workspace.keys)
    fleet = Fleet(workspace.sessions())
    code = fleet.new_code(signing.fingerprint(workspace.metadata))
    device, token = fleet.enroll(code, DeviceInfo("bench", "kiosk", "0"))
    with (
        Outbox(scratch / "delivered.db") as outbox,
        running_server(scratch / "cloud", scratch / "server.log") as url,
        Transport(url, token=token) as transport,
    ):
        outbox.add_many([_searched(number) for number in range(count)])
        began = time.perf_counter()
        taken = deliver(outbox, transport, f"/v1/devices/{device}/events", Line())
        return taken / (time.perf_counter() - began)


def _fsync_ms(path: Path) -> float:
    """Return how long this disk takes for the least that it can promise, the median of 100."""
    times = []
    with path.open("wb") as file:
        for _ in range(100):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)
