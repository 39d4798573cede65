"""Plays one morning: a fleet polls, a product is added and published, and the wave runs through it."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from cloud import signing
from cloud.fleet import Fleet
from cloud.processes import cpu_seconds, server_process
from cloud.publishing import publish
from cloud.serving import let_many_connect
from cloud.simulation.link import FAST, Link, Quality
from cloud.simulation.real import RealDevice
from cloud.simulation.scene import add_again, catalog_of, copy_workspace, draw_workspace, hold_back
from cloud.simulation.virtual import Character, VirtualDevice
from cloud.simulation.wave import Sample, Wave
from cloud.workspace import Workspace
from edge.disk import storage_error
from edge.errors import Freeze, ServerUnreachable, TryLater
from edge.model import Model

Progress = Callable[[str, int, int], None]
"""Told (task, done, of how many)."""

_ENROLLING: Final = 24  # devices that enroll at a time
_LOOK_EVERY_S: Final = 0.25
_SLOW: Final = 100e3  # bytes a second
_WRONG_CLOCKS: Final = (timedelta(days=3650), timedelta(days=-18_000))  # ten years ahead; 1977


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate.

    `slow`, `lossy` and `wrong_clocks` are shares (0..1) of the devices: with a line of 16 kB/s and 0.4 s
    there and back, with one that loses a tenth of all requests, and with a clock that is years off. `warm_s`
    seconds go by before the product is published, at most `longest_s` after it. The share `live` listens to
    hints. The first polls are spread over `phase_s`.
    """

    devices: int = 10_000
    real: int = 3
    slow: float = 0.1
    lossy: float = 0.2
    wrong_clocks: float = 0.001
    live: float = 1.0
    restarts_per_hour: float = 0.5
    trial_s: tuple[float, float] = (0.5, 4.0)
    warm_s: float = 75.0
    longest_s: float = 600.0
    phase_s: float = 60.0
    seed: int = 7


def simulate(data: Path | None, model: Model, plan: Plan, progress: Progress) -> Wave:
    """Play the plan in a copy of the data folder (None: in a small drawn shop), and return what was seen.

    The server is the real one in a process of its own, on loopback; everything is deleted at the end.

    Raises:
        NoRelease: the catalog has no product that could be added.
        ServerUnreachable: the server did not start.
        StorageUnusable, NoSpace: the copy cannot be made.
        ShelfsightError: publishing failed.
    """
    with ExitStack() as held:
        try:
            folder = Path(held.enter_context(TemporaryDirectory(prefix="shelfsight-simulation-")))
        except OSError as error:
            raise storage_error(error, Path("temporary folder")) from error
        workspace = (
            draw_workspace(folder, plan.seed) if data is None else copy_workspace(data, folder / "cloud")
        )
        return _Play(workspace, folder, model, plan, progress).play(held)


