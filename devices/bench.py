"""How fast this machine answers: one photo against many vectors, and how near that is to the least possible.

The least possible is the network alone plus a scaled JPEG decode alone, measured in the same run and in turn
with whole answers, so that a busy machine slows both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from devices.bench_process import cold_start_s, device_rss_mb, settle
from devices.bench_reference import Conditions
from devices.bench_release import Bench, install_bench
from devices.bench_stages import PASSES, WARM_UP, StageTimes, thread_counts, time_stages, time_threads
from devices.config import Settings
from devices.execution import Execution
from devices.execution_report import ExecutionReport
from devices.hardware import look
from devices.stalls import MOST_STALLED, StallWatch
from edge.delegates import find_delegate
from edge.installation import Installation
from edge.model import Model, Variant

TARGET_RATIO = 1.5
_COLD_STARTS = 5
_ROUNDS_AN_ANSWER = 10  # each thread answers once for so many rounds, in every pass


@dataclass(frozen=True, slots=True)
class Warm:
    """What a process measured that has answered before.

    Attributes:
        times: One 1280 x 720 JPEG, bytes to answer, and what of that its stages take.
        photos_per_s: Photos a second by the number of threads, each with a network of its own.
        search_method: How this machine chose to search, as `edge.index` names it.
        variant: The file of the network that ran.
        execution: By what it ran, and why that is not what was wanted.
    """

    times: StageTimes
    photos_per_s: Mapping[int, float]
    search_method: str
    variant: Variant
    execution: ExecutionReport


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What was measured.

    Attributes:
        warm: What a process takes that has answered before.
        cold_start_s: From the start of `shelfsight match` to its first answer, in a fresh process.
        rss_mb: Memory of a fresh device process that has answered, 10**6 bytes.
        stalled_share: The share of the time, 0 to 1, that the machine took from what was measured.
        vectors: Rows in the catalog.
        model: The network.
        threads: How many one run of the network may use.
    """

    warm: Warm
    cold_start_s: float
    rss_mb: float
    stalled_share: float
    vectors: int
    model: Model
    threads: int

    @property
    def ratio_to_floor(self) -> float:
        """How many times the least an answer takes; at most `TARGET_RATIO` is wanted."""
        return self.warm.times.total.p50 / self.warm.times.floor_ms

    @property
    def counts(self) -> bool:
        """Whether the figures may be used: the machine did not stall for more than `MOST_STALLED`."""
        return self.stalled_share <= MOST_STALLED

    def conditions(self) -> Conditions:
        """Return what has to be the same in another run for its figures to compare."""
        return {
            "network_mb": round(self.warm.variant.size / 1e6),
            "precision": self.warm.variant.precision,
            "input_size": self.model.input_size,
            "dimension": self.model.dimension,
            "runtime": self.warm.execution.runtime.split()[0],
            "delegate": self.warm.execution.delegate,
            "threads": self.threads,
            "vectors": self.vectors,
        }

    def figures(self) -> dict[str, float]:
        """Return what is compared with a reference, by name; times are medians, for the rest is chance."""
        return {
            **{f"{name}_ms": spread.p50 for name, spread in self.warm.times.stages.items()},
            "total_ms": self.warm.times.total.p50,
            "cold_start_s": self.cold_start_s,
            "rss_mb": self.rss_mb,
            **{f"photos_per_s_{threads}": rate for threads, rate in self.warm.photos_per_s.items()},
        }

    def to_record(self) -> dict[str, object]:
        """Return the object that `shelfsight bench --json` prints, less what it is compared with."""
        warm, times = self.warm, self.warm.times
        stages = {**times.stages, "total": times.total}
        return {
            "scan_ms": {"p50": round(times.total.p50, 3), "p99": round(times.total.p99, 3)},
            "invoke_ms": round(times.invoke_ms, 3),
            "decode_ms": round(times.stages["decode"].p50, 3),
            "search_ms": round(times.stages["search"].p50, 3),
            "search_method": warm.search_method,
            "floor_ms": round(times.floor_ms, 3),
            "ratio_to_floor": round(self.ratio_to_floor, 3),
            "stages_ms": {
                name: {"p50": round(each.p50, 3), "p99": round(each.p99, 3)} for name, each in stages.items()
            },
            "unaccounted_ms": round(times.unaccounted_ms, 3),
            "cold_start_s": round(self.cold_start_s, 3),
            "rss_mb": round(self.rss_mb, 1),
            "photos_per_s": {str(threads): round(rate, 1) for threads, rate in warm.photos_per_s.items()},
            "stalled_share": round(self.stalled_share, 4),
            "counts": self.counts,
            "vectors": self.vectors,
            "model": self.model.name,
            "variant": warm.variant.name,
            "runtime": warm.execution.runtime,
            "delegate": warm.execution.delegate,
            "wanted_delegate": warm.execution.wanted,
            "fallback": warm.execution.message or None,
            "threads": self.threads,
        }


