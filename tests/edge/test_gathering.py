"""What an update fetches, what it makes itself, and what it may cost."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.budget import Budget
from edge.compaction import merge_segments
from edge.errors import (
    CutShort,
    HashMismatch,
    NoSpace,
    OutOfBudget,
    SegmentBroken,
    TrialFailed,
    WrongRange,
)
from edge.installation import Installation
from edge.matcher import Matcher
from edge.model import open_model
from edge.release import FileEntry
from edge.release_files import is_whole, opened_segments
from edge.segments import encode_base
from edge.transport import Transport
from edge.trust import trust_root
from edge.updater import Updater, UpdateReport
from tests.conftest import DATA
from tests.edge.loopback_server import Asked, LoopbackServer, Reply, loopback_server
from tests.edge.release_maker import Made, make_release, pack_photo, sha256
from tests.edge.repository_simulator import RepositorySimulator

PACKS = {"a": 1, "b": 2, "c": 3}


@pytest.fixture(scope="module")
def made() -> list[Made]:
    """Give four releases: a base, two deltas on it, and those three made into one base by a signed recipe."""
    model = open_model(DATA / "tiny-int8")
    first = make_release(model, 1, PACKS)
    second = make_release(model, 2, {**PACKS, "d": 4}, before=first)
    third = make_release(model, 3, {"a": 1, "d": 4, "e": 5}, before=second)
    return [first, second, third, compacted(third, 4)]


def compacted(before: Made, version: int) -> Made:
    """Make the release that says the same as `before` in one base."""
    base = encode_base(before.content)
    name = sha256(base)
    others = [each for each in before.release.files if each.role != "segment"]
    entry = FileEntry(name, len(base), "segment", merge=before.release.segments)
    release = replace(before.release, version=version, segments=(name,), files=(*others, entry))
    files = {each.sha256: before.files[each.sha256] for each in others} | {name: base}
    return Made(release, files, before.content)


def with_whole_base(made: Made) -> Made:
    base = encode_base(made.content)
    return replace(
        made,
        release=replace(made.release, merged_size=len(base)),
        files={**made.files, made.release.merged_sha256: base},
    )


def merging_wrongly(made: Made, other: str) -> Made:
    """Sign a chain whose last delta is another one: rightly signed bytes that do not merge as signed."""
    segments = (*made.release.segments[:-1], other)
    return replace(made, release=replace(made.release, segments=segments))


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: no test here pulls a plug."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def repository() -> Iterator[RepositorySimulator]:
    with loopback_server() as server:
        yield RepositorySimulator(server)


class Device:
    """A device that trusts the repository, and what it does with each offer."""

    def __init__(self, folder: Path, repository: RepositorySimulator) -> None:
        self.installation = Installation(folder)
        self.server: LoopbackServer = repository.server
        trust_root(folder, repository.root_bytes, repository.fingerprint)

    def update(self, offered: int | None, *, shadow: bool = False, **options: Any) -> UpdateReport:
        self.server.asked.clear()
        with Transport(self.server.url, timeout_s=2) as transport:
            return Updater(self.installation, transport, **options).update(offered, shadow=shadow)

    def repair(self) -> list[tuple[int, set[str]]]:
        self.server.asked.clear()
        self.installation.scrub(10**9)
        with Transport(self.server.url, timeout_s=2) as transport:
            mended = Updater(self.installation, transport).repair()
        return [(each.release, set(each.files)) for each in mended]

    def fetched(self) -> set[str]:
        return {path.rpartition("/")[2] for path in self.server.paths("/v1/files/")}


@pytest.fixture
def device(tmp_path: Path, repository: RepositorySimulator) -> Device:
    return Device(tmp_path / "device", repository)


def bring(device: Device, repository: RepositorySimulator, *releases: Made) -> None:
    for one in releases:
        repository.add_release(one)
        device.update(one.release.version)


# Compaction -----------------------------------------------------------------------------------------------


def test_a_base_that_can_be_merged_here_costs_no_download(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    bring(device, repository, *made[:3])
    repository.add_release(made[3])

    report = device.update(4)

    assert (report.current, report.files) == (4, 0)
    assert device.fetched() == {sha256(made[3].manifest)}
    folder = device.installation.current()
    assert (folder / made[3].release.segments[0]).read_bytes() == made[3].files[made[3].release.segments[0]]
    assert is_whole(folder)


def test_a_device_that_lacks_a_segment_fetches_the_merged_base(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    bring(device, repository, made[0])
    repository.add_release(made[3])
    assert device.update(4).files == 1
    assert made[3].release.segments[0] in device.fetched()


def test_a_merge_that_fails_or_gives_other_bytes_is_fetched_instead_once(
    tmp_path: Path, repository: RepositorySimulator, made: list[Made]
) -> None:
    def broken(sources: Sequence[tuple[Path, str]], target: Path) -> None:
        raise SegmentBroken("a segment rotted")

    def wrong(sources: Sequence[tuple[Path, str]], target: Path) -> None:
        merge_segments(sources[:-1], target)

    def rotten(sources: Sequence[tuple[Path, str]], target: Path) -> None:
        sources[1][0].write_bytes(b"rotten")
        merge_segments(sources, target)

    for number, merge in enumerate([broken, wrong, rotten]):
        device = Device(tmp_path / str(number), repository)
        bring(device, repository, *made[:3])
        repository.add_release(made[3])
        report = device.update(4, merge=merge)
        assert (report.current, report.files) == (4, 1)
        assert is_whole(device.installation.current())


def test_segments_that_do_not_merge_as_signed_are_replaced_by_the_whole_base_once(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    bring(device, repository, made[0])
    broken = merging_wrongly(with_whole_base(made[2]), made[1].release.segments[1])
    broken = replace(broken, release=replace(broken.release, segments=broken.release.segments[:2]))
    repository.add_release(broken)

    report = device.update(3)

    base = broken.release.merged_sha256
    assert report.current == 3
    folder = device.installation.current()
    assert opened_segments(broken.release, folder) == (base,)
    assert is_whole(folder)
    answer = Matcher.open(folder).match_photo(pack_photo(5, 5))
    assert answer.candidates[0].product.sku == "e"
    assert [path for path in device.server.paths("/v1/files/") if path.endswith(base)] == [
        f"/v1/files/{base}"
    ]
    assert device.update(3).files == 0  # what it does without is not fetched at each poll
    assert device.server.asked == []


def test_a_whole_base_that_is_none_sets_the_release_aside(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    bring(device, repository, made[0])
    base = b"rightly signed, and no segment" * 10
    release = replace(made[1].release, merged_sha256=sha256(base), merged_size=len(base))
    repository.add_release(replace(made[1], release=release, files={**made[1].files, sha256(base): base}))

    with pytest.raises(TrialFailed, match="release 2 cannot be made ready"):
        device.update(2)
    assert device.installation.set_aside() == {2}
    assert device.installation.current_version() == 1
    assert device.fetched() >= {sha256(base)}


# Shadow ---------------------------------------------------------------------------------------------------


def test_a_release_that_is_offered_as_a_shadow_is_proven_and_later_costs_only_its_signatures(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    bring(device, repository, made[0])
    repository.add_release(made[1])

    report = device.update(2, shadow=True)
    assert (report.installed, report.proven, report.current, report.files) == (None, 2, 1, 1)
    assert device.installation.proven_version() == 2
    again = device.update(2, shadow=True)
    assert (again.proven, device.server.asked) == (None, [])

    def refuse(folder: Path) -> None:
        raise TrialFailed("it must not be tried again")

    report = device.update(2, trial=refuse)
    assert (report.installed, report.current, report.files) == (2, 2, 0)
    assert not device.fetched() & set(made[1].files)


# Repair ---------------------------------------------------------------------------------------------------


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()  # the other release's name for the same file stays sound
    path.write_bytes(bytes(data))


def test_what_rotted_is_fetched_again_and_what_another_release_holds_is_linked(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    bring(device, repository, *made[:2])
    folder = device.installation.current()
    delta, base = made[1].release.segments[1], made[1].release.segments[0]
    for name in (delta, base):
        spoil(folder / name)
    (folder / "index.json").unlink()
    before = device.installation.edition()

    assert device.repair() == [(2, {delta, base, "index"})]

    assert is_whole(folder)
    assert device.fetched() == {delta}
    assert device.installation.edition() != before
    assert device.installation.rotten() == ()
    assert device.repair() == []
    Matcher.open(folder)


@pytest.mark.parametrize("rot", [b"", b"{}", b"one bit"])
def test_a_manifest_that_rotted_is_fetched_again_by_the_hash_that_was_signed(
    device: Device, repository: RepositorySimulator, made: list[Made], rot: bytes
) -> None:
    bring(device, repository, *made[:2])
    path = device.installation.current() / "release.json"
    path.write_bytes(made[1].manifest.replace(b"2026-01-01", b"2026-01-03") if rot == b"one bit" else rot)

    assert device.repair() == [(2, {"release.json"})]
    assert path.read_bytes() == made[1].manifest
    assert device.fetched() == {sha256(made[1].manifest)}


def test_the_release_to_step_back_to_is_mended_too(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    bring(device, repository, *made[:2])
    golden = made[0].release.golden[0].photo
    spoil(device.installation.release_folder(1) / golden)
    assert device.repair() == [(1, {golden})]
    assert is_whole(device.installation.release_folder(1))


def test_wrong_bytes_mend_nothing_and_the_rot_stays_known(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    bring(device, repository, made[0])
    name = made[0].release.segments[0]
    spoil(device.installation.current() / name)
    right = device.server.files[f"/v1/files/{name}"]
    device.server.files[f"/v1/files/{name}"] = bytes(len(right))
    with pytest.raises(HashMismatch):
        device.repair()
    assert [each.name for each in device.installation.rotten()] == [name]

    device.server.files[f"/v1/files/{name}"] = right
    assert device.repair() == [(1, {name})]


# Budgets --------------------------------------------------------------------------------------------------


def test_a_download_that_breaks_off_goes_on_at_once_while_it_gains(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    repository.add_release(made[0])
    network = made[0].release.variants[0].sha256
    data = made[0].files[network]
    step = len(data) // 4 + 1

    def cut(asked: Asked) -> Reply | None:
        if not asked.path.endswith(network):
            return None
        begin = int(asked.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        stated = {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"} if begin else {}
        return Reply(206 if begin else 200, data[begin:], stated, cut_after=step)

    device.server.spoil = cut
    assert device.update(1).current == 1
    assert len([asked for asked in device.server.asked if asked.path.endswith(network)]) == 4

    second = Device(device.installation.folder.parent / "second", repository)
    step = len(data) // 12
    with pytest.raises(OutOfBudget, match="again and again"):
        second.update(1)
    part = second.installation.staging(1) / f"{network}.part"
    assert part.stat().st_size == 8 * step
    device.server.spoil = lambda asked: None
    assert second.update(1).current == 1


def test_a_server_with_other_bytes_than_were_signed_cannot_use_up_a_data_plan(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    large = replace(made[0], files={**made[0].files})
    filler = os.urandom(400_000)
    entry = FileEntry(sha256(filler), len(filler), "note")
    large = replace(
        large, release=replace(large.release, files=(entry, *large.release.files)), files={**large.files}
    )
    repository.add_release(large)
    device.server.files[f"/v1/files/{entry.sha256}"] = bytes(len(filler))
    spent, refusals = 0, []
    for _ in range(6):
        with Transport(device.server.url, timeout_s=2) as transport:
            with pytest.raises((HashMismatch, OutOfBudget)) as caught:
                Updater(device.installation, transport).update(1)
            spent += transport.bytes_received
        refusals.append(type(caught.value))
    assert refusals[0] is HashMismatch
    assert refusals[-1] is OutOfBudget
    assert spent < 2 * sum(each.size for each in large.release.files) + 1024 * 1024 + 100_000

    # Tomorrow it may ask again.
    note = device.installation.staging(1) / "spent"
    note.write_text(json.dumps({**json.loads(note.read_text()), "day": "2020-01-01"}))
    device.server.files[f"/v1/files/{entry.sha256}"] = filler
    assert device.update(1).current == 1


def test_a_download_ends_with_its_time_and_what_came_is_kept(tmp_path: Path) -> None:
    now = [0.0]
    budget = Budget(tmp_path / "spent", 1000, seconds=10, clock=lambda: now[0])
    budget.take(100)
    now[0] = 11
    with pytest.raises(OutOfBudget, match="10 s"):
        budget.take(100)
    budget.keep()
    with pytest.raises(OutOfBudget, match="200 bytes came today"):
        Budget(tmp_path / "spent", 1000).check(10_000_000)


def test_a_transfer_that_breaks_too_often_is_left_for_later(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "spent", 1000, tries=2)
    budget.fail(CutShort("cut"))
    with pytest.raises(OutOfBudget, match="another part"):
        budget.fail(WrongRange("another part"))


@pytest.mark.parametrize("garbage", [b"", b"[]", b'{"day": 7}', b'{"bytes": "many"}', b"\xff"])
def test_a_spoiled_note_of_what_was_spent_costs_nothing(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "spent").write_bytes(garbage)
    budget = Budget(tmp_path / "spent", 1000)
    budget.check(2000)
    budget.keep()


def test_a_manifest_that_an_update_brought_is_not_fetched_by_the_next(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    repository.add_release(made[0])
    network = made[0].release.variants[0].sha256
    device.server.spoil = lambda asked: Reply(503) if asked.path.endswith(network) else None
    with pytest.raises(Exception, match="503"):
        device.update(1)
    device.server.spoil = lambda asked: None
    device.update(1)
    assert sha256(made[0].manifest) not in device.fetched()


def test_room_is_looked_for_before_a_merge(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    bring(device, repository, *made[:3])
    repository.add_release(made[3])
    with pytest.raises(NoSpace):
        device.update(4, free_bytes=lambda folder: 1000)
    assert device.update(4).current == 4
