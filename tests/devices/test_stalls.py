"""A machine that holds still while something is timed is told from one that is slow."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from devices.stalls import MOST_STALLED, Reading, StallWatch


def test_a_thread_that_runs_as_long_as_the_clock_does_was_not_stalled() -> None:
    watch = StallWatch()
    watch.judge(Reading(0.0, 0.0, 3), Reading(1.0, 0.999, 3))
    watch.judge(Reading(1.0, 0.999, 3), Reading(1.1, 1.099, 3), holes_s=0.0)
    assert watch.share == pytest.approx(0.001 / 1.1)
    assert watch.counts


def test_time_that_another_program_took_is_counted_to_the_millisecond() -> None:
    watch = StallWatch()
    watch.judge(Reading(0.0, 0.0, 0), Reading(1.0, 0.97, 0))
    watch.judge(Reading(1.0, 0.97, 0), Reading(1.1, 1.06, 0), holes_s=0.01)
    assert watch.share == pytest.approx(0.04 / 1.1)
    assert not watch.counts


def test_time_that_a_hypervisor_hides_is_seen_by_the_looks_and_speaks_for_the_whole() -> None:
    watch = StallWatch()
    watch.judge(Reading(0.0, 0.0, 0), Reading(1.0, 1.0, 0))
    watch.judge(Reading(1.0, 1.0, 0), Reading(1.1, 1.1, 0), holes_s=0.004)
    assert watch.share == pytest.approx(0.04)
    assert not watch.counts


def test_waiting_on_purpose_is_no_stall_and_hides_none() -> None:
    watch = StallWatch()
    watch.judge(Reading(0.0, 0.0, 0), Reading(1.0, 0.1, 5))
    watch.judge(Reading(1.0, 0.1, 5), Reading(1.1, 0.2, 5), holes_s=0.0)
    assert watch.share == pytest.approx(0.0, abs=1e-9)
    watch.judge(Reading(1.1, 0.2, 5), Reading(1.2, 0.25, 5), holes_s=0.05)
    assert watch.share == pytest.approx(0.25)


def test_standing_in_line_is_a_stall_also_of_a_thread_that_waits_on_purpose() -> None:
    watch = StallWatch()
    watch.judge(Reading(0.0, 0.0, 0, 0.0), Reading(1.0, 0.3, 5, 0.1))
    watch.judge(Reading(1.0, 0.3, 5, 0.1), Reading(1.1, 0.4, 5, 0.1), holes_s=0.0)
    assert watch.share == pytest.approx(0.1 / 0.5)


def test_a_run_of_which_nothing_could_be_judged_does_not_count() -> None:
    watch = StallWatch()
    watch.judge(Reading(0.0, 0.0, 0), Reading(1.0, 0.5, 1))
    assert watch.share == 1.0
    assert not watch.counts


def test_a_look_takes_a_tenth_of_the_time_since_the_last_one() -> None:
    with StallWatch() as watch:
        began = time.perf_counter()
        _work(0.2)
        worked = time.perf_counter() - began
        watch.look()
        looked = time.perf_counter() - began - worked
    assert looked >= 0.1 * worked


@pytest.fixture
def busy_core() -> Iterator[None]:
    """Bind this thread to one core, and a program that never rests to the same."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no program can be bound to a core here")
    cores = os.sched_getaffinity(0)
    core = {min(cores)}
    os.sched_setaffinity(0, core)
    busy = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=-1)
    try:
        os.sched_setaffinity(busy.pid, core)
        assert busy.stdout is not None
        busy.stdout.readline()
        yield
    finally:
        busy.kill()
        busy.communicate()
        os.sched_setaffinity(0, cores)


@pytest.mark.usefixtures("busy_core")
def test_a_busy_program_on_the_same_core_is_seen() -> None:
    with StallWatch() as watch:
        for _ in range(20):
            _work(0.02)
            watch.look()
    assert watch.share > 10 * MOST_STALLED
    assert not watch.counts


@pytest.mark.usefixtures("busy_core")
@pytest.mark.skipif(Reading.take().queued_s is None, reason="this system does not tell who stands in line")
def test_a_busy_program_is_seen_also_by_a_thread_that_waits_on_purpose() -> None:
    watch = StallWatch()
    before = Reading.take()
    for _ in range(20):
        _work(0.02)
        time.sleep(0.001)
    watch.judge(before, Reading.take())
    watch.look()
    assert watch.share > 10 * MOST_STALLED


def _work(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(1000))
