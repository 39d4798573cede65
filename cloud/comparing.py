"""Whether a release does worse than the one before, by what shops told of both: counts in, a verdict out.

A conductor looks again and again, so chance has many tries: the bounds are those of one look in two thousand
(`_SURE`), and a difference that nobody would notice holds no release back, however certain it is.

Shares are compared by the hybrid score interval of their difference (Newcombe 1998, "Interval estimation for
the difference between independent proportions", method 10), which is made of two Wilson intervals (1927) and
holds near 0 and 1 and for small numbers; times by the logarithm, since a few slow answers say little (Welch
1947, by the normal approximation).
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

_SURE: Final = 3.29  # standard deviations: p = 0.0005 on one side
LEAST: Final = 50
"""So many observations of each release it takes before anything is said."""

Verdict = Literal["too few", "no worse", "worse"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found when one measure of two releases was compared.

    `now` and `before` are shares (0..1), or milliseconds where `unit` is "ms"; `count` and `count_before`
    the observations behind them; None where there are none.
    """

    measure: str
    unit: str
    now: float | None
    before: float | None
    count: int
    count_before: int
    verdict: Verdict

    def to_record(self) -> dict[str, object]:
        """Write it for people's tools."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __str__(self) -> str:
        shown = {"": "{:.1%}", "ms": "{:.0f} ms"}[self.unit]
        values = [shown.format(each) if each is not None else "–" for each in (self.now, self.before)]
        return f"{self.measure} {values[0]} of {self.count}, before {values[1]} of {self.count_before}"


@dataclass(frozen=True, slots=True)
class Times:
    """Times in milliseconds by their sums: how many, and the sum of their logarithms and of the squares."""

    count: int = 0
    log_sum: float = 0.0
    log_squares: float = 0.0

    @property
    def mean(self) -> float | None:
        """Their geometric mean in milliseconds; None of none."""
        return math.exp(self.log_sum / self.count) if self.count else None

    @property
    def variance_of_mean(self) -> float:
        """The variance of the mean of their logarithms."""
        if self.count < 2:
            return math.inf
        spread = self.log_squares - self.log_sum**2 / self.count
        return max(spread, 0.0) / (self.count - 1) / self.count


def wilson(hits: int, total: int, z: float) -> tuple[float, float]:
    """Bound a share from `hits` of `total` by Wilson's score interval; (0, 1) of nothing."""
    if total == 0:
        return 0.0, 1.0
    share, squared = hits / total, z * z / total
    center = share + squared / 2
    half = z * math.sqrt(share * (1 - share) / total + squared / (4 * total))
    return max(0.0, (center - half) / (1 + squared)), min(1.0, (center + half) / (1 + squared))


def least_drop(hits: int, total: int, hits_before: int, total_before: int, z: float = _SURE) -> float:
    """Bound from below by how much a share has fallen (-1..1): Newcombe's method 10."""
    low_before, _ = wilson(hits_before, total_before, z)
    _, high = wilson(hits, total, z)
    before, now = hits_before / max(total_before, 1), hits / max(total, 1)
    return before - now - math.sqrt((before - low_before) ** 2 + (high - now) ** 2)


def compare_shares(
    measure: str, hits: int, total: int, hits_before: int, total_before: int, *, margin: float = 0.02
) -> Comparison:
    """Compare a share of which more is better; a fall of less than `margin` (0..1) is no fall."""
    now, before = _share(hits, total), _share(hits_before, total_before)
    verdict: Verdict = "no worse"
    if now is None or before is None or min(total, total_before) < LEAST:
        verdict = "too few"
    elif before - now >= margin and least_drop(hits, total, hits_before, total_before) > 0:
        verdict = "worse"
    return Comparison(measure, "", now, before, total, total_before, verdict)


def compare_times(measure: str, now: Times, before: Times, *, ratio: float = 1.25) -> Comparison:
    """Compare times of which less is better; what takes less than `ratio` times as long is no slower."""
    verdict: Verdict = "no worse"
    if now.mean is None or before.mean is None or min(now.count, before.count) < LEAST:
        verdict = "too few"
    else:
        longer = math.log(now.mean / before.mean)
        certain = longer - _SURE * math.sqrt(now.variance_of_mean + before.variance_of_mean)
        if longer >= math.log(ratio) and certain > 0:
            verdict = "worse"
    return Comparison(measure, "ms", now.mean, before.mean, now.count, before.count, verdict)


def _share(hits: int, total: int) -> float | None:
    return hits / total if total else None
