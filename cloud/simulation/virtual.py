"""One virtual device: polls, fetches, checks every hash, resumes what was cut, backs off, restarts, drifts.

It goes the way of `devices.visit` and `edge.updater` request by request. It does not run the network, and
leaves signatures to the real devices of the sample; what a trial takes on a kiosk it waits out.
"""

import asyncio
import hashlib
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urljoin

from cloud.simulation.link import Link, PartlyHere, Quality, Traffic, hints
from edge.errors import (
    CutShort,
    Freeze,
    HashMismatch,
    Rollback,
    ServerUnreachable,
    ShelfsightError,
    TryLater,
)
from edge.fields import parse_json
from edge.heartbeat import HeartbeatAnswer
from edge.release import FileEntry, Release
from edge.trust import manifest_name

_JITTER: Final = 0.1  # as devices.sync_loop
_FIRST_BACKOFF_S: Final = 2.0
_LONGEST_BACKOFF_S: Final = 600.0
_CPU: Final = frozenset({"cpu"})


@dataclass(frozen=True, slots=True)
class Character:
    """What makes a virtual device unlike others: its line, its clock, its restarts, its speed.

    `restarts_per_hour` is a mean; `trial_s` the least and most seconds that preparing and trying out take.
    `live` is whether it listens to hints.
    """

    line: Quality
    clock_ahead: timedelta
    restarts_per_hour: float
    trial_s: tuple[float, float]
    live: bool = False


@dataclass(slots=True)
class Memory:
    """What is on a virtual device's disk, and so outlives a restart."""

    release: int | None = None
    assortment: str = ""
    files: dict[str, int] = field(default_factory=dict)
    parts: dict[str, bytes] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)  # of TUF metadata, by role
    root: int = 1

    def copied(self) -> "Memory":
        """Return a disk with the same on it."""
        return replace(self, files=dict(self.files), parts=dict(self.parts), versions=dict(self.versions))


Tell = Callable[["VirtualDevice", str, Any], None]
"""Told (device, what, value): `poll` (seconds), `installed` (version), `error` (code), `received` (bytes)."""


