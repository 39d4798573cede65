"""The confidence that keeps the share of wrong matches, guaranteed or expected."""

import numpy as np
import pytest

from cloud.wrong_rates import RATES, Judged, RateFound, find_rates, wrong_rates

NOBODY = np.zeros(0)


def judged(count: int, seed: int, *, share: float = 0.0, strangers: int = 0) -> Judged:
    """Draw answers whose confidence is the truth; strangers are as sure as known products at times."""
    random = np.random.default_rng(seed)
    confidences = 1 / (1 + np.exp(-random.normal(4, 3, count)))
    right = random.random(count) < confidences
    return Judged(confidences, right, 1 / (1 + np.exp(-random.normal(0, 2, strangers))), share)


def wrong_share(found: RateFound, fresh: Judged) -> float:
    matches = fresh.at(found.match_confidence)
    return (matches.wrong + matches.strangers) / max(1e-9, matches.known + matches.strangers)


@pytest.mark.parametrize("photos", [150, 3000])
def test_fresh_photos_are_wrong_as_rarely_as_was_asked_for(photos: int) -> None:
    fresh = judged(200_000, 99, share=0.02, strangers=200_000)
    shares: dict[float, list[float]] = {}
    for seed in range(30):
        for found in find_rates([judged(photos, seed, share=0.02, strangers=photos)]):
            shares.setdefault(found.rate, []).append(wrong_share(found, fresh))
    for rate, got in shares.items():
        assert np.mean(got) <= 1.1 * rate
        assert np.mean(np.array(got) > 1.5 * rate) <= 0.1
    assert set(shares) >= {0.01, 0.02, 0.05}


def test_a_guarantee_holds_although_the_confidences_lie() -> None:
    honest = judged(4000, 1)
    modest = Judged(honest.confidences * 0.9, honest.right, NOBODY, 0.0)  # none expects 5 % or less
    found = find_rates([modest])
    assert [each.rate for each in found] == [0.01, 0.02, 0.05]
    assert {each.method for each in found} == {"guaranteed"}
    fresh = judged(200_000, 2)
    for each in found:
        assert wrong_share(each, Judged(fresh.confidences * 0.9, fresh.right, NOBODY, 0.0)) <= each.rate


def test_too_few_photos_for_a_guarantee_leave_it_to_the_confidences() -> None:
    found = {each.rate: each for each in find_rates([judged(200, 3)])}
    assert found[0.01].method == "calibrated"
    assert 0 < found[0.01].matched < found[0.05].matched


def test_confidences_that_the_photos_contradict_are_not_believed() -> None:
    boasting = judged(400, 4)
    liar = Judged(0.5 + 0.5 * boasting.confidences, boasting.right, NOBODY, 0.0)
    for found in find_rates([liar]):
        matches = liar.at(found.match_confidence)
        assert matches.wrong <= found.rate * matches.known + 2.4 * (found.rate * matches.known) ** 0.5 + 1


def test_a_lower_rate_never_needs_less_and_one_out_of_reach_is_left_out() -> None:
    found = find_rates([judged(300, 5), judged(300, 6)])
    assert [each.rate for each in found] == sorted(each.rate for each in found)
    needed = [each.match_confidence for each in found]
    assert needed == sorted(needed, reverse=True)
    assert [each.rate for each in wrong_rates(found)] == [each.rate for each in found]
    hopeless = Judged(np.full(300, 0.6), np.arange(300) % 5 > 1, NOBODY, 0.0)
    assert find_rates([hopeless]) == ()


def test_where_all_are_surer_than_the_rate_demands_a_little_less_is_a_match_still() -> None:
    sure = Judged(np.linspace(0.999, 1, 50), np.ones(50, bool), NOBODY, 0.0)
    assert {each.rate: each.match_confidence for each in find_rates([sure])} == {
        rate: pytest.approx(1 - rate) for rate in RATES
    }
    strangers = np.full(100, 0.97)
    crowded = find_rates([Judged(sure.confidences, sure.right, strangers, 0.1)])
    assert crowded[-1].match_confidence > 0.97


def test_strangers_that_look_sure_cost_matches() -> None:
    alone = {each.rate: each for each in find_rates([judged(2000, 7)])}
    crowd = {each.rate: each for each in find_rates([judged(2000, 7, share=0.1, strangers=500)])}
    assert crowd[0.02].matched < alone[0.02].matched


def test_what_was_answered_unknown_is_no_match() -> None:
    answers = Judged(np.array([-1.0, 0.9]), np.array([False, True]), np.array([-1.0, 0.95]), 0.5)
    matches = answers.at(0.0)
    assert (matches.known, matches.wrong, matches.strangers) == (1, 0, 1.0)


def test_the_rates_are_those_that_the_formats_page_names() -> None:
    assert RATES == (0.002, 0.005, 0.01, 0.02, 0.05)
