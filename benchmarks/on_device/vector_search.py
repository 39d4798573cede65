"""One library for vector search, measured alone in a process: how well it finds, how fast, and what it takes.

    python vector_search.py build LIBRARY FOLDER    builds, tunes to recall@10 of 0.99, saves
    python vector_search.py serve LIBRARY FOLDER    loads in a fresh process, is asked one by one, one thread

FOLDER holds rows.npy, queries.npy (float32, unit length), truth.npy (the ten nearest rows of each query) and,
in `shelfsight/` the same rows as a device holds them: all libraries search the vectors that a release has.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

WANTED = 0.99
TUNED_ON = 300
COUNT = 10
STEPS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
Search = Callable[[Any], Any]


class _Annoy:
    """Spotify's forest of random planes; the best of three numbers of trees, each with its own search_k."""

    def build(self, rows: Any, folder: Path, tune: Callable[[Callable[[int], Search]], Any]) -> Any:
        from annoy import AnnoyIndex

        best: tuple[float, int, int] | None = None
        for trees in (10, 20, 50):
            index = AnnoyIndex(rows.shape[1], "angular")
            index.set_seed(7)
            for number, row in enumerate(rows):
                index.add_item(number, row)
            began = time.perf_counter()
            index.build(trees, n_jobs=1)
            built = time.perf_counter() - began
            effort, found_ms = tune(lambda step, index=index: self._search(index, step * 100))
            if best is None or found_ms < best[0]:
                best = (found_ms, effort * 100, trees)
                self.built = built
                index.save(str(folder / "annoy"))
        assert best is not None
        return best[1]

    def load(self, folder: Path, dimension: int, effort: int) -> Search:
        from annoy import AnnoyIndex

        index = AnnoyIndex(dimension, "angular")
        index.load(str(folder / "annoy"))
        return self._search(index, effort)

    def _search(self, index: Any, effort: int) -> Search:
        return lambda query: index.get_nns_by_vector(query, COUNT, effort)


class _Hnswlib:
    """The authors' own HNSW: M 16, ef_construction 200."""

    def build(self, rows: Any, folder: Path, tune: Callable[[Callable[[int], Search]], Any]) -> Any:
        import hnswlib

        index = hnswlib.Index("ip", rows.shape[1])
        index.init_index(len(rows), M=16, ef_construction=200, random_seed=7)
        index.set_num_threads(1)
        index.add_items(rows)
        effort, _ = tune(lambda step: self._search(index, step))
        index.save_index(str(folder / "hnswlib"))
        return effort

    def load(self, folder: Path, dimension: int, effort: int) -> Search:
        import hnswlib

        index = hnswlib.Index("ip", dimension)
        index.load_index(str(folder / "hnswlib"))
        index.set_num_threads(1)
        return self._search(index, effort)

    def _search(self, index: Any, effort: int) -> Search:
        def search(query: Any) -> Any:
            return index.knn_query(query, COUNT)[0][0]

        index.set_ef(effort)
        return search


class _Usearch:
    """HNSW over float16: connectivity 16, expansion_add 200. (Over int8 it did not reach the recall.)"""

    dtype = "f16"

    def build(self, rows: Any, folder: Path, tune: Callable[[Callable[[int], Search]], Any]) -> Any:
        index = self._new(rows.shape[1])
        index.add(np.arange(len(rows)), rows, threads=1)
        effort, _ = tune(lambda step: self._search(index, step))
        index.save(str(folder / "usearch"))
        return effort

    def load(self, folder: Path, dimension: int, effort: int) -> Search:
        index = self._new(dimension)
        index.load(str(folder / "usearch"))
        return self._search(index, effort)

    def _new(self, dimension: int) -> Any:
        from usearch.index import Index

        return Index(ndim=dimension, metric="ip", dtype=self.dtype, connectivity=16, expansion_add=200)

    def _search(self, index: Any, effort: int) -> Search:
        index.expansion_search = effort
        return lambda query: index.search(query, COUNT, threads=1).keys


class _Voyager:
    """Spotify's successor of Annoy: HNSW, M 16, ef_construction 200."""

    def build(self, rows: Any, folder: Path, tune: Callable[[Callable[[int], Search]], Any]) -> Any:
        import voyager

        index = voyager.Index(voyager.Space.InnerProduct, rows.shape[1], M=16, ef_construction=200)
        index.add_items(rows, num_threads=1)
        effort, _ = tune(lambda step: self._search(index, step))
        index.save(str(folder / "voyager"))
        return effort

    def load(self, folder: Path, dimension: int, effort: int) -> Search:
        import voyager

        return self._search(voyager.Index.load(str(folder / "voyager")), effort)

    def _search(self, index: Any, effort: int) -> Search:
        return lambda query: index.query(query, COUNT, num_threads=1, query_ef=max(effort, COUNT))[0]


