"""The segment format: canonical bytes, exact deltas, and refusal of everything that is not whole."""

import hashlib
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import BadProduct, Incompatible, SegmentBroken
from edge.products import Product
from edge.segments import (
    Content,
    SegmentStack,
    encode_base,
    encode_delta,
    open_segment,
    quantize_rows,
)

DIMENSION = 4
in_a_shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

skus = st.sampled_from(["a", "B", "apple-1", "äpfel", "z" * 40, "01", "東京", "𝛼"])
rows = st.lists(st.binary(min_size=DIMENSION, max_size=DIMENSION), max_size=4)
products = st.builds(
    lambda title, price: (title, price),
    st.sampled_from(["", "Tea", 'Tea "green" 1\\2']),
    st.sampled_from(["1.99", None]),
)
catalogs = st.dictionaries(skus, st.tuples(products, rows), max_size=6)
Catalog = dict[str, tuple[tuple[str, str | None], list[bytes]]]


def as_content(catalog: Catalog) -> Content:
    return Content(
        space="0123456789abcdef",
        dimension=DIMENSION,
        scale=0.01,
        products={
            sku: Product(sku, title=title, price=price) for sku, ((title, price), _) in catalog.items()
        },
        rows={
            sku: np.frombuffer(b"".join(rows), dtype=np.int8).reshape(-1, DIMENSION)
            for sku, (_, rows) in catalog.items()
        },
    )


def saved(folder: Path, data: bytes) -> tuple[Path, str]:
    sha256 = hashlib.sha256(data).hexdigest()
    path = folder / sha256
    path.write_bytes(data)
    return path, sha256


def some_content() -> Content:
    return as_content(
        {"a": (("Tea", "1.99"), [b"\x01\x02\x03\x04", b"\xff\x00\x00\x00"]), "b": (("", None), [])}
    )


@pytest.fixture
def segment_bytes() -> bytes:
    return encode_base(some_content())


# --- canonical ---------------------------------------------------------------------------------------------


@given(catalogs, st.randoms())
def test_the_same_content_gives_the_same_bytes_in_any_order(catalog: Catalog, random: Random) -> None:
    shuffled_skus = list(catalog)
    random.shuffle(shuffled_skus)
    shuffled: Catalog = {}
    for sku in shuffled_skus:
        product, rows = catalog[sku]
        again = [*rows, *rows[:1]]
        random.shuffle(again)
        shuffled[sku] = (product, again)
    assert encode_base(as_content(shuffled)) == encode_base(as_content(catalog))


def test_the_bytes_of_a_small_base_never_change() -> None:
    expected_header = (
        b'{"dimension":4,"kind":"base","products":[{"price":"1.99","rows":2,"sku":"a","title":"Tea"},'
        b'{"rows":0,"sku":"b"}],"removed":[],"scale":0.01,"space":"0123456789abcdef"}'
    )
    head = (
        b"SHELFSEG" + (1).to_bytes(4, "little") + len(expected_header).to_bytes(4, "little") + expected_header
    )
    padding = bytes(-len(head) % 64)
    assert encode_base(some_content()) == head + padding + b"\x01\x02\x03\x04\xff\x00\x00\x00"


def test_the_example_in_the_formats_page_is_this_base() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    data = encode_base(some_content())
    assert data[16 : 16 + int.from_bytes(data[12:16], "little")].decode() in page
    assert f"{len(data)} bytes" in page
    assert hashlib.sha256(data).hexdigest() in page


@in_a_shared_folder
@given(catalogs)
def test_what_was_written_is_read_back(tmp_path: Path, catalog: Catalog) -> None:
    content = as_content(catalog)
    stack = SegmentStack.open([saved(tmp_path, encode_base(content))])
    assert encode_base(stack.content()) == encode_base(content)
    assert dict(stack.products) == dict(content.products)
    assert stack.skus == sorted(content.products)


# --- deltas ------------------------------------------------------------------------------------------------


@in_a_shared_folder
@given(st.lists(catalogs, min_size=2, max_size=4))
def test_a_base_with_its_deltas_says_exactly_the_newest_content(
    tmp_path: Path, history: list[Catalog]
) -> None:
    contents = [as_content(catalog) for catalog in history]
    segments = [saved(tmp_path, encode_base(contents[0]))]
    for old, new in pairwise(contents):
        delta = encode_delta(old, new)
        assert (delta is None) == (encode_base(old) == encode_base(new))
        if delta is not None:
            segments.append(saved(tmp_path, delta))
    stack = SegmentStack.open(segments)
    newest = encode_base(contents[-1])
    assert encode_base(stack.content()) == newest
    assert stack.merged_sha256() == hashlib.sha256(newest).hexdigest()


