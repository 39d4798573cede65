"""The measures of confidence and of unknown products, on answers small enough to count by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.catalog import ReferencePhoto
from cloud.evaluation.openset import open_set
from cloud.evaluation.reliability import measure_reliability, measure_setting, trade_off
from cloud.evaluation.report.plane import lay_out
from cloud.evaluation.scores import Answered
from edge.model import Decision, WrongRate

SCORES = st.lists(st.integers(0, 6), min_size=1, max_size=20)


def answered(
    confidence: float, *, right: bool = True, verdict: str = "match", reason: str = "clear"
) -> Answered:
    photo = ReferencePhoto("a", "0" * 64, "in-store", "test", "a.jpg")
    sku = "a" if right else "b"
    return Answered(photo, verdict, (sku,), np.zeros(4, np.float32), 1.0, reason, confidence)


def decision(*rates: tuple[float, float]) -> Decision:
    return Decision(
        0.5, 0.2, 0.0, 1.0, 1.0, wrong_rates=tuple(WrongRate(rate, match) for rate, match in rates)
    )


@given(SCORES, SCORES)
def test_the_area_is_the_chance_that_a_known_photo_scores_above_an_unknown_one(
    known: list[int], unknown: list[int]
) -> None:
    right = np.ones(len(known), bool)
    found = open_set(np.array(known, float), right, np.array(unknown, float))
    pairs = [(one > other) + 0.5 * (one == other) for one in known for other in unknown]
    assert found.auroc == pytest.approx(np.mean(pairs))
    assert np.all(np.diff(found.false_accepts) >= 0) and found.false_accepts[-1] == 1
    assert np.all(found.right_accepts <= found.true_accepts + 1e-12)


def test_five_percent_false_accepts_and_what_is_known_and_right_there() -> None:
    unknown = np.arange(100.0)  # 5 of them are at 95 and above
    known = np.array([200.0, 150.0, 95.0, 94.0, 10.0])
    right = np.array([True, False, True, True, True])
    found = open_set(known, right, unknown)
    assert found.ccr_at_5fpr == pytest.approx(2 / 5)  # 200 and 95: 150 is wrong, 94 would let in a sixth
    assert found.far_at_95tar == pytest.approx(0.9)  # all five must be accepted, the last at 10


def test_equal_scores_are_accepted_together_so_that_ties_gain_nothing() -> None:
    found = open_set(np.full(10, 0.5), np.ones(10, bool), np.full(10, 0.5))
    assert (found.auroc, found.ccr_at_5fpr, found.far_at_95tar) == (0.5, 0.0, 1.0)


def test_the_calibration_error_is_the_mean_distance_of_confidence_and_rightness() -> None:
    answers = [answered(0.9, right=number < 6) for number in range(10)]  # 0.9, and 0.6 of them right
    answers += [answered(0.1, right=number < 1) for number in range(10)]  # 0.1, and 0.1
    found = measure_reliability(answers)
    assert found is not None
    assert found.ece == pytest.approx(0.5 * 0.3)
    assert [(each.count, round(each.right, 3)) for each in found.bins] == [(10, 0.1), (10, 0.6)]
    assert found.ece_equal_count >= found.ece - 1e-9
    assert measure_reliability([]) is None


def test_a_confidence_of_one_lies_in_the_last_bin() -> None:
    found = measure_reliability([answered(1.0), answered(0.0, right=False)])
    assert found is not None
    assert found.ece == 0
    assert [each.count for each in found.bins] == [1, 1]


def test_the_setting_is_the_largest_rate_that_is_allowed() -> None:
    answers = [
        answered(0.99),
        answered(0.95, right=False),
        answered(0.92),
        answered(0.85),
        answered(0.99, verdict="unknown", reason="low_similarity"),
        answered(0.99, verdict="unsure", reason="too_dark"),
        answered(0.95, verdict="unsure", reason="below_confidence"),
    ]
    found = measure_setting(answers, decision((0.001, 0.999), (0.005, 0.9), (0.02, 0.5)))
    assert found is not None
    assert (found.rate, found.match_confidence) == (0.005, 0.9)
    # Three matches and one that the model's own threshold left unsure; never a bad picture, never an unknown.
    assert found.answered == pytest.approx(4 / 7)
    assert found.wrong == pytest.approx(1 / 4)


def test_a_model_that_offers_no_such_rate_has_no_setting_and_no_match_has_no_wrong_share() -> None:
    assert measure_setting([answered(0.9)], decision()) is None
    assert measure_setting([answered(0.9)], decision((0.01, 0.5))) is None
    assert measure_setting([], decision((0.005, 0.5))) is None
    nothing = measure_setting([answered(0.4)], decision((0.005, 0.5)))
    assert nothing is not None
    assert (nothing.answered, nothing.wrong) == (0.0, None)


def test_the_trade_off_begins_with_the_surest_answer_and_counts_all_photos() -> None:
    answers = [answered(0.5), answered(0.9), answered(0.7, right=False), answered(0.8, reason="blurred")]
    shares, wrong = trade_off(answers)
    assert shares.tolist() == [0.25, 0.5, 0.75]
    assert wrong.tolist() == [0, 0.5, pytest.approx(1 / 3)]


def test_pictures_that_look_alike_lie_together_on_the_map_and_always_at_the_same_place() -> None:
    rng = np.random.default_rng(7)
    centers = rng.normal(size=(3, 16))
    vectors = np.repeat(centers, 20, axis=0) + rng.normal(0, 0.05, (60, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    places = lay_out(vectors)
    assert places.shape == (60, 2) and places.min() == 0 and places.max() == 1
    groups = places.reshape(3, 20, 2)
    spread = np.abs(groups - groups.mean(axis=1, keepdims=True)).mean()
    middles = groups.mean(axis=1)
    apart = min(np.linalg.norm(middles[one] - middles[other]) for one, other in ((0, 1), (0, 2), (1, 2)))
    assert apart > 5 * spread
    assert np.array_equal(places, lay_out(vectors))


@pytest.mark.parametrize("count", [1, 2, 9, 10])
def test_a_few_embeddings_and_equal_ones_have_places_too(count: int) -> None:
    vectors = np.zeros((count, 4), np.float32)
    vectors[:, 0] = 1
    places = lay_out(vectors)
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()
