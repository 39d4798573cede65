"""Which delegate runs a device's network, and what becomes of a frame when it fails: real foreign code."""

import gc
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices import isolated
from devices.config import Settings
from devices.device import Device
from devices.enrollment import read_enrollment
from devices.execution import Execution, probe_delegates
from devices.execution_report import EXECUTION_FILE, last_execution
from devices.status import device_status
from devices.visit import _Visit
from edge.delegates import PLAIN, XNNPACK
from edge.disk import write_atomically
from edge.embedder import Embedder
from edge.errors import BadSetting, ModelBroken, StepBack, TryLater
from edge.installation import Installation
from edge.model import Decision, Model
from edge.release import Release
from tests.devices.conftest import (
    SKUS,
    Foreign,
    Shelfsight,
    answered_by,
    events_of,
    install_release,
    pack,
    spoil,
)
from tests.edge.drawn_release import photograph

WITHIN_S = 2.0
"""The longest that a frame may wait because a delegate fails on it."""

Told = list[Mapping[str, object]]


def foreign_settings(data: Path, library: Path | str, **more: object) -> Settings:
    return replace(Settings(data=data), delegates=("external",), external_library=str(library), **more)


def fallbacks(data: Path) -> Told:
    return [event.data for event in events_of(data) if event.kind == "fell_back"]


def usual(data: Path) -> str:
    """Name the delegate that runs an int8 network here without a vendor: `tflite-runtime` has none for it."""
    release = Release.from_bytes((Installation(data).current() / "release.json").read_bytes())
    path = Installation(data).current() / release.variants[0].sha256
    return Embedder.open(path, dimension=release.dimension, input_size=release.input_size).delegate


def sku_of(device: Device, number: int) -> tuple[str, float]:
    """Answer a photo of a product; return what it is taken for, and how long that took in seconds."""
    photo = photograph(pack(SKUS[number % len(SKUS)]), seed=number)
    began = time.perf_counter()
    answer = device.see(photo)
    return answer.candidates[0].product.sku, time.perf_counter() - began


def test_a_foreign_delegate_that_answers_as_signed_is_used_and_there_is_nothing_to_tell(
    data: Path, foreign: Foreign
) -> None:
    device = Device(foreign_settings(data, foreign.library))
    assert [sku_of(device, number)[0] for number in range(4)] == list(SKUS)
    assert fallbacks(data) == []
    report = last_execution(data)
    assert report is not None
    assert (report.wanted, report.delegate, report.variant) == ("external", "external", "int8")
    assert (report.fell_back, report.failed, report.message) == (False, None, "")


@pytest.mark.parametrize(
    ("does", "error", "sentence"),
    [
        ("refuses", "delegate_failed", "no device of this vendor is plugged in"),
        ("takes-nothing", "delegate_failed", "takes no operation"),
        ("segfaults-at-create", "delegate_failed", "died of SIGSEGV when it was opened"),
        ("segfaults", "delegate_failed", "died of SIGSEGV when it was opened"),
        ("fails", "delegate_failed", "failed to invoke"),
        ("says-nan", "delegate_failed", "answers with NaN"),
        ("lies", "delegate_failed", "computes something else"),
    ],
)
def test_a_foreign_delegate_that_fails_at_the_start_gives_way_and_that_is_told_once(
    data: Path, foreign: Foreign, does: str, error: str, sentence: str
) -> None:
    foreign.does(does)
    settings, used = foreign_settings(data, foreign.library), usual(data)
    assert sku_of(Device(settings), 0)[0] == SKUS[0]
    assert sku_of(Device(settings), 1)[0] == SKUS[1], "started again"
    (told,) = fallbacks(data)
    assert (told["wanted"], told["used"], told["delegate"]) == ("external", used, "external")
    assert (told["error"], told["variant"], told["release"]) == (error, "int8", 1)
    assert sentence in str(told["message"])
    assert Installation(data).set_aside() == frozenset()
    status = device_status(Device(settings))
    assert (status.delegate, status.wanted, status.error) == (used, "external", None)
    assert status.why is not None
    assert sentence in status.why


