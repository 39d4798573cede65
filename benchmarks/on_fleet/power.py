"""What is left of a device whose power is cut at any point of an update.

A real device process is recorded (strace) while it takes a release from a real server; then every disk that a
cut between two of its system calls may leave is built (`power_replay`) and looked at: the device must have
the old or the new release, whole, signed and answering, before anything is put in order and after, and its
outbox must open. Of a sample the next sync must bring the new release, also after a cut in its
trial.
"""

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from cloud.processes import DeviceCommand, clean_environment, device_program
from devices.config import OUTBOX_FILE
from edge.errors import ShelfsightError
from edge.installation import Installation
from edge.model import open_model
from edge.outbox import Outbox
from on_fleet.fault_shop import NEW, FaultShop, fault_shop
from on_fleet.power_replay import Replay, strace

_MODEL = Path(__file__).resolve().parents[2] / "tests" / "data" / "tiny-int8"


def measure(scratch: Path, *, quick: bool = False) -> dict[str, object]:
    """Return `faults.power_cuts`, the disks looked at, and `faults.power_broken`; `quick` takes one in forty.

    `faults.power_calls` counts the calls that changed something, `faults.power_converged` the syncs that were
    run to their end afterwards.
    """
    if shutil.which("strace") is None:
        raise RuntimeError("strace is not installed here: power cuts cannot be replayed")
    model = open_model(_MODEL)
    memory = Path("/dev/shm")  # the cuts are in the recording: what they are looked at on need not be a disk
    with (
        fault_shop(scratch, (model, model)) as shop,
        TemporaryDirectory(dir=memory if memory.is_dir() else scratch) as disk,
    ):
        before, victim = shop.devices[0].folder, scratch / "victim"
        shutil.copytree(before, victim)
        command = [*device_program(), "sync", "--once", "--json", "--data", str(victim)]
        trace = scratch / "trace"
        done = subprocess.run(
            [*strace(trace), *command], capture_output=True, text=True, env=clean_environment(), check=False
        )
        if done.returncode != 0 or Installation(victim).current_version() != NEW:
            raise RuntimeError(f"the recorded sync failed: {done.stderr.strip()[-300:]}")
        replay = Replay(before, victim, trace)
        cuts, converged, broken = 0, 0, []
        often = 40 if quick else 1
        for number, cut in enumerate(replay.cuts()):
            if number % often:
                continue
            folder = cut.build(Path(disk) / "cut")
            cuts += 1
            trouble = _trouble(shop, folder)
            if trouble is None and number % (40 * often) == 0:
                trouble = _converges(folder)
                converged += 1
            if trouble is not None:
                broken.append(f"{cut.said}: {trouble}")
    return {
        "faults.power_cuts": cuts,
        "faults.power_broken": len(broken),
        "faults.power_calls": replay.moments,
        "faults.power_converged": converged,
        "faults.power_said": broken[:20],
    }


def _trouble(shop: FaultShop, folder: Path) -> str | None:
    """Say what is wrong, as the device finds its disk or after it put it in order."""
    if trouble := shop.trouble(folder):
        return f"before it was put in order, {trouble}"
    try:
        Installation(folder).recover()
        with Outbox(folder / OUTBOX_FILE) as outbox:
            outbox.batch()
    except (ShelfsightError, OSError) as error:
        return f"it cannot be put in order: {error}"
    return shop.trouble(folder)


def _converges(folder: Path) -> str | None:
    try:
        DeviceCommand(folder).sync()
    except ShelfsightError as error:
        return f"its next sync fails: {error}"
    version = Installation(folder).current_version()
    return None if version == NEW else f"its next sync leaves release {version}"
