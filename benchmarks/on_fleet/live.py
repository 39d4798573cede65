"""What a living catalog costs those who ask meanwhile, and how soon a new product is answered.

One shop of 100,000 vectors, one real server in a process of its own, one real device. It answers photos
without a pause while releases are brought, tried and swapped, and a product that is published is looked for
until it is answered. Publishing runs while nothing is timed: the cloud has a machine of its own.
"""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from cloud.bundled import find_model
from cloud.catalog import Catalog
from cloud.fleet import Fleet
from cloud.processes import clean_environment
from cloud.publishing import publish
from cloud.signing import fingerprint
from cloud.workspace import Workspace
from devices.bench_release import clustered_vectors
from devices.config import Settings
from devices.device import Device
from devices.enrollment import enroll
from edge.errors import ShelfsightError
from edge.index import IndexRecord, SearchIndex, prepare_index
from edge.model import Model, open_model
from edge.products import Product
from edge.recipe import IndexRecipe
from edge.segments import Content, SegmentStack, encode_base, encode_delta, quantize_rows
from on_fleet.big_catalog import add_photos, draw_photo, fill, make_workspace
from on_fleet.server import running

_PHOTOS = 5
_NEW = 1_000_000  # numbers of drawn packs that the first release has not


@dataclass(frozen=True)
class Size:
    """How much is measured: products of five vectors each, delta rows, queries, rounds."""

    products: int = 20_000
    delta_products: int = 400
    queries: int = 400
    swaps: int = 6
    quiet_s: float = 4.0
    publishes: int = 12
    look_s: float = 0.05
    patience_s: float = 90.0


QUICK = Size(products=600, delta_products=12, queries=40, swaps=1, quiet_s=0.5, publishes=1)


def measure(scratch: Path, *, quick: bool = False) -> dict[str, object]:
    """Return `live.search_ratio`, `.gap_ms`, `.p99_ratio`, `.lost` and `.publish_to_answer_s`."""
    size = QUICK if quick else Size()
    found = _search_ratio(scratch / "search", size)
    workspace = make_workspace(scratch / "cloud")
    model = open_model(find_model(None, workspace))
    fill(workspace, model, size.products, _PHOTOS)
    shop = _Shop(workspace, model)
    found["live.first_publish_s"] = shop.publish()
    with running(workspace) as (address, _):
        settings = _enrolled(workspace, address, scratch / "device")
        device = Device(settings)
        began = time.perf_counter()
        _synced(device, shop.version)
        found["live.first_sync_s"] = round(time.perf_counter() - began, 2)
        found |= _swaps(device, shop, size)
        found |= _publish_to_answer(device, shop, size)
    return found


# A delta beside the base ------------------------------------------------------------------------------------


def _search_ratio(folder: Path, size: Size) -> dict[str, object]:
    """Time searches in a base, and in that base with delta rows, in turn."""
    folder.mkdir(parents=True)
    vectors = clustered_vectors(size.products + size.delta_products, _PHOTOS, 256, np.random.default_rng(3))
    scale = 1.1 * float(np.abs(vectors).max()) / 127
    rows = {f"{number:06}": quantize_rows(block, scale) for number, block in enumerate(vectors)}

    def content(products: int) -> Content:
        some = dict(list(rows.items())[:products])
        return Content("0" * 16, 256, scale, {sku: Product(sku) for sku in some}, some)

    whole = content(len(rows))
    base = encode_base(content(size.products))
    delta = encode_delta(content(size.products), whole)
    assert delta is not None, "there are new products"
    (folder / "base").write_bytes(base)
    (folder / "delta").write_bytes(delta)
    alone = SegmentStack.open([(folder / "base", _sha256(base))])
    both = SegmentStack.open(
        [(folder / "base", _sha256(base)), (folder / "delta", _sha256(delta))], alone.segments
    )
    record = prepare_index(alone, folder, IndexRecipe())
    ways = {stack: _open_index(stack, folder, record) for stack in (alone, both)}
    times: dict[SegmentStack, list[float]] = {stack: [] for stack in ways}
    noise = np.random.default_rng(4)
    flat = vectors.reshape(-1, 256)
    for number in np.linspace(0, len(flat) - 1, size.queries).astype(int):
        query = flat[number] + noise.normal(scale=0.03, size=256).astype(np.float32)
        for stack, index in ways.items():
            began = time.perf_counter()
            index.search(query, 5)
            times[stack].append(1000 * (time.perf_counter() - began))
    base_ms, both_ms = median(times[alone]), median(times[both])
    return {
        "live.search_ratio": round(both_ms / base_ms, 3),
        "live.search_base_ms": round(base_ms, 3),
        "live.search_with_delta_ms": round(both_ms, 3),
        "live.search_method": record.method,
        "live.vectors": alone.row_count,
        "live.delta_rows": both.row_count - alone.row_count,
    }


def _open_index(stack: SegmentStack, folder: Path, record: IndexRecord) -> SearchIndex:
    return SearchIndex.open(stack, folder / "index.ann", record, IndexRecipe())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# Swapping while answering -----------------------------------------------------------------------------------


@dataclass
class _Answers:
    """What somebody who asks without a pause hears: when each answer was there, and how long it took."""

    ended: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    lost: int = 0
    releases: set[int] = field(default_factory=set)