class VirtualDevice:
    """A device without a camera, a network or a disk, that behaves on the wire like a real one."""

    def __init__(
        self, id_: str, token: str, base_url: str, *, character: Character, chance: random.Random, tell: Tell
    ) -> None:
        self.id, self.character, self.memory = id_, character, Memory()
        self.token, self._base_url = token, base_url
        self._chance, self._tell = chance, tell
        self._failures = 0
        self._woken = asyncio.Event()
        self._hints: str | None = None

    async def live(self, first_poll_s: float) -> None:
        """Poll until cancelled, for the first time after `first_poll_s`, and whenever a hint comes."""
        await asyncio.sleep(first_poll_s)
        line: asyncio.Task[None] | None = None
        try:
            while True:
                wait = await self.visit()
                if line is None and self.character.live and self._hints is not None:
                    line = asyncio.create_task(self._listen(self._hints))
                restart = self._next_restart_s()
                if restart < wait:
                    await _end(line)
                    line = None
                    await asyncio.sleep(restart + self._chance.uniform(5, 30))  # off, and starting again
                    self._failures = 0
                    continue
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), wait)
                self._woken.clear()
        finally:
            await _end(line)

    async def _listen(self, address: str) -> None:
        """Hold a line of hints open; one that breaks is made anew after a while."""
        while True:
            async for version, spread_s in hints(address, self.token):
                if version is None or version > (self.memory.release or 0):
                    await asyncio.sleep(self._chance.uniform(0, spread_s))
                    self._woken.set()
            self._tell(self, "error", "hints_lost")
            await asyncio.sleep(self._chance.uniform(0, 2 * _FIRST_BACKOFF_S))

    def _next_restart_s(self) -> float:
        often = self.character.restarts_per_hour
        return self._chance.expovariate(often / 3600) if often > 0 else float("inf")

    async def visit(self) -> float:
        """Go to the server once; return how long to wait for the next time, in seconds."""
        loop = asyncio.get_running_loop()
        link = Link(self._base_url, self.token, self.character.line, self._chance)
        try:
            async with link:
                began = loop.time()
                answer = await self._heartbeat(link)
                self._tell(self, "poll", loop.time() - began)
                if answer.offered is not None and answer.offered != self.memory.release:
                    await self._take(link, answer.offered, answer.assortment)
                    await self._heartbeat(link)
        except TryLater as error:
            self._failures += 1
            code = (CutShort if isinstance(error, CutShort) else error).code
            self._tell(self, "error", code)
            bound = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(self._failures, 30))
            return (error.retry_after or 0.0) + self._chance.uniform(0, bound)
        except ShelfsightError as error:
            self._tell(self, "error", error.code)
            return self._chance.uniform(54, 66)
        finally:
            self._account(link.traffic)
        self._failures = 0
        return answer.next_poll_s * self._chance.uniform(1 - _JITTER, 1 + _JITTER)

    def _account(self, traffic: Traffic) -> None:
        self._tell(self, "received", traffic.received)

    async def _heartbeat(self, link: Link) -> HeartbeatAnswer:
        status = {"name": self.id, "class": "kiosk", "floor": self.memory.release or 0, "outbox": 0}
        body = {"release": self.memory.release, "status": status}
        answer = HeartbeatAnswer.from_record(await link.post(f"/v1/devices/{self.id}/heartbeat", body))
        where = answer.hints.get("sse")
        self._hints = urljoin(self._base_url, where) if isinstance(where, str) else None
        return answer

    async def _take(self, link: Link, version: int, assortment: str) -> None:
        release = await self._manifest(link, version, assortment)
        known = self.memory.files
        for entry in release.needed_files(_CPU):
            can_merge = bool(entry.merge) and all(name in known for name in entry.merge)
            if entry.sha256 not in known and not can_merge:
                await self._fetch(link, entry)
            known[entry.sha256] = entry.size
        await asyncio.sleep(self._chance.uniform(*self.character.trial_s))
        kept = {entry.sha256 for entry in release.files}
        self.memory.files = {name: size for name, size in known.items() if name in kept}
        self.memory.release, self.memory.assortment = version, assortment
        self._tell(self, "installed", version)

    async def _manifest(self, link: Link, version: int, assortment: str) -> Release:
        """Follow the chain of metadata, root to manifest, and check every hash in it."""
        while await link.get(f"/v1/metadata/{self.memory.root + 1}.root.json") is not None:
            self.memory.root += 1
        timestamp = self._signed(await self._metadata(link, "timestamp.json"), "timestamp")
        snapshot = await self._named(link, timestamp, "snapshot")
        targets = await self._named(link, snapshot, "targets")
        name = manifest_name(version, assortment)
        if "delegations" in targets:  # to the bin that the hash of the name falls into
            bin_ = hashlib.sha256(name.encode()).digest()[0] >> 2
            targets = await self._named(link, snapshot, f"bin-{bin_:02x}")
        target = targets["targets"].get(name)
        if target is None:
            raise HashMismatch(f"release {version} is offered and not signed")
        sha256 = target["hashes"]["sha256"]
        data = await self._whole(link, f"/v1/files/{sha256}", sha256)
        return Release.from_bytes(data)

    async def _named(self, link: Link, above: dict[str, Any], role: str) -> dict[str, Any]:
        meta = above["meta"][f"{role}.json"]
        version = meta["version"]
        data = await self._metadata(link, f"{version}.{role}.json")
        signed = meta.get("hashes", {}).get("sha256")  # a bin is told by its number alone
        if signed is not None and hashlib.sha256(data).hexdigest() != signed:
            raise HashMismatch(f"{version}.{role}.json is not what was signed")
        return self._signed(data, role)

    def _signed(self, data: bytes, role: str) -> dict[str, Any]:
        """Read metadata, and judge its date and number as a device with this clock does."""
        record = parse_json(data, role, HashMismatch)
        signed: dict[str, Any] = record["signed"] if isinstance(record, dict) else {}
        now = datetime.now(UTC) + self.character.clock_ahead
        if datetime.fromisoformat(signed["expires"]) < now:
            raise Freeze(f"{role} has expired by this device's clock")
        if signed["version"] < self.memory.versions.get(role, 0):
            raise Rollback(f"{role} {signed['version']} is older than known")
        self.memory.versions[role] = signed["version"]
        return signed

    async def _metadata(self, link: Link, name: str) -> bytes:
        data = await link.get(f"/v1/metadata/{name}")
        if data is None:
            raise ServerUnreachable(f"{name} is not there")
        return data

    async def _whole(self, link: Link, path: str, sha256: str) -> bytes:
        data = await link.get(path)
        if data is None:
            raise ServerUnreachable(f"{path} is not there")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise HashMismatch(f"{path} is not what was signed")
        return data

    async def _fetch(self, link: Link, entry: FileEntry) -> None:
        """Download a file, going on where the line broke before."""
        held = self.memory.parts.get(entry.sha256, b"")
        try:
            data = await link.get(f"/v1/files/{entry.sha256}", held)
        except PartlyHere as cut:
            self.memory.parts[entry.sha256] = held + cut.partial
            raise
        self.memory.parts.pop(entry.sha256, None)
        if data is None:
            raise ServerUnreachable(f"file {entry.sha256} is not there")
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise HashMismatch(f"file {entry.sha256} is not what was signed")


async def _end(task: "asyncio.Task[None] | None") -> None:
    if task is not None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