@pytest.mark.parametrize("dimension", [4, 12])
def test_a_base_whose_rows_are_in_no_order_merges_as_one_in_order(tmp_path: Path, dimension: int) -> None:
    # Rows that are alike in front, as more than eight components may be.
    rows = {
        sku: np.array([[7] * (dimension - 1) + [end] for end in ends], dtype=np.int8)
        for sku, ends in {"a": (1, 2, 3), "b": (-1, 5), "c": (9,)}.items()
    }
    content = Content("s", dimension, 0.01, {sku: Product(sku) for sku in rows}, rows)
    ordered = encode_base(content)
    at = len(ordered) - 6 * dimension
    lines = [ordered[at + n * dimension : at + (n + 1) * dimension] for n in range(6)]
    for order in ((1, 0, 2, 3, 4, 5), (0, 1, 2, 4, 3, 5), (0, 0, 2, 3, 4, 5)):
        stack = SegmentStack.open(
            [saved(tmp_path, ordered[:at] + b"".join(lines[number] for number in order))]
        )
        assert b"".join(stack.merged()) == encode_base(stack.content())


def test_what_is_open_is_opened_again_only_where_it_is_another_file(tmp_path: Path) -> None:
    base, delta = encode_base(some_content()), encode_delta(as_content({}), some_content())
    assert delta is not None
    paths = [saved(tmp_path, base), saved(tmp_path, delta)]
    held = SegmentStack.open(paths).segments
    again = SegmentStack.open(paths, held)
    assert all(new is old for new, old in zip(again.segments, held, strict=True))
    (tmp_path / "link").hardlink_to(paths[0][0])
    assert SegmentStack.open([(tmp_path / "link", paths[0][1])], held).segments[0] is held[0]
    (tmp_path / "copy").write_bytes(base)
    assert SegmentStack.open([(tmp_path / "copy", paths[0][1])], held).segments[0] is not held[0]
    with pytest.raises(SegmentBroken):
        SegmentStack.open([(paths[0][0], paths[1][1])], held)


def test_products_of_this_device_go_on_top_and_move_no_row(tmp_path: Path) -> None:
    stack = SegmentStack.open([saved(tmp_path, encode_base(some_content()))])
    empty = as_content({})
    own = as_content(
        {"b": (("", None), [b"\x05\x05\x05\x05"]), "own": (("Own", None), [b"\x09\x00\x00\x00"])}
    )
    delta = encode_delta(empty, own)
    assert delta is not None
    path, sha256 = saved(tmp_path, delta)
    whole = stack.with_local(open_segment(path, sha256))
    assert (whole.raw(np.arange(stack.row_count)) == stack.raw(np.arange(stack.row_count))).all()
    assert whole.base_row_count == stack.base_row_count
    assert [len(whole.rows_of(sku)) for sku in ("a", "b", "own")] == [2, 1, 1]
    with pytest.raises(SegmentBroken):
        stack.with_local(stack.segments[0])


@given(catalogs, catalogs)
def test_the_same_change_gives_the_same_delta(old: Catalog, new: Catalog) -> None:
    backwards: Catalog = {sku: (product, rows[::-1]) for sku, (product, rows) in reversed(new.items())}
    assert encode_delta(as_content(old), as_content(new)) == encode_delta(
        as_content(old), as_content(backwards)
    )


def delta_header(old: Content, new: Content) -> dict[str, object]:
    delta = encode_delta(old, new)
    assert delta is not None
    header: dict[str, object] = json.loads(delta[16 : 16 + int.from_bytes(delta[12:16], "little")])
    return header


def test_a_new_price_costs_no_rows() -> None:
    old = as_content({"a": (("Tea", "1.99"), [b"1234", b"5678"])})
    new = as_content({"a": (("Tea", None), [b"1234", b"5678"])})
    assert delta_header(old, new)["products"] == [{"sku": "a", "title": "Tea", "rows": 0}]


def test_one_more_photo_costs_one_row() -> None:
    old = as_content({"a": (("", None), [b"1234", b"5678"])})
    new = as_content({"a": (("", None), [b"1234", b"5678", b"9999"])})
    header = delta_header(old, new)
    assert header["products"] == [{"sku": "a", "rows": 1}]
    assert header["removed"] == []


def test_a_product_that_lost_a_photo_is_written_again_whole() -> None:
    old = as_content({"a": (("", None), [b"1234", b"5678"])})
    new = as_content({"a": (("", None), [b"1234"])})
    header = delta_header(old, new)
    assert header["products"] == [{"sku": "a", "rows": 1}]
    assert header["removed"] == ["a"]