class _FaissHnsw:
    """Faiss's HNSW: 32 neighbors, efConstruction 200."""

    kind = "faiss-hnsw"

    def build(self, rows: Any, folder: Path, tune: Callable[[Callable[[int], Search]], Any]) -> Any:
        import faiss

        faiss.omp_set_num_threads(1)
        index = faiss.IndexHNSWFlat(rows.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 200
        index.add(rows)
        effort, _ = tune(lambda step: self._search(index, step))
        faiss.write_index(index, str(folder / self.kind))
        return effort

    def load(self, folder: Path, dimension: int, effort: int) -> Search:
        import faiss

        faiss.omp_set_num_threads(1)
        return self._search(faiss.read_index(str(folder / self.kind)), effort)

    def _search(self, index: Any, effort: int) -> Search:
        index.hnsw.efSearch = effort
        return lambda query: index.search(query[np.newaxis], COUNT)[1][0]


class _FaissFlat(_FaissHnsw):
    """Faiss's scan over everything: exact."""

    kind = "faiss-flat"

    def build(self, rows: Any, folder: Path, tune: Callable[[Callable[[int], Search]], Any]) -> Any:
        import faiss

        index = faiss.IndexFlatIP(rows.shape[1])
        index.add(rows)
        faiss.write_index(index, str(folder / self.kind))
        return 0

    def _search(self, index: Any, effort: int) -> Search:
        return lambda query: index.search(query[np.newaxis], COUNT)[1][0]


class _Shelfsight:
    """Ours: the release's rows, and what this machine measured to be the fastest way to search them."""

    def build(self, rows: Any, folder: Path, tune: Callable[[Callable[[int], Search]], Any]) -> Any:
        from edge.index import prepare_index
        from edge.recipe import IndexRecipe
        from on_device.catalogs import open_catalog

        stack = open_catalog(folder / "shelfsight")
        began = time.perf_counter()
        prepare_index(stack, folder / "shelfsight", IndexRecipe())
        self.built = time.perf_counter() - began
        return 0

    def load(self, folder: Path, dimension: int, effort: int) -> Search:
        from edge.index import IndexRecord, SearchIndex
        from edge.recipe import IndexRecipe
        from on_device.catalogs import open_catalog

        stack = open_catalog(folder / "shelfsight")
        record = IndexRecord.read(folder / "shelfsight" / "index.json")
        index = SearchIndex.open(stack, folder / "shelfsight" / "index.ann", record, IndexRecipe())
        self.method = index.method
        return lambda query: [hit.row for hit in index.search(query, COUNT)]


LIBRARIES: dict[str, Any] = {
    "shelfsight": _Shelfsight,
    "annoy": _Annoy,
    "hnswlib": _Hnswlib,
    "usearch": _Usearch,
    "voyager": _Voyager,
    "faiss-hnsw": _FaissHnsw,
    "faiss-flat": _FaissFlat,
}


def build(library: str, folder: Path) -> dict[str, object]:
    """Build, tune and save; say how long it took (without the tuning) and what it found."""
    rows, queries, truth = (np.load(folder / f"{name}.npy") for name in ("rows", "queries", "truth"))
    adapter = LIBRARIES[library]()
    tuning_s = 0.0

    def tune(searcher: Callable[[int], Search]) -> tuple[int, float]:
        nonlocal tuning_s
        began = time.perf_counter()
        try:
            for step in STEPS:
                search, times, found = searcher(step), [], []
                for query in queries[:TUNED_ON]:
                    asked = time.perf_counter()
                    found.append(search(query))
                    times.append(time.perf_counter() - asked)
                if recall(found, truth) >= WANTED:
                    return step, median(times)
            return STEPS[-1], median(times)
        finally:
            tuning_s += time.perf_counter() - began

    began = time.perf_counter()
    effort = adapter.build(rows, folder, tune)
    built = getattr(adapter, "built", time.perf_counter() - began - tuning_s)
    return {"effort": effort, "build_s": round(built, 2), "bytes": _size(folder / library)}


def serve(library: str, folder: Path, effort: int) -> dict[str, object]:
    """Load what was built and ask it the queries one by one."""
    queries, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    before = _rss_mb()
    adapter = LIBRARIES[library]()
    search = adapter.load(folder, queries.shape[1], effort)
    for query in queries[:50]:
        search(query)
    times, found = [], []
    for query in queries:
        began = time.perf_counter()
        hits = search(query)
        times.append(time.perf_counter() - began)
        found.append(hits)
    return {
        "recall@10": round(recall(found, truth), 4),
        "top1": round(
            float(np.mean([each[0] == true[0] for each, true in zip(found, truth, strict=True)])), 4
        ),
        "p50_ms": round(1000 * median(times), 4),
        "p99_ms": round(1000 * float(np.quantile(times, 0.99)), 4),
        "rss_mb": round(_rss_mb() - before, 1),
        "method": getattr(adapter, "method", library),
    }


def recall(found: list[Any], truth: Any) -> float:
    """Share of the ten nearest rows that are among those found."""
    pairs = zip(found, truth, strict=False)
    return float(np.mean([len(set(map(int, each)) & set(true.tolist())) / COUNT for each, true in pairs]))


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _rss_mb() -> float:
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return kilobytes * 1024 / 1e6


if __name__ == "__main__":
    verb, name, where = sys.argv[1:4]
    print(
        json.dumps(
            build(name, Path(where)) if verb == "build" else serve(name, Path(where), int(sys.argv[4]))
        )
    )
