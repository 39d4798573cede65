"""A release that answers beside the one in use, on a device with two real releases."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from devices.config import Settings
from devices.device import Device
from devices.shadow import MOST_WAITING, Shadow
from devices.sync_report import SyncReport, remember_sync
from edge.installation import Installation
from edge.release import Release
from tests.devices.conftest import SKUS, events_of, pack, spoil
from tests.edge.drawn_release import photograph

PHOTO = photograph(pack(SKUS[0]))


@pytest.fixture
def device(device: Device) -> Device:
    """Give a device that answers and goes, so that no shadow of its own is in the way."""
    return Device(device.settings, tells=False)


def put_in_shadow(data: Path, folder: Path, version: int = 2) -> Installation:
    """Prove the release in `folder` on the device in `data`, as the server asked for at its last visit."""
    release = replace(Release.from_bytes((folder / "release.json").read_bytes()), version=version)
    installation = Installation(data)
    for entry in release.files:
        shutil.copy(folder / entry.sha256, installation.staging(version) / entry.sha256)
    installation.install(release, release.to_bytes())
    installation.prove(version, lambda _folder: None)
    remember_sync(data, SyncReport("2026-11-23T10:00:00.000Z", offered=version, shadow=True))
    return installation


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def shadow_of(device: Device, *, told_every_s: float = 0.0) -> Shadow:
    return Shadow(
        device.settings, device.installation, device.record, told_every_s=told_every_s, look_every_s=0.0
    )


def test_each_photo_is_answered_by_both_and_only_the_agreement_is_told(
    device: Device, data: Path, release_folder: Path
) -> None:
    put_in_shadow(data, release_folder)
    shadow = shadow_of(device)
    before = device.see(PHOTO)
    assert before.release == 1, "nobody sees the other one"
    shadow.offer(PHOTO, before)
    until(lambda: bool(events_of(data)))
    shadow.close()
    (event,) = events_of(data)
    said = dict(event.data)
    assert event.kind == "shadowed"
    assert said.pop("ms") > 0
    assert said.pop("ms_before") == round(before.timings.total_ms, 3)
    assert str(said.pop("since")).endswith("Z")
    unknown = int(before.verdict == "unknown")
    assert said == {
        "release": 2, "against": 1, "answers": 1, "same_verdict": 1, "same_sku": 1,
        "unknown": unknown, "unknown_before": unknown, "left_out": 0,
    }  # fmt: skip


def test_a_device_that_stays_hands_its_photos_on_by_itself(
    device: Device, data: Path, release_folder: Path
) -> None:
    put_in_shadow(data, release_folder)
    stays = Device(device.settings)
    stays.see(PHOTO)
    goes = Device(device.settings, tells=False)
    goes.see(PHOTO)
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("shadow") == 1
    stays.close_shadow()
    assert [event.kind for event in events_of(data)] == ["shadowed"]


def test_nothing_is_answered_twice_unless_the_server_wants_it(
    device: Device, data: Path, release_folder: Path
) -> None:
    installation = put_in_shadow(data, release_folder)
    remember_sync(data, SyncReport("2026-11-23T10:01:00.000Z", offered=None))
    shadow = shadow_of(device)
    shadow.offer(PHOTO, device.see(PHOTO))
    assert shadow._thread is None, "the rollout was paused"
    remember_sync(data, SyncReport("2026-11-23T10:02:00.000Z", offered=2, shadow=False))
    installation.try_out(2, lambda _folder: None)
    shadow.offer(PHOTO, device.see(PHOTO))
    assert shadow._thread is None, "it is in use"


def test_what_comes_too_fast_is_left_out_and_counted(
    device: Device, data: Path, release_folder: Path
) -> None:
    put_in_shadow(data, release_folder)
    shadow = shadow_of(device, told_every_s=1e9)
    answer = device.see(PHOTO)
    offered = 40
    began = time.monotonic()
    for _ in range(offered):
        shadow.offer(PHOTO, answer)
    assert time.monotonic() - began < 0.5, "whoever offers never waits"
    assert shadow._photos.qsize() <= MOST_WAITING
    until(shadow._photos.empty)
    shadow.close()
    (event,) = events_of(data)
    assert 1 <= int(str(event.data["answers"])) <= offered - int(str(event.data["left_out"]))
    assert int(str(event.data["left_out"])) > 0


def test_it_runs_at_the_lowest_priority_and_the_rest_does_not(
    device: Device, data: Path, release_folder: Path
) -> None:
    put_in_shadow(data, release_folder)
    shadow = shadow_of(device, told_every_s=1e9)
    shadow.offer(PHOTO, device.see(PHOTO))
    thread = shadow._thread
    assert thread is not None
    until(lambda: os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) == 19)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == 0
    shadow.close()


def test_a_release_that_does_not_work_after_all_is_set_aside_unseen(
    device: Device, data: Path, release_folder: Path
) -> None:
    installation = put_in_shadow(data, release_folder)
    spoil(data / "releases" / "2" / "index.ann")
    shadow = shadow_of(device)
    shadow.offer(PHOTO, device.see(PHOTO))
    until(lambda: 2 in installation.set_aside())
    shadow.close()
    assert [(event.kind, event.data["release"]) for event in events_of(data)] == [("failed", 2)]
    assert Device(Settings(data=data)).see(PHOTO).release == 1


def test_a_photo_that_only_one_can_answer_ends_nothing(
    device: Device, data: Path, release_folder: Path
) -> None:
    put_in_shadow(data, release_folder)
    shadow = shadow_of(device)
    answer = device.see(PHOTO)
    shadow.offer(b"no photo", answer)
    shadow.offer(PHOTO, answer)
    until(lambda: bool(events_of(data)))
    shadow.close()
    assert sum(int(str(event.data["answers"])) for event in events_of(data)) == 1
