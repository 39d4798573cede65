"""Where the time of an answer goes: its stages one by one, beside whole answers, and many answers at once.

The stages are the public functions that an answer is made of, called one after another on the same photo, in
turn with whole answers. So a slow moment meets all of them, and what an answer takes beyond the sum of its
stages can be told.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import permutations
from statistics import median
from threading import Barrier
from typing import TypeVar

import numpy as np

from devices.stalls import Reading, StallWatch
from edge.categories import guess_category
from edge.image import decode, decode_to_fit, fit
from edge.index import Hit
from edge.matcher import KIN, Matcher
from edge.quality import quality_problem

STAGES = ("decode", "resize", "gate", "embed", "search", "decide")
WARM_UP = 10
PASSES = 3
"""How often each number of threads is tried; the median counts."""

_TOP = 5
_MOST_THREADS = 8
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Spread:
    """How long something took, in milliseconds: the median, and what one time in a hundred exceeds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Spread":
        """Take the spread of what was timed in seconds."""
        return cls(1000 * median(seconds), 1000 * float(np.percentile(seconds, 99)))


@dataclass(frozen=True, slots=True)
class StageTimes:
    """What an answer spends its time on, in milliseconds.

    Attributes:
        stages: Each of `STAGES`; `decode` and `resize` are timed one by one.
        total: A whole answer, a photo's bytes to the verdict.
        unaccounted_ms: What an answer takes beyond its stages, the median over the rounds; below zero where
            the stages alone were slower. Decoding and resizing count as the answer does them, in one go.
        invoke_ms: The network alone.
        floor_ms: Decoding and the network alone, one right after the other: no answer can take less.
    """

    stages: Mapping[str, Spread]
    total: Spread
    unaccounted_ms: float
    invoke_ms: float
    floor_ms: float

    @classmethod
    def of(cls, seconds: Mapping[str, Sequence[float]]) -> "StageTimes":
        """Take what each thing took, in seconds, round by round.

        Beside the stages there are `total`, `fitted` (decoding and resizing in one go) and `invoke`.
        """
        times = {name: np.array(each) for name, each in seconds.items()}
        accounted = sum(times[name] for name in ("fitted", "gate", "embed", "search", "decide"))
        return cls(
            stages={name: Spread.of(seconds[name]) for name in STAGES},
            total=Spread.of(seconds["total"]),
            unaccounted_ms=1000 * float(np.median(times["total"] - accounted)),
            invoke_ms=1000 * float(np.median(times["invoke"])),
            # Not the sum of the medians: on a busy machine a longer stretch is interrupted more often, so
            # whole answers must be held against a stretch of nearly their own length.
            floor_ms=1000 * float(np.median(times["decode"] + times["invoke"])),
        )


def time_stages(
    matcher: Matcher, photo: bytes, rounds: int, watch: StallWatch, progress: Callable[[], None]
) -> StageTimes:
    """Time `rounds` answers to a photo, and their stages, in turn.

    After each round `watch` looks at the machine, and `progress` is called.

    Raises:
        SkipPhoto: the photo cannot be answered.
        ModelBroken, NextDelegate: the network does not run.
    """
    clock = _Clock()
    size, decision, products = matcher.release.input_size, matcher.variant.decision, matcher.stack.products

    def whole() -> None:
        clock.time("total", lambda: matcher.match_photo(photo, top=_TOP))

    def stages() -> None:
        fitted = clock.time("fitted", lambda: decode_to_fit(photo, size))
        vector = clock.time("embed", lambda: matcher.embedder.embed(fitted).vector)
        hits = clock.time("search", lambda: matcher.index.search(vector, _TOP, decision.score, spare=KIN))
        clock.time("gate", lambda: quality_problem(fitted))
        clock.time("decide", lambda: decide(hits))

    def decide(hits: list[Hit]) -> None:
        confidences = decision.confidences([hit.score for hit in hits])
        is_match = decision.verdict(hits[0].score, confidences[0]) == "match"
        kin = [(products[hit.sku], hit.score) for hit in hits]
        guess_category(kin, confidences[0], decision.category_temperature, is_match=is_match)

    def floor() -> None:
        picture = clock.time("decode", lambda: decode(photo, shrink_to=size))
        clock.time("invoke", lambda: matcher.embedder.invoke(ready))
        clock.time("resize", lambda: fit(picture, size))

    ready = decode_to_fit(photo, size)
    # In turn, and each in every place: none gets the warmer caches or the busier moments.
    orders = list(permutations((whole, stages, floor)))
    for number in range(WARM_UP + rounds):
        for act in orders[number % len(orders)]:
            act()
        watch.look()
        progress()
    return StageTimes.of({name: each[WARM_UP:] for name, each in clock.seconds.items()})


class _Clock:
    """Seconds that each thing took, by its name."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def time(self, name: str, act: Callable[[], _Result]) -> _Result:
        began = time.perf_counter()
        result = act()
        self.seconds[name].append(time.perf_counter() - began)
        return result


def thread_counts(cores: int) -> range:
    """Tell how many threads are tried on so many cores: each number up to them, and eight at most."""
    return range(1, min(cores, _MOST_THREADS) + 1)


def time_threads(
    matchers: Sequence[Matcher],
    photo: bytes,
    answers: int,
    watch: StallWatch,
    progress: Callable[[], None],
) -> dict[int, float]:
    """Measure photos a second with one thread, two, and so on up to one for each of the matchers.

    Each thread has its own matcher and gives so many `answers`. The numbers of threads are tried in turn,
    `PASSES` times.

    Raises:
        SkipPhoto, ModelBroken, NextDelegate: as `time_stages`.
    """
    for matcher in matchers:
        matcher.match_photo(photo, top=_TOP)
    counts = range(1, len(matchers) + 1)
    rates: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(PASSES):
        for count in counts:
            seconds = _seconds_together(matchers[:count], photo, answers, watch)
            rates[count].append(count * answers / seconds)
            watch.look()
            progress()
    return {count: median(each) for count, each in rates.items()}


def _seconds_together(matchers: Sequence[Matcher], photo: bytes, answers: int, watch: StallWatch) -> float:
    """Time threads that answer at once, from the moment that all are ready until the last is done."""
    barrier = Barrier(len(matchers) + 1)

    def answer(matcher: Matcher) -> tuple[Reading, Reading]:
        barrier.wait()
        before = Reading.take()
        for _ in range(answers):
            matcher.match_photo(photo, top=_TOP)
        return before, Reading.take()

    with ThreadPoolExecutor(len(matchers)) as threads:
        given = [threads.submit(answer, matcher) for matcher in matchers]
        barrier.wait()
        began = time.perf_counter()
        readings = [each.result() for each in given]
        seconds = time.perf_counter() - began
    for before, after in readings:
        watch.judge(before, after)
    return seconds