def test_one_that_hangs_at_the_start_gives_way_when_its_time_is_up(
    data: Path, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated, "OPEN_S", 1.0)
    foreign.does("hangs-at-create")
    sku, seconds = sku_of(Device(foreign_settings(data, foreign.library)), 0)
    assert sku == SKUS[0]
    assert 1.0 <= seconds < 1.0 + WITHIN_S
    assert "hung when it was opened" in str(fallbacks(data)[0]["message"])


@pytest.mark.parametrize(
    ("library", "sentence"),
    [
        ("", "external_library"),
        ("libno-such-vendor.so", "cannot be loaded"),
        ("SPARC", "is made for sparc64"),
    ],
)
def test_a_library_that_is_not_for_here_is_told_as_missing(
    data: Path, library_of_another_machine: Path, library: str, sentence: str
) -> None:
    named = library_of_another_machine if library == "SPARC" else library
    assert sku_of(Device(foreign_settings(data, named)), 0)[0] == SKUS[0]
    (told,) = fallbacks(data)
    assert told["error"] == "delegate_missing"
    assert sentence in str(told["message"])


@pytest.mark.parametrize("does", ["segfaults", "hangs", "fails", "says-nan"])
def test_no_frame_is_lost_when_a_delegate_fails_in_use(data: Path, foreign: Foreign, does: str) -> None:
    foreign.will(does)
    settings, used = foreign_settings(data, foreign.library), usual(data)
    device = Device(settings)
    assert [sku_of(device, number)[0] for number in range(3)] == list(SKUS[:3])
    assert fallbacks(data) == []
    foreign.now()
    answers = [sku_of(device, number) for number in range(8)]
    assert [sku for sku, _ in answers] == [*SKUS, *SKUS]
    assert max(seconds for _, seconds in answers) < WITHIN_S
    assert max(seconds for _, seconds in answers[1:]) < 1.0, "only one frame waited"
    (told,) = fallbacks(data)
    assert (told["wanted"], told["used"], told["error"]) == ("external", used, "delegate_failed")
    status = device_status(Device(settings))
    assert (status.delegate, status.wanted) == (used, "external")
    assert str(status.why).startswith("external: ")


def test_a_dead_delegate_is_tried_again_by_the_next_program_and_its_next_death_told_again(
    data: Path, foreign: Foreign, release_folder: Path
) -> None:
    foreign.will("segfaults")
    settings = foreign_settings(data, foreign.library)
    device = Device(settings)
    sku_of(device, 0)
    foreign.now()
    sku_of(device, 1)
    install_release(data, release_folder, version=2)
    answered_by(device, 2, photograph(pack(SKUS[0])))
    assert device.matcher().embedder.delegate == usual(data), "not tried again before the program ends"
    assert len(fallbacks(data)) == 1
    del device
    gc.collect()  # it lets go of the delegate, as a program that ends does
    foreign.will("segfaults")
    device = Device(settings)
    sku_of(device, 2)
    report = last_execution(data)
    assert report is not None
    assert report.delegate == "external"
    foreign.now()
    assert sku_of(device, 3)[0] == SKUS[3]
    assert len(fallbacks(data)) == 2


