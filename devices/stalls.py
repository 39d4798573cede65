"""Whether the machine held still while something was timed: for how long it kept this thread from running.

Another program on the same core, or another guest on the same server, takes time that no clock around the
measured work can tell from the work itself. Two things give it away, and neither needs a second thread, which
would take a core from what is measured:

- A thread that never waits on purpose runs for as long as the clock on the wall does. What its own processor
  time lacks was taken: by another program, or by a hypervisor that owns up to it. The kernel counts the waits
  on purpose; where there were any, Linux still tells for how long the thread stood in line for a processor.
- A hypervisor that does not own up stops the processor's clock with the rest. A loop that only reads the
  time sees such a hole all the same. A tenth of the time is spent in that loop, in turn with the measured
  work, and speaks for the whole.
"""

import resource
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, thread_time

MOST_STALLED = 0.01
"""The share of the time, 0 to 1, beyond which a run does not count."""

_HOLE_S = 0.001  # the loop comes around in a fraction of a microsecond, and an interrupt takes a few of them
_LOOKING = 0.1
_SHORTEST_LOOK_S = 0.0005
_THREAD = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)  # the former is Linux's
_SCHEDULER = Path("/proc/thread-self/schedstat")  # nanoseconds run, nanoseconds in line, times it got a turn


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a thread's clocks stand.

    Attributes:
        wall_s: Seconds on the wall.
        ran_s: Seconds that the thread has run.
        waits: How often it waited on purpose.
        queued_s: Seconds that it was ready to run and stood in line; None where the system does not tell.
    """

    wall_s: float
    ran_s: float
    waits: int
    queued_s: float | None = None

    @classmethod
    def take(cls) -> "Reading":
        """Read the clocks of the calling thread."""
        return cls(perf_counter(), thread_time(), resource.getrusage(_THREAD).ru_nvcsw, _queued_s())


class StallWatch:
    """Watch over the thread that times something, and tell which share of the time it was kept from running.

        with StallWatch() as watch:
            for _ in range(300):
                ...  # a round of what is timed
                watch.look()
        watch.share, watch.counts

    Without `look` there is one look, at the end. No other thread of this process may be busy during a look.
    Threads that are timed take readings of their own, for `judge`.
    """

    def __init__(self) -> None:
        self._since = Reading.take()
        self._judged_s = self._taken_s = 0.0
        self._looked_s = self._hidden_s = 0.0

    def __enter__(self) -> "StallWatch":
        self._since = Reading.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.look()

    def look(self) -> None:
        """Judge the time since the last look, then look at the machine for a tenth as long."""
        before = Reading.take()
        self.judge(self._since, before)
        holes_s = _holes(max(_SHORTEST_LOOK_S, _LOOKING * (before.wall_s - self._since.wall_s)))
        self._since = Reading.take()
        self.judge(before, self._since, holes_s)

    def judge(self, before: Reading, after: Reading, holes_s: float | None = None) -> None:
        """Take into account what the clocks read before and after a stretch of work, or of looking.

        Of looking there are `holes_s`, the seconds that passed between two glances at the time.
        """
        ran_s = after.ran_s - before.ran_s
        if after.waits == before.waits:
            taken_s = max(0.0, after.wall_s - before.wall_s - ran_s)
        elif after.queued_s is not None and before.queued_s is not None:
            taken_s = after.queued_s - before.queued_s
        else:
            return  # whether it would have been let while it waited nobody knows
        self._judged_s += ran_s + taken_s
        self._taken_s += taken_s
        if holes_s is not None:
            self._looked_s += ran_s + taken_s
            self._hidden_s += max(0.0, holes_s - taken_s)

    @property
    def share(self) -> float:
        """The share of the time, 0 to 1, in which this thread had something to do and was kept from it.

        1.0 where nothing could be judged: such a run must not count.
        """
        if self._judged_s == 0.0 or self._looked_s == 0.0:
            return 1.0
        return min(1.0, self._taken_s / self._judged_s + self._hidden_s / self._looked_s)

    @property
    def counts(self) -> bool:
        """Whether what was timed may be reported: the machine stalled for at most `MOST_STALLED` of it."""
        return self.share <= MOST_STALLED


def _queued_s() -> float | None:
    try:
        _ran, queued, turns = _SCHEDULER.read_bytes().split()
    except (OSError, ValueError):
        return None
    return int(queued) / 1e9 if int(turns) else None  # a kernel that does not count says zero


def _holes(seconds: float) -> float:
    """Read the time over and over for so many seconds, and sum up where it jumped."""
    holes_s = 0.0
    last = perf_counter()
    end = last + seconds
    while last < end:
        now = perf_counter()
        if now - last > _HOLE_S:
            holes_s += now - last
        last = now
    return holes_s
