"""Search over base and deltas: as good as looking at everything, from a file that is whole or refused."""

import hashlib
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.cells import Cells, build_cells
from edge.disk import sha256_file
from edge.errors import Incompatible, IndexBroken, ModelBroken, StorageUnusable
from edge.index import METHODS, Hit, IndexRecord, SearchIndex, build_annoy, prepare_index
from edge.products import Product
from edge.recipe import IndexRecipe
from edge.scoring import ScoreRule
from edge.segments import Content, SegmentStack, encode_base, encode_delta, quantize_rows

SCALE = 1 / 127
EAGER = IndexRecipe(trees=10, search_k=400)
Vectors = NDArray[np.float32]


def unit(vectors: NDArray[np.floating]) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / lengths, dtype=np.float32)


def clustered(
    products: int, per_product: int, dimension: int, *, seed: int = 1, noise: float = 0.5
) -> tuple[Vectors, Vectors]:
    """Draw reference vectors (products, per_product, dimension) and their centers, as an embedder gives them.

    That is: a few strong directions, products in groups, photos of one product around its center.
    """
    random = np.random.default_rng(seed)
    spectrum = np.exp(-np.arange(dimension) / 40)
    spectrum /= np.linalg.norm(spectrum)
    groups = random.normal(size=(max(1, products // 25), dimension)) * spectrum
    own = 0.8 * random.normal(size=(products, dimension)) * spectrum
    centers = unit(groups[random.integers(0, len(groups), products)] + own)
    photos = (
        centers[:, np.newaxis] + noise * random.normal(size=(products, per_product, dimension)) * spectrum
    )
    return unit(photos), centers


def content_of(photos: dict[str, Vectors], dimension: int) -> Content:
    products = {sku: Product(sku) for sku in photos}
    return Content(
        "s", dimension, SCALE, products, {sku: quantize_rows(v, SCALE) for sku, v in photos.items()}
    )


def stack_of(folder: Path, *contents: Content) -> SegmentStack:
    parts = [encode_base(contents[0])]
    for old, new in pairwise(contents):
        delta = encode_delta(old, new)
        assert delta is not None
        parts.append(delta)
    paths = []
    for part in parts:
        sha256 = hashlib.sha256(part).hexdigest()
        (folder / sha256).write_bytes(part)
        paths.append((folder / sha256, sha256))
    return SegmentStack.open(paths)


def opened(
    folder: Path, stack: SegmentStack, recipe: IndexRecipe = EAGER, *, method: str = "scan"
) -> SearchIndex:
    path, cells = folder / "index.ann", None
    if method == "cells" and stack.base_row_count:
        build_cells(stack, folder / "index.cells", recipe.seed)
        cells = sha256_file(folder / "index.cells")
    record = IndexRecord(build_annoy(stack, path, recipe), method, cells_sha256=cells)
    return SearchIndex.open(stack, path, record, recipe)


def looked_at_everything(stack: SegmentStack, query: Vectors, count: int) -> list[str]:
    rows = np.flatnonzero(stack.alive)
    best: dict[str, float] = {}
    for row, similarity in zip(rows, stack.vectors(rows) @ query, strict=True):
        sku = stack.skus[stack.row_product[row]]
        best[sku] = max(best.get(sku, -2), float(similarity))
    return sorted(best, key=lambda sku: (-best[sku], sku))[:count]


def skus_of(hits: list[Hit]) -> list[str]:
    return [hit.sku for hit in hits]


# --- what is found -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_at_ten_thousand_vectors_the_nearest_row_is_found_quickly(tmp_path: Path, method: str) -> None:
    photos, centers = clustered(2000, 5, 256)
    stack = stack_of(tmp_path, content_of({f"p{i:04}": photo for i, photo in enumerate(photos)}, 256))
    index = opened(tmp_path, stack, IndexRecipe(), method=method)
    assert index.exact == (method == "scan")
    everything = stack.vectors(np.arange(stack.row_count))
    random = np.random.default_rng(2)
    queries = unit(centers[random.integers(0, 2000, 1000)] + 0.03 * random.normal(size=(1000, 256)))
    found, seconds = [], []
    for query in queries:
        start = time.perf_counter()
        found.append(index.search(query, 5)[0].row)
        seconds.append(time.perf_counter() - start)
    recall = np.mean(np.array(found) == (queries @ everything.T).argmax(axis=1))
    assert recall >= (1 if method == "scan" else 0.999)
    assert np.median(seconds) < 0.005  # 0.4 ms on a server CPU; the band is for slow and busy machines


@pytest.mark.parametrize("method", METHODS)
def test_every_way_finds_what_looking_at_everything_finds(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.cells._LEAST_SLACK", 2.0)  # every cell, as search_k is every row
    photos, centers = clustered(60, 8, 32, noise=0.3)
    names = {f"p{i}": photo for i, photo in enumerate(photos)}
    old = content_of(names, 32)
    changed = {**names, "p1": photos[1][:3], "new": unit(photos[2] + photos[3])}
    del changed["p0"]
    stack = stack_of(tmp_path, old, content_of(changed, 32))
    index = opened(tmp_path, stack, IndexRecipe(trees=40, search_k=4000), method=method)
    for query in centers:
        hits = index.search(query, 4)
        assert skus_of(hits) == looked_at_everything(stack, query, 4)
        for hit in hits:
            assert stack.skus[stack.row_product[hit.row]] == hit.sku
            row = stack.vectors(np.array([hit.row]))[0]
            assert hit.similarity == pytest.approx(float(row @ query), abs=1e-5)


histories = st.lists(
    st.dictionaries(
        st.sampled_from([f"p{number}" for number in range(8)]),
        st.tuples(st.sets(st.integers(0, 11), max_size=5), st.sampled_from(["Tea", "Green tea"])),
        min_size=1,
        max_size=8,
    ),
    min_size=2,
    max_size=4,
)


@pytest.mark.parametrize("method", METHODS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
@given(history=histories)
def test_base_and_deltas_answer_as_a_fresh_base_of_the_same_content_does(
    tmp_path_factory: pytest.TempPathFactory, method: str, history: list[dict[str, tuple[set[int], str]]]
) -> None:
    """Products are added, removed and replaced, get and lose photos, and are priced and titled anew."""
    drawn, _ = clustered(1, 12, 16, noise=2.0)
    contents = []
    for catalog in history:
        shots = {sku: drawn[0][sorted(chosen)] for sku, (chosen, _) in catalog.items()}
        content = content_of(shots, 16)
        titled = {sku: Product(sku, title, price=f"{len(title)}.00") for sku, (_, title) in catalog.items()}
        contents.append(replace(content, products=titled))
    kept = [contents[0]]
    kept += [new for new in contents[1:] if encode_delta(kept[-1], new) is not None]
    distinct = [
        new for old, new in pairwise([None, *kept]) if old is None or encode_base(old) != encode_base(new)
    ]
    folders = [tmp_path_factory.mktemp("merged"), tmp_path_factory.mktemp("fresh")]
    merged, fresh = stack_of(folders[0], *distinct), stack_of(folders[1], distinct[-1])
    assert merged.products == fresh.products
    assert b"".join(merged.merged()) == encode_base(distinct[-1])
    everything = IndexRecipe(trees=5, search_k=10_000)
    ways = [
        opened(folder, stack, everything, method=method)
        for folder, stack in zip(folders, (merged, fresh), strict=True)
    ]
    for query in drawn[0][:4]:
        for rule in (ScoreRule(), ScoreRule(0.05, 1.0)):
            left, right = (index.search(query, 3, rule) for index in ways)
            assert [(hit.sku, hit.score, hit.similarity) for hit in left] == [
                (hit.sku, pytest.approx(hit.score, abs=1e-6), pytest.approx(hit.similarity, abs=1e-6))
                for hit in right
            ]


@pytest.mark.parametrize("rule", [ScoreRule(), ScoreRule(0.03, 0.0), ScoreRule(0.1, 1.0)])
@pytest.mark.parametrize("method", METHODS)
def test_products_are_ordered_by_the_score_of_all_their_rows(
    tmp_path: Path, method: str, rule: ScoreRule
) -> None:
    # Products of 1 to 24 photos, some of them in a delta.
    photos, centers = clustered(60, 24, 32, noise=0.6)
    old = {f"p{i}": photo[: 1 + i % 12] for i, photo in enumerate(photos)}
    new = {**old, **{f"p{i}": photos[i] for i in range(0, 60, 7)}}
    stack = stack_of(tmp_path, content_of(old, 32), content_of(new, 32))
    index = opened(tmp_path, stack, IndexRecipe(trees=40, search_k=4000), method=method)
    for query in unit(centers + photos[::-1, 0]):
        expected = {}
        for number, sku in enumerate(stack.skus):
            similarities = stack.vectors(np.flatnonzero(stack.row_product == number)) @ query
            count = np.array([len(similarities)])
            expected[sku] = float(rule.scores(similarities, np.zeros(1, np.intp), count)[0])
        hits = index.search(query, 4, rule)
        assert skus_of(hits) == sorted(expected, key=lambda sku: -expected[sku])[:4]
        for hit in hits:
            assert hit.score == pytest.approx(expected[hit.sku], abs=1e-5)
            own = stack.vectors(stack.rows_of(hit.sku)) @ query
            assert hit.similarity == pytest.approx(float(own.max()), abs=1e-5)
            assert hit.row == stack.rows_of(hit.sku)[own.argmax()]


def test_spare_products_come_along_only_where_they_cost_nothing(tmp_path: Path) -> None:
    photos, _ = clustered(3, 2000, 16, noise=0.1)
    stack = stack_of(tmp_path, content_of({f"p{i}": photo for i, photo in enumerate(photos)}, 16))
    rule = ScoreRule(0.05, 1.0)
    assert len(opened(tmp_path, stack, method="scan").search(photos[1][0], 1, rule, spare=5)) == 3
    proposed = opened(tmp_path, stack, method="annoy").search(photos[1][0], 1, rule, spare=5)
    assert skus_of(proposed)[0] == "p1"
    assert len(proposed) < 3


@pytest.mark.parametrize("method", METHODS)
def test_a_removed_product_is_never_found_however_many_rows_it_left(tmp_path: Path, method: str) -> None:
    photos, _ = clustered(2, 3000, 16, noise=0.2)
    old = content_of({"gone": photos[0], "stays": photos[1], "few": unit(photos[0][:1] + photos[1][:1])}, 16)
    new = content_of({"stays": photos[1], "few": unit(photos[0][:1] + photos[1][:1])}, 16)
    index = opened(tmp_path, stack_of(tmp_path, old, new), method=method)
    assert sorted(skus_of(index.search(photos[0][7], 3))) == ["few", "stays"]


@pytest.mark.parametrize("method", METHODS)
def test_many_photos_of_one_product_do_not_hide_the_others(tmp_path: Path, method: str) -> None:
    photos, _ = clustered(3, 2000, 16, noise=0.1)
    names = {f"p{i}": photo for i, photo in enumerate(photos)}
    index = opened(tmp_path, stack_of(tmp_path, content_of(names, 16)), method=method)
    assert sorted(skus_of(index.search(photos[1][0], 5))) == ["p0", "p1", "p2"]


@pytest.mark.parametrize("others", [0, 300])
def test_equal_similarities_are_ordered_by_sku(tmp_path: Path, others: int) -> None:
    photos, _ = clustered(max(others, 1), 1, 64, seed=3)
    same = unit(np.ones((1, 64), np.float32))
    names = {f"other{i}": photos[i] for i in range(others)}
    old = content_of({**names, "c": same, "a": same}, 64)
    new = content_of({**names, "c": same, "a": same, "b": same}, 64)
    index = opened(tmp_path, stack_of(tmp_path, old, new), method="annoy" if others else "scan")
    hits = index.search(same[0], 2)
    assert skus_of(hits) == ["a", "b"]
    assert hits[0].similarity == hits[1].similarity


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(0, 40))
def test_a_scanned_index_is_exact(tmp_path: Path, seed: int, count: int, products: int) -> None:
    photos, centers = clustered(max(products, 1), 2, 8, seed=seed)
    stack = stack_of(tmp_path, content_of({f"p{i}": photos[i] for i in range(products)}, 8))
    index = opened(tmp_path, stack, method="scan")
    assert skus_of(index.search(centers[0], count)) == looked_at_everything(stack, centers[0], count)


def test_a_product_without_photos_is_known_and_not_found(tmp_path: Path) -> None:
    photos, _ = clustered(1, 2, 8)
    stack = stack_of(tmp_path, content_of({"seen": photos[0], "unseen": np.empty((0, 8), np.float32)}, 8))
    assert set(stack.products) == {"seen", "unseen"}
    assert skus_of(opened(tmp_path, stack).search(photos[0][0], 5)) == ["seen"]


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_catalog_finds_nothing(tmp_path: Path, method: str) -> None:
    index = opened(tmp_path, stack_of(tmp_path, content_of({}, 8)), method=method)
    assert index.search(np.ones(8, np.float32), 5) == []


def test_the_first_products_of_an_empty_base_are_found(tmp_path: Path) -> None:
    photos, _ = clustered(1, 2, 8)
    stack = stack_of(tmp_path, content_of({}, 8), content_of({"new": photos[0]}, 8))
    assert skus_of(opened(tmp_path, stack).search(photos[0][0], 5)) == ["new"]


def test_the_length_of_the_question_does_not_matter(tmp_path: Path) -> None:
    photos, centers = clustered(30, 4, 16)
    index = opened(tmp_path, stack_of(tmp_path, content_of({f"p{i}": p for i, p in enumerate(photos)}, 16)))
    once, again = index.search(centers[0], 3), index.search(7 * centers[0], 3)
    assert skus_of(once) == skus_of(again)
    assert once[0].similarity == pytest.approx(again[0].similarity, abs=1e-6)


@pytest.mark.parametrize(
    ("vector", "wrong"),
    [
        (np.ones(7, np.float32), Incompatible),
        (np.ones((1, 8), np.float32), Incompatible),
        (np.zeros(8, np.float32), ModelBroken),
        (np.full(8, np.nan, np.float32), ModelBroken),
        (np.full(8, np.inf, np.float32), ModelBroken),
    ],
)
def test_a_question_that_cannot_be_is_refused(
    tmp_path: Path, vector: Vectors, wrong: type[Exception]
) -> None:
    photos, _ = clustered(1, 2, 8)
    index = opened(tmp_path, stack_of(tmp_path, content_of({"a": photos[0]}, 8)))
    with pytest.raises(wrong):
        index.search(vector, 1)


# --- the file ----------------------------------------------------------------------------------------------


@pytest.fixture
def stack(tmp_path: Path) -> SegmentStack:
    photos, _ = clustered(50, 8, 16)
    return stack_of(tmp_path, content_of({f"p{i}": photo for i, photo in enumerate(photos)}, 16))


def test_two_builds_give_the_same_bytes(tmp_path: Path, stack: SegmentStack) -> None:
    first = build_annoy(stack, tmp_path / "first", EAGER)
    second = build_annoy(stack, tmp_path / "second", EAGER)
    assert first == second == hashlib.sha256((tmp_path / "second").read_bytes()).hexdigest()
    assert build_annoy(stack, tmp_path / "third", IndexRecipe(trees=10, search_k=400, seed=8)) != first


def test_the_file_is_laid_out_as_the_formats_page_says(tmp_path: Path, stack: SegmentStack) -> None:
    path = tmp_path / "index.ann"
    build_annoy(stack, path, EAGER)
    count, dimension = stack.base_row_count, stack.dimension
    words = np.fromfile(path, dtype="<i4").reshape(-1, 3 + dimension)
    below, children = words[:, 0], words[:, 1:3]
    np.testing.assert_array_equal(below[:count], 1)
    np.testing.assert_array_equal(words[:count, 3:].view("<f4"), stack.vectors(np.arange(count)))
    assert below[-1] == count  # a root
    rows_of: dict[int, set[int]] = {}
    for node in range(len(words)):  # children come before their parents
        n = int(below[node])
        if node < count:
            rows_of[node] = {node}
        elif n <= dimension + 2:
            rows_of[node] = set(words[node, 1 : 1 + n].tolist())
        else:
            negative, positive = (rows_of[child] for child in children[node].tolist())
            rows_of[node] = negative | positive
        assert len(rows_of[node]) == n
    assert sum(len(rows) == count for rows in rows_of.values()) >= EAGER.trees
    plane = words[-1, 3:].view("<f4")
    negative, positive = (rows_of[child] for child in children[-1].tolist())
    side = stack.vectors(np.arange(count)) @ plane
    assert side[sorted(positive)].min() > side[sorted(negative)].max()


def test_another_process_builds_the_same_bytes(tmp_path: Path, stack: SegmentStack) -> None:
    here = build_annoy(stack, tmp_path / "here", EAGER)
    segment = stack.segments[0].path
    program = (
        "from pathlib import Path; from edge.segments import SegmentStack;"
        "from edge.index import build_annoy; from edge.recipe import IndexRecipe;"
        f"stack = SegmentStack.open([(Path({str(segment)!r}), {segment.name!r})]);"
        f"print(build_annoy(stack, Path({str(tmp_path / 'there')!r}), IndexRecipe(trees=10, search_k=400)))"
    )
    there = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == here


def test_every_cut_at_a_node_boundary_is_refused_before_it_is_mapped(
    tmp_path: Path, stack: SegmentStack
) -> None:
    # Such a file loads without complaint and kills the process when it is asked.
    path = tmp_path / "index.ann"
    sha256 = build_annoy(stack, path, EAGER)
    whole = path.read_bytes()
    node = 4 * (16 + 3)
    assert len(whole) % node == 0
    for nodes in range(0, len(whole) // node, 37):
        path.write_bytes(whole[: nodes * node])
        with pytest.raises(IndexBroken, match="install the release again"):
            SearchIndex.open(stack, path, IndexRecord(sha256, "annoy"), EAGER)


def test_a_file_that_is_no_whole_number_of_nodes_is_refused_even_with_its_hash(
    tmp_path: Path, stack: SegmentStack
) -> None:
    path = tmp_path / "index.ann"
    build_annoy(stack, path, EAGER)
    data = path.read_bytes()[:-1]
    path.write_bytes(data)
    with pytest.raises(IndexBroken, match="not nodes of 76"):
        SearchIndex.open(stack, path, IndexRecord(hashlib.sha256(data).hexdigest(), "annoy"), EAGER)


def test_an_altered_byte_is_refused(tmp_path: Path, stack: SegmentStack) -> None:
    path = tmp_path / "index.ann"
    sha256 = build_annoy(stack, path, EAGER)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IndexBroken, match="has sha256"):
        SearchIndex.open(stack, path, IndexRecord(sha256, "annoy"), EAGER)


def test_a_missing_index_is_refused(tmp_path: Path, stack: SegmentStack) -> None:
    with pytest.raises(IndexBroken, match="cannot be read"):
        SearchIndex.open(stack, tmp_path / "nothing", IndexRecord("0" * 64, "scan"), EAGER)


def test_an_index_of_another_catalog_is_refused(tmp_path: Path, stack: SegmentStack) -> None:
    photos, _ = clustered(60, 8, 16)
    other = stack_of(tmp_path, content_of({f"p{i}": photo for i, photo in enumerate(photos)}, 16))
    path = tmp_path / "index.ann"
    sha256 = build_annoy(other, path, EAGER)
    with pytest.raises(IndexBroken, match="holds 480 rows and the base 400"):
        SearchIndex.open(stack, path, IndexRecord(sha256, "annoy"), EAGER)


@pytest.mark.parametrize("method", METHODS)
def test_an_index_goes_with_its_base_from_release_to_release(tmp_path: Path, method: str) -> None:
    photos, centers = clustered(40, 4, 32)
    old = content_of({f"p{i}": photo for i, photo in enumerate(photos)}, 32)
    new = content_of({f"p{i}": photo for i, photo in enumerate(photos[1:])} | {"new": photos[0]}, 32)
    first = stack_of(tmp_path, old)
    opened(tmp_path, first, method=method)
    record = IndexRecord.read(_recorded(tmp_path, first, method))
    second = stack_of(tmp_path, old, new)
    before = {path.name: path.stat() for path in tmp_path.glob("index.*")}
    assert prepare_index(second, tmp_path, EAGER) == record
    for path in tmp_path.glob("index.*"):
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (
            before[path.name].st_ino,
            before[path.name].st_mtime_ns,
        ), "nothing is built or measured once more"
    held = SearchIndex.open(first, tmp_path / "index.ann", record, EAGER)
    shared = SearchIndex.open(second, tmp_path / "index.ann", record, EAGER, held)
    alone = SearchIndex.open(second, tmp_path / "index.ann", record, EAGER)
    assert shared._propose is held._propose
    for query in centers[:5]:
        assert shared.search(query, 4) == alone.search(query, 4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("what", ["base", "seed", "bytes", "record", "older"])
def test_an_index_is_carried_to_no_other_base_and_only_whole(tmp_path: Path, method: str, what: str) -> None:
    photos, centers = clustered(40, 4, 32)
    old = stack_of(tmp_path, content_of({f"p{i}": photo for i, photo in enumerate(photos)}, 32))
    opened(tmp_path, old, method=method)
    path = _recorded(tmp_path, old, method)
    record, recipe, stack = IndexRecord.read(path), EAGER, old
    if what == "base":  # as many rows of as many products
        stack = stack_of(tmp_path, content_of({f"q{i}": photo for i, photo in enumerate(photos[::-1])}, 32))
        with pytest.raises(IndexBroken, match="another base"):
            SearchIndex.open(stack, tmp_path / "index.ann", record, EAGER)
    elif what == "seed":
        recipe = replace(EAGER, seed=8)
    elif what == "bytes":
        (tmp_path / "index.ann").write_bytes((tmp_path / "index.ann").read_bytes()[:-140])
    elif what == "record":
        path.write_text("{}")
    else:
        replace(record, base=None, built=None).write(path)
    renewed = prepare_index(stack, tmp_path, recipe)
    assert (renewed.base, renewed.built) == (stack.segments[0].sha256, (recipe.trees, recipe.seed))
    held = SearchIndex.open(old, tmp_path / "index.ann", renewed, recipe) if stack is old else None
    index = SearchIndex.open(stack, tmp_path / "index.ann", renewed, recipe, held)
    for query in centers[:5]:
        assert skus_of(index.search(query, 1)) == looked_at_everything(stack, query, 1)


def _recorded(folder: Path, stack: SegmentStack, method: str) -> Path:
    """Write index.json about what `opened` has built, as `prepare_index` does."""
    cells = sha256_file(folder / "index.cells") if method == "cells" else None
    IndexRecord(
        sha256_file(folder / "index.ann"),
        method,
        cells_sha256=cells,
        base=stack.segments[0].sha256,
        built=(EAGER.trees, EAGER.seed),
    ).write(folder / "index.json")
    return folder / "index.json"


def test_a_folder_that_is_not_there_cannot_take_an_index(tmp_path: Path, stack: SegmentStack) -> None:
    with pytest.raises(StorageUnusable, match="cannot be used"):
        build_annoy(stack, tmp_path / "nowhere" / "index.ann", EAGER)


def test_a_full_disk_leaves_the_old_index_as_it_was(tmp_path: Path, stack: SegmentStack) -> None:
    path = tmp_path / "index.ann"
    path.write_bytes(b"old")
    segment = stack.segments[0].path
    program = (
        "import resource; from pathlib import Path; from edge.segments import SegmentStack;"
        "from edge.errors import NoSpace; from edge.index import build_annoy;"
        "from edge.recipe import IndexRecipe;"
        f"stack = SegmentStack.open([(Path({str(segment)!r}), {segment.name!r})]);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        f"try: build_annoy(stack, Path({str(path)!r}), IndexRecipe())\n"
        "except NoSpace: print('no space')"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "no space"
    assert path.read_bytes() == b"old"
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([segment.name, "index.ann"])


# --- which way ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "method", "measured"), [(0, "scan", False), (300, "scan", False), (4000, None, True)]
)
def test_a_device_measures_which_way_is_faster_where_it_is_not_plain(
    tmp_path: Path, rows: int, method: str | None, measured: bool
) -> None:
    photos = unit(np.random.default_rng(1).normal(size=(rows, 64)))
    stack = stack_of(tmp_path, content_of({"all": photos}, 64))
    record = prepare_index(stack, tmp_path, IndexRecipe(trees=5))
    assert IndexRecord.read(tmp_path / "index.json") == record
    assert method in (None, record.method)
    if measured:
        assert record.annoy_ms is not None
        assert record.scan_ms is not None
        assert record.cells_ms is not None
        fastest = min(record.annoy_ms, record.scan_ms, record.cells_ms)
        assert (record.method == "scan") == (record.scan_ms < fastest + 0.2)
        assert (tmp_path / "index.cells").exists() == (record.method == "cells")
    else:
        assert record.annoy_ms is record.scan_ms is None
    index = SearchIndex.open(stack, tmp_path / "index.ann", record, IndexRecipe(trees=5))
    assert index.exact == (record.method == "scan")


def test_a_catalog_too_large_for_floats_is_not_scanned_where_there_is_no_numkong(tmp_path: Path) -> None:
    photos = unit(np.random.default_rng(1).normal(size=(8_001, 1000)))
    stack = stack_of(tmp_path, content_of({"all": photos}, 1000))
    (segment,) = tmp_path.iterdir()
    program = (
        "import sys; sys.modules['numkong'] = None\n"  # as where it cannot be installed
        "from pathlib import Path; from edge.segments import SegmentStack\n"
        "from edge.index import prepare_index; from edge.recipe import IndexRecipe\n"
        "folder = Path(sys.argv[1]); name = sys.argv[2]\n"
        "stack = SegmentStack.open([(folder / name, name)])\n"
        "print(prepare_index(stack, folder, IndexRecipe(trees=1)).method)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, tmp_path, segment.name], check=True, capture_output=True, text=True
    )
    assert told.stdout.strip() == "annoy"
    assert stack.row_count == 8_001


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("temperature", [0.0, 0.03])
def test_with_and_without_numkong_the_same_is_found(
    tmp_path: Path, method: str, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, centers = clustered(1500, 4, 64)
    stack = stack_of(tmp_path, content_of({f"p{i:04}": photo for i, photo in enumerate(photos)}, 64))
    rule = ScoreRule(temperature, 1.0)
    quick = opened(tmp_path, stack, IndexRecipe(), method=method)
    assert quick.fast == (method == "scan"), "there is nothing but the base to scan"
    monkeypatch.setattr("edge.scan._numkong", lambda: None)
    plain = opened(tmp_path, stack, IndexRecipe(), method="scan")
    assert not plain.fast
    if method != "scan":
        monkeypatch.undo()
    for query in centers[::30]:
        assert quick.search(query, 5, rule) == plain.search(query, 5, rule)


def test_cells_that_are_cut_or_belong_to_others_are_refused(tmp_path: Path) -> None:
    stack = stack_of(tmp_path, content_of({"all": unit(np.random.default_rng(1).normal(size=(300, 16)))}, 16))
    index = opened(tmp_path, stack, method="cells")
    assert index.method == "cells"
    path, record = tmp_path / "index.ann", IndexRecord(sha256_file(tmp_path / "index.ann"), "cells")
    with pytest.raises(IndexBroken, match="missing or spoiled"):
        SearchIndex.open(stack, path, record, EAGER)
    whole = (tmp_path / "index.cells").read_bytes()
    for length in (0, 10, 63, 64, 65, len(whole) - 1):
        (tmp_path / "index.cells").write_bytes(whole[:length])
        with pytest.raises(IndexBroken):
            SearchIndex.open(
                stack, path, replace(record, cells_sha256=sha256_file(tmp_path / "index.cells")), EAGER
            )


def test_cells_are_built_alike_twice_and_hold_every_row_once(tmp_path: Path) -> None:
    stack = stack_of(tmp_path, content_of({"all": unit(np.random.default_rng(1).normal(size=(700, 16)))}, 16))
    build_cells(stack, tmp_path / "one", 7)
    build_cells(stack, tmp_path / "two", 7)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    cells = Cells.open(tmp_path / "one", 700, 16)
    assert sorted(cells.numbers.tolist()) == list(range(700))
    np.testing.assert_array_equal(cells.rows, stack.raw(cells.numbers.astype(np.intp)))


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b'{"sha256":"00","method":"scan"}', b'{"sha256":"' + b"0" * 64 + b'","method":"x"}'],
)
def test_an_index_record_that_says_nothing_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "index.json").write_bytes(data)
    with pytest.raises(IndexBroken):
        IndexRecord.read(tmp_path / "index.json")


def test_a_missing_index_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IndexBroken, match="cannot be read"):
        IndexRecord.read(tmp_path / "index.json")


def test_importing_the_module_does_not_load_annoy() -> None:
    program = "import sys, edge.index; print('annoy' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "False"
