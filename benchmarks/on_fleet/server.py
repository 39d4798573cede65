"""What ten thousand devices cost the server: a heartbeat and a question for the timestamp a minute from each.

The server is `shelfsight-cloud serve` in a process of its own, once on SQLite and once on PostgreSQL; the
devices are played by another process (`visits.py`), for a minute, after a few seconds that do not count.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cloud import signing
from cloud.database import transaction
from cloud.fleet import DeviceRow
from cloud.processes import clean_environment
from cloud.times import now
from cloud.workspace import Workspace
from tools.servers import postgres_programs, running_postgres

_ROOT = Path(__file__).resolve().parents[2]
_POLL_S = 60.0


@dataclass(frozen=True)
class Size:
    """How many devices come by how often, and for how long they are watched."""

    devices: int = 10_000
    poll_s: float = _POLL_S
    warm_s: float = 5.0
    seconds: float = 60.0


QUICK = Size(devices=200, poll_s=1.2, warm_s=0.5, seconds=3.0)


def measure(scratch: Path, *, quick: bool = False) -> dict[str, object]:
    """Return `server.poll_p99_ms`, `server.errors` and `server.cpu`: the worse database's, and each one's."""
    size = QUICK if quick else Size()
    told: dict[str, object] = {"server.devices": size.devices}
    results = {}
    for name in ("sqlite", "postgresql"):
        if name == "postgresql" and postgres_programs() is None:
            told["server.left_out"] = "postgresql: it is not installed"
            continue
        folder = scratch / f"server-{name}"
        folder.mkdir(parents=True)
        # As safe as people run it, unlike in the tests: every commit is brought to the disk.
        with running_postgres({}) if name == "postgresql" else nullcontext() as postgres:
            url = postgres.url(postgres.create()) if postgres is not None else None
            results[name] = _measure_one(folder, url, size)
    for key in ("poll_p99_ms", "errors", "cpu"):
        told[f"server.{key}"] = max(result[key] for result in results.values())
    for name, result in results.items():
        told |= {f"server.{name}_{key}": value for key, value in result.items()}
    return told


def _measure_one(folder: Path, url: str | None, size: Size) -> dict[str, Any]:
    workspace = Workspace.create(folder / "data", url)
    signing.create_repository(workspace.metadata, workspace.keys)
    devices = _enroll(workspace, size.devices)
    listed = folder / "devices.json"
    listed.write_text(json.dumps(devices))
    with running(workspace) as (address, pid):
        if size.warm_s:
            _play(address, listed, size.warm_s, size.poll_s)
        before, began = cpu_s(pid), time.monotonic()
        counted = _play(address, listed, size.seconds, size.poll_s)
        cpu = (cpu_s(pid) - before) / (time.monotonic() - began)
        memory = _memory_mib(pid)
    every = np.array(counted["heartbeat_ms"] + counted["timestamp_ms"])
    return {
        "poll_p99_ms": round(float(np.percentile(every, 99)), 2),
        "poll_p50_ms": round(float(np.percentile(every, 50)), 2),
        "heartbeat_p99_ms": round(float(np.percentile(counted["heartbeat_ms"], 99)), 2),
        "poll_most_ms": round(float(every.max()), 1),
        "errors": sum(counted["errors"].values()),
        "error_kinds": counted["errors"],
        "kept_lines": counted["kept_lines"],
        "requests_per_s": round(len(every) / size.seconds, 1),
        "cpu": round(cpu, 3),
        "memory_mib": memory,
        "generator_cpu": round(counted["cpu_s"] / size.seconds, 3),
        "generator_late_p99_ms": round(float(np.percentile(counted["late_ms"], 99)), 2),
    }


def _enroll(workspace: Workspace, count: int) -> list[dict[str, str]]:
    """Put devices into the database as if each had brought a code; return their ids and tokens."""
    devices = [{"id": f"d-{number:012x}", "token": f"token-{number}"} for number in range(count)]
    sessions = workspace.sessions()
    with transaction(sessions) as session:
        session.add_all(
            DeviceRow(
                id=device["id"],
                name=device["id"],
                device_class="kiosk",
                software="0.1.0",
                store=None,
                token_sha256=hashlib.sha256(device["token"].encode()).hexdigest(),
                enrolled=now(),
                last_seen=now(),
                release=None,
                status={},
            )
            for device in devices
        )
    sessions.kw["bind"].dispose()
    return devices


@contextmanager
def running(workspace: Workspace, *options: str) -> Iterator[tuple[str, int]]:
    """Run `shelfsight-cloud serve`; yields its address and the number of its process."""
    command = [sys.executable, "-m", "cloud.commands", "serve", "--port", "0", "--data", str(workspace.data)]
    command += ["--database", workspace.database_url] if workspace.database_url else []
    with (
        (workspace.data / "server.log").open("wb") as log,
        subprocess.Popen(
            [*command, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=clean_environment(),
            text=True,
        ) as server,
    ):
        try:
            assert server.stdout is not None
            greeting = server.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", greeting)
            if found is None:
                raise RuntimeError(f"the server did not start: see {log.name}")
            yield found[0], server.pid
        finally:
            server.terminate()


def cpu_s(pid: int) -> float:
    """Return the seconds of processor time that a process has used, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mib(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return round(int(found[1]) / 1024, 1) if found else 0.0


def _play(address: str, devices: Path, seconds: float, poll_s: float) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("visits.py")), address, str(devices)]
    done = subprocess.run(
        [*command, str(seconds), str(poll_s)], check=True, stdout=subprocess.PIPE, cwd=_ROOT, text=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told