def test_contents_of_two_spaces_have_no_delta() -> None:
    old = some_content()
    new = Content("another space", old.dimension, old.scale, old.products, old.rows)
    with pytest.raises(Incompatible, match="another space"):
        encode_delta(old, new)


def test_rows_keep_their_numbers_when_a_delta_takes_a_product_away(tmp_path: Path) -> None:
    old = as_content({"a": (("", None), [b"1234"]), "b": (("", None), [b"5678"])})
    new = as_content({"b": (("", None), [b"5678"]), "c": (("", None), [b"9999"])})
    delta = encode_delta(old, new)
    assert delta is not None
    stack = SegmentStack.open([saved(tmp_path, encode_base(old)), saved(tmp_path, delta)])
    assert (stack.row_count, stack.base_row_count) == (3, 2)
    assert stack.alive.tolist() == [False, True, True]
    assert stack.row_product.tolist() == [-1, 0, 1]
    assert stack.skus == ["b", "c"]
    assert stack.rows_of("c").tolist() == [2]
    assert stack.rows_of("a").tolist() == []


# --- vectors -----------------------------------------------------------------------------------------------


def test_quantized_rows_point_where_the_vectors_pointed(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = quantize_rows(vectors, 0.004)
    content = Content("s", 64, 0.004, {"a": Product("a")}, {"a": rows})
    stack = SegmentStack.open([saved(tmp_path, encode_base(content))])
    found = stack.vectors(np.arange(50))
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    best = (found @ vectors.T).max(axis=1)
    assert best.min() > 0.999


def test_a_component_beyond_the_scale_is_clipped() -> None:
    assert quantize_rows(np.array([[1.0, -1.0]], dtype=np.float32), 0.004).tolist() == [[127, -127]]


def test_a_row_of_zeros_stays_finite(tmp_path: Path) -> None:
    content = as_content({"a": (("", None), [bytes(DIMENSION)])})
    stack = SegmentStack.open([saved(tmp_path, encode_base(content))])
    assert stack.vectors(np.array([0])).tolist() == [[0.0] * DIMENSION]


def test_mapped_rows_cannot_be_written(tmp_path: Path, segment_bytes: bytes) -> None:
    segment = open_segment(*saved(tmp_path, segment_bytes))
    with pytest.raises(ValueError, match="read-only"):
        segment.rows[0, 0] = 1


# --- refusals ----------------------------------------------------------------------------------------------


def test_a_wrong_hash_is_refused_before_anything_is_read(tmp_path: Path, segment_bytes: bytes) -> None:
    path, _ = saved(tmp_path, segment_bytes)
    with pytest.raises(SegmentBroken, match="has sha256"):
        open_segment(path, "0" * 64)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegmentBroken, match="No such file"):
        open_segment(tmp_path / "nothing", None)


def test_every_cut_is_refused(tmp_path: Path, segment_bytes: bytes) -> None:
    path = tmp_path / "cut"
    for length in range(len(segment_bytes)):
        path.write_bytes(segment_bytes[:length])
        with pytest.raises(SegmentBroken):
            open_segment(path, None)


def test_bytes_after_the_end_are_refused(tmp_path: Path, segment_bytes: bytes) -> None:
    path, _ = saved(tmp_path, segment_bytes + b"\0")
    with pytest.raises(SegmentBroken, match="rows of 4"):
        open_segment(path, None)


