"""Decisions from similarities of photos whose products are known."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud.calibration import (
    CAUTIOUS,
    Calibration,
    LabeledVectors,
    area_under_roc,
    blend,
    calibrate,
    expected_calibration_error,
)
from cloud.candidates import References
from cloud.training.neighbors import unit


def clusters(
    per_product: int, seed: int, spread: float, products: int = 12, first: int = 0
) -> LabeledVectors:
    """Give vectors near one direction a product; the directions are the same for every seed."""
    centers = np.random.default_rng(0).normal(size=(first + products, 32))
    labels = first + np.repeat(np.arange(products, dtype=np.int32), per_product)
    noise = np.random.default_rng(seed).normal(size=(len(labels), 32))
    return LabeledVectors(unit((centers[labels] + spread * noise).astype(np.float32)), labels)


def confidences(found: Calibration, queries: LabeledVectors, catalog: LabeledVectors) -> NDArray[np.float64]:
    """Ask as a device does: with the decision's own formula."""
    answers = References(catalog).find(queries.vectors, queries.labels, found.decision.score)
    return np.array([found.decision.confidences(scores.tolist())[0] for scores in answers.scores])


def test_products_far_apart_are_matched_and_left_out_ones_are_unknown() -> None:
    found = calibrate(clusters(5, 1, 0.2), [clusters(6, 2, 0.2)])
    assert found.matched_right is not None and found.matched_right > 0.95
    assert found.unknown_told is not None and found.unknown_told > 0.9
    assert found.known_lost is not None and found.known_lost < 0.05
    assert found.auroc is not None and found.auroc > 0.99
    assert found.decision.similarity_weight > 0


def test_products_close_together_are_matched_less_than_they_are_found() -> None:
    near, far = (
        calibrate(clusters(5, 1, 1.4), [clusters(6, 2, 1.4)]),
        calibrate(clusters(5, 1, 0.2), [clusters(6, 2, 0.2)]),
    )
    assert near.matched_right is not None and far.matched_right is not None
    assert near.matched_right < far.matched_right
    assert near.matched_wrong is not None and near.matched_wrong < 0.06


def test_a_decision_is_made_for_every_kind_of_catalog_at_once() -> None:
    queries = clusters(5, 1, 0.4)
    many, one = clusters(8, 2, 0.4), clusters(1, 3, 0.6)
    found = calibrate(queries, [many, one])
    assert found.known_lost is not None and found.known_lost <= 0.05


def test_a_catalog_too_small_to_measure_gets_the_cautious_decision() -> None:
    assert calibrate(clusters(1, 1, 0.2, products=4), [clusters(3, 2, 0.2)]).decision == CAUTIOUS
    assert calibrate(clusters(5, 1, 0.2), [clusters(3, 2, 0.2, products=2)]).decision == CAUTIOUS


def test_the_confidence_of_fresh_photos_is_how_often_they_are_right() -> None:
    catalog = clusters(4, 2, 1.2, products=40)
    found = calibrate(clusters(10, 1, 1.2, products=40), [catalog])
    fresh = clusters(200, 3, 1.2, products=40)
    sure = confidences(found, fresh, catalog)
    answers = References(catalog).find(fresh.vectors, fresh.labels, found.decision.score)
    right = answers.right[:, 0]
    assert 0.5 < right.mean() < 0.95  # neither hopeless nor trivial
    assert expected_calibration_error(sure, right) < 0.05
    assert found.ece is not None and found.ece < 0.08  # of 400 photos, by chance alone up to 0.05
    assert found.decision.joint_weight > 0


def test_fresh_matches_are_wrong_as_rarely_as_the_rates_say() -> None:
    catalog = clusters(4, 2, 1.2, products=40)
    found = calibrate(clusters(10, 1, 1.2, products=40), [catalog])
    fresh = clusters(200, 3, 1.2, products=40)
    sure = confidences(found, fresh, catalog)
    right = References(catalog).find(fresh.vectors, fresh.labels, found.decision.score).right[:, 0]
    assert [each.rate for each in found.rates] == [each.rate for each in found.decision.wrong_rates]
    assert found.rates[-1].rate == 0.05
    assert found.decision.match_confidence == found.rates[-1].match_confidence
    for rate in found.decision.wrong_rates:
        matched = sure >= rate.match_confidence
        assert np.sum(~right[matched]) <= 1.5 * rate.rate * matched.sum() + 1
    assert np.mean(sure >= found.rates[-1].match_confidence) > 0.2


@pytest.mark.parametrize("spread", [0.2, 0.9])
def test_strangers_that_are_given_are_what_is_told_from_the_known(spread: float) -> None:
    queries, catalog = clusters(10, 1, spread), clusters(6, 2, spread)
    strangers = clusters(30, 3, spread, products=8, first=12).vectors
    found = calibrate(queries, [catalog], strangers)
    assert found.strangers == 240
    answers = References(catalog).find(strangers, None, found.decision.score)
    decision = found.decision
    told = np.mean(
        [
            decision.verdict(scores[0], decision.confidences(scores)[0]) == "unknown"
            for scores in answers.scores.tolist()
        ]
    )
    assert found.unknown_told == pytest.approx(told, abs=1e-4)
    assert told > 0.8


def test_blends_lie_between_two_products_and_are_the_same_every_time() -> None:
    queries = clusters(5, 1, 0.1)
    blends = blend(queries)
    assert len(blends) > 90
    np.testing.assert_allclose(np.linalg.norm(blends, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(blends, blend(queries))
    best = np.sort(blends @ clusters(1, 2, 0.0).vectors.T, axis=1)[:, ::-1]
    assert (best[:, 0] < 0.95).all()
    assert (best[:, 0] > best[:, 1]).all()
    assert np.median(best[:, 1]) > 0.4  # the other of the two is near too
    alone = LabeledVectors(queries.vectors[:5], np.zeros(5, np.int32))
    assert blend(alone).shape == (0, 32)


@pytest.mark.parametrize("make", [blend, lambda queries: None])
def test_photos_that_are_all_right_give_a_decision_of_finite_weights(
    make: Callable[[LabeledVectors], NDArray[np.float32] | None],
) -> None:
    queries = clusters(5, 1, 0.01)
    found = calibrate(queries, [clusters(6, 2, 0.01)], make(queries))
    assert found.matched_right == 1.0
    assert abs(found.decision.bias) < 1e3


def test_photos_that_are_all_wrong_are_never_matched() -> None:
    queries = clusters(5, 1, 0.3)
    swapped = LabeledVectors(queries.vectors, (queries.labels + 1) % 12)
    found = calibrate(swapped, [clusters(6, 2, 0.3)])
    assert found.matched_wrong == 0.0
    assert found.rates == ()


def test_the_error_of_calibration_is_the_mean_distance_of_confidence_and_truth() -> None:
    sure = np.array([0.95, 0.95, 0.95, 0.95, 0.15])
    right = np.array([True, True, True, False, False])
    assert expected_calibration_error(sure, right) == pytest.approx((4 * 0.2 + 0.15) / 5)
    assert expected_calibration_error(np.ones(3), np.ones(3, bool)) == 0


def test_the_area_under_roc_counts_pairs() -> None:
    assert area_under_roc(np.array([2.0, 3.0]), np.array([1.0, 0.0])) == 1
    assert area_under_roc(np.array([1.0, 3.0]), np.array([1.0, 2.0])) == pytest.approx((0.5 + 2) / 4)
