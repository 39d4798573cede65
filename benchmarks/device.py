"""What a device does, beside what others would do on the same machine: one run, one table.

    python benchmarks/device.py [--json OUT] [--only scan,search] [--rounds N]

Ways are timed in turn, a pair's ratio is the median of the ratios of neighbors, and the machine is watched: a
run on one that stalls for more than a hundredth of the time says so and does not count. Peers run in
environments of their own, made on first use. "Plain" is the script that a developer would write
(`on_device/plain.py`).
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

# One thread in every library: what is compared is work, not cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import click
import numpy as np
from on_device import embeddings, networks
from on_device.catalogs import prepare_folder
from on_device.environments import environment
from on_device.plain import PlainScript
from on_device.turns import in_turn, seconds
from on_device.workers import Worker, run_once

from devices.bench_release import install_bench
from devices.bench_scene import draw_shelf_photo
from devices.camera import fit_frame
from devices.config import load_settings
from devices.device import Device
from devices.many import answer_photos
from devices.stalls import StallWatch
from edge.certificate import read_certificate
from edge.image import decode, decode_to_fit, fit
from edge.matcher import Matcher
from edge.model import Model, open_model

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "cloud" / "models" / "grocery"
VECTORS = 10_000
PHOTOS = {"12mp": (4000, 3000), "1080p": (1920, 1080), "720p": (1280, 720)}
PEERS = ("hnswlib", "usearch", "voyager", "faiss-hnsw", "faiss-flat")
PARTS = ("scan", "embed", "batch", "parity", "cold", "search")

# key: (must, aim, whether more is better)
WANTED: dict[str, tuple[float, float | None, bool]] = {
    "scan.12mp": (6, 8, True),
    "scan.1080p": (2.5, 3.5, True),
    "scan.720p": (1.8, 2.5, True),
    "scan.frame": (1.25, 1.1, False),
    "tail.scan": (1.5, 1.2, False),
    "embed.keras": (30, None, True),
    "embed.mediapipe": (1, 1.5, True),
    "batch.cores": (1.8, None, True),
    "batch.shelf": (1.5, None, True),
    "parity.int8.cosine": (0.985, 0.995, True),
    "parity.int8.top1": (0.97, 0.99, True),
    "parity.int8.worst_category": (-2, -1, True),
    "rss.keras": (8, None, True),
    "cold.keras": (10, None, True),
    "search.top1.10000": (0.999, 1, True),
    "search.top1.50000": (0.999, 1, True),
    "search.top1.100000": (0.999, 1, True),
    "search.top1.1000000": (0.99, 1, True),
    "search.annoy.10000": (1, 2, True),
    "search.annoy.50000": (1, 2, True),
    "search.annoy.100000": (1, 2, True),
}


@dataclass
class Run:
    """One run: the model, where things are, and what was found so far."""

    model: Model
    photos: Path
    cache: Path
    rounds: int
    watch: StallWatch
    figures: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> Path:
        """The file that is measured."""
        return self.model.path(self.model.variant())

    def keep(self, key: str, value: float, detail: object) -> None:
        """Keep a figure, and say it."""
        self.figures[key], self.details[key] = value, detail
        print(f"{key:28} {value:8.3f}   {detail}", file=sys.stderr)


@click.command()
@click.option(
    "--model", "model_folder", type=click.Path(path_type=Path), default=ROOT / "cloud/models/grocery"
)
@click.option("--photos", type=click.Path(path_type=Path), default=ROOT.parent / "shared/data")
@click.option(
    "--cache", type=click.Path(path_type=Path), default=ROOT / ".bench", help="Environments, embeddings."
)
@click.option(
    "--network", type=click.Path(path_type=Path), help="network.keras (default: the same, untrained)."
)
@click.option("--only", default=",".join(PARTS), show_default=True, help="The parts to measure.")
@click.option("--rounds", default=200, show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the figures there.")
def main(
    *,
    model_folder: Path,
    photos: Path,
    cache: Path,
    network: Path | None,
    only: str,
    rounds: int,
    out: Path | None,
) -> None:
    """Measure this machine.

    Environments and embeddings are kept in --cache. Without --network Keras is given the same network with
    random weights.
    """
    with StallWatch() as watch:
        run = Run(open_model(model_folder), photos, cache, rounds, watch)
        with TemporaryDirectory(prefix="shelfsight-bench-") as scratch:
            if network is None:
                network = networks.untrained_network(Path(scratch), run.model.dimension, run.model.input_size)
            parts: dict[str, Callable[[], None]] = {
                "scan": lambda: measure_scans(run, Path(scratch)),
                "embed": lambda: measure_embeddings(run, Path(scratch), network),
                "batch": lambda: measure_batches(run, Path(scratch)),
                "parity": lambda: tell_parity(run),
                "cold": lambda: measure_cold(run, Path(scratch), network),
                "search": lambda: measure_search(run, Path(scratch)),
            }
            for name in only.split(","):
                parts[name]()
    record = report(run)
    if out is not None:
        out.write_text(json.dumps(record, indent=1) + "\n")
    tell(record)


def opened(run: Run, scratch: Path) -> tuple[Path, Matcher]:
    """Install a release of the model with 10,000 vectors, once, and open it."""
    data = scratch / "device"
    if not data.exists():
        install_bench(run.model, run.model.variant(), VECTORS, data)
    version = max(int(path.name) for path in (data / "releases").iterdir())
    return data, Matcher.open(data / "releases" / str(version), threads=1)


def measure_scans(run: Run, scratch: Path) -> None:
    """JPEG bytes to answer against the plain script; a frame against the bare network; the tail."""
    _, matcher = opened(run, scratch)
    plain = PlainScript(run.network, matcher.stack.vectors(np.arange(matcher.stack.base_row_count)))
    for name, size in PHOTOS.items():
        photo = draw_shelf_photo(3, size)
        rounds = max(20, run.rounds // (4 if name == "12mp" else 1))
        pair = in_turn(
            lambda photo=photo: seconds(lambda: plain.answer(photo)),
            lambda photo=photo: seconds(lambda: matcher.match_photo(photo)),
            rounds,
            run.watch,
        )
        run.keep(f"scan.{name}", pair.ratio, {**pair.to_record(), "bytes": len(photo)})
    side = matcher.release.input_size
    frame = decode(draw_shelf_photo(3, PHOTOS["720p"]))
    fitted = fit(frame, side)
    pair = in_turn(
        lambda: seconds(lambda: matcher.match(frame, fit=fit_frame)),
        lambda: seconds(lambda: matcher.embedder.invoke(fitted)),
        run.rounds,
        run.watch,
    )
    run.keep("scan.frame", pair.ratio, pair.to_record())
    photo = draw_shelf_photo(3, PHOTOS["720p"])
    times = [seconds(lambda: matcher.match_photo(photo)) for _ in range(5 * run.rounds)]
    run.watch.look()
    p50, p99 = 1000 * np.quantile(times, [0.5, 0.99])
    run.keep("tail.scan", float(p99 / p50), {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)})


def measure_embeddings(run: Run, scratch: Path, network: Path) -> None:
    """Photo bytes to vector, against Keras `predict` and MediaPipe's `ImageEmbedder`."""
    _, matcher = opened(run, scratch)
    photo = scratch / "photo.jpg"
    photo.write_bytes(draw_shelf_photo(3, PHOTOS["720p"]))
    data = photo.read_bytes()

    def ours() -> float:
        return seconds(lambda: matcher.embedder.embed(decode_to_fit(data, matcher.release.input_size)))

    with Worker(Path(sys.executable), "keras_predict", network) as keras:
        pair = in_turn(lambda: keras.seconds(str(photo)), ours, max(20, run.rounds // 4), run.watch)
    run.keep("embed.keras", pair.ratio, pair.to_record())
    python = environment("mediapipe", run.cache)
    if python is not None:
        alone = scratch / "embedding-only.tflite"
        alone.write_bytes(networks.without_map(run.network.read_bytes()))
        with Worker(python, "mediapipe_embedder", alone) as peer:
            pair = in_turn(lambda: peer.seconds(str(photo)), ours, run.rounds, run.watch)
        run.keep("embed.mediapipe", pair.ratio, pair.to_record())


def measure_batches(run: Run, scratch: Path) -> None:
    """1,000 photos on two cores against one; 100 crops in one call against 100 calls."""
    data, _ = opened(run, scratch)
    device = Device(load_settings(data), tells=False)
    folder = scratch / "many"
    folder.mkdir(exist_ok=True)
    drawn = [draw_shelf_photo(seed, (1280, 720)) for seed in range(20)]
    paths = [folder / f"{number}.jpg" for number in range(1000)]
    for number, path in enumerate(paths):
        path.write_bytes(drawn[number % len(drawn)])

    def on(processes: int) -> float:
        return seconds(lambda: list(answer_photos(device, paths, processes=processes)))

    pair = in_turn(lambda: on(1), lambda: on(2), 4, run.watch, warm_up=0, each=1)
    run.keep("batch.cores", pair.ratio, {**pair.to_record(), "photos": len(paths)})

    frame = decode(draw_shelf_photo(5, PHOTOS["1080p"]))
    crops = [np.ascontiguousarray(crop) for crop in _crops(frame, 100)]
    pair = in_turn(
        lambda: seconds(lambda: [device.see(crop) for crop in crops]),
        lambda: seconds(lambda: device.see_all(crops)),
        max(6, run.rounds // 20),
        run.watch,
        warm_up=1,
        each=1,
    )
    run.keep("batch.shelf", pair.ratio, pair.to_record())


def _crops(frame: np.ndarray, count: int) -> Iterator[np.ndarray]:
    draw = np.random.default_rng(2)
    for _ in range(count):
        top, left = draw.integers(0, frame.shape[0] - 240), draw.integers(0, frame.shape[1] - 180)
        yield frame[top : top + 240, left : left + 180]


def tell_parity(run: Run) -> None:
    """What the model's certificate says of its int8 file: measured when it was made, not here."""
    certificate = read_certificate(run.model.folder)
    if certificate is None:
        return
    (first, *_) = certificate.of_file(run.model.variant().sha256)
    worst = min((each.change for each in first.categories), default=0.0)
    detail = {"photos": first.photos, "runtime": first.runtime, "recall_change": first.recall_change}
    run.keep("parity.int8.cosine", first.cosines.mean, detail)
    run.keep("parity.int8.top1", first.top1_agreement, detail)
    run.keep("parity.int8.worst_category", worst, [each.category for each in first.suffered[:3]])


def measure_cold(run: Run, scratch: Path, network: Path) -> None:
    """From nothing to the first answer at 10,000 vectors: seconds and memory, Keras against ours."""
    from annoy import AnnoyIndex

    data, matcher = opened(run, scratch)
    photo, index_path = scratch / "cold.jpg", scratch / "cold.ann"
    photo.write_bytes(draw_shelf_photo(3, PHOTOS["720p"]))
    index = AnnoyIndex(run.model.dimension, "angular")
    for row, vector in enumerate(matcher.stack.vectors(np.arange(matcher.stack.base_row_count))):
        index.add_item(row, vector)
    index.build(10)
    index.save(str(index_path))
    ways = {"keras": ("keras_predict", network, photo, index_path), "ours": ("cold", data, photo)}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(5):
        for name, command in ways.items():
            began = time.perf_counter()
            rss = float(run_once(Path(sys.executable), *command)["rss_mb"])
            taken[name].append((time.perf_counter() - began, rss))
        run.watch.look()
    cold, rss = (
        {name: median(each[place] for each in found) for name, found in taken.items()} for place in (0, 1)
    )
    run.keep("cold.keras", cold["keras"] / cold["ours"], {k: round(v, 3) for k, v in cold.items()})
    run.keep("rss.keras", rss["keras"] / rss["ours"], {k: round(v, 1) for k, v in rss.items()})


def measure_search(run: Run, scratch: Path) -> None:
    """How well and fast vectors are found, ours and peers, at four sizes."""
    rows, queries = embeddings.real_embeddings(run.model, run.photos, 100_000, run.cache)
    table: list[dict[str, object]] = []
    for count in (10_000, 50_000, 100_000, 1_000_000):
        some = rows[:count] if count <= len(rows) else embeddings.between(rows, count)
        folder = scratch / f"vectors-{count}"
        prepare_folder(some, queries, folder)
        del some
        names = ["shelfsight", "annoy", *PEERS] if count <= 100_000 else ["shelfsight"]
        lines = {name: line for name in names if (line := measure_library(run, name, folder)) is not None}
        table += [{"vectors": count, "library": name, **line} for name, line in lines.items()]
        run.keep(f"search.top1.{count}", float(lines["shelfsight"]["top1"]), lines["shelfsight"])
        if "annoy" in lines:
            pair = compare_with_annoy(run, folder, int(lines["annoy"]["effort"]))
            run.keep(f"search.annoy.{count}", pair["ratio"], pair)
    run.details["search.peers"] = table


def measure_library(run: Run, name: str, folder: Path) -> dict[str, Any] | None:
    """Build in one process, serve from a fresh one."""
    python = Path(sys.executable) if name in ("shelfsight", "annoy") else environment("vectors", run.cache)
    if python is None:
        return None
    built = run_once(python, "vector_search", "build", name, folder)
    served = run_once(python, "vector_search", "serve", name, folder, built["effort"])
    line = {**built, **served}
    print(f"  {name:12} {line}", file=sys.stderr)
    return line


def compare_with_annoy(run: Run, folder: Path, effort: int) -> dict[str, float]:
    """Ask ours and Annoy, tuned to recall@10 of 0.99, the same queries in turn."""
    from on_device.vector_search import LIBRARIES

    queries = np.load(folder / "queries.npy")
    ours = LIBRARIES["shelfsight"]().load(folder, queries.shape[1], 0)
    annoy = LIBRARIES["annoy"]().load(folder, queries.shape[1], effort)
    asked: dict[str, int] = {"ours": 0, "annoy": 0}

    def ask(name: str, search: Callable[[Any], Any]) -> float:
        query = queries[asked[name] % len(queries)]
        asked[name] += 1
        return seconds(lambda: search(query))

    pair = in_turn(lambda: ask("annoy", annoy), lambda: ask("ours", ours), len(queries) // 3 - 3, run.watch)
    # p50 against p50: some queries are easy for one way and hard for the other.
    return {**pair.to_record(), "ratio": pair.first_ms / pair.second_ms}


def report(run: Run) -> dict[str, Any]:
    """Gather what is told: every figure beside what is wanted."""
    lines = {}
    for key, value in run.figures.items():
        must, aim, more = WANTED[key]
        sign = 1 if more else -1
        lines[key] = {
            "value": round(value, 4),
            "must": must,
            "aim": aim,
            "met": sign * value >= sign * must,
            "detail": run.details[key],
        }
    return {
        "model": run.model.name,
        "machine": f"{os.uname().sysname} {os.uname().machine}, {os.cpu_count()} cores, {_processor()}",
        "stalled_share": round(run.watch.share, 4),
        "counts": run.watch.counts,
        "figures": lines,
        "search.peers": run.details.get("search.peers", []),
    }


def _processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else "unknown processor"


def tell(record: dict[str, Any]) -> None:
    """Print the table."""
    print(f"\n{record['machine']}; stalled {record['stalled_share']:.2%}", end="")
    print("" if record["counts"] else ": this run does not count")
    for key, line in record["figures"].items():
        mark = "met" if line["met"] else "MISSED"
        print(f"{key:28} {line['value']:9.3f}   must {line['must']:g}, aim {line['aim'] or '-'}   {mark}")


if __name__ == "__main__":
    main()
