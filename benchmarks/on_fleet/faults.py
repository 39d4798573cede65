"""What is left of a device that is killed in the middle of an update, some hundred times.

A real server process, a slow line so that kills land in downloads, real devices that run `shelfsight sync
--once`. Each is killed (SIGKILL) at a random moment: of its time, or soon after one of the steps of an update
shows on its disk. After every kill the device must have the old or the new release, whole, signed and
answering; after at most three it is let run to its end, which must bring the new release. Only where three
kills in a row fell into its trial must it be set aside: so does a release that takes down the machine.
"""

import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from cloud.bundled import find_model
from cloud.processes import clean_environment, device_program
from edge.installation import Installation
from edge.ledger import CHANCES, Ledger
from edge.model import open_model
from on_fleet.fault_shop import NEW, OLD, FaultDevice, FaultShop, fault_shop

_RATE = 2_000_000.0
_IN_A_ROW = 3
_PATIENCE_S = 120.0


def measure(scratch: Path, *, quick: bool = False) -> dict[str, object]:
    """Kill devices 300 times (`quick`: 6) and return `faults.kills`, `faults.broken`, `faults.resent_share`.

    `faults.kills_in` counts the kills by the step that they fell into, `faults.said` holds what was broken.
    """
    models = (open_model(find_model(Path("general"))), open_model(find_model(Path("grocery"))))
    toll = _Toll(6 if quick else 300)
    count = 1 if quick else 2
    with (
        fault_shop(scratch, models, devices=count, rate=_RATE) as shop,
        ThreadPoolExecutor(count) as pool,
    ):
        rounds = [
            pool.submit(_Victim(shop, device, toll, scratch / f"victim-{number}", seed=number).live)
            for number, device in enumerate(shop.devices)
        ]
        for each in rounds:
            each.result()
    return {
        "faults.kills": toll.kills,
        "faults.broken": len(toll.broken),
        "faults.resent_share": round(toll.resent / max(1, toll.needed), 5),
        "faults.kills_in": dict(toll.steps),
        "faults.ended": dict(toll.ended),
        "faults.needed_bytes": toll.needed,
        "faults.said": toll.broken[:20],
    }


@dataclass
class _Toll:
    """What the kills left, counted over all devices."""

    wanted: int
    kills: int = 0
    resent: int = 0
    needed: int = 0
    broken: list[str] = field(default_factory=list)
    steps: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, step: str, trouble: str | None) -> None:
        with self.lock:
            self.kills += 1
            self.steps[step] += 1
            if trouble:
                self.broken.append(f"killed in {step}: {trouble}")

    def end(self, how: str, trouble: str | None, resent: int, needed: int) -> None:
        with self.lock:
            self.ended[how] += 1
            self.resent += resent
            self.needed += needed
            if trouble:
                self.broken.append(f"at the end of a round: {trouble}")


class _Victim:
    """One device that is killed again and again, each time from the same beginning."""

    def __init__(self, shop: FaultShop, device: FaultDevice, toll: _Toll, folder: Path, seed: int) -> None:
        self._shop, self._device, self._toll, self._folder = shop, device, toll, folder
        self._chance = random.Random(seed)
        self._lasts = 4.0
        self._trials = 0  # kills of this round that fell into the trial

    def live(self) -> None:
        self._begin()
        began = time.monotonic()
        self._end("quiet")
        self._lasts = time.monotonic() - began
        while self._toll.kills < self._toll.wanted:
            self._begin()
            for _ in range(self._chance.randint(1, _IN_A_ROW)):
                if not self._kill():
                    break
            self._end("killed")

    def _begin(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(self._device.folder, self._folder)
        self._device.line.forget()
        self._trials = 0

    def _kill(self) -> bool:
        """Start a sync and kill it; False where it had done all it does before."""
        moment = self._chance.choice(_MOMENTS)
        after_s = self._chance.uniform(0, _SPREAD_S.get(moment, 0.05))
        began = time.monotonic()
        before = self._step()
        if moment == before:  # it stopped there already: then by the clock
            moment = "any"
        if moment == "any":
            after_s = self._chance.uniform(0, self._lasts)
        with self._start() as process:
            while moment not in ("any", self._step()) and process.poll() is None:
                time.sleep(0.0005)
            began = began if moment == "any" else time.monotonic()
            while time.monotonic() < began + after_s and process.poll() is None:
                time.sleep(0.0005)
            process.kill()
            done = process.wait() != -signal.SIGKILL
        if not done:
            step = self._step()
            self._toll.count(step, self._shop.trouble(self._folder))
            self._trials += step == "trial"
        return not done

    def _step(self) -> str:
        return step_of(self._folder, self._trials)

    def _end(self, how: str) -> None:
        """Let it run to its end, and see that it came to the one that there is after such kills."""
        with self._start() as process:
            said, _ = process.communicate(timeout=_PATIENCE_S)
        trouble = self._shop.trouble(self._folder)
        installation = Installation(self._folder)
        version, refused = installation.current_version(), NEW in installation.set_aside()
        how = f"{how}: {'set aside in its trial' if refused else 'new release' if version == NEW else 'old'}"
        wanted = (OLD, True) if self._trials >= CHANCES else (NEW, False)
        if trouble is None and (version, refused) != wanted:
            trouble = (
                f"after {self._trials} kills in its trial, release {version} is in use and {NEW} is "
                f"{'' if refused else 'not '}set aside: {said.decode(errors='replace').strip()[-300:]}"
            )
        time.sleep(0.05)  # the line notices with its next piece that a device is gone
        self._toll.end(how, trouble, *self._device.line.resent())

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [*device_program(), "sync", "--once", "--json", "--data", str(self._folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=clean_environment(),
        )


def step_of(folder: Path, trials: int = 0) -> str:
    """Tell by what lies on a device's disk how far its update to the new release is.

    `trials` is in how many trials of it the device was killed before: their marks are still there.
    """
    release, arriving = folder / "releases" / str(NEW), folder / "incoming" / str(NEW)
    if (release / "confirmed").exists():
        tidy = not (folder / "tried").exists() and not (folder / "releases" / "1").exists()
        return "end" if tidy else "clean-up"
    if Ledger(folder).trials(NEW) > trials:
        return "trial"
    if (arriving / "seal").exists():
        return "install"
    if release.exists() and not arriving.exists():
        return "swap"
    names = [path.name for path in arriving.iterdir()] if arriving.exists() else []
    if any(name.endswith(".part") for name in names):
        return "download"
    return "verify" if any(len(name) == 64 for name in names) else "start"


_MOMENTS = ("any", "download", "verify", "install", "swap", "trial", "clean-up")
_SPREAD_S = {"download": 2.0, "install": 0.5, "trial": 0.6}
