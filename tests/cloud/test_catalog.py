"""Products and their photos, and what may be searched in."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloud.catalog import Catalog
from cloud.workspace import Workspace
from edge.errors import BadProduct, PhotoTooSmall, PhotoUnreadable
from edge.products import Product


@pytest.fixture
def catalog(tmp_path: Path, database_url: str | None) -> Catalog:
    workspace = Workspace.create(tmp_path / "shop", database_url)
    return Catalog(workspace.sessions(), workspace.photo_storage())


def draw(seed: int, side: int = 64) -> bytes:
    """Draw a photo that no other seed gives."""
    cells = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(cells).resize((side, side)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_products_come_back_sorted_and_whole(catalog: Catalog) -> None:
    milk = Product("milk", "Fresh milk", "Dairy", "4006381333931", "1.19")
    assert catalog.put_product(milk)
    assert catalog.put_product(Product("apple"))
    assert catalog.products() == [Product("apple"), milk]


def test_putting_a_product_again_changes_it_only_when_it_differs(catalog: Catalog) -> None:
    catalog.put_product(Product("milk", price="1.19"))
    assert not catalog.put_product(Product("milk", price="1.19"))
    assert catalog.put_product(Product("milk", price="1.29"))
    assert catalog.products() == [Product("milk", price="1.29")]


def test_a_photo_is_kept_once_for_each_product(catalog: Catalog) -> None:
    catalog.put_products([Product("milk"), Product("apple")])
    assert catalog.add_photo("milk", draw(1), "packshot", "reference", "milk.jpg")
    assert not catalog.add_photo("milk", draw(1), "packshot", "reference", "milk again.jpg")
    assert catalog.add_photo("apple", draw(1), "packshot", "reference", "apple.jpg")
    assert catalog.photo_counts() == {"apple": 1, "milk": 1}


def test_references_are_sorted_by_product_and_source(catalog: Catalog) -> None:
    catalog.put_products([Product("b"), Product("a")])
    catalog.add_photo("b", draw(1), "in-store", "train", "1.jpg")
    catalog.add_photo("a", draw(2), "in-store", "train", "2.jpg")
    catalog.add_photo("a", draw(3), "packshot", "reference", "1.jpg")
    found = catalog.reference_photos()
    assert [(photo.sku, photo.source) for photo in found] == [("a", "1.jpg"), ("a", "2.jpg"), ("b", "1.jpg")]


def test_references_can_be_chosen_by_split_and_kind(catalog: Catalog) -> None:
    catalog.put_product(Product("a"))
    catalog.add_photo("a", draw(1), "in-store", "train", "1.jpg")
    catalog.add_photo("a", draw(2), "in-store", "validation", "2.jpg")
    catalog.add_photo("a", draw(3), "packshot", "reference", "3.jpg")
    assert [photo.source for photo in catalog.reference_photos(splits=["train"])] == ["1.jpg"]
    assert [photo.source for photo in catalog.reference_photos(kinds=["packshot"])] == ["3.jpg"]
    assert catalog.reference_photos(splits=["train"], kinds=["packshot"]) == []


def test_a_test_photo_is_never_a_reference(catalog: Catalog) -> None:
    catalog.put_product(Product("a"))
    catalog.add_photo("a", draw(1), "in-store", "test", "1.jpg")
    assert catalog.reference_photos() == catalog.reference_photos(splits=["test"]) == []
    assert [photo.source for photo in catalog.test_photos()] == ["1.jpg"]


def test_bytes_that_measure_one_product_are_no_reference_of_another(catalog: Catalog) -> None:
    catalog.put_products([Product("a"), Product("b")])
    catalog.add_photo("a", draw(1), "in-store", "test", "1.jpg")
    catalog.add_photo("b", draw(1), "in-store", "train", "1.jpg")
    assert catalog.reference_photos() == []
    assert catalog.withheld_count() == 1


@pytest.mark.parametrize("splits", [("train", "test"), ("test", "train")])
def test_a_photo_given_for_training_and_for_testing_is_for_testing(
    catalog: Catalog, splits: tuple[str, str]
) -> None:
    catalog.put_product(Product("a"))
    for split in splits:
        catalog.add_photo("a", draw(1), "in-store", "test" if split == "test" else "train", "1.jpg")
    assert catalog.reference_photos() == []
    assert len(catalog.test_photos()) == 1


def test_importing_a_file_again_may_change_what_it_is(catalog: Catalog) -> None:
    catalog.put_product(Product("a"))
    catalog.add_photo("a", draw(1), "in-store", "train", "1.jpg")
    catalog.add_photo("a", draw(1), "packshot", "reference", "1.jpg")
    (photo,) = catalog.reference_photos()
    assert (photo.kind, photo.split) == ("packshot", "reference")


def test_a_removed_product_leaves_with_its_photos_and_may_come_back(catalog: Catalog) -> None:
    catalog.put_product(Product("a"))
    catalog.add_photo("a", draw(1), "in-store", "train", "1.jpg")
    catalog.remove("a")
    assert catalog.products() == []
    assert catalog.reference_photos() == []
    with pytest.raises(BadProduct, match="no product 'a'"):
        catalog.add_photo("a", draw(1), "in-store", "train", "1.jpg")
    assert catalog.put_product(Product("a"))
    assert catalog.products() == [Product("a")]
    assert catalog.reference_photos() == []


def test_removing_a_product_that_is_not_there_says_so(catalog: Catalog) -> None:
    with pytest.raises(BadProduct, match="no product 'a'"):
        catalog.remove("a")


def test_a_photo_that_cannot_be_decoded_leaves_nothing_behind(catalog: Catalog) -> None:
    catalog.put_product(Product("a"))
    with pytest.raises(PhotoUnreadable):
        catalog.add_photo("a", draw(1)[:500], "in-store", "train", "1.jpg")
    with pytest.raises(PhotoTooSmall):
        catalog.add_photo("a", draw(1, side=1), "in-store", "train", "1.jpg")
    assert catalog.photo_counts() == {}
    assert not any(path.is_file() for path in catalog.photos.folder.rglob("*"))


def test_a_page_shows_each_product_by_its_first_packshot(catalog: Catalog) -> None:
    catalog.put_products([Product("a"), Product("b"), Product("c")])
    catalog.add_photo("a", draw(1), "in-store", "train", "1.jpg")
    catalog.add_photo("a", draw(2), "packshot", "reference", "2.jpg")
    catalog.add_photo("b", draw(3), "in-store", "test", "0.jpg")
    catalog.add_photo("b", draw(4), "in-store", "train", "1.jpg")
    shown = {entry.product.sku: (entry.photos, entry.cover) for entry in catalog.page().entries}
    packshot = hashlib.sha256(draw(2)).hexdigest()
    assert shown == {"a": (2, packshot), "b": (2, hashlib.sha256(draw(4)).hexdigest()), "c": (0, None)}


def test_pages_follow_each_other_and_say_how_many_there_are(catalog: Catalog) -> None:
    catalog.put_products(Product(f"p{number}") for number in range(5))
    page = catalog.page(offset=3, limit=1)
    assert [entry.product.sku for entry in page.entries] == ["p3"]
    assert page.total == 5
    assert catalog.page(offset=9).entries == ()


@pytest.mark.parametrize("search", ["MILK", "fresh", "dairy", "400638", "100%"])
def test_products_are_found_by_sku_title_category_and_gtin(catalog: Catalog, search: str) -> None:
    catalog.put_products(
        [
            Product("milk-1", "100% Fresh", "Dairy", "4006381333931"),
            Product("apple", "Red 100 g"),
            Product("x"),
        ]
    )
    catalog.remove("x")
    assert [entry.product.sku for entry in catalog.page(search).entries] == ["milk-1"]
