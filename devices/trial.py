"""Makes a release ready and tries it out in a process of its own, which may crash, hang, or eat memory.

    with Trial(settings, current=installation.current) as trial:
        installation.install(release, manifest, prepare=trial.prepare)
        installation.try_out(version, trial.try_out)

Think of it as a test kitchen: what is cooked there may burn, and the restaurant goes on serving. The kitchen
has the lowest priority of the house, a clock and a limited larder; what it says of a dish counts, and so does
how it ends. But a kitchen that could not be opened, or a house that is merely busy, speaks against no dish:
a release that is slow or large is measured beside the one in use, and what kills the process must do so
twice.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from devices.config import Settings
from edge.errors import (
    RuntimeMissing,
    ShelfsightError,
    TrialCrashed,
    TrialFailed,
    TrialGreedy,
    TrialHung,
    TrialSlow,
    TryLater,
)

START_S: Final = 30.0
"""How long the process may take to be there; a release has no part in that."""

PREPARE_S: Final = 900.0
"""How long a release may take to be made ready: a large index takes a small computer minutes."""

TRIAL_S: Final = 90.0
"""How long its golden photos may take, with the delegates that are loaded for them."""

_SLOWER: Final = 1.5
_LATER_MS: Final = 20.0
_LARGER: Final = 1.2
"""How much more than the release in use a new one may take, where that one is beyond the settings itself."""

_ROOT: Final = str(Path(__file__).parent.parent)
_NICE: Final = 5
_LOOK_S: Final = 1.0
_LEAST: Final = 0.1
"""A process of the idle class that gets less than this share of a core for so long is starved."""


class Trial:
    """The process in which one release is made ready and tried. It is started at once, and ends with `close`.

    It loads the runtime and opens the release in use while the new one is still on its way here, so that what
    they have in common is read and checked once.
    """

    def __init__(
        self,
        settings: Settings,
        current: Callable[[], Path],
        *,
        prepare_s: float = PREPARE_S,
        trial_s: float = TRIAL_S,
    ) -> None:
        """Take the settings, what names the folder of the release in use, and the limits in seconds."""
        self._settings = settings
        self._current = current
        self._prepare_s, self._trial_s = prepare_s, trial_s
        self._process: _Process | None = None

    def __enter__(self) -> "Trial":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the process, if it is not there; what hinders it is told when it is needed."""
        if self._process is None:
            with suppress(TryLater, RuntimeMissing):
                self._process = _Process(self._settings)
                self._process.say("hold", self._in_use())

    def merge(self, sources: Sequence[tuple[Path, str]], target: Path) -> None:
        """Write what a base and its deltas say together as one base (`edge.compaction.merge_segments`).

        Raises:
            SegmentBroken, Incompatible: they are not what their hashes say, or do not belong together.
            TrialCrashed, TrialHung, TrialGreedy: it cannot be done here.
            NoSpace, StorageUnusable, TryLater, RuntimeMissing: the device is at fault.
        """
        named = [[str(path.absolute()), sha256] for path, sha256 in sources]
        self._twice("merge", target, self._prepare_s, sources=named)

    def prepare(self, folder: Path) -> None:
        """Check that the segments in `folder` merge as signed, and build or take over its index.

        Raises:
            StepBack, Incompatible, TrialCrashed, TrialHung, TrialGreedy: as the release does not do here.
            NoSpace, StorageUnusable, TryLater, RuntimeMissing: the device is at fault.
        """
        told = self._twice("prepare", folder, self._prepare_s)
        if told["built"]:
            self.close()  # what building took must not count as what answering takes

    def try_out(self, folder: Path) -> None:
        """Answer the golden photos of the release in `folder`, with the time and memory that this takes.

        Raises:
            StepBack, Incompatible, TrialFailed: it does not work here, by whatever delegate, or takes more
                than the settings allow and the release in use does.
            FixSetup, NoSpace, TryLater: the device is at fault.
        """
        told = self._twice("try", folder, self._trial_s)
        if told["ms"] > self._settings.latency_ms or told["peak_mb"] > self._settings.memory_mb:
            self._compare(folder)

    def close(self) -> None:
        """End the process; called again, it does nothing."""
        if self._process is not None:
            self._process.end()
        self._process = None

    def _compare(self, folder: Path) -> None:
        """Measure the release again, and the one in use as well: this machine may just be busy."""
        self.close()
        self._process = _Process(self._settings, idle=False)
        told = self._ask("try", folder, self._trial_s)
        self.close()
        usual = {"ms": 0.0, "peak_mb": 0.0}
        if (used := self._in_use()) is not None:
            with suppress(ShelfsightError):
                self._process = _Process(self._settings, idle=False)
                usual = self._ask("measure", used, self._trial_s)
            self.close()
        most_ms = max(self._settings.latency_ms, _SLOWER * usual["ms"] + _LATER_MS)
        most_mb = max(self._settings.memory_mb, _LARGER * usual["peak_mb"])
        if told["ms"] > most_ms:
            raise TrialSlow(
                f"it takes {told['ms']:.0f} ms to answer a golden photo, and may take {most_ms:.0f}: take a "
                "smaller model, or raise latency_ms"
            )
        if told["peak_mb"] > most_mb:
            raise TrialGreedy(
                f"it takes {told['peak_mb']:.0f} MB to answer, and may take {most_mb:.0f}: publish fewer "
                "photos a product or a smaller model, or raise memory_mb"
            )

    def _twice(self, what: str, folder: Path, limit_s: float, **more: object) -> dict[str, Any]:
        """Have it done; a process that dies or hangs gets a second chance, as others may have had a part."""
        try:
            return self._ask(what, folder, limit_s, **more)
        except (TrialCrashed, TrialHung):
            self._process = _Process(self._settings, idle=False)
            return self._ask(what, folder, limit_s, **more)

    def _ask(self, what: str, folder: Path, limit_s: float, **more: object) -> dict[str, Any]:
        if self._process is None:
            self._process = _Process(self._settings)
        try:
            self._process.say(what, folder, **more)
            return self._process.hear(limit_s)
        except _Starved:
            self.close()
            self._process = _Process(self._settings, idle=False)
            return self._ask(what, folder, limit_s, **more)
        except (TrialCrashed, TrialHung, TrialGreedy, TryLater, RuntimeMissing):
            self.close()
            raise

    def _in_use(self) -> Path | None:
        try:
            return self._current()
        except ShelfsightError:
            return None


