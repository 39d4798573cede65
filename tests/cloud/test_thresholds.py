"""The decision of a release, fitted to the photos that a shop labeled for it."""

import numpy as np
from numpy.typing import NDArray

from cloud.catalog import Catalog, ReferencePhoto
from cloud.publishing import Publication, publish
from cloud.thresholds import LEAST_PHOTOS, fit_decision
from cloud.workspace import Workspace
from edge.model import Decision, Model
from edge.release import Release
from tests.cloud.conftest import add_labeled

PRODUCTS = 8
DIMENSION = 32


def photo(sku: int, number: int, split: str) -> ReferencePhoto:
    name = f"{sku:02}-{number:02}-{split}"
    return ReferencePhoto(f"pack-{sku}", name, "in-store", split, name)  # type: ignore[arg-type]


def shop(labeled: int, spread: float) -> tuple[list[ReferencePhoto], dict[str, NDArray[np.float32]]]:
    """Make a shop of eight products with three references each, and so many labeled photos."""
    random = np.random.default_rng(5)
    centers = random.normal(size=(PRODUCTS, DIMENSION))
    photos = [photo(sku, number, "reference") for sku in range(PRODUCTS) for number in range(3)]
    photos += [photo(number % PRODUCTS, number, "validation") for number in range(labeled)]
    vectors = {}
    for each in photos:
        vector = centers[int(each.sku[5:])] + spread * random.normal(size=DIMENSION)
        vectors[each.sha256] = (vector / np.linalg.norm(vector)).astype(np.float32)
    return photos, vectors


def test_a_few_labeled_photos_say_less_than_the_model_brought_along() -> None:
    assert fit_decision(*shop(LEAST_PHOTOS - 1, 0.3)) is None
    assert fit_decision(*shop(LEAST_PHOTOS, 0.3)) is not None


def test_the_decision_lies_between_the_shops_own_products_and_strangers_to_it() -> None:
    photos, vectors = shop(40, 0.3)
    fitted = fit_decision(photos, vectors)
    assert fitted is not None
    own, strange = [], []
    for asked in fitted.photos:
        found = {
            other.sku: float(vectors[asked.sha256] @ vectors[other.sha256])
            for other in photos
            if other.split == "reference"
        }
        own.append(found.pop(asked.sku))
        strange.append(max(found.values()))
    floor = fitted.decision.unknown_similarity
    assert np.mean(np.array(own) >= floor) > 0.9
    assert np.mean(np.array(strange) < floor) > 0.9


def test_labeled_photos_of_products_without_a_reference_are_not_asked() -> None:
    photos, vectors = shop(40, 0.3)
    kept = [each for each in photos if each.split == "validation" or each.sku != "pack-0"]
    fitted = fit_decision(kept, vectors)
    assert fitted is not None
    assert len(fitted.photos) == 35
    assert "pack-0" not in {each.sku for each in fitted.photos}


def decision_of(workspace: Workspace, publication: Publication) -> Decision:
    manifest = (workspace.files / publication.release.sha256).read_bytes()
    return Release.from_bytes(manifest).variants[0].decision


def test_a_release_has_the_decision_of_its_shop_and_not_the_photos_that_fitted_it(
    workspace: Workspace, catalog: Catalog, tiny_model: Model
) -> None:
    before = publish(workspace, tiny_model)
    assert before.calibration_photos == 0
    assert decision_of(workspace, before) == tiny_model.variant().decision
    for number in range(6):
        add_labeled(catalog, number, photos=4)
    after = publish(workspace, tiny_model)
    assert after.changed
    assert after.calibration_photos == 24
    assert decision_of(workspace, after) != tiny_model.variant().decision
    assert after.release.rows == before.release.rows
    assert publish(workspace, tiny_model).changed is False
