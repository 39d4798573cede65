"""A release that is opened beside the one that answers, and takes over between two answers."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from devices import live
from devices.config import Settings
from devices.device import Device
from edge.embedder import Embedder
from edge.errors import ShelfsightError, TrialFailed
from edge.installation import Installation
from edge.model import Model
from edge.release import Release
from tests.devices.conftest import (
    PACKS,
    SKUS,
    Foreign,
    answered_by,
    events_of,
    install_release,
    pack,
    spoil,
)
from tests.edge.drawn_release import ReleaseMaker, draw_pack, photograph
from tests.edge.release_maker import Made, make_release, pack_photo

PHOTO = photograph(pack(SKUS[0]))


@dataclass
class Asked:
    """What somebody hears who asks without a pause: releases in order, answers that were lost, when."""

    releases: list[int] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    lost: list[object] = field(default_factory=list)

    @property
    def gap_s(self) -> float:
        """The longest time without an answer."""
        return float(max(np.diff(self.ended)))


@contextmanager
def asking(device: Device, photo: bytes = PHOTO, sku: str = SKUS[0]) -> Iterator[Asked]:
    """Ask the device for one product again and again in another thread."""
    asked, stop = Asked(), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                answer = device.see(photo)
            except ShelfsightError as error:
                asked.lost.append(error)
                continue
            if answer.candidates[0].product.sku != sku:
                asked.lost.append(answer)
            asked.releases.append(answer.release)
            asked.ended.append(time.perf_counter())

    device.see(photo)
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield asked
    finally:
        stop.set()
        thread.join()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_no_answer_waits_for_a_release_to_be_opened(
    device: Device, data: Path, release_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = _slow_opening(monkeypatch, 1.0)
    device.see(PHOTO)
    slow.set()
    with asking(device) as asked:
        install_release(data, release_folder, version=2)
        until(lambda: asked.releases[-1:] == [2])
    assert asked.lost == []
    assert asked.releases == sorted(asked.releases), "there is no way back"
    assert asked.gap_s < 0.25


def test_a_sync_of_this_program_has_the_release_opened_before_the_next_picture(
    device: Device, data: Path, release_folder: Path
) -> None:
    device.see(PHOTO)
    install_release(data, release_folder, version=2)
    device._live.open_next()  # as `sync` does when it ends
    until(lambda: device._live._next is not None)
    assert device.see(PHOTO).release == 2


def test_who_asks_after_a_pause_is_answered_by_the_newest(
    device: Device, data: Path, release_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PATIENCE_S", 20.0)
    monkeypatch.setattr(live, "PAUSE_S", 0.0)
    device.see(PHOTO)
    install_release(data, release_folder, version=2)
    assert device.see(PHOTO).release == 2


def test_a_release_that_cannot_be_opened_never_gets_to_answer(
    device: Device, data: Path, release_folder: Path
) -> None:
    with asking(device) as asked:
        install_release(data, release_folder, version=2)
        until(lambda: asked.releases[-1:] == [2])
        install_release(data, release_folder, version=3, trial=lambda folder: spoil(folder / "index.ann"))
        until(lambda: Installation(data).current_version() == 2)
        time.sleep(0.2)
    assert asked.lost == []
    told = [event.data for event in events_of(data) if event.kind == "rolled_back"]
    assert [(each["release"], each["to"], each["error"]) for each in told] == [(3, 2, "index_broken")]
    assert asked.releases[-1] == 2


def test_what_two_releases_share_is_read_once(device: Device, data: Path, release_folder: Path) -> None:
    device.see(PHOTO)
    before = device.matcher().stack.segments[0]
    install_release(data, release_folder, version=2)
    (data / "releases" / "2" / before.path.name).unlink()
    (data / "releases" / "2" / before.path.name).hardlink_to(before.path)
    answered_by(device, 2, PHOTO)
    assert device.matcher().stack.segments[0] is before
    mended = data / "releases" / "2" / before.path.name
    whole = mended.read_bytes()
    mended.unlink()
    mended.write_bytes(whole)  # another file of the same bytes, as a repair leaves it
    install_release(data, release_folder, version=3)
    answered_by(device, 3, PHOTO)
    assert device.matcher().stack.segments[0] is not before


def test_a_release_of_another_embedding_space_moves_network_and_vectors_together(
    device: Device, data: Path, tiny_model: Model, tmp_path: Path
) -> None:
    float_file = next(each for each in tiny_model.variants if each.name == "float32")
    other = replace(
        tiny_model, space="f" * 16, row_scale=1 / 100, variants=(replace(float_file, target="cpu"),)
    )
    newer = ReleaseMaker(other).write(tmp_path / "newer", {**PACKS, "egg noodles": draw_pack(9)}, [PHOTO])
    seen: list[tuple[int, str, str]] = []

    def look() -> None:
        answer = device.see(PHOTO)
        matcher = device.matcher()
        assert answer.candidates[0].product.sku == SKUS[0]
        assert matcher.stack.space == matcher.release.space
        assert matcher.variant in matcher.release.variants
        seen.append((answer.release, matcher.stack.space, matcher.variant.name))

    release = replace(Release.from_bytes((newer / "release.json").read_bytes()), version=2)
    installation = Installation(data)
    for entry in release.files:
        (installation.staging(2) / entry.sha256).hardlink_to(newer / entry.sha256)
    look()
    with device.trial() as trial:
        installation.install(release, release.to_bytes(), prepare=trial.prepare)
        look()
        with pytest.raises(TrialFailed):
            installation.try_out(2, _refuse_after(trial.try_out, look))
    look()
    assert {each[0] for each in seen} == {1}, "it failed its trial, and the old pair goes on"

    release = replace(release, version=3)
    for entry in release.files:
        (installation.staging(3) / entry.sha256).hardlink_to(newer / entry.sha256)
    with device.trial() as trial:
        installation.install(release, release.to_bytes(), prepare=trial.prepare)
        installation.try_out(3, trial.try_out)
    answered_by(device, 3, PHOTO)
    look()
    assert seen[-1] == (3, "f" * 16, "float32")
    assert seen[0] == (1, tiny_model.space, "int8")


def test_an_accelerator_goes_from_one_release_to_the_next_without_being_opened_twice(
    data: Path, release_folder: Path, foreign: Foreign
) -> None:
    device = Device(
        replace(Settings(data=data), delegates=("external",), external_library=str(foreign.library))
    )
    with asking(device) as asked:
        process = device.matcher().embedder.process_id  # type: ignore[union-attr]
        install_release(data, release_folder, version=2)
        until(lambda: asked.releases[-1:] == [2])
    assert (asked.lost, asked.gap_s < 0.25) == ([], True)
    assert device.matcher().embedder.process_id == process  # type: ignore[union-attr]
    assert device.see(PHOTO).release == 2


def test_another_network_for_an_accelerator_is_run_by_the_cpu_until_the_old_one_has_let_go(
    tmp_path: Path, several_model: Model, foreign: Foreign
) -> None:
    first = make_release(several_model, 1, {"a": 1, "b": 2, "c": 3})
    network = several_model.path(several_model.variant("edgetpu-int8")).read_bytes()
    installation = Installation(tmp_path / "device")
    _install(installation, first)
    settings = replace(
        Settings(data=installation.folder), delegates=("external",), external_library=str(foreign.library)
    )
    device = Device(settings)
    photo = pack_photo(2, 5)
    with asking(device, photo, "b") as asked:
        old = device.matcher().embedder
        assert old.delegate == "external"
        _install(installation, _with_network(first, network))
        until(lambda: asked.releases[-1:] == [2] and device.matcher().embedder.delegate == "external")
    assert (asked.lost, asked.gap_s < 0.25) == ([], True)
    assert device.matcher().embedder is not old


def _with_network(made: Made, network: bytes) -> Made:
    (variant,) = made.release.variants
    new = replace(variant, sha256=_sha(network), file=_sha(network), size=len(network))
    files = tuple(
        replace(each, sha256=_sha(network), size=len(network)) if each.role == "model" else each
        for each in made.release.files
    )
    release = replace(made.release, version=2, variants=(new,), files=files)
    return Made(release, {**made.files, _sha(network): network}, made.content)


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _install(installation: Installation, made: Made) -> None:
    staging = installation.staging(made.release.version)
    for entry in made.release.files:
        (staging / entry.sha256).write_bytes(made.files[entry.sha256])
    installation.install(made.release, made.manifest)
    installation.try_out(made.release.version, lambda _folder: None)


def _refuse_after(trial: Callable[[Path], None], look: Callable[[], None]) -> Callable[[Path], None]:
    def try_out(folder: Path) -> None:
        trial(folder)
        look()
        raise TrialFailed("somebody does not like it")

    return try_out


def _slow_opening(monkeypatch: pytest.MonkeyPatch, seconds: float) -> threading.Event:
    """Let a network take its time to be opened, once the event is set: a disk may be slow."""
    usual, slow = Embedder.open, threading.Event()

    def open_slowly(*arguments: object, **named: object) -> Embedder:
        if slow.is_set():
            time.sleep(seconds)
        return usual(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Embedder, "open", open_slowly)
    return slow
