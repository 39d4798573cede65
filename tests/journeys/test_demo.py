"""The demo as users start it: real processes on loopback, smaller than theirs."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from cloud.bundled import bundled_model
from cloud.demo.folder import demo_folder
from cloud.demo.road import Plan, demo_road
from edge.errors import BadSetting, ShelfsightError
from edge.installation import Installation
from edge.model import Model, open_model
from edge.release import Release

DEMO = [sys.executable, "-m", "cloud.commands", "demo", "--products", "12", "--photos", "10"]


class _Quiet:
    """Announces to nobody, and remembers the titles."""

    def __init__(self) -> None:
        self.titles: list[str] = []

    @contextmanager
    def __call__(self, title: str) -> Iterator["_Quiet"]:
        self.titles.append(title)
        yield self

    def progress(self, done: int, total: int) -> None:
        assert 0 <= done <= total

    def say(self, result: str) -> None:
        assert result


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=5) as response:
            return bool(response.status == 200)
    except urllib.error.URLError:
        return False


def test_the_demo_goes_the_whole_road_and_says_what_it_saw(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--json", "--data", str(tmp_path / "demo")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert len(said["photos"]) == 10
    assert said["score"]["known"] == 8
    assert said["score"]["best_right"] >= 5
    assert said["score"]["strangers"] == 2
    assert said["first_sync"]["release"] == 1
    assert said["update"]["release"] == 2
    assert said["update"]["after_sku"] == said["update"]["sku"]
    assert said["update"]["bytes"] < said["first_sync"]["bytes_received"] / 10
    assert not _answers(said["address"])  # the server was ended
    installed = Installation(tmp_path / "demo" / "device").current() / "release.json"
    fitted, bundled = Release.from_bytes(installed.read_bytes()).variants[0], open_model(bundled_model())
    assert fitted.sha256 == bundled.variant(None).sha256
    assert fitted.decision != bundled.variant(None).decision
    with Image.open(said["picture"]) as picture:
        assert picture.width > 1000


def test_kept_up_the_demo_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    command = [*DEMO, "--keep", "--data", str(tmp_path / "demo")]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as demo:
        try:
            assert demo.stdout is not None
            said = ""
            while "Ctrl-C ends the server" not in said:
                line = demo.stdout.readline()
                assert line, said
                said += line
            address = re.findall(r"http://127\.0\.0\.1:\d+", said)[-1]
            assert _answers(address)
            assert "shelfsight kiosk" in said
            demo.send_signal(signal.SIGINT)
            assert demo.wait(30) == 0
            assert not _answers(address)
        finally:
            if demo.poll() is None:
                demo.send_signal(signal.SIGTERM)  # it ends its server on the way out


def test_each_step_is_announced_and_a_second_run_replaces_the_first(
    tmp_path: Path, tiny_model: Model
) -> None:
    plan = Plan(tmp_path / "demo", products=4, photos=5, labeled=0, workers=1, model=tiny_model.folder)
    for _ in range(2):
        announced = _Quiet()
        with demo_road(plan, announced) as shown:
            assert _answers(shown.address)
            assert shown.update.release == 2
        assert not _answers(shown.address)
        assert len(announced.titles) == 10


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path: Path, tiny_model: Model) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "mine.txt").write_text("keep me")
    with (
        pytest.raises(BadSetting, match="--data"),
        demo_road(Plan(tmp_path, model=tiny_model.folder), _Quiet()),
    ):
        pass
    assert (tmp_path / "shop" / "mine.txt").read_text() == "keep me"


def test_two_demos_do_not_share_a_folder(tmp_path: Path, tiny_model: Model) -> None:
    first = Plan(tmp_path / "demo", products=4, photos=5, labeled=0, workers=1, model=tiny_model.folder)
    with (
        demo_folder(first.folder),
        pytest.raises(BadSetting, match="another demo is running"),
        demo_road(first, _Quiet()),
    ):
        pass


def test_a_failure_on_the_way_ends_the_server_too(
    tmp_path: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "cloud.processes.device_program", lambda: [sys.executable, "-c", "raise SystemExit('broken')"]
    )
    plan = Plan(tmp_path / "demo", products=4, photos=5, labeled=0, workers=1, model=tiny_model.folder)
    with (
        pytest.raises(ShelfsightError, match="`shelfsight enroll` failed with exit code 1: broken"),
        demo_road(plan, _Quiet()),
    ):
        pass
    log = (tmp_path / "demo" / "server.log").read_text()
    assert "Traceback" not in log
