"""The page that a device wrote itself: whole before and after every fault, and forgotten when it is to be."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import edge.local_products
from edge.errors import BadProduct, NoSpace, StorageUnusable
from edge.events import Event, uuid7
from edge.local_products import MOST_PHOTOS, LocalProduct, LocalProducts
from edge.products import Product
from edge.segments import Content, SegmentStack, encode_base, encode_delta

SPACE, DIMENSION, SCALE = "0123456789abcdef", 4, 0.0078125
FORM = {"dimension": DIMENSION, "scale": SCALE}


def photo(number: int) -> bytes:
    return b"\xff\xd8\xff" + bytes([number])


def name(number: int) -> str:
    return hashlib.sha256(photo(number)).hexdigest()


def row(number: int) -> NDArray[np.int8]:
    return np.array([number, 1, 2, 3], np.int8)


def taught(sku: str, *numbers: int, release: int = 1, until: int | None = None) -> LocalProduct:
    return LocalProduct(
        id=uuid7(),
        at="2026-11-23T10:10:00.000Z",
        product=Product(sku, sku.title()),
        photos=tuple(name(number) for number in numbers),
        state="proposed",
        release=release,
        space=SPACE,
        told=True,
        until=until,
    )


def add(local: LocalProducts, product: LocalProduct, *numbers: int) -> None:
    photos = {name(number): photo(number) for number in numbers}
    local.add(product, photos, **FORM, rows={name(number): row(number) for number in numbers})


def stack(tmp_path: Path, *products: Product) -> SegmentStack:
    content = Content(SPACE, DIMENSION, SCALE, {each.sku: each for each in products}, {})
    data = encode_base(content)
    sha256 = hashlib.sha256(data).hexdigest()
    (tmp_path / sha256).write_bytes(data)
    return SegmentStack.open([(tmp_path / sha256, sha256)])


@pytest.fixture
def local(tmp_path: Path) -> LocalProducts:
    return LocalProducts(tmp_path / "device")


def test_before_anything_is_taught_nothing_is_there(local: LocalProducts, tmp_path: Path) -> None:
    assert local.is_empty()
    assert local.all() == ()
    assert local.over(stack(tmp_path), 1) is None
    assert local.missing(SPACE, DIMENSION, SCALE) is None
    assert not local.folder.exists()
    with pytest.raises(BadProduct, match="no product 'jam'"):
        local.forget("jam")


def test_its_segment_is_the_canonical_delta_of_what_was_taught(local: LocalProducts) -> None:
    jam = taught("jam", 1, 2)
    add(local, jam, 1, 2)
    empty = Content(SPACE, DIMENSION, SCALE, {}, {})
    full = replace(empty, products={"jam": jam.product}, rows={"jam": np.stack([row(2), row(1)])})
    found = local.segment(SPACE, DIMENSION, SCALE)
    assert found is not None
    assert found.path.read_bytes() == encode_delta(empty, full)
    assert found.path.name == found.sha256
    assert local.all() == (jam,)


def test_what_a_release_took_over_is_searched_with_the_releases_before_it_alone(
    local: LocalProducts, tmp_path: Path
) -> None:
    add(local, taught("jam", 1, until=3), 1)
    add(local, taught("tea", 2, 3), 2, 3)
    plain = stack(tmp_path)
    before, after = local.over(plain, 2), local.over(plain, 3)
    assert before is not None
    assert [each.sku for each in before.products] == ["jam", "tea"]
    assert after is not None
    assert [each.sku for each in after.products] == ["tea"]
    assert sorted(after.rows[:, 0].tolist()) == [2, 3]
    assert plain.with_local(after).rows_of("tea").size == 2
    local.forget("tea")
    assert local.over(plain, 3) is None


def test_the_release_says_what_a_product_is_called(local: LocalProducts, tmp_path: Path) -> None:
    add(local, taught("jam", 1), 1)
    official = Product("jam", "Strawberry jam", price="1.99")
    merged = stack(tmp_path, official)
    delta = local.over(merged, 1)
    assert delta is not None
    assert merged.with_local(delta).products["jam"] == official


def test_the_event_is_the_same_each_time_it_is_told(local: LocalProducts) -> None:
    jam = taught("jam", 1)
    add(local, jam, 1)
    (kept,) = local.all()
    assert kept.to_event("d-1") == jam.to_event("d-1")
    assert Event.from_bytes(kept.to_event("d-1").to_bytes()).id == jam.id


def test_too_many_photos_of_one_product_are_refused_and_nothing_changes(local: LocalProducts) -> None:
    numbers = range(1, MOST_PHOTOS + 1)
    add(local, taught("jam", *numbers), *numbers)
    with pytest.raises(BadProduct, match=f"at most {MOST_PHOTOS}"):
        add(local, taught("jam", 99), 99)
    assert len(local.all()) == 1


def test_too_many_products_are_refused(local: LocalProducts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge.local_products, "MOST_PRODUCTS", 1)
    add(local, taught("jam", 1), 1)
    with pytest.raises(BadProduct, match="publish a release"):
        add(local, taught("tea", 2), 2)


def test_files_that_nothing_names_are_swept_away(local: LocalProducts) -> None:
    add(local, taught("jam", 1), 1)
    add(local, taught("tea", 2), 2)
    (local.folder / "photos" / ".left.tmp").write_bytes(b"behind by a kill")
    local.forget("jam")
    names = {path.name for path in local.folder.rglob("*") if path.is_file()}
    assert names & {f"{name(1)}.jpg", ".left.tmp"} == set()
    assert len(names) == 5, f"lock, book, rows, segment, photo: {names}"


@pytest.mark.parametrize("kind", [NoSpace, StorageUnusable])
def test_a_fault_at_any_write_leaves_the_page_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    write = edge.local_products.write_atomically
    plain = stack(tmp_path)
    refused: list[str] = []
    for fault in range(20):
        local = LocalProducts(tmp_path / str(fault))
        add(local, taught("jam", 1), 1)
        left = fault

        def failing(path: Path, data: bytes) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                refused.append(path.name)
                raise kind("no more")
            write(path, data)

        before = local.all()
        with monkeypatch.context() as patch:
            patch.setattr(edge.local_products, "write_atomically", failing)
            try:
                add(local, taught("tea", 2, 3), 2, 3)
            except kind:
                assert local.all() == before
                assert _skus(local, plain) == ["jam"]
            else:
                break
        add(local, taught("tea", 2, 3), 2, 3)
        assert _skus(local, plain) == ["jam", "tea"], "and the next try succeeds"
    assert refused[:2] == [f"{name(2)}.jpg", f"{name(3)}.jpg"]
    assert refused[-1] == "products.json"
    assert len(refused) == 5, "photos, rows, segment and book were each refused once"
    assert _skus(local, plain) == ["jam", "tea"]


def _skus(local: LocalProducts, plain: SegmentStack) -> list[str]:
    delta = local.over(plain, 1)
    assert delta is not None
    return [each.sku for each in delta.products]


def test_a_book_of_a_newer_shelfsight_is_not_overwritten(local: LocalProducts, tmp_path: Path) -> None:
    add(local, taught("jam", 1), 1)
    book = local.folder / "products.json"
    book.write_bytes(book.read_bytes().replace(b'"format":1', b'"format":2'))
    assert local.over(stack(tmp_path), 1) is None, "the release answers alone"
    with pytest.raises(StorageUnusable, match="newer Shelfsight"):
        add(local, taught("tea", 2), 2)
