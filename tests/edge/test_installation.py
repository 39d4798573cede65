import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge import release_files
from edge.disk import sha256_file
from edge.errors import (
    HashMismatch,
    ModelBroken,
    NoRelease,
    NoSpace,
    RuntimeMissing,
    SegmentBroken,
    ShelfsightError,
    TrialFailed,
    TrialHung,
    TryLater,
)
from edge.installation import Installation
from edge.ledger import Ledger
from edge.matcher import Matcher, prepare_release_folder
from edge.model import open_model
from edge.release import FileEntry, Release
from edge.release_files import is_whole, left_out, opened_segments, part_path
from edge.segments import encode_base
from tests.conftest import DATA
from tests.edge.release_maker import Made, make_release, write_files

PACKS = {"a": 1, "b": 2, "c": 3}


@pytest.fixture(scope="module")
def made() -> list[Made]:
    """Give four releases: a base, two deltas on it, and a new base."""
    model = open_model(DATA / "tiny-int8")
    first = make_release(model, 1, PACKS)
    second = make_release(model, 2, {**PACKS, "d": 4}, before=first)
    third = make_release(model, 3, {"a": 1, "d": 5, "e": 6}, before=second)
    return [first, second, third, make_release(model, 4, {"x": 7, "y": 8})]


@pytest.fixture(scope="module")
def mixed() -> list[Made]:
    """Give two releases with a file for the CPU, one for a GPU and one for an Edge TPU."""
    model = open_model(DATA / "tiny-int8")
    networks = {
        "gpu": model.path(model.variant("float32")).read_bytes(),
        "edgetpu": (DATA / "broken-models" / "tiny_edgetpu.tflite").read_bytes(),
    }
    first = make_release(model, 1, PACKS, networks=networks)
    return [first, make_release(model, 2, {**PACKS, "d": 4}, before=first, networks=networks)]


def of_targets(made: Made, *targets: str) -> tuple[FileEntry, ...]:
    return made.release.needed_files(frozenset(targets))


def network(made: Made, target: str) -> str:
    return next(each.sha256 for each in made.release.variants if each.target == target)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: no test here pulls a plug, and hundreds of fsyncs take half a minute."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "device")


def content(folder: Path) -> None:
    """Be content with any release: a trial that passes."""


def bring(installation: Installation, made: Made, needed: Sequence[FileEntry] | None = None) -> Path:
    stage(installation, made, needed)
    return installation.install(made.release, made.manifest, needed)


def stage(installation: Installation, made: Made, needed: Sequence[FileEntry] | None = None) -> None:
    missing = installation.link_known(made.release, needed)
    staging = installation.staging(made.release.version)
    for entry in missing:
        (staging / entry.sha256).write_bytes(made.files[entry.sha256])


def put_into_use(
    installation: Installation,
    made: Made,
    trial: Callable[[Path], None] = content,
    needed: Sequence[FileEntry] | None = None,
) -> None:
    bring(installation, made, needed)
    installation.try_out(made.release.version, trial)


def leftovers(installation: Installation) -> list[str]:
    folders = (installation.folder, installation.folder / "incoming")
    return [path.name for folder in folders for path in folder.glob(".*")]


# The way a release comes into use -------------------------------------------------------------------------


def test_an_empty_device_has_no_release_and_says_what_to_do(installation: Installation) -> None:
    assert installation.current_version() is None
    assert (installation.floor(), installation.confirmed(), installation.set_aside()) == (0, (), frozenset())
    assert installation.recover() is None
    assert installation.step_back("nothing works") is None
    with pytest.raises(NoRelease, match="shelfsight sync"):
        installation.current()


def test_a_release_that_passes_its_trial_comes_into_use(installation: Installation, made: list[Made]) -> None:
    seen: list[Path] = []

    folder = bring(installation, made[0])
    assert installation.current_version() is None
    installation.try_out(1, seen.append)

    assert seen == [folder] == [installation.current()]
    assert (installation.confirmed(), installation.floor()) == ((1,), 1)
    assert Release.from_bytes((folder / "release.json").read_bytes()) == made[0].release
    assert Matcher.open(folder).match_photo(made[0].files[made[0].release.golden[0].photo]).release == 1
    assert leftovers(installation) == []


def test_files_that_the_disk_holds_are_linked_and_not_fetched(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])

    missing = installation.link_known(made[1].release)
    assert {entry.sha256 for entry in missing} == set(made[1].files) - set(made[0].files)
    assert len(missing) == 1

    put_into_use(installation, made[1])
    network = made[0].release.variants[0].sha256
    folders = [installation.folder / "releases" / str(version) for version in (1, 2)]
    assert folders[0].joinpath(network).samefile(folders[1] / network)


def test_the_last_two_good_releases_are_kept(installation: Installation, made: list[Made]) -> None:
    for one in made:
        put_into_use(installation, one)

    assert installation.current_version() == 4
    assert sorted(path.name for path in (installation.folder / "releases").iterdir()) == ["3", "4"]
    assert list((installation.folder / "incoming").iterdir()) == []


