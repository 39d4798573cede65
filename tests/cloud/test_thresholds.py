"""The decision of a release, fitted to the photos that a shop labeled for it."""

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from cloud.catalog import Catalog, ReferencePhoto
from cloud.commands import main
from cloud.publishing import Publication, publish
from cloud.releases import Releases
from cloud.thresholds import LEAST_PHOTOS, FittedDecision, fit_decision, may_ask
from cloud.workspace import Workspace
from edge.errors import BadSetting
from edge.model import Decision, Model, Variant, WrongRate
from edge.release import Release
from tests.cloud.conftest import ROOT, add_labeled, add_pack

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


def fit(
    photos: list[ReferencePhoto], vectors: dict[str, NDArray[np.float32]], fitted_skus: tuple[str, ...] = ()
) -> FittedDecision | None:
    asked = {each.sha256: vectors[each.sha256] for each in may_ask(photos) if each.sha256 in vectors}
    return fit_decision(photos, vectors, asked, fitted_skus)


def test_photos_that_the_network_was_fitted_to_are_not_asked() -> None:
    photos, _ = shop(3, 0.3)
    labeled = [each for each in photos if each.split == "validation"]
    assert may_ask(photos) == labeled
    assert may_ask(photos, {labeled[1].sha256[:5]}) == [labeled[0], labeled[2]]


def test_a_few_labeled_photos_say_less_than_the_model_brought_along() -> None:
    assert fit(*shop(LEAST_PHOTOS - 1, 0.3)) is None
    assert fit(*shop(LEAST_PHOTOS, 0.3)) is not None


def test_the_decision_lies_between_the_shops_own_products_and_strangers_to_it() -> None:
    photos, vectors = shop(40, 0.3)
    fitted = fit(photos, vectors)
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
    fitted = fit(kept, vectors)
    assert fitted is not None
    assert len(fitted.photos) == 35
    assert "pack-0" not in {each.sku for each in fitted.photos}