class _Play:
    """One simulation, from the first release to the last device."""

    def __init__(
        self, workspace: Workspace, folder: Path, model: Model, plan: Plan, progress: Progress
    ) -> None:
        self._workspace, self._folder, self._model = workspace, folder, model
        self._plan, self._progress = plan, progress
        self._chance = random.Random(plan.seed)
        self._wave = Wave(plan.devices, time.monotonic())
        self._base = 0
        self._target = 0
        self._server = 0
        self._most_listening = 0

    def play(self, held: ExitStack) -> Wave:
        self._most_listening = let_many_connect()
        catalog = catalog_of(self._workspace)
        newcomer = hold_back(catalog)
        self._base = self._publish()
        log = self._folder / "server.log"
        address, self._server = held.enter_context(server_process(self._workspace.data, log))
        real = self._real_devices(address)
        add_again(catalog, newcomer)
        asyncio.run(self._morning(address, real))
        return self._wave

    def _publish(self) -> int:
        return publish(
            self._workspace, self._model, progress=lambda done, all_: self._progress("Embedding", done, all_)
        ).release.version

    def _codes(self, count: int) -> list[str]:
        fleet = Fleet(self._workspace.sessions())
        return fleet.new_codes(signing.fingerprint(self._workspace.metadata), count, timedelta(hours=1))

    def _real_devices(self, address: str) -> list[RealDevice]:
        devices = []
        self._wave.real = [None] * self._plan.real
        for number, code in enumerate(self._codes(self._plan.real)):
            device = RealDevice(number, self._folder / f"real-{number}", self._told_by_real)
            device.enroll(address, code)
            devices.append(device)
            self._progress("Starting real devices", number + 1, self._plan.real)
        return devices

    def _told_by_real(self, number: int, version: int) -> None:
        if version == self._target and self._wave.offered is not None:
            self._wave.real[number] = round(time.monotonic() - self._wave.offered, 1)

    async def _morning(self, address: str, real: list[RealDevice]) -> None:
        devices = await self._virtual_devices(address)
        await self._give_base(devices, address)
        self._wave.began = time.monotonic()
        # Each device is somewhere in its minute, as after days of jitter.
        lives = [device.live(self._chance.uniform(0, self._plan.phase_s)) for device in devices]
        lives += [each.live(self._plan.warm_s + self._chance.uniform(5, 40)) for each in real]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(life) for life in lives]
            await self._wait("Polling", self._plan.warm_s, lambda: False)
            self._target = await asyncio.to_thread(self._publish)
            self._wave.offered = time.monotonic()
            await self._wait("Devices with the new release", self._plan.longest_s, self._is_over)
            self._wave.ended = time.monotonic()
            self._wave.rest.update(_how_far(each) for each in devices if each.id not in self._wave.installed)
            for task in tasks:
                task.cancel()

    async def _wait(self, task: str, most_s: float, is_over: Callable[[], bool]) -> None:
        began = time.monotonic()
        while (passed := time.monotonic() - began) < most_s and not is_over():
            if self._wave.offered is None:
                self._progress(task, int(passed), int(most_s))
            else:
                self._progress(task, len(self._wave.installed), self._wave.able)
            before = time.monotonic()
            await asyncio.sleep(_LOOK_EVERY_S)
            now = time.monotonic()
            late = max(0.0, now - before - _LOOK_EVERY_S)
            self._wave.samples.append(Sample(now, cpu_seconds(self._server), time.process_time(), late))

    def _is_over(self) -> bool:
        return len(self._wave.installed) >= self._wave.able and None not in self._wave.real

    async def _virtual_devices(self, address: str) -> list[VirtualDevice]:
        """Enroll the fleet over the wire, some at a time."""
        numbered = enumerate(self._codes(self._plan.devices))
        devices: list[VirtualDevice] = []

        async def enroll_some() -> None:
            with Link(address, "", FAST, random.Random(self._plan.seed)) as link:
                for number, code in numbered:
                    info = {"name": f"virtual-{number}", "class": "kiosk", "version": "simulated"}
                    body = {"code": code, "device": info}
                    said = await link.post("/v1/devices/enroll", body, "enroll")
                    devices.append(self._device(number, said["device_id"], said["token"], address))
                    self._progress("Enrolling", len(devices), self._plan.devices)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_ENROLLING):
                    group.create_task(enroll_some())
        except* TryLater as errors:
            raise ServerUnreachable(f"the server took no device ({errors.exceptions[0]})") from errors
        return devices

    async def _give_base(self, devices: list[VirtualDevice], address: str) -> None:
        """Let one device fetch the first release over a good line, and copy its disk to the others."""
        first = devices[0]
        patient = VirtualDevice(
            first.id,
            first.token,
            address,
            character=Character(FAST, timedelta(0), 0, (0, 0)),
            chance=self._chance,
            tell=lambda *_: None,
        )
        await patient.visit()
        if patient.memory.release != self._base:
            raise ServerUnreachable(f"a virtual device could not take release {self._base}: see the server")
        for device in devices:
            device.memory = patient.memory.copied()

    def _device(self, number: int, id_: str, token: str, address: str) -> VirtualDevice:
        plan, wave = self._plan, self._wave
        chance = random.Random(f"{plan.seed}/{number}")  # the same device whoever enrolls first
        slow, lossy = chance.random() < plan.slow, chance.random() < plan.lossy
        wrong = chance.random() < plan.wrong_clocks
        line = Quality(0.1 if lossy else 0.002, 16e3 if slow else 1e6, 0.4 if slow else 0.03)
        clock = chance.choice(_WRONG_CLOCKS) if wrong else timedelta(seconds=chance.gauss(0, 30))
        wave.clock_wrong += clock > timedelta(days=1)
        live = chance.random() < plan.live and wave.listening < self._most_listening
        wave.listening += live
        character = Character(line, clock, plan.restarts_per_hour, plan.trial_s, live)
        return VirtualDevice(id_, token, address, character=character, chance=chance, tell=self._note)

    def _note(self, device: VirtualDevice, what: str, value: Any) -> None:
        wave, now = self._wave, time.monotonic()
        if what == "poll":
            wave.polls.append((now, value))
        elif what == "installed" and value == self._target:
            wave.installed[device.id] = now
        elif what == "error":
            wave.errors.append((now, value))
        elif what == "traffic":
            wave.went(device.id, now, value)


def _how_far(device: VirtualDevice) -> str:
    """Say in a word why a device does not have the release yet."""
    if device.trouble == Freeze.code:
        return "refuses: freeze"
    if device.doing == "taking":
        return "takes it, on a slow line" if device.character.line.bytes_per_s < _SLOW else "takes it"
    if device.doing == "waiting":
        return f"waits after {device.trouble}" if device.trouble else "waits for its next poll"
    return device.doing