def test_releases_below_the_rollback_floor_are_not_kept(installation: Installation, made: list[Made]) -> None:
    put_into_use(installation, made[0])
    strict = replace(made[1], release=replace(made[1].release, rollback_floor=2))
    put_into_use(installation, strict)

    assert installation.confirmed() == (2,)
    assert installation.step_back("it is no good") is None
    assert installation.current_version() is None


def test_a_file_that_is_not_what_was_signed_is_deleted_and_refused(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    staging = installation.staging(2)
    (spoiled,) = installation.link_known(made[1].release)
    (staging / spoiled.sha256).write_bytes(bytes(spoiled.size))

    with pytest.raises(HashMismatch, match=spoiled.sha256):
        installation.install(made[1].release, made[1].manifest)

    assert installation.current_version() == 1
    assert installation.link_known(made[1].release) == (spoiled,)


def test_a_spoiled_file_of_an_older_release_is_not_linked(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    network = made[0].release.variants[0]
    (installation.current() / network.sha256).write_bytes(bytes(network.size))

    missing = installation.link_known(made[1].release)

    assert network.sha256 in {entry.sha256 for entry in missing}


def test_what_an_unfinished_release_brought_serves_the_next(
    installation: Installation, made: list[Made]
) -> None:
    staging = installation.staging(1)
    network, segment, photo = made[0].release.files
    (staging / network.sha256).write_bytes(made[0].files[network.sha256])
    part_path(staging, segment).write_bytes(made[0].files[segment.sha256][:50])

    missing = installation.link_known(made[1].release)

    assert network not in missing
    assert part_path(installation.staging(2), segment).read_bytes() == made[0].files[segment.sha256][:50]
    assert not staging.exists()
    assert photo not in made[1].release.files or photo in missing


def test_segments_that_do_not_merge_as_signed_are_set_aside(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    wrong = replace(made[1], release=replace(made[1].release, merged_sha256="0" * 64))
    with pytest.raises(TrialFailed, match="release 2 cannot be made ready"):
        bring(installation, wrong)

    assert installation.current_version() == 1
    assert installation.set_aside() == {2}
    assert not (installation.folder / "incoming" / "2").exists()


def test_installing_the_release_in_use_again_changes_nothing(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    before = installation.current().stat().st_ino

    assert bring(installation, made[0]) == installation.current()
    assert installation.current().stat().st_ino == before


# A device that runs a few of the network files -------------------------------------------------------------


def test_a_release_without_the_files_that_this_device_does_not_run_is_whole(
    installation: Installation, mixed: list[Made]
) -> None:
    put_into_use(installation, mixed[0], needed=of_targets(mixed[0], "cpu"))

    folder = installation.current()
    assert left_out(folder) == {network(mixed[0], "gpu"), network(mixed[0], "edgetpu")}
    assert not any((folder / name).exists() for name in left_out(folder))
    assert is_whole(folder)
    Matcher.open(folder)


def test_of_the_files_that_this_device_runs_none_may_be_missing_or_spoiled(
    installation: Installation, mixed: list[Made]
) -> None:
    needed = of_targets(mixed[0], "cpu", "edgetpu")
    staging = installation.staging(1)
    for entry in installation.link_known(mixed[0].release, needed):
        (staging / entry.sha256).write_bytes(mixed[0].files[entry.sha256])
    (staging / network(mixed[0], "edgetpu")).write_bytes(b"spoiled")
    with pytest.raises(HashMismatch, match=network(mixed[0], "edgetpu")):
        installation.install(mixed[0].release, mixed[0].manifest, needed)
    assert installation.current_version() is None

    put_into_use(installation, mixed[0], needed=needed)
    (installation.current() / network(mixed[0], "edgetpu")).unlink()
    assert not is_whole(installation.current())


def test_only_the_files_that_are_needed_are_linked_and_asked_for(
    installation: Installation, mixed: list[Made]
) -> None:
    put_into_use(installation, mixed[0], needed=of_targets(mixed[0], "cpu", "gpu"))

    missing = installation.link_known(mixed[1].release, of_targets(mixed[1], "cpu"))

    assert {entry.sha256 for entry in missing} == set(mixed[1].files) - set(mixed[0].files)
    assert not (installation.staging(2) / network(mixed[1], "gpu")).exists()


def test_what_a_device_came_to_run_is_put_into_the_release_in_use(
    installation: Installation, mixed: list[Made]
) -> None:
    put_into_use(installation, mixed[0], needed=of_targets(mixed[0], "cpu"))
    needed = of_targets(mixed[0], "cpu", "edgetpu")
    assert [entry.sha256 for entry in installation.lacking(mixed[0].release, needed)] == [
        network(mixed[0], "edgetpu")
    ]

    stage(installation, mixed[0], needed)
    installation.complete(mixed[0].release, needed)

    folder = installation.current()
    assert installation.lacking(mixed[0].release, needed) == ()
    assert left_out(folder) == {network(mixed[0], "gpu")}
    assert is_whole(folder)
    assert list((installation.folder / "incoming").iterdir()) == []

    stage(installation, mixed[0])
    installation.complete(mixed[0].release, mixed[0].release.files)
    assert not (folder / "left_out").exists()
    assert is_whole(folder)


def test_the_edition_changes_with_the_release_and_with_the_files_that_come_to_it(
    installation: Installation, mixed: list[Made]
) -> None:
    seen = [installation.edition()]
    put_into_use(installation, mixed[0], needed=of_targets(mixed[0], "cpu"))
    seen.append(installation.edition())
    for targets in (("cpu", "edgetpu"), ("cpu", "edgetpu", "gpu")):
        stage(installation, mixed[0], of_targets(mixed[0], *targets))
        installation.complete(mixed[0].release, of_targets(mixed[0], *targets))
        seen.append(installation.edition())
    put_into_use(installation, mixed[1])
    seen.append(installation.edition())
    assert [version for version, _ in seen] == [None, 1, 1, 1, 2]
    assert len(set(seen)) == len(seen)
    assert installation.edition() == seen[-1]


def test_wrong_bytes_do_not_get_into_the_release_in_use(
    installation: Installation, mixed: list[Made]
) -> None:
    put_into_use(installation, mixed[0], needed=of_targets(mixed[0], "cpu"))
    needed = of_targets(mixed[0], "cpu", "edgetpu")
    size = mixed[0].release.file(network(mixed[0], "edgetpu")).size
    (installation.staging(1) / network(mixed[0], "edgetpu")).write_bytes(bytes(size))

    with pytest.raises(HashMismatch):
        installation.complete(mixed[0].release, needed)

    assert not (installation.current() / network(mixed[0], "edgetpu")).exists()
    assert is_whole(installation.current())


@pytest.mark.parametrize("garbage", [b"", b"{", b"7", b"\xff", b'["' + b"0" * 64 + b'"]'])
def test_a_release_whose_list_of_files_left_out_is_spoiled_is_mended_and_not_set_aside(
    installation: Installation, mixed: list[Made], garbage: bytes
) -> None:
    needed = of_targets(mixed[1], "cpu")
    put_into_use(installation, mixed[0], needed=of_targets(mixed[0], "cpu"))
    put_into_use(installation, mixed[1], needed=needed)
    (installation.current() / "left_out").write_bytes(garbage)

    assert installation.step_back("it does not answer") == 1
    assert installation.set_aside() == frozenset()
    assert installation.link_known(mixed[1].release, needed) == ()
    put_into_use(installation, mixed[1], needed=needed)
    assert is_whole(installation.current())


def test_a_release_without_some_files_that_fails_is_set_aside_as_any_other(
    installation: Installation, mixed: list[Made]
) -> None:
    for one in mixed:
        put_into_use(installation, one, needed=of_targets(one, "cpu"))
    assert installation.step_back("it answers with NaN") == 1
    assert installation.set_aside() == {2}


# When the trial fails --------------------------------------------------------------------------------------


def refuse(folder: Path) -> None:
    raise ModelBroken("it answers with NaN")


def test_a_release_that_fails_its_trial_is_set_aside_with_its_reason(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    with pytest.raises(TrialFailed, match=r"release 2 failed its trial.*NaN"):
        put_into_use(installation, made[1], refuse)

    assert installation.current_version() == 1
    assert installation.set_aside() == {2}
    assert installation.set_aside_reason(2) == "it answers with NaN"
    assert installation.set_aside_reason(1) is None
    assert installation.confirmed() == (1,)
    assert not (installation.folder / "releases" / "2").exists()
    assert installation.floor() == 1


@pytest.mark.parametrize("error", [RuntimeMissing("no runtime"), NoSpace("full"), TryLater("wait")])
def test_a_device_at_fault_does_not_condemn_the_release(
    installation: Installation, made: list[Made], error: ShelfsightError
) -> None:
    def fail(folder: Path) -> None:
        raise error

    put_into_use(installation, made[0])
    with pytest.raises(type(error)):
        put_into_use(installation, made[1], fail)
    assert installation.set_aside() == frozenset()
    assert installation.recover() is None

    assert installation.link_known(made[1].release) == ()
    put_into_use(installation, made[1])
    assert installation.current_version() == 2


def test_a_person_who_stops_a_trial_does_not_condemn_the_release(
    installation: Installation, made: list[Made]
) -> None:
    def stop(folder: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put_into_use(installation, made[0], stop)
    assert installation.recover() is None
    assert installation.set_aside() == frozenset()


class CrashError(Exception):
    """What a native library does to a process, as far as the next start can see."""


def crash(folder: Path) -> None:
    raise CrashError


def crash_in_trial(folder: Path, made: Made, times: int) -> Installation:
    """Let a device die so many times in the trial of a release; give the one that starts after that."""
    for _ in range(times):
        device = Installation(folder)
        assert device.recover() is None
        with pytest.raises(CrashError):
            put_into_use(device, made, crash)
    return Installation(folder)


@pytest.mark.parametrize("times", [1, 2])
def test_a_release_in_whose_trial_the_device_died_once_or_twice_is_tried_again(
    installation: Installation, made: list[Made], times: int
) -> None:
    put_into_use(installation, made[0])
    restarted = crash_in_trial(installation.folder, made[1], times)

    assert restarted.current_version() == 1
    for _ in range(5):  # a start is no trial
        assert restarted.recover() is None
    assert restarted.set_aside() == frozenset()
    assert restarted.link_known(made[1].release) == ()  # nothing of it is fetched again
    put_into_use(restarted, made[1])
    assert restarted.current_version() == 2
    assert not (restarted.folder / "tried").exists()


def test_a_release_in_whose_trial_the_device_died_three_times_in_a_row_is_set_aside_at_the_next_start(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    restarted = crash_in_trial(installation.folder, made[1], 3)

    assert restarted.current_version() == 1
    assert restarted.recover() == 2
    assert restarted.recover() is None
    assert restarted.set_aside() == {2}
    assert restarted.current_version() == 1
    assert "3 times" in str(restarted.set_aside_reason(2))
    assert not (restarted.folder / "tried").exists()


@pytest.mark.parametrize("error", [RuntimeMissing("no runtime"), TryLater("wait"), KeyboardInterrupt()])
def test_a_trial_that_could_not_be_held_neither_counts_nor_forgets_those_that_the_device_died_in(
    installation: Installation, made: list[Made], error: BaseException
) -> None:
    def fail(folder: Path) -> None:
        raise error

    restarted = crash_in_trial(installation.folder, made[0], 2)
    for _ in range(5):
        with pytest.raises(type(error)):
            put_into_use(restarted, made[0], fail)
        assert restarted.recover() is None
    with pytest.raises(CrashError):
        put_into_use(restarted, made[0], crash)
    assert Installation(installation.folder).recover() == 1


def test_trials_of_another_release_are_not_held_against_the_next(
    installation: Installation, made: list[Made]
) -> None:
    crash_in_trial(installation.folder, made[0], 2)
    restarted = crash_in_trial(installation.folder, made[1], 2)
    assert restarted.recover() is None
    put_into_use(restarted, made[1])
    assert restarted.current_version() == 2


def test_a_trial_that_an_older_shelfsight_noted_without_a_count_is_the_first(
    installation: Installation, made: list[Made]
) -> None:
    bring(installation, made[0])
    (installation.folder / "tried").write_text("1\n")
    assert installation.recover() is None
    restarted = crash_in_trial(installation.folder, made[0], 2)
    assert restarted.recover() == 1


@pytest.mark.parametrize("count", ["0", "-1", "null", '"2"', "true", "[]", "1.5", "12345678901"])
def test_a_count_of_trials_that_rotted_condemns_a_release_rather_than_to_loop_for_ever(
    installation: Installation, made: list[Made], count: str
) -> None:
    put_into_use(installation, made[0])
    bring(installation, made[1])
    (installation.folder / "tried").write_text(f'{{"release": 2, "count": {count}}}')
    assert installation.recover() == 2
    assert installation.current_version() == 1


def test_a_power_cut_in_the_middle_of_setting_aside_is_finished_and_keeps_its_reason(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    bring(installation, made[1])
    (installation.folder / "set_aside").write_text('{"2": "it answers with NaN"}')
    (installation.folder / "tried").write_text('{"release": 2, "count": 1}')
    assert installation.recover() is None
    assert installation.set_aside_reason(2) == "it answers with NaN"
    assert not (installation.folder / "tried").exists()
    assert not (installation.folder / "releases" / "2").exists()


# When the release in use fails -----------------------------------------------------------------------------


def test_the_last_good_release_takes_over_when_the_one_in_use_fails(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    put_into_use(installation, made[1])

    assert installation.step_back("it answers with NaN since the runtime was changed") == 1

    assert installation.current_version() == 1
    assert installation.set_aside_reason(2) == "it answers with NaN since the runtime was changed"
    assert installation.floor() == 2
    assert installation.step_back("this one too") is None
    assert installation.current_version() is None


def test_a_release_that_the_disk_spoiled_may_come_again_and_only_the_spoiled_file_is_fetched(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    put_into_use(installation, made[3])
    segment = made[3].release.segments[0]
    path = installation.current() / segment
    path.write_bytes(bytes(path.stat().st_size))

    assert installation.step_back("its segment is spoiled") == 1
    assert installation.set_aside() == frozenset()
    assert installation.recover() is None
    assert [entry.sha256 for entry in installation.link_known(made[3].release)] == [segment]

    put_into_use(installation, made[3])
    assert installation.current_version() == 4


def test_a_spoiled_index_is_mended_by_the_next_update_without_fetching_a_file(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    put_into_use(installation, made[1])
    (installation.current() / "index.ann").write_bytes(b"")

    assert installation.step_back("its index is spoiled", failed=2) == 1
    assert installation.link_known(made[1].release) == ()
    put_into_use(installation, made[1])
    Matcher.open(installation.current())


def test_a_release_that_is_no_longer_in_use_is_not_stepped_back_from(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    put_into_use(installation, made[1])

    assert installation.step_back("release 1 went away while it was opened", failed=1) == 2
    assert installation.set_aside() == frozenset()


# When state is lost ----------------------------------------------------------------------------------------

STATE = ["current", "confirmed", "floor", "set_aside", "tried"]


@pytest.mark.parametrize("name", STATE)
@pytest.mark.parametrize(
    "garbage", [None, b"", b"\x00" * 512, b"{", b'"x"', b"[[]]", b"-1", b"99999", b'{"x": 1}', b"\xff\xfe"]
)
def test_a_spoiled_state_file_reads_as_lost(
    installation: Installation, made: list[Made], name: str, garbage: bytes | None
) -> None:
    put_into_use(installation, made[0])
    put_into_use(installation, made[1])
    if garbage is None:
        (installation.folder / name).unlink(missing_ok=True)
    else:
        (installation.folder / name).write_bytes(garbage)

    installation.recover()

    assert installation.current_version() == 2
    assert installation.floor() >= 2
    put_into_use(installation, made[3])
    assert installation.current_version() == 4


def test_with_all_state_lost_the_releases_themselves_say_what_is_good(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    put_into_use(installation, made[2])
    bring(installation, made[3])
    for name in STATE:
        (installation.folder / name).unlink(missing_ok=True)

    assert installation.current_version() == 3
    assert installation.confirmed() == (1, 3)
    assert installation.floor() == 3
    assert installation.recover() is None
    assert installation.current_version() == 3


def test_a_release_without_its_manifest_is_not_one(installation: Installation, made: list[Made]) -> None:
    put_into_use(installation, made[0])
    put_into_use(installation, made[1])
    (installation.current() / "release.json").unlink()

    assert installation.current_version() == 1
    assert installation.floor() == 2


def test_only_one_updates_at_a_time(installation: Installation, made: list[Made]) -> None:
    other = crash_in_trial(installation.folder, made[0], 3)
    refused: list[Exception] = []

    def lock() -> None:
        try:
            with installation.lock():
                pass
        except TryLater as error:
            refused.append(error)

    with installation.lock(), installation.lock():
        with pytest.raises(TryLater, match="another process"), other.lock():
            pass
        thread = threading.Thread(target=lock)
        thread.start()
        thread.join()
        # A trial may be going on there: a device that starts meanwhile must not condemn it.
        assert other.recover() is None
    assert len(refused) == 1
    assert other.recover() == 1


# Killed anywhere -------------------------------------------------------------------------------------------


def check_order(folder: Path, least: int) -> None:
    """Check what must hold after any kill, once `recover` has run; `least` was the version in use."""
    installation = Installation(folder)
    installation.recover()
    version = installation.current_version()
    if version is None:
        assert least == 0
        return
    assert version >= least
    assert version in installation.confirmed()
    assert version not in installation.set_aside()
    assert is_whole(installation.current())
    Matcher.open(installation.current())
    assert installation.floor() >= version
    assert len(installation.confirmed()) <= 2
    tried = Ledger(folder).tried()  # a kill in a trial is remembered until that release is tried again
    assert tried is None or (tried > version and tried not in installation.set_aside())
    assert leftovers(installation) == []


class PowerCut(BaseException):
    """The machine is off."""


def cut_power_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let `step` operations on the disk happen and none after; return a counter of those asked for."""
    asked = 0

    def limited(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked > step:
                raise PowerCut
            return real(*args, **named)

        return call

    for name in ("rename", "replace", "unlink", "rmdir", "mkdir", "link", "fsync"):
        monkeypatch.setattr(os, name, limited(getattr(os, name)))
    return lambda: asked


def test_power_may_be_cut_at_every_single_step(
    installation: Installation, made: list[Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_into_use(installation, made[0])
    put_into_use(installation, made[1])
    step, finished = 0, False
    while not finished:
        folder = tmp_path / f"cut-{step}"
        shutil.copytree(installation.folder, folder, symlinks=True)
        device = Installation(folder)
        with monkeypatch.context() as patches:
            cut_power_at(step, patches)
            try:
                put_into_use(device, made[2])
                finished = True
            except PowerCut:
                pass
        check_order(folder, least=2)
        assert Installation(folder).set_aside() == frozenset()
        put_into_use(Installation(folder), made[2])
        check_order(folder, least=3)
        assert not (folder / "tried").exists()
        shutil.rmtree(folder)
        step += 1
    assert step > 20


def test_power_may_be_cut_at_every_step_of_a_refusal(
    installation: Installation, made: list[Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_into_use(installation, made[0])
    bring(installation, made[1])
    step, finished = 0, False
    while not finished:
        folder = tmp_path / f"cut-{step}"
        shutil.copytree(installation.folder, folder, symlinks=True)
        with monkeypatch.context() as patches:
            cut_power_at(step, patches)
            try:
                Installation(folder).try_out(2, refuse)
            except PowerCut:
                pass
            except TrialFailed:
                finished = True
        check_order(folder, least=1)
        assert Installation(folder).current_version() == 1
        with pytest.raises(TrialFailed):  # by the next trial, where the first did not come to its end
            put_into_use(Installation(folder), made[1], refuse)
        assert Installation(folder).set_aside() == {2}
        step += 1
    assert step > 5


def test_power_may_be_cut_at_every_step_of_bringing_what_a_release_lacks(
    installation: Installation, mixed: list[Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_into_use(installation, mixed[0], needed=of_targets(mixed[0], "cpu"))
    needed = mixed[0].release.files
    step, finished = 0, False
    while not finished:
        folder = tmp_path / f"cut-{step}"
        shutil.copytree(installation.folder, folder, symlinks=True)
        device = Installation(folder)
        with monkeypatch.context() as patches:
            cut_power_at(step, patches)
            try:
                stage(device, mixed[0], needed)
                device.complete(mixed[0].release, needed)
                finished = True
            except PowerCut:
                pass
        check_order(folder, least=1)
        stage(Installation(folder), mixed[0], needed)
        Installation(folder).complete(mixed[0].release, needed)
        check_order(folder, least=1)
        assert left_out(Installation(folder).current()) == frozenset()
        step += 1
    assert step > 10


KEEP_INSTALLING = """
import sys
from dataclasses import replace
from pathlib import Path
from edge.errors import ModelBroken, ShelfsightError
from edge.installation import Installation
from edge.ledger import Ledger
from edge.release import Release
from edge.release_files import part_path

folder, depot = Path(sys.argv[1]), Path(sys.argv[2])
installation = Installation(folder)
installation.recover()
manifests = [(path / "release.json").read_bytes() for path in sorted(depot.iterdir())]
version = max(installation.floor(), *installation.set_aside(), 0)
print("ready", flush=True)

def trial(path):
    for entry in release.files:
        (path / entry.sha256).read_bytes()
    if version % 3 == 0:
        raise ModelBroken("every third is broken")

while True:
    version += 1
    source = depot / str(version % len(manifests))
    release = replace(Release.from_bytes((source / "release.json").read_bytes()), version=version)
    staging = installation.staging(version)
    for entry in installation.link_known(release):
        part = part_path(staging, entry)
        part.write_bytes((source / entry.sha256).read_bytes())
        part.rename(staging / entry.sha256)
    installation.install(release, release.to_bytes())
    try:
        installation.try_out(version, trial)
    except ShelfsightError:
        continue
    print(version, flush=True)
"""


def test_a_device_killed_at_any_moment_keeps_a_whole_confirmed_release(
    tmp_path: Path, made: list[Made]
) -> None:
    folder, depot = tmp_path / "device", tmp_path / "depot"
    for number, one in enumerate(made):
        write_files(one, depot / str(number))
        (depot / str(number) / "release.json").write_bytes(one.manifest)
    rng = random.Random(11)
    told, lasts = 0, 0.0
    for round_ in range(15):
        process = subprocess.Popen(
            [sys.executable, "-c", KEEP_INSTALLING, str(folder), str(depot)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        if round_ == 0:
            began = time.monotonic()
            told = int(process.stdout.readline())
            lasts = time.monotonic() - began
        time.sleep(rng.uniform(0, 2 * lasts))
        process.send_signal(signal.SIGKILL)
        versions = [int(line) for line in process.stdout.read().split()]
        process.wait(10)
        process.stdout.close()
        told = max([told, *versions])
        check_order(folder, least=told)
    assert told > 2


# A held file is read once ---------------------------------------------------------------------------------


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the names of the files that are hashed from now on, each as slowly as a base on a small board."""
    names: list[str] = []

    def slowly(path: Path) -> str:
        names.append(path.name)
        time.sleep(0.025)
        return sha256_file(path)

    monkeypatch.setattr(release_files, "sha256_file", slowly)
    return names


def test_a_held_file_is_read_once_in_an_update_and_again_in_the_next(
    installation: Installation, made: list[Made], read: list[str]
) -> None:
    put_into_use(installation, made[0])
    base = made[0].release.segments[0]
    for release in made[1:3]:
        read.clear()
        bring(installation, release)
        assert read.count(base) == 1


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        last = path.read_bytes()[-1]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


def rewrite_and_set_back(path: Path) -> None:
    before = path.stat()
    rewrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_mtime_ns, path.stat().st_size) == (before.st_mtime_ns, before.st_size)


def replace_by_another(path: Path) -> None:
    before, other = path.stat(), path.with_name("other")
    shutil.copyfile(path, other)
    rewrite(other)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


CHANGES = [rewrite, rewrite_and_set_back, replace_by_another, cut, Path.unlink]


@pytest.mark.parametrize("change", CHANGES)
def test_a_held_file_that_changes_after_it_was_read_is_noticed(
    installation: Installation, made: list[Made], read: list[str], change: Callable[[Path], None]
) -> None:
    put_into_use(installation, made[0])
    stage(installation, made[1])
    change(installation.staging(2) / made[0].release.segments[0])
    with pytest.raises(HashMismatch, match="not what was signed"):
        installation.install(made[1].release, made[1].manifest)


@pytest.mark.parametrize("change", CHANGES[:3])
def test_a_held_file_that_changes_within_a_tick_of_the_clock_is_noticed(
    installation: Installation, made: list[Made], change: Callable[[Path], None]
) -> None:
    put_into_use(installation, made[0])
    for _ in range(20):
        stage(installation, made[1])
        held = installation.staging(2) / made[0].release.segments[0]
        sound = held.read_bytes()
        change(held)
        with pytest.raises(HashMismatch, match="not what was signed"):
            installation.install(made[1].release, made[1].manifest)
        (installation.current() / held.name).write_bytes(sound)


# Proven, and not in use yet --------------------------------------------------------------------------------


def prove(installation: Installation, made: Made, trial: Callable[[Path], None] = content) -> None:
    bring(installation, made)
    installation.prove(made.release.version, trial)


def test_a_proven_release_is_kept_and_comes_into_use_without_another_trial(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    prove(installation, made[1])

    assert (installation.current_version(), installation.proven_version()) == (1, 2)
    assert installation.proven() == installation.folder / "releases" / "2"
    assert installation.floor() == 1
    restarted = Installation(installation.folder)
    assert restarted.recover() is None
    assert restarted.proven_version() == 2

    bring(restarted, made[1])
    restarted.try_out(2, refuse)  # which is not asked
    assert (restarted.current_version(), restarted.proven_version()) == (2, None)
    assert not (restarted.folder / "proven").exists()


def test_there_is_one_proven_release_and_the_two_good_ones_stay(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    put_into_use(installation, made[1])
    prove(installation, made[2])
    prove(installation, made[3])

    assert installation.proven_version() == 4
    assert sorted(path.name for path in (installation.folder / "releases").iterdir()) == ["1", "2", "4"]


def test_a_release_that_is_not_proven_is_set_aside_with_what_its_trial_said(
    installation: Installation, made: list[Made]
) -> None:
    def hang(folder: Path) -> None:
        raise TrialHung("it did not end in 60 s")

    put_into_use(installation, made[0])
    with pytest.raises(TrialHung, match="release 2 failed its trial"):
        prove(installation, made[1], hang)
    assert (installation.set_aside(), installation.proven_version()) == ({2}, None)


def test_a_proven_release_that_fails_beside_the_one_in_use_is_set_aside(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    prove(installation, made[1])
    installation.disprove(1, "another one")
    installation.disprove(2, "it answers nonsense")
    assert (installation.set_aside(), installation.proven_version()) == ({2}, None)
    with pytest.raises(NoRelease, match="no release is proven"):
        installation.proven()


def test_a_proven_release_that_rotted_is_tried_again(installation: Installation, made: list[Made]) -> None:
    put_into_use(installation, made[0])
    prove(installation, made[3])
    segment = installation.proven() / made[3].release.segments[0]
    segment.write_bytes(bytes(segment.stat().st_size))

    bring(installation, made[3])
    installation.try_out(4, content)
    assert is_whole(installation.current())


def test_power_may_be_cut_at_every_step_of_proving_and_of_taking_what_is_proven(
    installation: Installation, made: list[Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_into_use(installation, made[0])
    put_into_use(installation, made[1])
    step, finished = 0, False
    while not finished:
        folder = tmp_path / f"cut-{step}"
        shutil.copytree(installation.folder, folder, symlinks=True)
        device = Installation(folder)
        with monkeypatch.context() as patches:
            cut_power_at(step, patches)
            try:
                prove(device, made[3])
                put_into_use(device, made[3], refuse)
                finished = True
            except PowerCut:
                pass
        check_order(folder, least=2)
        device = Installation(folder)
        assert device.set_aside() == frozenset()
        if device.current_version() == 2:
            prove(device, made[3])
            put_into_use(device, made[3], refuse)
            check_order(folder, least=4)
        shutil.rmtree(folder)
        step += 1
    assert step > 30


# Starts that come to nothing -------------------------------------------------------------------------------


def test_after_three_starts_without_an_answer_a_device_is_told_to_step_back(
    installation: Installation, made: list[Made]
) -> None:
    assert installation.begin_start() is False
    put_into_use(installation, made[0])
    put_into_use(installation, made[1])
    assert [Installation(installation.folder).begin_start() for _ in range(4)] == [False, False, False, True]

    assert installation.step_back("three starts came to no answer") == 1
    # There is none before it: a device that tries is better than one that has given up.
    assert [installation.begin_start() for _ in range(5)] == [False] * 5


def test_a_start_that_comes_to_an_answer_is_forgotten(installation: Installation, made: list[Made]) -> None:
    put_into_use(installation, made[0])
    put_into_use(installation, made[1])
    for _ in range(9):
        assert installation.begin_start() is False
        installation.end_start()
    assert not (installation.folder / "starts").exists()


def test_starts_of_the_release_before_are_not_held_against_the_next(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    for _ in range(3):
        installation.begin_start()
    put_into_use(installation, made[1])
    assert installation.begin_start() is False


# What the disk holds already -------------------------------------------------------------------------------


def test_the_index_over_the_same_base_is_there_when_the_next_release_is_prepared(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    before = installation.current()
    seen: list[list[bool]] = []

    def prepare(folder: Path) -> None:
        names = [name for name in ("index.ann", "index.json") if (folder / name).exists()]
        seen.append([(folder / name).samefile(before / name) for name in names])
        prepare_release_folder(folder)

    for one in (made[1], made[3]):
        stage(installation, one)
        installation.install(one.release, one.manifest, prepare=prepare)
    assert seen == [[True, True], []]


def test_a_spoiled_index_is_not_carried_over(installation: Installation, made: list[Made]) -> None:
    put_into_use(installation, made[0])
    (installation.current() / "index.ann").write_bytes(b"spoiled")
    put_into_use(installation, made[1])
    assert is_whole(installation.current())


def test_an_index_that_is_carried_over_is_not_written_in_place(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    put_into_use(installation, made[1])
    assert all(is_whole(installation.release_folder(version)) for version in (1, 2))


# One base instead of many segments -------------------------------------------------------------------------


def with_whole_base(made: Made) -> tuple[Made, FileEntry]:
    data = encode_base(made.content)
    release = replace(made.release, merged_size=len(data))
    assert release.whole_base is not None
    return replace(
        made, release=release, files={**made.files, release.merged_sha256: data}
    ), release.whole_base


def test_a_release_may_be_installed_with_its_whole_base_instead_of_its_segments(
    installation: Installation, made: list[Made]
) -> None:
    chain, base = with_whole_base(made[1])
    needed = chain.release.needed_files(None, whole=True)
    put_into_use(installation, chain, needed=needed)

    folder = installation.current()
    assert left_out(folder) == set(chain.release.segments)
    assert is_whole(folder)
    assert len(Matcher.open(folder).stack.segments) == 1
    (folder / base.sha256).unlink()
    assert not is_whole(folder)


def test_segments_that_do_not_merge_as_signed_condemn_no_release_that_has_a_whole_base(
    installation: Installation, made: list[Made]
) -> None:
    put_into_use(installation, made[0])
    chain, base = with_whole_base(made[2])
    other = made[1].release.segments[1]  # rightly signed, but not what the base was merged from
    release = replace(chain.release, segments=(chain.release.segments[0], other))
    wrong = replace(chain, release=release)
    with pytest.raises(SegmentBroken):
        bring(installation, wrong)
    assert installation.set_aside() == frozenset()

    put_into_use(installation, wrong, needed=release.needed_files(None, whole=True))
    assert opened_segments(release, installation.current()) == (base.sha256,)
    Matcher.open(installation.current())


# Files at rest ---------------------------------------------------------------------------------------------


def test_what_rotted_is_named_and_nothing_else(installation: Installation, made: list[Made]) -> None:
    put_into_use(installation, made[0])
    put_into_use(installation, made[3])
    assert installation.scrub(10**9).rotten == ()

    segment = made[3].release.segments[0]
    spoil(installation.release_folder(4) / segment)
    spoil(installation.release_folder(1) / "index.ann")
    spoil(installation.release_folder(1) / "release.json")
    (installation.release_folder(4) / "index.json").unlink()

    assert {(each.release, each.name) for each in installation.scrub(10**9).rotten} == {
        (1, "index"),
        (1, "release.json"),
        (4, segment),
        (4, "index"),
    }
    assert [each.release for each in installation.rotten()] == [4, 4, 1, 1]


def spoil(path: Path) -> None:
    """Turn one bit over, in the last byte but one of what is there; an empty file gets a byte."""
    data = bytearray(path.read_bytes() or b"\0\0")
    data[-2] ^= 1
    path.write_bytes(bytes(data))


def test_a_scrub_goes_on_where_it_stopped_over_restarts(installation: Installation, made: list[Made]) -> None:
    put_into_use(installation, made[0])
    put_into_use(installation, made[1])
    spoil(installation.release_folder(2) / "release.json")
    whole = installation.scrub(10**9)
    steps = []
    while not steps or not steps[-1].ended:
        steps.append(Installation(installation.folder).scrub(1000))
    assert len(steps) > 3
    assert sum(step.read for step in steps) == whole.read
    assert steps[-1].rotten == whole.rotten


def test_nothing_is_scrubbed_while_an_update_goes_on(installation: Installation, made: list[Made]) -> None:
    put_into_use(installation, made[0])
    with installation.lock(), pytest.raises(TryLater):
        Installation(installation.folder).scrub(1000)