def test_strangers_to_a_network_that_knows_the_products_are_harder_than_its_left_out_photos() -> None:
    photos, vectors = shop(40, 0.3)
    asked_for = [f"pack-{sku}" for sku in range(PRODUCTS)]
    new = fit(photos, vectors)
    fitted = fit(photos, vectors, asked_for)
    few = fit(photos, vectors, asked_for[: PRODUCTS // 2])
    assert new is not None
    assert fitted is not None
    # Between two products is nearer to them than beside them all: it takes more to be known.
    assert fitted.decision.unknown_similarity > new.decision.unknown_similarity
    assert few == new


def variants_of(workspace: Workspace, publication: Publication) -> tuple[Variant, ...]:
    manifest = (workspace.files / publication.release.sha256).read_bytes()
    return Release.from_bytes(manifest).variants


def golden_of(workspace: Workspace, publication: Publication) -> set[str]:
    manifest = (workspace.files / publication.release.sha256).read_bytes()
    return {golden.photo for golden in Release.from_bytes(manifest).golden}


def decision_of(workspace: Workspace, publication: Publication) -> Decision:
    return variants_of(workspace, publication)[0].decision


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
    assert after.match_confidence == decision_of(workspace, after).match_confidence
    assert publish(workspace, tiny_model).changed is False


def test_the_golden_photos_stay_when_a_product_is_added_and_the_decision_fitted_anew(
    workspace: Workspace, catalog: Catalog, tiny_model: Model
) -> None:
    for number in range(6):
        add_labeled(catalog, number, photos=4)
    before = publish(workspace, tiny_model)
    add_pack(catalog, 6)
    add_labeled(catalog, 6, photos=4)
    after = publish(workspace, tiny_model)
    assert decision_of(workspace, after) != decision_of(workspace, before)
    assert golden_of(workspace, after) == golden_of(workspace, before)


def test_every_file_that_runs_here_gets_the_decision_that_fits_its_own_eyes(
    workspace: Workspace, catalog: Catalog, several_model: Model
) -> None:
    for number in range(6):
        add_labeled(catalog, number, photos=4)
    made = publish(workspace, several_model, targets=["all", "float32"])
    assert made.calibration_photos == 24
    int8, exact, edge_tpu, float16 = (each.decision for each in variants_of(workspace, made))
    own = several_model.variant().decision
    assert own not in (int8, exact, float16)
    assert int8 != exact
    # Float16 weights change an embedding in the fourth digit: nearly the same eyes.
    assert exact.unknown_similarity == pytest.approx(float16.unknown_similarity, abs=0.01)
    # No Edge TPU is here to look: what it runs is int8 too.
    assert edge_tpu == int8


def test_without_labeled_photos_every_file_keeps_its_own_decision(
    workspace: Workspace, catalog: Catalog, several_model: Model
) -> None:
    own = {
        each.name: replace(each.decision, unknown_similarity=0.7 + place / 100)
        for place, each in enumerate(several_model.variants)
    }
    variants = tuple(replace(each, decision=own[each.name]) for each in several_model.variants)
    made = publish(workspace, replace(several_model, variants=variants))
    assert {each.name: each.decision for each in variants_of(workspace, made)} == {
        name: own[name] for name in ("int8", "edgetpu", "float16")
    }


def test_the_rate_of_wrong_matches_goes_for_every_file(
    workspace: Workspace, catalog: Catalog, several_model: Model
) -> None:
    rates = {name: 0.9 + place / 100 for place, name in enumerate(("int8", "edgetpu", "float16"))}
    variants = tuple(
        replace(
            each, decision=replace(each.decision, wrong_rates=(WrongRate(0.01, rates.get(each.name, 0.5)),))
        )
        for each in several_model.variants
    )
    made = publish(workspace, replace(several_model, variants=variants), wrong_rate=0.01)
    found = {each.name: each.decision.match_confidence for each in variants_of(workspace, made)}
    assert found == rates


def test_a_network_that_was_fitted_to_the_labeled_photos_keeps_its_own_decision(
    workspace: Workspace, catalog: Catalog, tiny_model: Model
) -> None:
    for number in range(6):
        add_labeled(catalog, number, photos=4)
    labeled = [photo.sha256[:12] for photo in catalog.reference_photos() if photo.split == "validation"]
    model = replace(tiny_model, extra={**tiny_model.extra, "fitted_validation": labeled})
    made = publish(workspace, model)
    assert made.calibration_photos == 0
    assert decision_of(workspace, made) == tiny_model.variant().decision


def test_the_retailer_says_how_many_matches_may_be_wrong(
    workspace: Workspace, catalog: Catalog, tiny_model: Model
) -> None:
    rates = (WrongRate(0.005, 0.97), WrongRate(0.02, 0.91))
    variants = tuple(
        replace(each, decision=replace(each.decision, wrong_rates=rates)) for each in tiny_model.variants
    )
    model = replace(tiny_model, variants=variants)
    usual = publish(workspace, model)
    assert decision_of(workspace, usual).match_confidence == tiny_model.variant().decision.match_confidence
    strict = publish(workspace, model, wrong_rate=0.01)
    assert strict.changed
    assert strict.match_confidence == decision_of(workspace, strict).match_confidence == 0.97
    assert decision_of(workspace, strict).wrong_rates == rates
    assert publish(workspace, model, wrong_rate=0.01).changed is False


def test_a_rate_that_nobody_calibrated_is_refused_and_nothing_is_published(
    workspace: Workspace, catalog: Catalog, tiny_model: Model
) -> None:
    with pytest.raises(BadSetting, match=r"0\.005 was not calibrated"):
        publish(workspace, tiny_model, wrong_rate=0.005)
    assert Releases(workspace.sessions()).latest() is None


def test_a_rate_of_wrong_answers_can_stand_in_the_settings_too(
    workspace: Workspace, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace.data / "cloud.toml").write_text(
        '[publish]\nmodel = "tests/data/tiny-int8"\nwrong-rate = 0.5\n'
    )
    monkeypatch.chdir(ROOT)
    refused = CliRunner().invoke(main, ["--data", str(workspace.data), "publish"])
    assert refused.exit_code == 1
    assert "0.5 was not calibrated" in refused.output
    wrong = CliRunner().invoke(
        main, ["--data", str(workspace.data), "publish"], env={"SHELFSIGHT_PUBLISH_WRONG_RATE": "1.5"}
    )
    assert wrong.exit_code == 2
    assert "--wrong-rate" in wrong.output
