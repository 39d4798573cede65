"""A release is published, and devices on a live line have it at once: real processes, one behind a relay."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.journeys.shop import COMMANDS, Shop

WITHIN_S = 2.0
BUSY_S = 8.0  # what cores that other tests keep busy may add; a poll would come after 54 seconds at the least


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    made.open([1, 2, 3])
    return made


@contextmanager
def speaking(arguments: list[object]) -> Iterator["subprocess.Popen[str]"]:
    """Run a command of the device until the block ends."""
    with subprocess.Popen(
        [str(COMMANDS / "shelfsight"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            _, complaints = process.communicate(timeout=20)
            assert "Traceback" not in complaints, complaints


def next_report(device: "subprocess.Popen[str]") -> tuple[dict[str, object], float]:
    """Give what a device says after its next sync, and when (seconds since the epoch)."""
    assert device.stdout is not None
    report: dict[str, object] = json.loads(device.stdout.readline())
    return report, time.time()


def test_devices_on_a_live_line_have_a_release_at_once(shop: Shop, tmp_path: Path) -> None:
    with ExitStack() as running:
        url = running.enter_context(shop.server())
        relay = running.enter_context(speaking(["relay", url, "--port", 0, "--data", tmp_path / "relay"]))
        assert relay.stdout is not None
        relay_url = relay.stdout.readline().split(" at ")[1].split(" ")[0]
        devices = []
        for number, at in enumerate((url, relay_url)):
            data = shop.enroll_another(at, number)
            devices.append(running.enter_context(speaking(["sync", "--json", "--data", data])))
        for device in devices:
            report, _ = next_report(device)
            assert (report["installed"], report["error"]) == (1, None)
            assert report["next_poll_s"] == 60.0
        time.sleep(1)  # the lines are up by now, and nothing was new

        shop.add(9)
        release = shop.publish()["version"]
        published = (shop.cloud_data / "repository" / "metadata" / "timestamp.json").stat().st_mtime
        for device in devices:
            report, heard = next_report(device)
            assert (report["installed"], report["error"]) == (release, None)
            assert heard - published < WITHIN_S + BUSY_S, report
