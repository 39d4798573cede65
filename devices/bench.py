"""How fast this machine answers: one photo against many vectors, and how near that is to the least possible.

The least possible is the network alone plus a scaled JPEG decode alone, measured in the same run and in turn
with whole answers, so that a busy machine slows both.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from devices.bench_release import Bench, install_bench
from edge.errors import RuntimeMissing
from edge.image import decode, fit
from edge.matcher import Matcher
from edge.model import Model, Variant

TARGET_RATIO = 1.5
_WARM_UP = 10
_COLD_STARTS = 5

# What a device process is, as short as can be, so that its size is the device's and not the measuring's.
_DEVICE_PROCESS = """
import sys
from pathlib import Path
from devices.config import load_settings
from devices.device import Device
device = Device(load_settings(Path(sys.argv[1])))
photo = Path(sys.argv[2]).read_bytes()
for _ in range(5):
    device.see(photo)
status = Path("/proc/self/status")
if status.exists():
    print([int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS:")][0])
else:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak // 1024 if sys.platform == "darwin" else peak)
"""


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What was measured. Times are medians in milliseconds, but for `cold_start_s`; `rss_mb` is 10**6 bytes.

    Attributes:
        scan_p50_ms: One 1280 x 720 JPEG, bytes to answer, one thread, warm.
        scan_p99_ms: The same, the slowest of a hundred.
        invoke_ms: The network alone.
        decode_ms: The scaled JPEG decode alone.
        search_ms: The search within the answer.
        search_method: How this machine chose to search, `scan` or `annoy`.
        floor_ms: Those two, one right after the other.
        cold_start_s: From the start of `shelfsight match` to its first answer, in a fresh process.
        rss_mb: Memory of a fresh device process that has answered.
        vectors: Rows in the catalog.
        runtime: Name and version of the TFLite runtime.
    """

    scan_p50_ms: float
    scan_p99_ms: float
    invoke_ms: float
    decode_ms: float
    search_ms: float
    search_method: str
    floor_ms: float
    cold_start_s: float
    rss_mb: float
    vectors: int
    runtime: str

    @property
    def ratio_to_floor(self) -> float:
        """How many times the least an answer takes; at most `TARGET_RATIO` is wanted."""
        return self.scan_p50_ms / self.floor_ms

    def to_record(self) -> dict[str, object]:
        """Return the object that `shelfsight bench --json` prints."""
        return {
            "scan_ms": {"p50": round(self.scan_p50_ms, 3), "p99": round(self.scan_p99_ms, 3)},
            "invoke_ms": round(self.invoke_ms, 3),
            "decode_ms": round(self.decode_ms, 3),
            "search_ms": round(self.search_ms, 3),
            "floor_ms": round(self.floor_ms, 3),
            "ratio_to_floor": round(self.ratio_to_floor, 3),
            "cold_start_s": round(self.cold_start_s, 3),
            "rss_mb": round(self.rss_mb, 1),
            "vectors": self.vectors,
        }


def measure(
    model: Model, variant: Variant, *, vectors: int, rounds: int, progress: Callable[[], None] = lambda: None
) -> BenchReport:
    """Measure `rounds` answers of one model file against an invented catalog, in a scratch folder.

    `progress` is called after every round.

    Raises:
        ShelfsightError: The model does not run here, or the disk fails.
    """
    with TemporaryDirectory(prefix="shelfsight-bench-") as scratch:
        bench = install_bench(model, variant, vectors, Path(scratch) / "device")
        photo_path = Path(scratch) / "photo.jpg"
        photo_path.write_bytes(bench.photo)
        # Before the warm rounds, so that this process is still small and the others have the memory bus.
        rss_mb = _device_rss_mb(bench.data, photo_path)
        cold_start_s = median(_cold_start_s(bench.data, photo_path) for _ in range(_COLD_STARTS))
        return _measure_warm(bench, rounds, progress, cold_start_s, rss_mb)


def _measure_warm(
    bench: Bench, rounds: int, progress: Callable[[], None], cold_start_s: float, rss_mb: float
) -> BenchReport:
    version = max(int(path.name) for path in (bench.data / "releases").iterdir())
    matcher = Matcher.open(bench.data / "releases" / str(version), threads=1)
    size = matcher.release.input_size
    picture = fit(decode(bench.photo, shrink_to=size), size)
    scans, invokes, decodes, searches = [], [], [], []
    for number in range(_WARM_UP + rounds):
        # In turn, and each time the other first: neither gets the warmer caches or the busier moment.
        for turn in ("scan", "floor") if number % 2 else ("floor", "scan"):
            if turn == "scan":
                began = time.perf_counter()
                answer = matcher.match_photo(bench.photo)
                scans.append(time.perf_counter() - began)
                searches.append(answer.timings.search_ms)
            else:
                decodes.append(_seconds(lambda: decode(bench.photo, shrink_to=size)))
                invokes.append(_seconds(lambda: matcher.embedder.invoke(picture)))
        progress()
    return BenchReport(
        scan_p50_ms=1000 * median(scans[_WARM_UP:]),
        scan_p99_ms=1000 * float(np.percentile(scans[_WARM_UP:], 99)),
        invoke_ms=1000 * median(invokes[_WARM_UP:]),
        decode_ms=1000 * median(decodes[_WARM_UP:]),
        search_ms=median(searches[_WARM_UP:]),
        search_method="scan" if matcher.index.exact else "annoy",
        # Not the sum of the medians: on a busy machine a longer stretch is interrupted more often, so whole
        # answers must be held against a stretch of nearly their own length.
        floor_ms=1000 * median(map(sum, zip(decodes[_WARM_UP:], invokes[_WARM_UP:], strict=True))),
        cold_start_s=cold_start_s,
        rss_mb=rss_mb,
        vectors=bench.vectors,
        runtime=matcher.embedder.runtime,
    )


def rounds_of(rounds: int) -> int:
    """Tell how often `measure` calls its `progress` for so many rounds."""
    return _WARM_UP + rounds


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _cold_start_s(data: Path, photo: Path) -> float:
    """Time a fresh `shelfsight match` until its answer is there."""
    program = "from devices.commands import main; main()"
    began = time.perf_counter()
    answer = _run(program, "match", str(photo), "--json", "--data", str(data))
    seconds = time.perf_counter() - began
    if "verdict" not in json.loads(answer):
        raise RuntimeMissing(f"a fresh process answers {answer.strip()!r}; run `shelfsight doctor`")
    return seconds


def _device_rss_mb(data: Path, photo: Path) -> float:
    return int(_run(_DEVICE_PROCESS, str(data), str(photo))) * 1024 / 1e6


def _run(program: str, *arguments: str) -> str:
    """Run Python code in a fresh process with no setting of this machine's own, and return what it prints.

    Raises:
        RuntimeMissing: It fails, though this process can do the same.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SHELFSIGHT_")}
    root = str(Path(__file__).parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeMissing(
            f"a fresh process fails ({done.stderr.strip() or done.returncode}); run `shelfsight doctor`"
        )
    return done.stdout
