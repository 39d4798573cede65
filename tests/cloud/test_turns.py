"""Who may fetch a release when, and that nobody is forgotten in the queue."""

import random

import pytest

from cloud.turns import Turns


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_small_fleet_never_waits(clock: Clock) -> None:
    turns = Turns(a_second=50, at_once=250, clock=clock)
    assert all(turns.wait_s(f"d-{number}", 2) == 0 for number in range(250))
    assert [turns.wait_s(f"d-{number}", 2) > 0 for number in range(250, 260)][-1]


def test_a_large_fleet_comes_as_it_was_told_and_never_all_at_once(
    clock: Clock,
) -> None:
    turns, chance = Turns(a_second=50, at_once=100, clock=clock), random.Random(3)
    begun: dict[str, float] = {}
    due = {f"d-{number}": 1000 + chance.uniform(0, 20) for number in range(3000)}
    while due:
        device = min(due, key=lambda each: due[each])
        clock.now = due.pop(device)
        wait = turns.wait_s(device, 2)
        if wait == 0:
            begun[device] = clock.now
        else:
            due[device] = clock.now + wait * chance.uniform(0.9, 1.1)  # as a device does
    assert len(begun) == 3000
    moments = sorted(begun.values())
    assert 3000 / 50 * 0.85 < moments[-1] - 1000 < 3000 / 50 * 1.25
    in_ten_seconds = max(sum(start <= each < start + 10 for each in moments) for start in range(1020, 1060))
    assert in_ten_seconds <= 10 * 50 * 1.4


def test_whose_turn_it_was_may_try_again_until_it_has_it(clock: Clock) -> None:
    turns = Turns(a_second=1, at_once=1, clock=clock)
    assert turns.wait_s("first", 2) == 0
    wait = turns.wait_s("second", 2)
    assert wait == pytest.approx(1.0)
    assert turns.wait_s("second", 2) == pytest.approx(wait)  # to ask again is not to queue again
    clock.now += wait
    assert turns.wait_s("second", 2) == 0
    clock.now += 500
    assert turns.wait_s("second", 2) == 0


def test_a_newer_release_is_another_queue_place(clock: Clock) -> None:
    turns = Turns(a_second=1, at_once=1, clock=clock)
    turns.wait_s("first", 2)
    assert turns.wait_s("first", 3) > 0
    turns.forget("first")
    clock.now += 10
    assert turns.wait_s("first", 3) == 0
