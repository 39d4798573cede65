"""Try in a process of its own what can kill one: compiled code made for another CPU, a runtime that fails.

Run as `python -m devices.probe numpy`, `annoy`, `runtime NAME`, `release SETTINGS` or `delegates SETTINGS`,
with the settings of `devices.config` as JSON; prints one line of JSON. The doctor starts it, and reads the
manner of its death: so nothing that is compiled is imported before it is wanted.
"""

import hashlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from devices.config import Settings
from edge.errors import FixSetup, ShelfsightError

ROWS, DIMENSION = 2000, 16
WARM_UP, ANSWERS, LONGEST_S = 2, 30, 3.0


def probe_numpy() -> str:
    """Multiply two matrices."""
    import numpy as np

    product = np.ones((8, 8), np.float32) @ np.ones((8, 8), np.float32)
    if float(product.sum()) != 512:
        raise FixSetup(f"numpy {np.__version__} multiplies wrongly: install it again")
    return np.__version__


def probe_annoy() -> str:
    """Build a small index and find every hundredth of its rows again."""
    import numpy as np

    from edge.errors import IndexBroken
    from edge.index import IndexRecord, SearchIndex, build_annoy
    from edge.products import Product
    from edge.recipe import IndexRecipe
    from edge.segments import Content, SegmentStack, encode_base, quantize_rows

    vectors = np.random.default_rng(7).normal(size=(ROWS, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    skus = [f"{row:05}" for row in range(ROWS)]
    scale = 1 / 127
    content = Content(
        space="0" * 16,
        dimension=DIMENSION,
        scale=scale,
        products={sku: Product(sku) for sku in skus},
        rows={sku: quantize_rows(vectors[row : row + 1], scale) for row, sku in enumerate(skus)},
    )
    recipe = IndexRecipe(trees=10, search_k=1000)
    with tempfile.TemporaryDirectory(prefix="shelfsight-") as folder:
        segment, index = Path(folder) / "base", Path(folder) / "index.ann"
        data = encode_base(content)
        segment.write_bytes(data)
        stack = SegmentStack.open([(segment, hashlib.sha256(data).hexdigest())])
        record = IndexRecord(build_annoy(stack, index, recipe), method="annoy")
        search = SearchIndex.open(stack, index, record, recipe)
        for row in range(0, ROWS, 100):
            if search.search(vectors[row], 1)[0].sku != skus[row]:
                raise IndexBroken(f"annoy does not find row {row} of its own index: install annoy again")
    return f"built an index of {ROWS} vectors and found them again"


def probe_runtime(name: str) -> str:
    """Run a small network in one runtime, and give its version."""
    from edge.embedder import try_runtime

    return try_runtime(name)


def probe_release(settings: Settings) -> dict[str, object]:
    """Open the current release as a device does, answer its golden photos, and measure what that costs."""
    from devices.execution import Execution
    from edge.installation import Installation

    folder = Installation(settings.data).current()
    running = Execution(settings).open(folder)  # which answers the golden photos
    matcher = running.matcher
    release = matcher.release
    photos = [(folder / golden.photo).read_bytes() for golden in release.golden]
    count = len(photos)
    golden = "1 golden photo" if count == 1 else f"{count} golden photos"
    times = _time(lambda number: matcher.match_photo(photos[number % count])) if photos else [0.0]
    report = running.report()
    running.close()
    return {
        "said": f"release {release.version}: {golden} answered by {report.runtime} with {report.delegate}",
        "input_size": release.input_size,
        "latency_ms": median(times),
        "answers": len(times),
        "memory_mb": _memory_mb(),
    }


def probe_delegates(settings: Settings) -> list[tuple[str, bool, str]]:
    """Try each delegate with the current release; name, whether it answers as signed, and what was found."""
    from devices import execution
    from edge.installation import Installation

    return execution.probe_delegates(settings, Installation(settings.data).current())


def main(arguments: list[str]) -> None:
    """Run the probe named by the first argument."""
    try:
        answer = {"found": _run(*arguments)}
    except ShelfsightError as error:
        answer = {"error": str(error), "code": error.code}
    sys.stdout.write(json.dumps(answer) + "\n")


def _run(name: str, argument: str = "") -> object:
    if name == "numpy":
        return probe_numpy()
    if name == "annoy":
        return probe_annoy()
    if name == "runtime":
        return probe_runtime(argument)
    record = json.loads(argument)
    settings = Settings(**record | {"data": Path(record["data"]), "delegates": tuple(record["delegates"])})
    return probe_release(settings) if name == "release" else probe_delegates(settings)


def _time(answer: Callable[[int], object]) -> list[float]:
    """Answer again and again for a while, and return how long each took after the first ones, in ms."""
    times, began = [], time.perf_counter()
    for number in range(WARM_UP + ANSWERS):
        before = time.perf_counter()
        answer(number)
        now = time.perf_counter()
        times.append((now - before) * 1000)
        if number >= WARM_UP and now - began > LONGEST_S:
            break
    return times[WARM_UP:]


def _memory_mb() -> float:
    """Return the memory of this process in 10**6 bytes."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak / 1000
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main(sys.argv[1:])
