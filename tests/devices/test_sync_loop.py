"""The rhythm of syncing: jitter, back-off, and leaving at once when told to."""

import json
import random
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.bell import Bell
from devices.config import Settings
from devices.device import Device
from devices.hints import BURST
from devices.sync_loop import sync_until
from devices.waits import JITTER, LONGEST_BACKOFF_S, backoff_wait_s, poll_wait_s
from edge.errors import ShelfsightError
from tests.edge.loopback_server import Asked, Reply, loopback_server


@given(st.floats(1, 86_400), st.integers())
def test_a_poll_comes_near_the_time_the_server_asked_for(asked: float, seed: int) -> None:
    wait = poll_wait_s(asked, random.Random(seed))
    assert asked * (1 - JITTER) <= wait <= asked * (1 + JITTER)


@given(st.integers(1, 10_000), st.none() | st.floats(0, 86_400), st.integers())
def test_a_back_off_never_undercuts_the_server_and_never_grows_without_end(
    failures: int, retry_after: float | None, seed: int
) -> None:
    wait = backoff_wait_s(failures, retry_after, random.Random(seed))
    assert (retry_after or 0) <= wait <= (retry_after or 0) + LONGEST_BACKOFF_S


def test_devices_that_fail_together_come_back_apart() -> None:
    waits = {round(backoff_wait_s(5, None, random.Random(seed)), 1) for seed in range(100)}
    assert len(waits) > 80
    assert max(waits) - min(waits) > 30


def test_a_failure_is_told_with_its_wait_and_a_stop_ends_the_wait(data: Path) -> None:
    (data / "device.json").write_text('{"url": "http://127.0.0.1:9", "device_id": "d-7", "token": "t"}')
    bell = Bell()
    told: list[tuple[str, float]] = []

    def failed(error: ShelfsightError, wait_s: float) -> None:
        told.append((error.code, wait_s))
        bell.stop()

    def said(report: object) -> None:
        raise AssertionError(f"there is no server, and yet: {report}")

    sync_until(bell, Device(Settings(data=data)), said=said, failed=failed, chance=random.Random(1))
    assert [code for code, _ in told] == ["server_unreachable"]


def test_what_a_person_has_to_mend_is_waited_for_at_least_a_poll(data: Path) -> None:
    bell = Bell()
    waits: list[float] = []

    def failed(error: ShelfsightError, wait_s: float) -> None:
        assert error.code == "not_enrolled"
        waits.append(wait_s)
        bell.stop()

    sync_until(bell, Device(Settings(data=data)), said=lambda report: None, failed=failed)
    assert waits[0] >= 60


@pytest.mark.parametrize(
    ("hints", "woken"),
    [
        (Reply(200, b": nothing but silence", drip=(1, 5.0)), 0),
        (Reply(200, b'event: release\ndata: {"version": 999}\n\n' * 500, drip=(40, 0.02)), BURST + 1),
    ],
    ids=["silent", "lying"],
)
def test_the_poll_is_the_truth_whatever_the_hints_do(hints: Reply, woken: int, data: Path) -> None:
    bell, polls = Bell(), 0

    def answer(asked: Asked) -> Reply:
        nonlocal polls
        if not asked.path.endswith("heartbeat"):
            return hints
        polls += 1
        return Reply(200, b'{"offered_release": null, "next_poll_s": 1, "hints": {"sse": "/h"}}')

    with loopback_server() as server:
        server.spoil = answer
        (data / "device.json").write_text(json.dumps({"url": server.url, "device_id": "d-1", "token": "t"}))
        stop = threading.Timer(2.7, bell.stop)
        stop.start()
        sync_until(bell, Device(Settings(data=data)), said=lambda report: None, failed=lambda *_: bell.stop())
        stop.join()
    assert server.paths("/h")
    assert 3 <= polls <= 4 + woken
