"""Time two ways in turn, so that a busy moment slows both, and watch whether the machine held still."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np

from devices.stalls import StallWatch


@dataclass(frozen=True)
class Pair:
    """What taking turns gave: p50 of both in milliseconds, and the median of the ratios of neighbors."""

    first_ms: float
    second_ms: float
    ratio: float
    rounds: int

    def to_record(self) -> dict[str, float]:
        """Return plain values; `ratio` is the first's time over the second's."""
        return {
            "ratio": round(self.ratio, 3),
            "first_ms": round(self.first_ms, 3),
            "second_ms": round(self.second_ms, 3),
            "rounds": self.rounds,
        }


def seconds(act: Callable[[], object]) -> float:
    """Time one call."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def in_turn(
    first: Callable[[], float],
    second: Callable[[], float],
    rounds: int,
    watch: StallWatch,
    *,
    warm_up: int = 3,
    each: int = 3,
) -> Pair:
    """Let two ways run in turn, each telling its seconds, every other time the other one first.

    A turn is `each` runs, of which the median counts: a way runs as it does where nothing else does, with its
    own data in the caches and the core awake.
    """
    for _ in range(warm_up):
        first()
        second()
    times = np.empty((rounds, 2))
    for number in range(rounds):
        for place in (0, 1) if number % 2 else (1, 0):
            times[number, place] = median((first, second)[place]() for _ in range(each))
        watch.look()
    first_ms, second_ms = 1000 * np.median(times, axis=0)
    return Pair(float(first_ms), float(second_ms), float(median(times[:, 0] / times[:, 1])), rounds)
