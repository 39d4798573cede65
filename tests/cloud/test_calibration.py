"""Decisions from similarities of photos whose products are known."""

import numpy as np

from cloud.calibration import CAUTIOUS, LabeledVectors, calibrate
from cloud.training.neighbors import unit


def clusters(per_product: int, seed: int, spread: float, products: int = 12) -> LabeledVectors:
    """Give vectors near one direction a product; the directions are the same for every seed."""
    centers = np.random.default_rng(0).normal(size=(products, 32))
    labels = np.repeat(np.arange(products, dtype=np.int32), per_product)
    noise = np.random.default_rng(seed).normal(size=(len(labels), 32))
    return LabeledVectors(unit((centers[labels] + spread * noise).astype(np.float32)), labels)


def test_products_far_apart_are_matched_and_left_out_ones_are_unknown() -> None:
    found = calibrate(clusters(5, 1, 0.2), [clusters(6, 2, 0.2)])
    assert found.matched_right is not None and found.matched_right > 0.95
    assert found.unknown_told is not None and found.unknown_told > 0.9
    assert found.known_lost is not None and found.known_lost < 0.05
    assert found.decision.similarity_weight > 0


def test_products_close_together_are_matched_less_than_they_are_found() -> None:
    near, far = (
        calibrate(clusters(5, 1, 0.9), [clusters(6, 2, 0.9)]),
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
