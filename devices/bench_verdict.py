"""What measured figures amount to: whether they count, keep the budget, and are as they should be here."""

from dataclasses import dataclass
from pathlib import Path

from devices.bench import BenchReport
from devices.bench_reference import Comparison, Reference, compare, write_reference
from devices.config import Settings
from edge.errors import TryLater


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of a run.

    Attributes:
        counts: Whether the machine was quiet enough.
        latency_ms: The most that an answer may take by the device's settings.
        memory_mb: The most that a device process may take, 10**6 bytes.
        over: What goes beyond that budget, in words.
        comparison: The figures beside the reference; None where there is none.
    """

    counts: bool
    latency_ms: float
    memory_mb: float
    over: tuple[str, ...]
    comparison: Comparison | None

    @property
    def passes(self) -> bool:
        """Whether all is shown to be well: what cannot be told, or does not compare, does not pass."""
        comparison = self.comparison
        if comparison is None or comparison.differs or comparison.of("worse"):
            return False
        return self.counts and not self.over

    def to_record(self) -> dict[str, object]:
        """Return what `shelfsight bench --json` prints of it."""
        budget = {"latency_ms": self.latency_ms, "memory_mb": self.memory_mb, "over": list(self.over)}
        reference = self.comparison.to_record() if self.comparison else None
        return {"budget": budget, "reference": reference, "passes": self.passes}


def judge(report: BenchReport, settings: Settings, reference: Reference | None) -> Verdict:
    """Hold what was measured against the budget in the settings, and beside a reference."""
    over = []
    slowest = report.warm.times.total.p99
    if slowest > settings.latency_ms:
        over.append(f"an answer takes {slowest:.1f} ms (99 %), and may take {settings.latency_ms:g} ms")
    if report.rss_mb > settings.memory_mb:
        over.append(f"a process takes {report.rss_mb:.0f} MB, and may take {settings.memory_mb:g} MB")
    return Verdict(
        counts=report.counts,
        latency_ms=settings.latency_ms,
        memory_mb=settings.memory_mb,
        over=tuple(over),
        comparison=compare(reference, report.conditions(), report.figures()) if reference else None,
    )


def keep(report: BenchReport, path: Path) -> None:
    """Write a run to `path` as a reference.

    Raises:
        TryLater: The run does not count.
        NoSpace, StorageUnusable: The file cannot be written.
    """
    if not report.counts:
        raise TryLater(
            f"{path} is not written: the machine stalled for {report.stalled_share:.1%} of the time; "
            "end other programs and run it again"
        )
    write_reference(path, report.conditions(), report.figures())