def measure(
    model: Model,
    settings: Settings,
    *,
    vectors: int,
    rounds: int,
    progress: Callable[[], None] = lambda: None,
) -> BenchReport:
    """Measure `rounds` answers of a model against an invented catalog, in a scratch folder.

    The network is run as the device would by these `settings`: by the first of their delegates that answers
    as signed. `progress` is called `steps_of(rounds)` times.

    Raises:
        BadModel: The model has no variant of the name that the settings want, or none for the CPU.
        ShelfsightError: The model does not run here, or the disk fails.
    """
    with TemporaryDirectory(prefix="shelfsight-bench-") as scratch:
        bench = _install(model, settings, vectors, Path(scratch) / "device")
        progress()
        with StallWatch() as watch:
            # Before the warm rounds, so that this process is still small and the others have the memory bus.
            rss_mb, start_s = _measure_fresh(bench, Path(scratch) / "photo.jpg", watch, progress)
            warm = _measure_warm(bench, replace(settings, data=bench.data), rounds, watch, progress)
    return BenchReport(
        warm=warm,
        cold_start_s=start_s,
        rss_mb=rss_mb,
        stalled_share=watch.share,
        vectors=vectors,
        model=model,
        threads=settings.threads,
    )


def steps_of(rounds: int) -> int:
    """Tell how often `measure` calls its `progress` for so many rounds, at most."""
    return 2 + _COLD_STARTS + WARM_UP + rounds + PASSES * len(thread_counts(look().cores))


def _install(model: Model, settings: Settings, vectors: int, data: Path) -> Bench:
    first = model.variant(settings.variant)
    if first.target != "cpu":
        first = model.variant()  # the catalog has to be invented by a file that surely runs here
    others = [variant for variant in model.variants if variant != first]
    bench = install_bench(model, first, vectors, data, beside=others)
    settle(data, settings)
    return bench


def _measure_fresh(
    bench: Bench, photo: Path, watch: StallWatch, progress: Callable[[], None]
) -> tuple[float, float]:
    photo.write_bytes(bench.photo)
    rss_mb = device_rss_mb(bench.data, photo)
    progress()
    seconds = []
    for _ in range(_COLD_STARTS):
        seconds.append(cold_start_s(bench.data, photo))
        watch.look()
        progress()
    return rss_mb, median(seconds)


def _measure_warm(
    bench: Bench, settings: Settings, rounds: int, watch: StallWatch, progress: Callable[[], None]
) -> Warm:
    folder = Installation(bench.data).current()
    execution = Execution(settings)
    running = [execution.open(folder)]
    try:
        ran = running[0].report()
        times = time_stages(running[0].matcher, bench.photo, rounds, watch, progress)
        # An accelerator is one, however many threads there are.
        counts = [1] if find_delegate(ran.delegate).isolated else thread_counts(look().cores)
        running += [execution.open(folder) for _ in counts[1:]]
        answers = max(1, rounds // _ROUNDS_AN_ANSWER)
        matchers = [each.matcher for each in running]
        rates = time_threads(matchers, bench.photo, answers, watch, progress)
        return Warm(times, rates, running[0].matcher.index.method, running[0].matcher.variant, ran)
    finally:
        for each in running:
            each.close()
        execution.close()
