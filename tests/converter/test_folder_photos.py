"""Which photos of a folder are taken, for what, and under which category."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from converter import folder_photos
from converter.folder_photos import read_photos
from edge.errors import BadNetwork
from edge.image import encode_jpeg


def silent(*_: object) -> None:
    pass


def fill(folder: Path, count: int, *, seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed + 1000)
    for number in range(count):
        (folder / f"{number:03}.png").write_bytes(_png(draw.integers(0, 256, (9, 9, 3)).astype(np.uint8)))


def _png(picture: np.ndarray) -> bytes:
    return encode_jpeg(
        np.kron(picture, np.ones((4, 4, 1), np.uint8))
    )  # an ending says nothing of the content


def test_the_two_kinds_are_different_photos_of_the_same_products(shop: Path) -> None:
    read = read_photos(shop, 32, silent)
    assert len(read.representative) == len(read.compared) == 60
    assert not {each.name for each in read.representative} & {each.name for each in read.compared}
    for kind in (read.representative, read.compared):
        assert Counter(each.category for each in kind) == {"kind-0": 20, "kind-1": 20, "kind-2": 20}
        assert set(Counter(each.product for each in kind).values()) <= {9, 10, 11}
    assert {each.product for each in read.compared} == {
        f"kind-{number // 2}/product-{number}" for number in range(6)
    }
    assert all(each.picture.shape == (32, 32, 3) for each in read.compared)


def test_categories_get_equally_many_until_one_has_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_photos, "MOST_PHOTOS", 60)
    for seed, (name, count) in enumerate((("many", 300), ("some", 100), ("few", 10))):
        fill(tmp_path / name, count, seed=seed)
    read = read_photos(tmp_path, 32, silent)
    counts = Counter(each.category for each in read.representative)
    assert counts["few"] == 5 and len(read.representative) == 60
    assert abs(counts["many"] - counts["some"]) <= 1
    assert {each.product for each in read.representative} == {None}
    assert {name: len(names) for name, names in read.representative_names.items()} == counts


def test_few_photos_serve_for_both(photos: Path) -> None:
    read = read_photos(photos, 32, silent)
    assert read.representative == read.compared and len(read.compared) == 24
    assert {each.category for each in read.compared} == {folder_photos.UNSORTED}


def test_the_same_photo_is_taken_once(tmp_path: Path) -> None:
    fill(tmp_path / "a", 5)
    fill(tmp_path / "b", 5)
    assert len(read_photos(tmp_path, 32, silent).compared) == 5


def test_photos_are_named_by_their_bytes_wherever_the_folder_lies(tmp_path: Path) -> None:
    for name in ("here", "there"):
        fill(tmp_path / name / "kind", 12)
    here, there = (read_photos(tmp_path / name, 32, silent) for name in ("here", "there"))
    assert here.representative_names == there.representative_names
    assert {len(each.name) for each in here.compared} == {12}


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_a_folder_without_a_photo_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "one.jpg").write_bytes(content)
    with pytest.raises(BadNetwork, match="no photo that can be read"):
        read_photos(tmp_path, 32, silent)
