"""Photos that look filed wrongly are found, with the product they look like, and nothing else is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cloud.bundled import bundled_model
from cloud.catalog import Catalog, ReferencePhoto
from cloud.embeddings import EmbeddingCache
from cloud.label_judgment import LEAST_PHOTOS, judge_labels
from cloud.outlier_sheet import MOST_ROWS, draw_doubts
from cloud.outliers import Doubts, doubt_labels, find_doubts
from cloud.workspace import Workspace
from edge.image import encode_jpeg
from edge.model import open_model
from edge.products import Product
from tests.cloud.conftest import draw_pack


def crowds(products: int, photos: int, spread: float = 0.5, seed: int = 0) -> NDArray[np.float32]:
    """Draw unit vectors (products * photos, 64) around one direction a product, product by product."""
    random = np.random.default_rng(seed)
    centers = np.repeat(random.normal(0, 1, (products, 64)), photos, axis=0)
    vectors = centers + random.normal(0, spread, centers.shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def filed(products: int, photos: int) -> list[ReferencePhoto]:
    return [
        ReferencePhoto(f"p{product:02}", f"{product}-{photo}", "in-store", "train", f"{product}/{photo}.jpg")
        for product in range(products)
        for photo in range(photos)
    ]


def found_in(photos: list[ReferencePhoto], vectors: NDArray[np.float32]) -> Doubts:
    return find_doubts(photos, {photo.sha256: vector for photo, vector in zip(photos, vectors, strict=True)})


def test_a_photo_filed_wrongly_is_doubted_with_the_product_it_is_of() -> None:
    photos, vectors = filed(10, 12), crowds(10, 12)
    photos[5] = replace(photos[5], sku="p07")
    photos[40] = replace(photos[40], sku="p01")
    doubts = found_in(photos, vectors)
    assert {(doubt.photo.source, doubt.photo.sku, doubt.suspect) for doubt in doubts.found} == {
        ("0/5.jpg", "p07", "p00"),
        ("3/4.jpg", "p01", "p03"),
    }
    assert all(0.5 <= doubt.confidence <= 1 for doubt in doubts.found)
    assert (doubts.judged, doubts.alone, doubts.unread) == (120, 0, 0)
    assert doubts.share == pytest.approx(2 / 120, abs=0.01)


def test_a_doubt_names_the_photos_that_speak_against_the_label_and_for_it() -> None:
    photos, vectors = filed(10, 12), crowds(10, 12)
    photos[5] = replace(photos[5], sku="p07")
    (doubt,) = found_in(photos, vectors).found
    assert {witness.photo.sku for witness in doubt.against} == {"p00"}
    assert {witness.photo.sku for witness in doubt.pro} == {"p07"}
    assert all(witness.photo != doubt.photo for witness in (*doubt.against, *doubt.pro))
    similarities = [witness.similarity for witness in doubt.against]
    assert similarities == sorted(similarities, reverse=True)
    assert similarities[0] == pytest.approx(np.sort(vectors[:12] @ vectors[5])[-2], abs=1e-3)
    assert doubt.reason.startswith(f"looks like p00 (sure to {doubt.confidence:.0%})")
    assert doubt.against[0].photo.source in doubt.reason and "file it under p00" in doubt.reason


@pytest.mark.parametrize("spread", [0.3, 1.0, 1.6])
def test_a_catalog_that_is_right_is_hardly_ever_doubted(spread: float) -> None:
    doubts = found_in(filed(20, 15), crowds(20, 15, spread))
    assert len(doubts.found) <= 3
    assert doubts.share is not None and doubts.share < 0.02


def test_most_of_three_percent_wrong_labels_are_found_among_look_alikes_and_most_doubts_are_right() -> None:
    photos, vectors = filed(40, 25), crowds(40, 25, spread=1.1)
    random = np.random.default_rng(1)
    wrong = set(random.choice(len(photos), 30, replace=False).tolist())
    for place in wrong:
        product = (int(photos[place].sku[1:]) + random.integers(1, 40)) % 40
        photos[place] = replace(photos[place], sku=f"p{product:02}")
    doubted = {photos.index(doubt.photo) for doubt in found_in(photos, vectors).found}
    assert len(doubted & wrong) >= 24
    assert len(doubted & wrong) >= 0.8 * len(doubted)


def test_the_surest_doubt_comes_first() -> None:
    photos, vectors = filed(10, 12), crowds(10, 12)
    photos[5] = replace(photos[5], sku="p07")
    photos[40] = replace(photos[40], sku="p01")
    half_way = vectors[40] + 0.1 * vectors[12]  # it also looks a little like the product it is filed under
    vectors[40] = half_way / np.linalg.norm(half_way)
    assert [doubt.photo.source for doubt in found_in(photos, vectors).found] == ["0/5.jpg", "3/4.jpg"]


def test_a_products_only_photo_is_counted_and_never_doubted() -> None:
    photos, vectors = filed(10, 12), crowds(10, 12)
    photos[5] = replace(photos[5], sku="new")
    doubts = found_in(photos, vectors)
    assert doubts.found == ()
    assert (doubts.judged, doubts.alone) == (119, 1)


def test_photos_without_an_embedding_are_counted() -> None:
    photos, vectors = filed(4, 12), crowds(4, 12)
    known = {photo.sha256: vector for photo, vector in zip(photos[2:], vectors[2:], strict=True)}
    assert find_doubts(photos, known).unread == 2


@pytest.mark.parametrize(("products", "photos"), [(0, 0), (1, 30), (30, 1), (3, 2)])
def test_a_catalog_that_says_nothing_of_its_labels_has_no_doubts(products: int, photos: int) -> None:
    listed = filed(products, photos)
    vectors = crowds(products, photos) if listed else np.zeros((0, 64), np.float32)
    doubts = found_in(listed, vectors)
    assert doubts.found == () and doubts.share is None


def test_packshots_that_share_their_white_ground_do_not_vouch_for_each_other() -> None:
    vectors, labels = crowds(10, 12), np.repeat(np.arange(10), 12)
    packshots = np.arange(120) % 12 == 0
    white = np.random.default_rng(3).normal(0, 1, 64)
    vectors[packshots] = vectors[packshots] + 3 * white / np.linalg.norm(white)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    judgment = judge_labels(vectors, labels, packshots)
    assert judgment.confidence.max() < 0.5
    blind = judge_labels(vectors, labels, np.zeros(120, bool))
    assert blind.confidence[packshots].mean() > 10 * judgment.confidence[packshots].mean()


def test_few_photos_say_nothing() -> None:
    vectors, labels = crowds(3, 6), np.repeat(np.arange(3), 6)
    assert len(labels) < LEAST_PHOTOS
    labels[0] = 2
    judgment = judge_labels(vectors, labels, np.zeros(18, bool))
    assert judgment.confidence.max() == 0 and judgment.share is None


@pytest.fixture
def shop(workspace: Workspace) -> Catalog:
    """A catalog of seven drawn packs with five photos each, one of pack 3 filed under pack 5."""
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    for number in range(7):
        catalog.put_product(Product(f"pack-{number}", f"Pack {number}"))
    for number in range(7):
        for shot in range(5):
            sku = "pack-5" if (number, shot) == (3, 2) else f"pack-{number}"
            source = f"{number}/{shot}.jpg"
            catalog.add_photo(sku, encode_jpeg(draw_pack(number, shot)), "in-store", "train", source)
    test = encode_jpeg(draw_pack(0, 99))
    catalog.add_photo("pack-1", test, "in-store", "test", "a test photo of pack 0.jpg")
    return catalog


def test_the_devices_own_model_finds_a_pack_filed_wrongly_and_embeds_no_photo_twice(
    shop: Catalog, workspace: Workspace
) -> None:
    model = open_model(bundled_model())
    told: list[tuple[int, int]] = []
    with EmbeddingCache(workspace.cache) as cache:
        doubts = doubt_labels(shop, model, cache, lambda done, total: told.append((done, total)))
        assert told[-1] == (35, 35)  # the test photo is not asked
        told.clear()
        again = doubt_labels(shop, model, cache, lambda done, total: told.append((done, total)))
    assert [(doubt.photo.source, doubt.suspect) for doubt in doubts.found] == [("3/2.jpg", "pack-3")]
    assert again == doubts and told == []


def test_the_sheet_shows_the_photo_beside_its_witnesses_and_survives_one_that_is_gone(
    shop: Catalog, workspace: Workspace, tmp_path: Path
) -> None:
    with EmbeddingCache(workspace.cache) as cache:
        doubts = doubt_labels(shop, open_model(bundled_model()), cache)
    draw_doubts(shop, doubts.found, tmp_path / "doubts.png")
    with Image.open(tmp_path / "doubts.png") as image:
        whole = np.asarray(image)
    assert (whole[100:200, 20:140] != 255).mean() > 0.5  # the doubtful photo
    shop.photos.path(doubts.found[0].photo.sha256).unlink()
    draw_doubts(shop, doubts.found * (MOST_ROWS + 5), tmp_path / "many.png")
    with Image.open(tmp_path / "many.png") as image:
        assert image.height < (MOST_ROWS + 2) * whole.shape[0]
    draw_doubts(shop, (), tmp_path / "none.png")
    assert (tmp_path / "none.png").read_bytes().startswith(b"\x89PNG")
