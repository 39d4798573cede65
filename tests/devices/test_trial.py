"""The trial of a release: real networks that crash, hang, eat memory, or recognize nothing though signed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from devices.config import Settings
from devices.device import Device
from devices.trial import Trial
from edge.disk import sha256_file
from edge.errors import (
    BadSetting,
    ModelBroken,
    SegmentBroken,
    ShelfsightError,
    TrialCrashed,
    TrialFailed,
    TrialGreedy,
    TrialHung,
    TrialSlow,
    TryLater,
)
from edge.installation import Installation
from edge.matcher import Matcher, prepare_release_folder
from edge.model import Model
from edge.release import Release
from edge.segments import encode_base, encode_delta
from tests.devices.conftest import PACKS, SKUS, pack
from tests.edge.drawn_release import ReleaseMaker, draw_pack, photograph

Tried = Callable[..., Trial]


@pytest.fixture
def tried(data: Path) -> Iterator[Tried]:
    """Give trials for a device that has a good release in use, with other settings or limits where wanted."""
    opened: list[Trial] = []

    def begin(*, prepare_s: float = 60.0, trial_s: float = 60.0, **settings: object) -> Trial:
        of_device = replace(Settings(data=data), **settings)  # type: ignore[arg-type]
        current = Installation(data).current
        opened.append(Trial(of_device, current, prepare_s=prepare_s, trial_s=trial_s))
        return opened[-1]

    yield begin
    for trial in opened:
        trial.close()


def changed(folder: Path, target: Path, change: Callable[[Release], Release], *files: bytes) -> Path:
    """Copy a release as another version with something changed, and further files."""
    release = replace(Release.from_bytes((folder / "release.json").read_bytes()), version=2)
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).hardlink_to(path)
    for data in files:
        (target / "new").write_bytes(data)
        (target / "new").rename(target / sha256_file(target / "new"))
    (target / "release.json").unlink()
    (target / "release.json").write_bytes(change(release).to_bytes())
    return target


def with_network(folder: Path, target: Path, network: Path) -> Path:
    """Copy a release with another network in the place of its own."""

    def change(release: Release) -> Release:
        (variant,) = (each for each in release.variants if each.name == "int8")
        new = replace(variant, file=sha256_file(network), sha256=sha256_file(network), size=size)
        entry = replace(release.file(variant.sha256), sha256=new.sha256, size=size)
        others = tuple(each for each in release.files if each.role != "model")
        return replace(release, variants=(new,), files=(entry, *others))

    size = network.stat().st_size
    return changed(folder, target, change, network.read_bytes())


def sure_of(model: Model, network: Path, folder: Path, confidence_bias: float) -> Path:
    """Make a release of a network of its own, whose answers are all a match, or all none, as signed."""
    folder.mkdir()
    (folder / "network.tflite").hardlink_to(network)
    decision = replace(
        model.variant().decision,
        unknown_similarity=-1.0,
        bias=confidence_bias,
        similarity_weight=0.0,
        margin_weight=0.0,
    )
    variant = replace(
        model.variant(),
        file="network.tflite",
        sha256=sha256_file(network),
        size=network.stat().st_size,
        decision=decision,
    )
    own = replace(model, variants=(variant,), folder=folder)
    return ReleaseMaker(own).write(folder / "release", PACKS, [photograph(pack(SKUS[0]))])


@pytest.fixture
def harmful(release_folder: Path, tmp_path: Path, broken_models: Path) -> Callable[[str], Path]:
    """Give releases that are whole and rightly signed, and have a network that does harm."""
    return lambda name: with_network(release_folder, tmp_path / name, broken_models / f"{name}.tflite")


def test_a_good_release_passes(tried: Tried, release_folder: Path) -> None:
    trial = tried()
    trial.start()
    trial.prepare(release_folder)
    trial.try_out(release_folder)


def test_what_is_made_ready_apart_is_what_is_made_ready_here(
    tried: Tried, release_folder: Path, tmp_path: Path
) -> None:
    apart = changed(release_folder, tmp_path / "apart", lambda release: release)
    for name in ("index.ann", "index.json"):
        (apart / name).unlink()
    tried().prepare(apart)
    prepare_release_folder(release_folder)
    assert sha256_file(apart / "index.ann") == sha256_file(release_folder / "index.ann")
    assert Matcher.open(apart).match_photo(photograph(pack(SKUS[1]))).candidates[0].product.sku == SKUS[1]


def test_segments_are_merged_apart(tried: Tried, tiny_model: Model, tmp_path: Path) -> None:
    maker = ReleaseMaker(tiny_model)
    old, new = maker.content(PACKS), maker.content({**PACKS, "egg noodles": draw_pack(9)})
    delta = encode_delta(old, new)
    assert delta is not None
    sources = []
    for number, data in enumerate((encode_base(old), delta)):
        (tmp_path / str(number)).write_bytes(data)
        sources.append((tmp_path / str(number), sha256_file(tmp_path / str(number))))
    tried().merge(sources, tmp_path / "merged")
    assert (tmp_path / "merged").read_bytes() == encode_base(new)
    with pytest.raises(SegmentBroken):
        tried().merge([(sources[0][0], sources[1][1])], tmp_path / "merged")


def test_a_network_that_kills_its_process_kills_no_device(
    tried: Tried, harmful: Callable[[str], Path]
) -> None:
    with pytest.raises(TrialCrashed, match="SIGSEGV"):
        tried().try_out(harmful("dies"))


def test_a_network_that_hangs_is_found_out(tried: Tried, harmful: Callable[[str], Path]) -> None:
    began = time.monotonic()
    with pytest.raises(TrialHung):
        tried(trial_s=1.5).try_out(harmful("hangs"))
    assert time.monotonic() - began < 15


def test_a_network_that_takes_more_memory_than_the_device_has_for_it_is_refused(
    tried: Tried, tiny_model: Model, broken_models: Path, tmp_path: Path
) -> None:
    greedy = sure_of(tiny_model, broken_models / "greedy.tflite", tmp_path / "greedy", 10.0)
    with pytest.raises(TrialGreedy, match="MB to answer, and may take 400"):
        tried(memory_mb=400, latency_ms=60_000).try_out(greedy)
    with pytest.raises(TrialSlow, match="ms to answer"):
        tried(memory_mb=2_000, latency_ms=1).try_out(greedy)
    with pytest.raises(ShelfsightError):
        tried(memory_mb=100).try_out(greedy)  # it does not even get what it wants


def test_a_machine_that_is_slow_and_small_condemns_no_release_for_it(
    tried: Tried, release_folder: Path
) -> None:
    tried(memory_mb=16 * 4, latency_ms=0.1).try_out(release_folder)


@pytest.mark.parametrize("golden", [True, False])
def test_a_release_that_recognizes_nothing_fails_though_it_is_rightly_signed(
    tried: Tried, tiny_model: Model, tmp_path: Path, golden: bool
) -> None:
    network = tiny_model.path(tiny_model.variant())
    blind = sure_of(tiny_model, network, tmp_path / "blind", -10.0)
    if not golden:
        blind = changed(blind, tmp_path / "untold", lambda release: replace(release, golden=()))
    with pytest.raises(TrialFailed, match="nothing shows that it recognizes anything"):
        tried().try_out(blind)


def test_an_empty_catalog_need_not_recognize_anything(
    tried: Tried, tiny_model: Model, tmp_path: Path
) -> None:
    tried().try_out(ReleaseMaker(tiny_model).write(tmp_path / "empty", {}))


@pytest.mark.parametrize(
    ("network", "wrong"), [("nan", ModelBroken), ("zero", ModelBroken), ("dimension-8", ShelfsightError)]
)
def test_what_is_wrong_with_a_network_is_said_as_it_is(
    tried: Tried, harmful: Callable[[str], Path], network: str, wrong: type[ShelfsightError]
) -> None:
    with pytest.raises(wrong):
        tried().try_out(harmful(network))


def test_a_process_that_somebody_kills_condemns_nothing(tried: Tried, release_folder: Path) -> None:
    trial = tried()
    trial.prepare(release_folder)
    os.kill(_children()[-1], signal.SIGKILL)
    trial.try_out(release_folder)
    trial.close()
    trial.start()
    os.kill(_children()[-1], signal.SIGKILL)
    with pytest.raises(TryLater):
        trial.try_out(release_folder)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no idle class")
def test_the_trial_gives_way_to_answers_and_gets_its_share_at_its_second_chance(
    tried: Tried, release_folder: Path
) -> None:
    trial = tried()
    trial.try_out(release_folder)
    first = _children()[-1]
    assert os.sched_getscheduler(first) == os.SCHED_IDLE
    assert os.getsid(first) == os.getsid(0)  # or its class would not count beside this session
    assert os.getpgid(first) != os.getpgid(0)
    os.kill(first, signal.SIGKILL)
    others = set(_children_of(os.getpid()))
    seen: set[tuple[int, int]] = set()
    tried_again = threading.Event()

    def look() -> None:
        while not tried_again.is_set():
            for child in set(_children_of(os.getpid())) - others:
                with suppress(ProcessLookupError):
                    seen.add((os.sched_getscheduler(child), os.getpriority(os.PRIO_PROCESS, child)))
            time.sleep(0.002)

    watcher = threading.Thread(target=look)
    watcher.start()
    trial.try_out(release_folder)
    tried_again.set()
    watcher.join()
    assert (os.SCHED_OTHER, max(os.getpriority(os.PRIO_PROCESS, 0), 5)) in seen
    assert os.SCHED_IDLE not in {policy for policy, _ in seen}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no idle class")
def test_a_machine_that_never_rests_is_no_reason_to_have_no_release(
    tried: Tried, release_folder: Path
) -> None:
    burning = [sys.executable, "-c", "while True: pass"]
    fires = [subprocess.Popen(burning) for _ in range(2 * (os.cpu_count() or 1))]
    others = set(_children_of(os.getpid()))  # those fires, and what other tests have left to do
    try:
        trial = tried()
        began = time.monotonic()
        trial.try_out(release_folder)
        assert time.monotonic() - began < 60
        (child,) = set(_children_of(os.getpid())) - others
        assert os.sched_getscheduler(child) == os.SCHED_OTHER  # it was given its share
    finally:
        for fire in fires:
            fire.kill()
            fire.wait()


def test_who_asks_the_program_to_stop_does_not_stop_the_trial(tried: Tried, release_folder: Path) -> None:
    trial = tried()
    trial.prepare(release_folder)
    child = _children()[-1]
    os.kill(child, signal.SIGTERM)
    trial.try_out(release_folder)
    assert _children()[-1] == child


def test_the_trial_ends_with_the_program_that_holds_it(
    tmp_path: Path, harmful: Callable[[str], Path]
) -> None:
    hangs = harmful("hangs")
    program = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from devices.config import Settings\n"
        "from devices.trial import Trial\n"
        "trial = Trial(Settings(data=Path(sys.argv[1])), lambda: Path(sys.argv[2]))\n"
        "trial.start()\n"
        "threading.Thread(target=trial.try_out, args=(Path(sys.argv[2]),), daemon=True).start()\n"
        "print(open(f'/proc/self/task/{threading.get_native_id()}/children').read().split()[0], flush=True)\n"
        "threading.Event().wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path, hangs], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = Path(f"/proc/{int(parent.stdout.readline())}")
        time.sleep(0.5)
        assert child.exists()
        parent.kill()
    deadline = time.monotonic() + 10
    while child.exists() and "Z (zombie)" not in (child / "status").read_text():
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.02)


def test_a_fault_of_the_device_is_told_apart_from_one_of_the_release(
    data: Path, release_folder: Path, harmful: Callable[[str], Path]
) -> None:
    installation = Installation(data)
    for version, variant in ((2, "int9"), (3, None)):
        broken = harmful("nan") if variant is None else release_folder
        release = replace(Release.from_bytes((broken / "release.json").read_bytes()), version=version)
        for entry in release.files:
            (installation.staging(version) / entry.sha256).hardlink_to(broken / entry.sha256)
        device = Device(replace(Settings(data=data), variant=variant))
        with device.trial() as trial:
            installation.install(release, release.to_bytes(), prepare=trial.prepare)
            with pytest.raises(TrialFailed if variant is None else BadSetting):
                installation.try_out(version, trial.try_out)
    assert installation.set_aside() == {3}
    assert installation.current_version() == 1


def _children() -> list[int]:
    """Return the processes that this thread has started."""
    return [int(each) for each in Path("/proc/thread-self/children").read_text().split()]


def _children_of(pid: int) -> list[int]:
    """List the children that any thread of a process has started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(each) for task in tasks for each in task.read_text().split()]
