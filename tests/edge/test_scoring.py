"""`edge.scoring`: one score from all of a product's reference photos."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.scoring import ScoreRule

SHOPS = st.lists(st.lists(st.floats(-1, 1), min_size=1, max_size=6), min_size=1, max_size=6)
RULES = st.builds(ScoreRule, st.sampled_from([0.02, 0.05, 0.1, 1.0]), st.floats(0, 1))


def scores(rule: ScoreRule, products: list[list[float]]) -> list[float]:
    counts = np.array([len(rows) for rows in products])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.intp)
    similarities = np.array([row for rows in products for row in rows], np.float32)
    scored = rule.scores(similarities, starts, counts)
    assert scored.dtype == np.float32
    return [float(score) for score in scored]


@given(SHOPS)
def test_without_a_temperature_a_product_scores_its_best_photo(products: list[list[float]]) -> None:
    assert scores(ScoreRule(), products) == pytest.approx([max(rows) for rows in products])
    assert scores(ScoreRule(0.0, 1.0), products) == pytest.approx([max(rows) for rows in products])


@given(SHOPS, RULES)
def test_the_score_is_the_formula(products: list[list[float]], rule: ScoreRule) -> None:
    t, nu = rule.temperature, rule.count_weight
    expected = [
        t * (math.log(math.fsum(math.exp(row / t) for row in rows)) - nu * math.log(len(rows)))
        for rows in products
    ]
    assert scores(rule, products) == pytest.approx(expected, abs=1e-5)


def test_the_coldest_rule_overflows_nowhere() -> None:
    assert scores(ScoreRule(0.001, 1.0), [[1.0, -1.0], [-1.0, -1.0]]) == pytest.approx(
        [1 - 0.001 * math.log(2), -1.0], abs=1e-6
    )


def test_several_photos_that_agree_beat_a_lucky_one_and_mere_number_gains_nothing() -> None:
    rule = ScoreRule(0.05, 1.0)
    agreeing, lucky = scores(rule, [[0.8, 0.8, 0.8], [0.82, 0.1, 0.1]])
    assert agreeing > lucky
    once, often = scores(rule, [[0.7, 0.6], [0.7, 0.6] * 50])
    assert once == pytest.approx(often, abs=1e-5)
    few, many = scores(ScoreRule(0.05, 0.0), [[0.7, 0.6], [0.7, 0.6] * 50])
    assert many > few


def test_rows_that_were_not_looked_at_count_as_rows() -> None:
    found = np.array([0.9], np.float32)
    start = np.zeros(1, np.intp)
    rule = ScoreRule(0.05, 1.0)
    alone = rule.scores(found, start, np.array([1]))
    one_of_ten = rule.scores(found, start, np.array([10]))
    assert float(alone[0] - one_of_ten[0]) == pytest.approx(0.05 * math.log(10), abs=1e-5)


def test_no_products_have_no_scores() -> None:
    nothing = np.zeros(0, np.float32)
    none = np.zeros(0, np.intp)
    assert ScoreRule(0.1, 1.0).scores(nothing, none, none).shape == (0,)
