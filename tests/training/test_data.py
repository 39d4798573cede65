"""Which photos are fitted, and how they become pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud.training.data import LabeledPhoto, choose_examples, first_of_each, load_pictures
from cloud.training.recipe import Recipe
from edge.errors import BadSetting, PhotoUnreadable
from edge.image import decode, encode_jpeg, fit


def photo(sku: str, number: int, split: str = "reference", kind: str = "in-store") -> LabeledPhoto:
    return LabeledPhoto(Path(f"{sku}-{number}.jpg"), sku, "food", kind, split)


def silent(*_: object) -> None:
    pass


def test_photos_of_the_split_test_are_never_among_the_examples() -> None:
    photos = [photo(sku, n, split) for sku in "ab" for n, split in enumerate(("train", "validation", "test"))]
    examples = choose_examples(photos, Recipe())
    assert {p.split for p in (*examples.fit, *examples.validation)} == {"train", "validation"}


def test_a_catalog_without_validation_photos_lends_one_in_five() -> None:
    photos = [photo(sku, n) for sku in "ab" for n in range(10)] + [photo("c", 0), photo("c", 1)]
    examples = choose_examples(photos, Recipe())
    assert [p.sku for p in examples.validation] == ["a", "a", "b", "b"]
    assert sorted(p.path for p in (*examples.fit, *examples.validation)) == sorted(p.path for p in photos)


def test_examples_do_not_depend_on_the_order_of_the_catalog() -> None:
    photos = [photo(sku, n) for sku in "ab" for n in range(10)]
    assert choose_examples(photos, Recipe()) == choose_examples(photos[::-1], Recipe())


def test_a_recipe_may_leave_packshots_out() -> None:
    photos = [photo(sku, n, kind=kind) for sku in "ab" for n, kind in enumerate(("packshot", "in-store"))]
    examples = choose_examples(photos, replace(Recipe(), fit_kinds=("in-store",)))
    assert {p.kind for p in examples.fit} == {"in-store"}


def test_a_product_that_is_left_out_is_on_neither_side() -> None:
    photos = [photo(sku, n, split) for sku in "abc" for n, split in enumerate(("train", "validation"))]
    examples = choose_examples(photos, replace(Recipe(), leave_out=("b",)))
    assert examples.skus == ("a", "c")
    assert {p.sku for p in (*examples.fit, *examples.validation)} == {"a", "c"}
    with pytest.raises(BadSetting, match="leave_out names 'd'"):
        choose_examples(photos, replace(Recipe(), leave_out=("b", "d")))


def test_the_first_photos_of_each_product_keep_their_order() -> None:
    photos = [photo(sku, n) for n in range(3) for sku in "ab"]
    assert first_of_each(photos, 2) == photos[:4]


def test_one_product_is_too_few_to_train_on() -> None:
    with pytest.raises(BadSetting, match="1 products have photos"):
        choose_examples([photo("a", n) for n in range(5)], Recipe())


def test_pictures_are_those_of_the_device_and_decoded_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode_jpeg(np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)))
    example = LabeledPhoto(path, "a", "food", "in-store", "train")
    told: list[tuple[object, ...]] = []
    first = load_pictures([example], 32, tmp_path / "cache", lambda *words: told.append(words))
    again = load_pictures([example], 32, tmp_path / "cache", lambda *words: told.append(words))
    np.testing.assert_array_equal(first[0], fit(decode(path.read_bytes(), shrink_to=32), 32))
    np.testing.assert_array_equal(first, again)
    assert told == [("decoding photos", 1, 1, "")]


def test_a_decoding_that_was_cut_short_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode_jpeg(np.full((40, 40, 3), 90, np.uint8)))
    example = LabeledPhoto(path, "a", "food", "in-store", "train")
    load_pictures([example], 32, tmp_path / "cache", silent)
    (array,) = (tmp_path / "cache").glob("*.npy")
    (whole,) = (tmp_path / "cache").glob("*.whole")
    array.write_bytes(b"cut short")
    whole.unlink()
    assert abs(int(load_pictures([example], 32, tmp_path / "cache", silent).mean()) - 90) <= 1


def test_a_broken_photo_stops_the_training_by_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"no photo")
    with pytest.raises(PhotoUnreadable):
        load_pictures([LabeledPhoto(path, "a", "", "in-store", "train")], 32, tmp_path / "cache", silent)