@contextmanager
def _asking(device: Device, photo: bytes, sku: str, pause_s: float = 0.0) -> Iterator[_Answers]:
    """Ask for the same known product again and again in a thread, until the block ends."""
    heard, stop = _Answers(), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            began = time.perf_counter()
            try:
                answer = device.see(photo)
                wrong = not answer.candidates or answer.candidates[0].product.sku != sku
                heard.releases.add(answer.release)
            except ShelfsightError:
                wrong = True
            heard.lost += wrong
            heard.ended.append(time.perf_counter())
            heard.ms.append(1000 * (heard.ended[-1] - began))
            if pause_s:
                time.sleep(pause_s)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield heard
    finally:
        stop.set()
        thread.join()


def _swaps(device: Device, shop: "_Shop", size: Size) -> dict[str, object]:
    """Bring releases while somebody asks, and compare with how it is when nothing happens."""
    photo, sku = draw_photo(0, 77), "P000000"
    device.see(photo)
    quiet: list[float] = []
    busy: list[float] = []
    gaps: list[float] = []
    seconds: list[float] = []
    lost, swapped = 0, 0
    for _ in range(size.swaps):
        shop.add()
        shop.publish()
        with _asking(device, photo, sku) as heard:
            time.sleep(size.quiet_s)
        quiet += heard.ms[5:]
        with _asking(device, photo, sku) as heard:
            began = time.perf_counter()
            _synced(device, shop.version)
            _until(lambda: device.matcher().release.version == shop.version, size.patience_s)
            seconds.append(time.perf_counter() - began)
            time.sleep(0.3)
        busy += heard.ms
        gaps += np.diff(heard.ended).tolist()
        lost += heard.lost
        swapped += shop.version in heard.releases
    quiet_p99, busy_p99 = np.percentile(quiet, 99), np.percentile(busy, 99)
    return {
        "live.gap_ms": round(1000 * max(gaps), 1),
        "live.p99_ratio": round(float(busy_p99 / quiet_p99), 3),
        "live.lost": lost,
        "live.swaps": swapped,
        "live.swap_s": round(median(seconds), 3),
        "live.quiet_ms": {"p50": round(median(quiet), 2), "p99": round(float(quiet_p99), 2)},
        "live.busy_ms": {"p50": round(median(busy), 2), "p99": round(float(busy_p99), 2)},
        "live.answers": {"quiet": len(quiet), "busy": len(busy)},
    }


# From publishing to an answer -------------------------------------------------------------------------------


def _publish_to_answer(device: Device, shop: "_Shop", size: Size) -> dict[str, object]:
    """Publish a product, and ask until the device knows it, which another of its processes keeps in step."""
    hinted = bool(device.sync().hints)
    took: list[float] = []
    publish_s: list[float] = []
    with _syncing(device.settings):
        for _ in range(size.publishes):
            sku, photo = shop.add()
            publish_s.append(shop.publish())
            offered = time.perf_counter()
            if not hinted:
                threading.Thread(target=device.sync, daemon=True).start()

            def is_known(photo: bytes = photo, sku: str = sku) -> bool:
                time.sleep(size.look_s)
                answer = device.see(photo)
                return answer.verdict == "match" and answer.candidates[0].product.sku == sku

            _until(is_known, size.patience_s)
            took.append(time.perf_counter() - offered)
    return {
        "live.publish_to_answer_s": {
            "p50": round(median(took), 3),
            "p95": round(float(np.percentile(took, 95)), 3),
            "max": round(max(took), 3),
        },
        "live.publish_s": round(median(publish_s), 3),
        "live.publishes": len(took),
        "live.hinted": hinted,
    }


@contextmanager
def _syncing(settings: Settings) -> Iterator[None]:
    """Run `shelfsight sync` in a process of its own."""
    command = [sys.executable, "-c", "from devices.commands import main; main()", "sync", "--json"]
    with (settings.data / "sync.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--data", str(settings.data)], stdout=log, stderr=log, env=clean_environment()
        )
        try:
            time.sleep(2.0)
            yield
        finally:
            process.terminate()
            process.wait()


def _synced(device: Device, version: int) -> None:
    """Sync, and see to it that this brought the release."""
    report = device.sync()
    if report.installed != version:
        raise RuntimeError(f"release {version} was not installed: {report}")


def _until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.perf_counter() + seconds
    while not true():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"nothing came of it in {seconds:g} s")
        time.sleep(0.005)


# The shop ---------------------------------------------------------------------------------------------------


class _Shop:
    """The cloud's side: a catalog that gets one product more each time."""

    def __init__(self, workspace: Workspace, model: Model) -> None:
        self._workspace = workspace
        self._model = model
        self._catalog = Catalog(workspace.sessions(), workspace.photo_storage())
        self._added = 0
        self.version = 0

    def add(self) -> tuple[str, bytes]:
        """Add a product with real photos; return its sku and a photo that the catalog has not."""
        self._added += 1
        number = _NEW + self._added
        sku = f"N{number}"
        self._catalog.put_products([Product(sku, f"Morning article {number}", "new", price="1.99")])
        add_photos(self._catalog, sku, number, _PHOTOS)
        return sku, draw_photo(number, 77)

    def publish(self) -> float:
        """Publish the catalog as it is; return how many seconds that took."""
        began = time.perf_counter()
        self.version = publish(self._workspace, self._model, targets=["cpu"]).release.version
        return round(time.perf_counter() - began, 3)


def _enrolled(workspace: Workspace, address: str, data: Path) -> Settings:
    code = Fleet(workspace.sessions()).new_code(fingerprint(workspace.metadata))
    settings = Settings(data=data, name="bench")
    enroll(settings, address, code)
    return settings