def test_many_threads_lose_no_frame_when_a_delegate_dies_among_them(data: Path, foreign: Foreign) -> None:
    foreign.will("segfaults")
    device = Device(foreign_settings(data, foreign.library))
    sku_of(device, 0)
    found: dict[int, str] = {}

    def look(number: int) -> None:
        for turn in range(number, 40, 4):
            found[turn] = sku_of(device, turn)[0]
            if turn == 8:
                foreign.now()

    threads = [threading.Thread(target=look, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {turn: SKUS[turn % 4] for turn in range(40)}
    assert len(fallbacks(data)) == 1


def test_two_delegates_in_a_row_fail_and_the_runtimes_own_kernels_answer(
    data: Path, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(embedder: Embedder, picture: object) -> None:
        if embedder._running.delegate != PLAIN:
            raise ModelBroken("XNNPACK answers with NaN")
        invoke(embedder, picture)

    foreign.will("segfaults")
    device = Device(foreign_settings(data, foreign.library))
    sku_of(device, 0)
    invoke = Embedder.invoke
    # No real XNNPACK can be made to fail: the rest of the way is real.
    monkeypatch.setattr(Embedder, "invoke", broken)
    foreign.now()
    sku, seconds = sku_of(device, 1)
    assert (sku, device.matcher().embedder.delegate) == (SKUS[1], "none")
    assert seconds < WITHIN_S
    (told,) = fallbacks(data)
    assert told["used"] == "none"
    assert "external: " in str(told["message"])
    assert "xnnpack: XNNPACK answers with NaN" in str(told["message"]) or usual(data) == "none"


def test_only_when_the_last_resort_fails_too_is_it_the_releases_fault(
    data: Path, foreign: Foreign, release_folder: Path
) -> None:
    install_release(data, release_folder, version=2)
    spoil(data / "releases" / "2" / "index.ann")
    foreign.does("segfaults")
    assert Device(foreign_settings(data, foreign.library)).see(photograph(pack(SKUS[0]))).release == 1
    assert [event.kind for event in events_of(data)] == ["rolled_back", "fell_back"]

    (data / "releases" / "1" / "index.json").write_text("{}")
    with pytest.raises(StepBack):
        Device(foreign_settings(data, foreign.library)).see(photograph(pack(SKUS[0])))


def test_a_release_is_not_condemned_in_its_trial_for_a_delegate_that_dies(
    data: Path, foreign: Foreign, release_folder: Path
) -> None:
    foreign.does("hangs-at-create")
    install_release(data, release_folder, version=2)
    device = Device(foreign_settings(data, foreign.library))
    began = time.perf_counter()
    device.try_release(data / "releases" / "2")
    assert time.perf_counter() - began < WITHIN_S, "it is not even asked"
    assert events_of(data) == [], "a trial tells nothing of the device"


def test_a_delegate_belongs_to_the_program_that_uses_it(data: Path, foreign: Foreign) -> None:
    foreign.will("segfaults")
    settings = foreign_settings(data, foreign.library)
    kiosk = Device(settings)
    sku_of(kiosk, 0)
    other = Device(settings)
    assert sku_of(other, 1)[0] == SKUS[1], "it answers all the same"
    assert other.matcher().embedder.delegate == usual(data)
    kiosk.try_release(data / "releases" / "1")
    assert (fallbacks(data), device_status(Device(settings)).delegate) == ([], "external")
    assert ("external", True, "in use by another program of this device") in probe_delegates(
        settings, data / "releases" / "1"
    )
    foreign.now()
    sku_of(kiosk, 2)
    found = {name: (ok, text) for name, ok, text in probe_delegates(settings, data / "releases" / "1")}
    assert found["external"][0] is False, "it died in the program that has it"
    assert "died of SIGSEGV in use" in found["external"][1]


def with_gpu_file(release_folder: Path, decision: Decision) -> Path:
    """Make the second file of the release one for a GPU, judged by another decision."""
    release = Release.from_bytes((release_folder / "release.json").read_bytes())
    cpu, gpu = release.variants[:2]
    gpu = replace(gpu, target="gpu", decision=decision)
    changed = replace(release, variants=(cpu, gpu, *release.variants[2:]))
    write_atomically(release_folder / "release.json", changed.to_bytes())
    return release_folder


def test_each_delegate_runs_the_file_of_its_target_with_its_own_thresholds(
    release_folder: Path, tmp_path: Path, foreign: Foreign
) -> None:
    cpu = Release.from_bytes((release_folder / "release.json").read_bytes()).variants[0].decision
    sure = replace(cpu, match_confidence=cpu.match_confidence - 0.1)
    data = tmp_path / "with-gpu"
    install_release(data, with_gpu_file(release_folder, sure))
    foreign.will("segfaults")
    settings = replace(Settings(data=data), delegates=("gpu",), gpu_library=str(foreign.library))
    device = Device(settings)
    sku_of(device, 0)
    variant = device.matcher().variant
    assert (variant.name, variant.target, variant.decision) == ("int8-out", "gpu", sure)
    foreign.now()
    assert sku_of(device, 1)[0] == SKUS[1]
    variant = device.matcher().variant
    assert (variant.name, variant.target, variant.decision) == ("int8", "cpu", cpu)
    assert fallbacks(data)[0]["variant"] == "int8"


def test_a_release_without_a_file_for_the_delegate_says_what_is_missing(
    data: Path, release_folder: Path, tmp_path: Path, foreign: Foreign
) -> None:
    settings = replace(Settings(data=data), delegates=("gpu",), gpu_library=str(foreign.library))
    sku_of(Device(settings), 0)
    assert "release 1 has no file for gpu: publish it with one" in str(fallbacks(data)[0]["message"])

    spared = tmp_path / "spared"
    variant = Release.from_bytes((release_folder / "release.json").read_bytes()).variants[1]
    install_release(spared, with_gpu_file(release_folder, variant.decision))
    (spared / "releases" / "1" / variant.sha256).unlink()
    sku_of(Device(replace(settings, data=spared)), 0)
    assert "is not on this device: sync again" in str(fallbacks(spared)[0]["message"])


def test_a_variant_that_is_named_is_run_by_what_can_run_it(data: Path, foreign: Foreign) -> None:
    device = Device(foreign_settings(data, foreign.library, variant="int8-out"))
    sku_of(device, 0)
    assert (device.matcher().variant.name, device.matcher().embedder.delegate) == ("int8-out", "external")
    gpu = replace(
        Settings(data=data), delegates=("gpu",), gpu_library=str(foreign.library), variant="int8-out"
    )
    device = Device(gpu)
    sku_of(device, 0)
    assert device.matcher().variant.name == "int8-out"
    assert "delegate gpu runs files for gpu" in str(fallbacks(data)[0]["message"])
    with pytest.raises(BadSetting, match="int9"):
        Device(replace(gpu, variant="int9")).see(photograph(pack(SKUS[0])))


def test_the_settings_choose_runtime_and_last_resort(data: Path) -> None:
    device = Device(replace(Settings(data=data), delegates=("none",)))
    sku_of(device, 0)
    assert device.matcher().embedder.delegate == "none"
    assert fallbacks(data) == []
    with pytest.raises(BadSetting, match="runtime 'onnx' is not known"):
        Device(replace(Settings(data=data), runtime="onnx")).see(photograph(pack(SKUS[0])))


def test_a_disk_that_cannot_be_written_keeps_no_frame_from_its_answer(data: Path, foreign: Foreign) -> None:
    foreign.will("segfaults")
    device = Device(foreign_settings(data, foreign.library))
    (data / "outbox.db").mkdir()
    sku_of(device, 0)
    (data / EXECUTION_FILE).unlink()
    (data / EXECUTION_FILE).mkdir()
    foreign.now()
    assert sku_of(device, 1)[0] == SKUS[1]


def test_a_delegate_in_use_elsewhere_is_waited_for_where_nothing_else_can_run(
    data: Path, foreign: Foreign, release_folder: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    release = Release.from_bytes((release_folder / "release.json").read_bytes())
    only = replace(release, variants=tuple(replace(each, target="gpu") for each in release.variants))
    write_atomically(release_folder / "release.json", only.to_bytes())
    install_release(alone, release_folder)
    settings = replace(Settings(data=alone), delegates=("gpu",), gpu_library=str(foreign.library))
    device = Device(settings)
    sku_of(device, 0)
    with pytest.raises(TryLater, match="in use by another program"):
        device.try_release(alone / "releases" / "1")
    assert sku_of(device, 1)[0] == SKUS[1]


def test_probing_tries_every_delegate_and_changes_nothing(data: Path, foreign: Foreign) -> None:
    def files() -> list[Path]:
        return sorted(path for path in data.rglob("*") if path.suffix != ".lock")

    before = files()
    settings = replace(foreign_settings(data, foreign.library), delegates=("edgetpu", "external"))
    found = {name: (ok, text) for name, ok, text in probe_delegates(settings, data / "releases" / "1")}
    assert list(found) == ["edgetpu", "external", "xnnpack", "none"]
    assert [name for name, (ok, _) in found.items() if ok] == [
        "external",
        *["xnnpack"][: usual(data) == "xnnpack"],
        "none",
    ]
    assert "no file for edgetpu" in found["edgetpu"][1]
    assert "variant int8 answers as signed" in found["external"][1]
    foreign.does("segfaults")
    found = {name: (ok, text) for name, ok, text in probe_delegates(settings, data / "releases" / "1")}
    assert found["external"][0] is False
    assert "died of SIGSEGV" in found["external"][1]
    assert files() == before
    assert events_of(data) == []


def test_status_tells_delegate_and_reason_in_words_and_as_data(
    shelfsight: Shelfsight, data: Path, foreign: Foreign
) -> None:
    (data / "device.toml").write_text(
        f'delegates = ["external"]\nexternal_library = "{foreign.library}"\n', encoding="utf-8"
    )
    status = json.loads(shelfsight("status", "--json", "--data", data).stdout)
    assert (status["delegate"], status["wanted"], status["why"]) == ("external", "external", None)
    assert not (data / EXECUTION_FILE).exists(), "a status changes nothing"
    foreign.does("refuses")
    status = json.loads(shelfsight("status", "--json", "--data", data).stdout)
    assert (status["delegate"], status["wanted"]) == (usual(data), "external")
    words = shelfsight("status", "--data", data).stdout
    assert f"  delegate  {usual(data)}\n" in words
    assert "why  external: " in words
    assert "no device of this vendor is plugged in" in words
    assert events_of(data) == []


def test_the_heartbeat_says_by_what_the_network_is_run(data: Path, foreign: Foreign) -> None:
    foreign.does("refuses")
    device = Device(foreign_settings(data, foreign.library))
    (data / "device.json").write_text('{"url": "http://127.0.0.1:1", "device_id": "d-7", "token": "t"}')
    enrollment = read_enrollment(data)
    health = _Visit(device, enrollment)._health()
    assert (health["delegate"], health["wanted"]) == (None, None), "nothing was seen yet"
    sku_of(device, 0)
    health = _Visit(device, enrollment)._health()
    device.line.close()
    assert (health["delegate"], health["wanted"], health["variant"]) == (usual(data), "external", "int8")
    assert str(health["runtime"]).startswith(("ai-edge-litert", "tflite-runtime"))


def test_a_picture_that_no_delegate_can_answer_changes_nothing(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(Settings(data=data))
    sku_of(device, 0)
    told = fallbacks(data)
    embed = Embedder.embed
    odd = np.zeros((40, 40, 3), np.uint8)

    def embed_but_not_black(embedder: Embedder, picture: np.ndarray) -> object:
        if not picture.any():
            raise ModelBroken("this network answers black with zeros")
        return embed(embedder, picture)

    monkeypatch.setattr(Embedder, "embed", embed_but_not_black)
    with pytest.raises(ModelBroken, match="zeros"):
        device.see(odd)
    assert sku_of(device, 1)[0] == SKUS[1]
    assert fallbacks(data) == told
    assert device.matcher().embedder.delegate == usual(data)
    assert Installation(data).current_version() == 1


def test_an_execution_tries_in_the_order_of_the_settings(data: Path, tiny_model: Model) -> None:
    assert tiny_model.variants
    assert Execution(Settings(data=data)).order == (XNNPACK, PLAIN)
    names = [each.name for each in Execution(replace(Settings(data=data), delegates=("gpu", "none"))).order]
    assert names == ["gpu", "none", "xnnpack"]
