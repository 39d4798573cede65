"""When a rollout goes on and when it is held: the rule alone, with numbers."""

import math
import random
from dataclasses import replace

import pytest

from cloud.comparing import Times, compare_shares, compare_times, least_drop, wilson
from cloud.rollout_rules import Evidence, Plan, Rule, ShadowCounts, decide
from edge.errors import BadSetting

HOUR = 3600.0
STAGED = Plan.parse("canary,5,25,100", ["mitte"])
WELL = Evidence(
    seconds=2 * HOUR, offered=8, running=8, reachable=8, ages=(1.5 * HOUR,) * 8
)  # eight devices, an hour and a half


def action(plan: Plan, seen: Evidence, stage: int = 1) -> str:
    return decide(plan, stage, seen).action


def test_a_stage_is_passed_when_enough_devices_ran_it_for_long_enough() -> None:
    decision = decide(STAGED, 0, WELL)
    assert decision.action == "advance"
    assert decision.reason == "on to 5 %: 8 run it, for 1.5 h"


def test_the_last_stage_ends_the_rollout() -> None:
    assert action(STAGED, WELL, stage=3) == "finish"


def test_too_few_devices_or_too_little_time_wait() -> None:
    few = replace(WELL, running=4, ages=(HOUR * 2,) * 4)
    assert decide(STAGED, 1, few).reason == "4 of the 5 devices that are needed run it"
    young = replace(WELL, ages=(1.5 * HOUR,) * 4 + (600.0,) * 4)
    assert action(STAGED, young) == "wait"
    assert action(STAGED, replace(WELL, seconds=600.0)) == "wait"


def test_a_fleet_of_one_device_is_neither_stuck_nor_judged_by_it() -> None:
    nobody = Evidence(seconds=2 * HOUR)
    assert action(STAGED, nobody) == "advance", "the device is not in this share"
    one = Evidence(seconds=2 * HOUR, offered=1, running=1, reachable=1, ages=(HOUR,))
    assert action(STAGED, one) == "advance"
    failed = Evidence(seconds=2 * HOUR, offered=1, failed=1, reachable=1)
    assert action(STAGED, failed) == "wait"
    assert action(STAGED, replace(failed, seconds=4 * HOUR)) == "advance"


def test_failures_beyond_doubt_hold_it_at_once() -> None:
    seen = replace(WELL, seconds=60.0, running=3, ages=(30.0,) * 3, failed=2)
    decision = decide(STAGED, 1, seen)
    assert decision.action == "pause"
    assert decision.reason == "2 failed of 5 devices: 40%, at most 5% may"


def test_devices_that_fell_silent_count_as_failures() -> None:
    seen = replace(WELL, running=4, ages=(2 * HOUR,) * 4, failed=1, silent=2)
    assert decide(STAGED, 1, seen).reason == "1 failed and 2 fell silent of 7 devices: 43%, at most 5% may"


def test_a_share_of_failures_that_may_be_chance_holds_it_when_all_is_in() -> None:
    seen = replace(WELL, running=47, ages=(600.0,) * 47, failed=3, reachable=50, offered=50)
    assert action(STAGED, seen) == "wait"
    assert action(STAGED, replace(seen, ages=(1.2 * HOUR,) * 47)) == "pause"
    assert action(STAGED, replace(seen, ages=(1.2 * HOUR,) * 47, running=97)) == "advance"


def test_a_plan_may_say_that_failures_end_it_for_good() -> None:
    plan = Plan.parse("5,100", rule=Rule(on_failure="abort"))
    assert action(plan, replace(WELL, failed=5)) == "abort"


def test_a_share_set_by_a_person_is_watched_and_not_widened() -> None:
    plain = Plan.parse(percent=20)
    assert action(plain, WELL, stage=0) == "wait"
    assert action(plain, replace(WELL, failed=5), stage=0) == "pause"


def test_worse_answers_hold_a_rollout() -> None:
    worse = compare_shares("agreement with scans", 80, 100, 970, 1000)
    assert worse.verdict == "worse"
    decision = decide(STAGED, 1, replace(WELL, comparisons=(worse,)))
    assert decision.action == "pause"
    assert "agreement with scans 80.0% of 100, before 97.0% of 1000" in decision.reason


