"""The other side of `devices.trial`: a process that makes a release ready and answers its golden photos.

Started as `python -m devices.trial_child JOB`, where JOB is JSON; it reads orders from its standard input and
writes what came of each to its standard output, one JSON object a line.
"""

import ctypes
import gc
import json
import os
import platform
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from devices.config import Settings
from devices.execution import Execution
from devices.lifeline import die_with
from edge.compaction import merge_segments
from edge.delegates import delegate_order
from edge.errors import ShelfsightError, TrialFailed, TrialGreedy
from edge.image import load_photo
from edge.matcher import Matcher, Vectors, open_vectors, prepare_release_folder

_LARDER: Final = 4
"""How many times the memory that a device may take is the most that this process can ever get."""

_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30, "armv7l": 314, "i686": 289}
_IDLE: Final = 3 << 13
_TIMED: Final = 2  # answers to each golden photo, of which the quickest counts


def main(job: dict[str, Any]) -> None:
    """Do one order after the other, until the parent closes the pipe."""
    if sys.platform == "linux":  # elsewhere it goes when it next looks for an order
        die_with(job["lifeline"])
    # Who stops the program stops its children too; this one goes with its parent, and not as if it had died.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    said = job["settings"]
    settings = Settings(**{**said, "data": Path(said["data"]), "delegates": tuple(said["delegates"])})
    _step_back()
    _limit(settings)
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a vendor's library prints is no answer
    out.write(b'{"ready": true}\n')
    kitchen = _Kitchen(settings)
    for line in sys.stdin.buffer:
        order = json.loads(line)
        try:
            told = kitchen.do(order)
        except ShelfsightError as error:
            told = {"error": error.code, "message": str(error)}
        except MemoryError:
            most = _LARDER * settings.memory_mb
            told = {"error": TrialGreedy.code, "message": f"it wants more than {most:.0f} MB of memory"}
        out.write(json.dumps(told).encode() + b"\n")


class _Kitchen:
    """What the process holds between two orders: the vectors that it has opened."""

    def __init__(self, settings: Settings) -> None:
        order = sorted(delegate_order(settings.delegates), key=lambda each: each.isolated)
        # What runs in this process comes first: a vendor's delegate may be in use for the present release,
        # and whether it runs this one decides nothing here.
        self._settings = replace(settings, delegates=tuple(each.name for each in order))
        self._held: Vectors | None = None

    def do(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out an order; raises what `prepare_release_folder` and `Execution.open` do."""
        what, folder = order["do"], order["folder"]
        if folder is None:
            return {}
        path = Path(folder)
        if what == "merge":
            merge_segments([(Path(source), sha256) for source, sha256 in order["sources"]], path)
            return {}
        if what == "hold":
            with suppress(ShelfsightError):
                self._held = open_vectors(path)
            return {}
        if what == "prepare":
            before = _stamp(path / "index.json")
            prepare_release_folder(path, self._held)
            return {"built": _stamp(path / "index.json") != before}
        return self._answer(path, is_new=what == "try")

    def _answer(self, folder: Path, *, is_new: bool) -> dict[str, Any]:
        gc.collect()
        _forget_peak()
        execution = Execution(self._settings)
        try:
            running = execution.open(folder, held=self._held)
            if is_new:
                _check_recognizes(running.matcher)
            ms = _answer_ms(running.matcher, folder)
            running.close()
        finally:
            execution.close()
        return {"ms": ms, "peak_mb": _peak_mb()}


def _check_recognizes(matcher: Matcher) -> None:
    """Refuse a release that recognizes nothing, though it says so itself and is rightly signed."""
    rows = int(matcher.stack.alive.sum())
    if rows and not any(golden.verdict == "match" for golden in matcher.release.golden):
        raise TrialFailed(
            f"release {matcher.release.version} has {rows} vectors and no golden photo that is recognized: "
            "nothing shows that it recognizes anything: publish it with photos that are"
        )


def _answer_ms(matcher: Matcher, folder: Path) -> float:
    """Time answers to the golden photos, and without any to a gray picture; their median in milliseconds."""
    photos = [load_photo(folder / golden.photo) for golden in matcher.release.golden]
    if not photos:
        return matcher.match(np.full((320, 320, 3), 128, np.uint8)).timings.total_ms
    quickest = [min(matcher.match_photo(photo).timings.total_ms for _ in range(_TIMED)) for photo in photos]
    return float(median(quickest))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def _step_back() -> None:
    """Let everything else on this machine go first to the disk; for the cores the parent sees to it."""
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).syscall(number, 1, 0, _IDLE)  # 1: of a process, 0: of this one


def _limit(settings: Settings) -> None:
    """Set bounds that a network which eats all memory runs into before the machine does."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    most = int(_LARDER * settings.memory_mb * 1e6)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _forget_peak() -> None:
    """Have the kernel measure the peak of memory from here on, where it can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    """Return the peak of this process's memory since then, in 10**6 bytes; 0 where the kernel does not tell.

    What `getrusage` tells began with the size of the program that started this one.
    """
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
    return 0.0


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
