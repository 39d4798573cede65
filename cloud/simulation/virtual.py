"""One virtual device: polls, fetches, checks every hash, resumes what was cut, backs off, restarts, drifts.

It goes the way of `devices.sync_loop`, `devices.visit` and `edge.updater` request by request. It does not run
the network, and leaves signatures to the real devices of the sample; what a trial takes on a kiosk it waits
out.
"""

import asyncio
import hashlib
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urljoin

from cloud.simulation.link import Link, Quality, Traffic, hear_hints
from edge.errors import Freeze, HashMismatch, Rollback, ServerUnreachable, ShelfsightError, TryLater
from edge.fields import parse_json
from edge.heartbeat import HeartbeatAnswer
from edge.release import FileEntry, Release
from edge.trust import manifest_name

_JITTER: Final = 0.1  # these as `devices.waits` and `devices.hints`
_FIRST_BACKOFF_S: Final = 2.0
_LONGEST_BACKOFF_S: Final = 600.0
_MISSED_SPREAD_S: Final = 5.0
_LIVED_S: Final = 30.0
_OFF_S: Final = (5.0, 30.0)
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
    parts: dict[str, bytearray] = field(default_factory=dict)
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)  # of TUF, by role; never changed
    root: int = 1

    def copied(self) -> "Memory":
        """Return a disk with the same on it."""
        return replace(self, files=dict(self.files), parts=dict(self.parts), metadata=dict(self.metadata))


Tell = Callable[["VirtualDevice", str, Any], None]
"""Told (device, what, value): `poll` (seconds), `installed` (version), `error` (code), `traffic`."""