class _Starved(Exception):
    """Whatever else this machine does leaves the process nothing: it has to have its share."""


class _Process:
    """The process and the pipes to it. It hears one JSON line after the other, and answers with one each."""

    def __init__(self, settings: Settings, *, idle: bool = True) -> None:
        """Start it, to work only while nothing else wants a core, or (not `idle`) for its share of one."""
        lifeline, kept = os.pipe()
        job = {"settings": {**asdict(settings), "data": str(settings.data.absolute())}, "lifeline": lifeline}
        path = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "devices.trial_child", json.dumps(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=[lifeline],
                # One thread for algebra as well: the other cores are for those who wait for answers.
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                # Ctrl-C is for this process, which ends that one. A session of its own would do as well, but
                # Linux shares the cores fairly between sessions, and only within one by priority.
                process_group=0,
            )
        except OSError as error:
            os.close(lifeline)
            os.close(kept)
            reason = (error.strerror or "no reason").lower()
            raise TryLater(f"no process for a trial can be started ({reason}): it is tried again") from error
        os.close(lifeline)
        _step_back(process.pid, idle)
        self._process = process
        self._finalizer = weakref.finalize(self, _end, process, kept)
        self._heard = b""
        self._owed = 0
        self._began = False
        self._may_starve = idle and sys.platform == "linux"

    def say(self, what: str, folder: Path | None, **more: object) -> None:
        """Tell the process what to do next; it need not be done with what went before."""
        order = {"do": what, "folder": None if folder is None else str(folder.absolute()), **more}
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # how it died is found out when its answer is wanted
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._owed += 1

    def hear(self, limit_s: float) -> dict[str, Any]:
        """Wait for the answer to what was said last.

        Raises:
            ShelfsightError: so the process says.
            TrialCrashed, TrialGreedy, TrialHung: it died, or gave no answer in `limit_s`.
            _Starved: it was started for what others leave over, and they leave nothing.
            RuntimeMissing, TryLater: it never began, which is not the release's fault.
        """
        if not self._began:
            self._line(time.monotonic() + START_S)
            self._began = True
        deadline = time.monotonic() + limit_s
        while self._owed:
            said: dict[str, Any] = json.loads(self._line(deadline))
            self._owed -= 1
        if "error" in said:
            raise _error_of(said["error"], said["message"])
        return said

    def end(self) -> None:
        """End the process, whatever it is doing; called again, it does nothing."""
        self._finalizer()

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        worked = self._worked_s()
        while b"\n" not in self._heard:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._hung()
            if not poll.poll(min(left, _LOOK_S) * 1000):
                before, worked = worked, self._worked_s()
                if self._may_starve and worked - before < _LEAST * _LOOK_S <= left:
                    raise _Starved
                continue
            more = os.read(pipe, 65_536)
            if not more:
                raise self._dead()
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    def _worked_s(self) -> float:
        """Return the processor time that the process has had, in seconds; 0.0 where that is not told."""
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def _hung(self) -> ShelfsightError:
        if not self._began:
            return TryLater("the process of the trial does not start in time: it is tried again")
        return TrialHung("its trial did not end in its time, twice: convert the network again")

    def _dead(self) -> ShelfsightError:
        """Say how the process died; the kernel kills one that takes too much memory, as a person may."""
        code = self._process.wait()
        how = f"of {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        if self._began:
            return TrialCrashed(f"the process of its trial died {how}, twice: convert the network again")
        if code < 0:
            return TryLater(f"the process of the trial died {how} before it began: it is tried again")
        return RuntimeMissing(f"the process of the trial dies {how} at once: run `shelfsight doctor`")


def _step_back(pid: int, idle: bool) -> None:
    """Let the answers of this device go first, from now on: to load the runtime is work already.

    By niceness alone they still wait for the end of a slice, 4 ms on many kernels; a thread of the idle class
    gives way at once.
    """
    with suppress(OSError):
        if idle and sys.platform == "linux":
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
        else:
            os.setpriority(os.PRIO_PROCESS, pid, _NICE)


def _end(process: subprocess.Popen[bytes], kept: int) -> None:
    os.close(kept)  # by which the kernel kills it
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    if process.returncode is None:
        process.kill()
        process.wait()


def _error_of(code: str, message: str) -> ShelfsightError:
    """Make the failure that the process told of; one of a kind that is not known here is the trial's."""
    kinds: Sequence[type[ShelfsightError]] = [ShelfsightError]
    while kinds:
        for kind in kinds:
            if kind.code == code:
                return kind(message)
        kinds = [below for kind in kinds for below in kind.__subclasses__()]
    return TrialFailed(message)