def test_few_or_slight_differences_are_no_reason() -> None:
    assert compare_shares("x", 20, 40, 970, 1000).verdict == "too few"
    assert compare_shares("x", 0, 0, 0, 0).verdict == "too few"
    assert compare_shares("x", 90, 100, 950, 1000).verdict == "no worse"
    assert compare_shares("x", 949_000, 1_000_000, 950_000, 1_000_000).verdict == "no worse", (
        "a tenth of one %"
    )
    assert compare_shares("x", 99, 100, 900, 1000).verdict == "no worse"


def test_the_bounds_are_those_of_the_papers() -> None:
    # Newcombe 1998, table II, contrast (a): 56/70 and 48/80, 95 %, method 10: 0.0524 to 0.3339.
    assert least_drop(48, 80, 56, 70, z=1.959964) == pytest.approx(0.0524, abs=5e-5)
    # Newcombe 1998 (two-sided intervals for the single proportion), 81 of 263: 0.2553 to 0.3662.
    assert wilson(81, 263, 1.959964) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 0, 1.96) == (0.0, 1.0)


def times(mean_ms: float, count: int, seed: int) -> Times:
    chance = random.Random(seed)
    logs = [math.log(mean_ms) + chance.gauss(0, 0.4) for _ in range(count)]
    return Times(count, sum(logs), sum(value**2 for value in logs))


def test_slower_answers_hold_a_rollout_and_chance_does_not() -> None:
    assert compare_times("time", times(60, 300, 1), times(30, 300, 2)).verdict == "worse"
    assert compare_times("time", times(33, 300, 1), times(30, 300, 2)).verdict == "no worse"
    assert compare_times("time", times(60, 10, 1), times(30, 300, 2)).verdict == "too few"
    wrong = sum(
        compare_times("time", times(30, 60, seed), times(30, 60, 1000 + seed)).verdict == "worse"
        for seed in range(200)
    )
    assert wrong == 0


def test_equal_releases_are_almost_never_called_worse() -> None:
    chance = random.Random(3)
    looks = 2000
    wrong = 0
    for _ in range(looks):
        hits, before = (sum(chance.random() < 0.9 for _ in range(100)) for _ in range(2))
        wrong += compare_shares("x", hits, 100, before, 100).verdict == "worse"
    assert wrong <= 4  # one in two thousand, and luck


def test_a_release_in_shadow_speaks_when_it_agrees_often_enough() -> None:
    plan = Plan.parse("5,100", shadow=True, rule=Rule(min_agreement=0.95, min_seconds=60))
    agreeing = replace(WELL, running=0, ages=(), shadow=ShadowCounts(answers=400, same_sku=390))
    assert action(plan, agreeing) == "speak"
    assert action(plan, replace(agreeing, shadow=ShadowCounts(answers=40, same_sku=40))) == "wait"
    assert action(plan, replace(agreeing, shadow=ShadowCounts(answers=400, same_sku=378))) == "wait"
    decision = decide(plan, 0, replace(agreeing, shadow=ShadowCounts(answers=400, same_sku=320)))
    assert decision.action == "pause"
    assert (
        decision.reason == "in shadow it gave the same product in 80.0% of 400 answers, and 95% are asked for"
    )


def test_without_a_bound_a_person_lets_a_shadow_speak() -> None:
    seen = replace(WELL, shadow=ShadowCounts(answers=400, same_sku=400))
    decision = decide(Plan.parse("5,100", shadow=True), 0, seen)
    assert decision.action == "wait"
    assert "`rollout resume` lets it speak" in decision.reason


@pytest.mark.parametrize("stages", ["5,5", "25,5", "x", "5,101", "0", "5,,100", "-1,5", "canary"])
def test_stages_grow_to_a_hundred(stages: str) -> None:
    with pytest.raises(BadSetting):
        Plan.parse(stages, ["mitte"] if stages == "0" else [])


def test_a_canary_needs_a_store() -> None:
    with pytest.raises(BadSetting, match="--canary STORE"):
        Plan.parse("canary,5,100")


def test_a_plan_survives_being_kept() -> None:
    plan = Plan.parse(
        "canary, 5 %,100", ["a", "b"], shadow=True, window="22:00-04:00", rule=Rule(min_agreement=0.9)
    )
    assert Plan.from_record(plan.to_record()) == plan
    assert plan.stages == (0.0, 5.0, 100.0)
    assert Plan.from_record({}) == Plan()