class VirtualDevice:
    """A device without a camera, a network or a disk, that behaves on the wire like a real one.

    Attributes:
        doing: what it does at this moment: "waiting", "visiting", "taking" a release, or "off".
        trouble: the code of what its last visit failed with; None if it did not.
    """

    def __init__(
        self, id_: str, token: str, base_url: str, *, character: Character, chance: random.Random, tell: Tell
    ) -> None:
        self.id, self.character, self.memory = id_, character, Memory()
        self.token, self._base_url = token, base_url
        self.doing = "waiting"
        self.trouble: str | None = None
        self._chance, self._tell = chance, tell
        self._failures = 0
        self._woken = asyncio.Event()
        self._ringing: asyncio.TimerHandle | None = None
        self._hints: str | None = None
        self._line: asyncio.Task[None] | None = None
        self._line_traffic = Traffic()

    async def live(self, first_poll_s: float) -> None:
        """Poll until cancelled, for the first time after `first_poll_s`, and whenever a hint comes.

        Now and then it is switched off, also in the middle of a visit, and started again.
        """
        await asyncio.sleep(first_poll_s)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._next_restart_s()):
                    await self._run()
            self.doing = "off"
            await asyncio.sleep(self._chance.uniform(*_OFF_S))
            self._failures = 0

    async def _run(self) -> None:
        """Poll, and listen, until the power is cut."""
        try:
            while True:
                self._woken.clear()  # whatever was rung until now, this visit answers
                wait = await self.visit()
                if self._line is None and self.character.live and self._hints is not None:
                    self._line = asyncio.create_task(self._listen(self._hints))
                if self._failures:
                    await asyncio.sleep(wait)  # no hint makes it come sooner
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._woken.wait()
        finally:
            line, self._line = self._line, None
            if line is not None:
                line.cancel()
            if self._ringing is not None:
                self._ringing.cancel()

    async def _listen(self, address: str) -> None:
        """Hold a line of hints open; one that breaks is made anew, later each time."""
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            began = loop.time()
            if failures:
                self._heard(None, _MISSED_SPREAD_S)
            wait = await hear_hints(address, self.token, self._heard, self._line_traffic)
            self._tell(self, "error", "hints_lost" if wait is None else "hints_refused")
            failures = 1 if loop.time() - began > _LIVED_S else failures + 1
            await asyncio.sleep(self._backoff_s(failures, wait))

    def _heard(self, version: int | None, spread_s: float) -> None:
        if version is None or version > (self.memory.release or 0):
            if self._ringing is not None:
                self._ringing.cancel()
            wait = self._chance.uniform(0, spread_s)
            self._ringing = asyncio.get_running_loop().call_later(wait, self._woken.set)

    def _next_restart_s(self) -> float | None:
        often = self.character.restarts_per_hour
        return self._chance.expovariate(often / 3600) if often > 0 else None

    def _backoff_s(self, failures: int, asked: float | None) -> float:
        bound = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(failures, 30))
        return (asked or 0.0) + self._chance.uniform(0, bound)

    async def visit(self) -> float:
        """Go to the server once; return how long to wait for the next time, in seconds."""
        loop = asyncio.get_running_loop()
        self.doing = "visiting"
        with Link(self._base_url, self.token, self.character.line, self._chance) as link:
            try:
                began = loop.time()
                answer = await self._heartbeat(link)
                self._tell(self, "poll", loop.time() - began)
                if answer.offered is not None and answer.offered != self.memory.release:
                    self.doing = "taking"
                    await self._take(link, answer.offered, answer.assortment)
                    await self._heartbeat(link)
                self._failures, self.trouble = 0, None
            except TryLater as error:
                self._failures += 1
                self._failed(error)
                return self._backoff_s(self._failures, error.retry_after)
            except ShelfsightError as error:  # refused: the release in use stays, and the poll goes on
                self._failures = 0
                self._failed(error)
            finally:
                self.doing = "waiting"
                self._tell(self, "traffic", self._all_traffic(link))
        return answer.next_poll_s * self._chance.uniform(1 - _JITTER, 1 + _JITTER)

    def _all_traffic(self, link: Link) -> Traffic:
        """Return what went over both lines since the last visit."""
        heard, told = self._line_traffic, link.traffic
        both = Traffic(told.received + heard.received, told.sent + heard.sent)
        heard.received.clear()
        heard.sent = 0
        return both

    def _failed(self, error: ShelfsightError) -> None:
        self.trouble = error.code
        self._tell(self, "error", error.code)

    async def _heartbeat(self, link: Link) -> HeartbeatAnswer:
        status = {"name": self.id, "class": "kiosk", "floor": self.memory.release or 0, "outbox": 0}
        body = {"release": self.memory.release, "status": status}
        said = await link.post(f"/v1/devices/{self.id}/heartbeat", body, "heartbeat")
        answer = HeartbeatAnswer.from_record(said)
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
        link.close()  # the server would not leave it open for so long
        await asyncio.sleep(self._chance.uniform(*self.character.trial_s))
        kept = {entry.sha256 for entry in release.files}
        self.memory.files = {name: size for name, size in known.items() if name in kept}
        self.memory.release, self.memory.assortment = version, assortment
        self._tell(self, "installed", version)

    async def _manifest(self, link: Link, version: int, assortment: str) -> Release:
        """Follow the chain of metadata, root to manifest, and check every hash in it."""
        while await link.get(f"/v1/metadata/{self.memory.root + 1}.root.json", "metadata") is not None:
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
        return _release(await self._whole(link, f"/v1/files/{sha256}", sha256, "manifest"))

    async def _named(self, link: Link, above: dict[str, Any], role: str) -> dict[str, Any]:
        meta = above["meta"][f"{role}.json"]
        version, known = meta["version"], self.memory.metadata.get(role)
        if known is not None and known["version"] == version:
            return self._in_time(known, role)
        data = await self._metadata(link, f"{version}.{role}.json")
        signed = meta.get("hashes", {}).get("sha256")  # a bin is told by its number alone
        if signed is not None and hashlib.sha256(data).hexdigest() != signed:
            raise HashMismatch(f"{version}.{role}.json is not what was signed")
        return self._signed(data, role)

    def _signed(self, data: bytes, role: str) -> dict[str, Any]:
        """Read metadata, judge its date and number as a device with this clock does, and keep it."""
        signed = _signed_part(data)
        known = self.memory.metadata.get(role)
        if known is not None and signed["version"] < known["version"]:
            raise Rollback(f"{role} {signed['version']} is older than known")
        self.memory.metadata[role] = self._in_time(signed, role)
        return signed

    def _in_time(self, signed: dict[str, Any], role: str) -> dict[str, Any]:
        now = datetime.now(UTC) + self.character.clock_ahead
        if datetime.fromisoformat(signed["expires"]) < now:
            raise Freeze(f"{role} has expired by this device's clock")
        return signed

    async def _metadata(self, link: Link, name: str) -> bytes:
        data = await link.get(f"/v1/metadata/{name}", "metadata")
        if data is None:
            raise ServerUnreachable(f"{name} is not there")
        return data

    async def _whole(self, link: Link, path: str, sha256: str, kind: str) -> bytes:
        data = await link.get(path, kind)
        if data is None:
            raise ServerUnreachable(f"{path} is not there")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise HashMismatch(f"{path} is not what was signed")
        return data

    async def _fetch(self, link: Link, entry: FileEntry) -> None:
        """Download a file, going on where the line broke before."""
        held = self.memory.parts.setdefault(entry.sha256, bytearray())
        data = await link.get(f"/v1/files/{entry.sha256}", "files", held)
        self.memory.parts.pop(entry.sha256)
        if data is None:
            raise ServerUnreachable(f"file {entry.sha256} is not there")
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise HashMismatch(f"file {entry.sha256} is not what was signed")


# Each device checks the bytes that it got; what they say is read once for all, and never changed.


@lru_cache(maxsize=256)
def _signed_part(data: bytes) -> dict[str, Any]:
    record = parse_json(data, "metadata", HashMismatch)
    signed = record.get("signed") if isinstance(record, dict) else None
    if not isinstance(signed, dict):
        raise HashMismatch("metadata without a signed part")
    return signed


@lru_cache(maxsize=64)
def _release(data: bytes) -> Release:
    return Release.from_bytes(data)