@in_a_shared_folder
@given(st.data())
def test_an_altered_byte_is_refused_or_harmless(
    tmp_path: Path, segment_bytes: bytes, data: st.DataObject
) -> None:
    altered = bytearray(segment_bytes)
    for _ in range(data.draw(st.integers(1, 3))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "altered"
    path.write_bytes(altered)
    try:
        stack = SegmentStack([open_segment(path, None)])
    except SegmentBroken:
        return
    stack.vectors(np.arange(stack.row_count))
    stack.merged_sha256()


@in_a_shared_folder
@given(st.binary(max_size=200))
def test_noise_behind_a_right_beginning_is_refused(tmp_path: Path, noise: bytes) -> None:
    path = tmp_path / "noise"
    path.write_bytes(b"SHELFSEG" + (1).to_bytes(4, "little") + noise)
    with pytest.raises(SegmentBroken):
        open_segment(path, None)


def with_header(change: Callable[[dict[str, object]], object], rows: bytes = bytes(8)) -> bytes:
    """A segment whose header was changed by somebody else's program, with nothing else wrong."""
    header: dict[str, object] = {
        "kind": "base", "space": "s", "dimension": 4, "scale": 0.01, "removed": [],
        "products": [{"sku": "a", "rows": 2}],
    }  # fmt: skip
    change(header)
    text = json.dumps(header).encode()
    head = b"SHELFSEG" + (1).to_bytes(4, "little") + len(text).to_bytes(4, "little") + text
    return head + bytes(-len(head) % 64) + rows


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "patch"},
        {"space": ""},
        {"space": None},
        {"dimension": 0},
        {"dimension": -4},
        {"dimension": 4.0},
        {"dimension": True},
        {"dimension": 8},
        {"dimension": 10**30},
        {"scale": "0.01"},
        {"scale": 0},
        {"scale": 1.0},
        {"products": None},
        {"products": [{"sku": "a"}]},
        {"products": [{"sku": "a", "rows": -1}, {"sku": "b", "rows": 3}]},
        {"products": [{"sku": "b", "rows": 1}, {"sku": "a", "rows": 1}]},
        {"products": [{"sku": "a", "rows": 1}, {"sku": "a", "rows": 1}]},
        {"products": [{"rows": 2}]},
        {"products": [{"sku": "a", "rows": 2, "gtin": "4006381333932"}]},
        {"products": [{"sku": "a", "rows": 10**30}]},
        {"products": ["a"]},
        {"removed": ["a"]},
        {"kind": "delta", "removed": ["b", "a"]},
        {"kind": "delta", "removed": ["a", "a"]},
        {"kind": "delta", "removed": [1]},
    ],
)
def test_an_impossible_header_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path, sha256 = saved(tmp_path, with_header(lambda header: header.update(change)))
    with pytest.raises(SegmentBroken):
        open_segment(path, sha256)


@pytest.mark.parametrize(
    "text", [b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":1,"a":2}', b'{"scale":NaN}']
)
def test_a_header_that_is_no_object_is_refused(tmp_path: Path, text: bytes) -> None:
    head = b"SHELFSEG" + (1).to_bytes(4, "little") + len(text).to_bytes(4, "little") + text
    path, sha256 = saved(tmp_path, head + bytes(-len(head) % 64))
    with pytest.raises(SegmentBroken):
        open_segment(path, sha256)


def test_a_newer_format_is_refused_by_its_number(tmp_path: Path, segment_bytes: bytes) -> None:
    newer = segment_bytes[:8] + (2).to_bytes(4, "little") + segment_bytes[12:]
    with pytest.raises(SegmentBroken, match="format 2"):
        open_segment(saved(tmp_path, newer)[0], None)


def test_unknown_fields_of_a_later_version_are_left_aside(tmp_path: Path) -> None:
    def change(header: dict[str, object]) -> None:
        header["codec"] = {"later": 1}
        header["products"] = [{"sku": "a", "rows": 2, "shelf_life_days": 3}]

    segment = open_segment(*saved(tmp_path, with_header(change)))
    assert segment.products == (Product("a"),)
    assert segment.rows.shape == (2, 4)


def test_a_delta_alone_is_refused(tmp_path: Path) -> None:
    delta = encode_delta(as_content({}), some_content())
    assert delta is not None
    with pytest.raises(SegmentBroken, match="begin with a base"):
        SegmentStack.open([saved(tmp_path, delta)])
    with pytest.raises(SegmentBroken, match="begin with a base"):
        SegmentStack.open([])


def test_a_second_base_is_refused(tmp_path: Path, segment_bytes: bytes) -> None:
    with pytest.raises(SegmentBroken, match="second base"):
        SegmentStack.open([saved(tmp_path, segment_bytes)] * 2)


def test_a_delta_of_another_space_is_refused(tmp_path: Path, segment_bytes: bytes) -> None:
    other = with_header(lambda header: header.update({"kind": "delta", "space": "other"}))
    with pytest.raises(Incompatible, match="other"):
        SegmentStack.open([saved(tmp_path, segment_bytes), saved(tmp_path, other)])


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ({"a": np.zeros((1, 3), np.int8)}, Incompatible),
        ({"a": np.zeros((1, 4), np.float32)}, Incompatible),
        ({"a": np.zeros(4, np.int8)}, Incompatible),
        ({"b": np.zeros((1, 4), np.int8)}, BadProduct),
    ],
)
def test_rows_that_do_not_fit_are_not_written(rows: dict[str, np.ndarray], wrong: type[Exception]) -> None:
    with pytest.raises(wrong):
        encode_base(Content("s", 4, 0.01, {"a": Product("a")}, rows))


def test_an_impossible_scale_is_not_written() -> None:
    with pytest.raises(Incompatible, match="row_scale"):
        encode_base(Content("s", 4, float("nan"), {}, {}))


def test_a_product_filed_under_another_sku_is_not_written() -> None:
    with pytest.raises(BadProduct, match="filed under"):
        encode_base(Content("s", 4, 0.01, {"b": Product("a")}, {}))
