"""Whatever a server, a disk or a kill does to an update: a whole release is in use, and it goes on later."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.errors import (
    CutShort,
    HashMismatch,
    NoSpace,
    OutOfBudget,
    Oversize,
    Packed,
    Redirected,
    Rollback,
    ServerBusy,
    ServerUnreachable,
    ShelfsightError,
    Slow,
    TransferBroken,
    TrialFailed,
    WrongRange,
)
from edge.installation import Installation
from edge.matcher import Matcher
from edge.model import open_model
from edge.release_files import is_whole
from edge.transport import Transport
from edge.trust import trust_root
from edge.updater import Updater
from tests.conftest import DATA
from tests.edge.loopback_server import Asked, LoopbackServer, Reply, loopback_server
from tests.edge.release_maker import Made, make_release
from tests.edge.repository_simulator import RepositorySimulator

PACKS = {"a": 1, "b": 2, "c": 3}


@pytest.fixture(scope="module")
def made() -> list[Made]:
    """Give releases 1, 2 (a delta on it) and 3 (a base of its own)."""
    model = open_model(DATA / "tiny-int8")
    first = make_release(model, 1, PACKS)
    second = make_release(model, 2, {**PACKS, "d": 4}, before=first)
    return [first, second, make_release(model, 3, {"x": 7, "y": 8})]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: no plug is pulled here; the processes that are killed do wait for it."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with loopback_server() as server:
        yield server


@pytest.fixture
def repository(server: LoopbackServer) -> RepositorySimulator:
    return RepositorySimulator(server)


@pytest.fixture
def folder(tmp_path: Path, repository: RepositorySimulator, made: list[Made]) -> Path:
    """Give the folder of a device with releases 1 and 2; 3 is published."""
    folder = tmp_path / "device"
    trust_root(folder, repository.root_bytes, repository.fingerprint)
    for one in made:
        repository.add_release(one)
        if one.release.version < 3:
            update(folder, repository.server, one.release.version)
    return folder


def update(folder: Path, server: LoopbackServer, version: int, **options: Any) -> None:
    limits = {"timeout_s": 0.5, "rate_window_s": 0.3, "answer_s": 1.0}
    with Transport(server.url, **limits) as transport:
        Updater(Installation(folder), transport, **options).update(version)


def check(folder: Path, *allowed: int) -> None:
    """Check that a whole release is in use, before and after the disk is put in order."""
    for _ in range(2):
        installation = Installation(folder)
        assert installation.current_version() in allowed
        assert is_whole(installation.current())
        with suppress(NoSpace):  # then it is put in order when there is room
            installation.recover()
    Matcher.open(Installation(folder).current())


# The server ------------------------------------------------------------------------------------------------

KINDS = {
    "cut at once": (lambda data: Reply(200, data, cut_after=0), (CutShort,)),
    "cut in the middle": (lambda data: Reply(200, data, cut_after=len(data) // 2), (CutShort, OutOfBudget)),
    "cut before the last byte": (lambda data: Reply(200, data, cut_after=len(data) - 1), (CutShort,)),
    "drip": (lambda data: Reply(200, data, drip=(2, 0.05)), (Slow,)),
    "silence": (lambda data: Reply(200, data, drip=(len(data) // 2, 0.8)), (Slow,)),
    "a head that drips": (
        lambda data: Reply(body=b"HTTP/1.1 200 OK\r\nX: " + b"y" * 9000, raw=True, drip=(2, 0.05)),
        (Slow,),
    ),
    "busy": (lambda data: Reply(503, b"", {"Retry-After": "7"}), (ServerBusy,)),
    "too many": (lambda data: Reply(429), (ServerBusy,)),
    "broken": (lambda data: Reply(500, b"<html>"), (ServerBusy,)),
    "elsewhere": (lambda data: Reply(302, b"", {"Location": "http://elsewhere.invalid/"}), (Redirected,)),
    "permanently elsewhere": (lambda data: Reply(308, b"", {"Location": "/other"}), (Redirected,)),
    "a range nobody asked for": (
        lambda data: Reply(206, data, {"Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}"}),
        (WrongRange, OutOfBudget),
    ),
    "no content": (lambda data: Reply(204), (TransferBroken,)),
    "too long": (lambda data: Reply(200, data + b"x"), (Oversize,)),
    "too short": (lambda data: Reply(200, data[:-1]), (CutShort,)),
    "a length that lies": (
        lambda data: Reply(200, data, {"Content-Length": str(len(data) * 2)}, cut_after=len(data)),
        (Oversize,),
    ),
    "endless": (lambda data: Reply(200, data, endless=True), (Oversize,)),
    "packed": (lambda data: Reply(200, data, {"Content-Encoding": "gzip"}), (Packed,)),
    "other bytes": (lambda data: Reply(200, bytes(len(data))), (HashMismatch,)),
    "not there": (lambda data: Reply(404), (ServerUnreachable,)),
    "an error page": (lambda data: Reply(200, b"<html>the shop's wifi</html>"), (CutShort, HashMismatch)),
    "no HTTP": (lambda data: Reply(body=b"SSH-2.0-OpenSSH\r\n", raw=True), (ServerUnreachable,)),
}
"""What a server may do with a file, and the faults of which one must be told."""


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_server_does_with_a_file_the_fault_is_named_and_the_next_update_goes_on(
    folder: Path, server: LoopbackServer, made: list[Made], kind: str
) -> None:
    spoil, faults = KINDS[kind]
    segment = made[2].release.segments[0]
    data = made[2].files[segment]
    server.spoil = lambda asked: spoil(data) if asked.path.endswith(segment) else None
    with pytest.raises(ShelfsightError) as caught:
        update(folder, server, 3)
    assert type(caught.value) in faults
    check(folder, 2)

    server.spoil = lambda asked: None
    update(folder, server, 3)
    check(folder, 3)


@pytest.mark.parametrize("kind", ["drip", "a head that drips", "endless", "elsewhere", "busy", "packed"])
def test_whatever_the_server_does_with_its_metadata_the_fault_is_named(
    folder: Path, server: LoopbackServer, kind: str
) -> None:
    spoil, faults = KINDS[kind]
    server.spoil = lambda asked: spoil(b"x" * 5000) if "timestamp" in asked.path else None
    with pytest.raises(ShelfsightError) as caught:
        update(folder, server, 3)
    assert type(caught.value) in faults
    check(folder, 2)


def test_a_file_may_be_cut_at_every_byte(folder: Path, server: LoopbackServer, made: list[Made]) -> None:
    segment = made[2].release.segments[0]
    data = made[2].files[segment]
    begun: set[int] = set()

    def one_byte_more(asked: Asked) -> Reply | None:
        if not asked.path.endswith(segment):
            return None
        begin = int(asked.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        begun.add(begin)
        stated = {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}
        return Reply(206, data[begin:], stated, cut_after=16) if begin else Reply(200, data, cut_after=16)

    server.spoil = one_byte_more
    while Installation(folder).current_version() == 2:
        try:
            update(folder, server, 3)
        except (OutOfBudget, CutShort):
            check(folder, 2)
    check(folder, 3)
    assert begun == set(range(0, len(data), 16))


def test_an_old_state_of_the_server_is_not_taken_back(
    folder: Path, repository: RepositorySimulator, made: list[Made]
) -> None:
    old = repository.saved()
    update(folder, repository.server, 3)
    repository.add_release(replace(made[2], release=replace(made[2].release, version=4)))
    update(folder, repository.server, 4)

    repository.server.files = old
    with pytest.raises(Rollback):
        update(folder, repository.server, 5)
    check(folder, 4)


# The disk --------------------------------------------------------------------------------------------------


def test_the_disk_may_be_full_at_any_write(
    folder: Path, server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, done = 0, False
    while not done:
        device = tmp_path / "full"
        shutil.rmtree(device, ignore_errors=True)
        shutil.copytree(folder, device, symlinks=True)
        with monkeypatch.context() as patches:
            _full_at(step, patches)
            try:
                update(device, server, 3)
                done = True
            except NoSpace:
                pass
        check(device, 2, 3)
        assert Installation(device).set_aside() == frozenset()
        update(device, server, 3)
        check(device, 3)
        step += 1
    assert step > 20


def _full_at(step: int, patches: pytest.MonkeyPatch) -> None:
    """Let the disk be full from that step on that takes room: a name, a folder, bytes that reach it."""
    asked = 0

    def limited(real: Any) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked > step:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **named)

        return call

    for name in ("mkdir", "link", "fsync", "symlink"):
        patches.setattr(os, name, limited(getattr(os, name)))


def test_a_really_full_disk_is_told_at_every_size_and_the_update_goes_on_when_there_is_room(
    folder: Path, server: LoopbackServer, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        device, ballast = disk / "device", disk / "ballast"
        shutil.copytree(folder, device, symlinks=True)
        refused = 0
        free = shutil.disk_usage(disk).free
        for left in range(0, 160_000, 8_000):
            ballast.write_bytes(bytes(free - left))
            try:
                update(device, server, 3, free_bytes=lambda _: 10**9)  # as if others took it meanwhile
            except NoSpace:
                refused += 1
            check(device, 2, 3)
            ballast.unlink()
            assert Installation(device).set_aside() == frozenset()
            if Installation(device).current_version() == 3:
                break
        assert refused > 3
        update(device, server, 3)
        check(device, 3)
    finally:
        subprocess.run(["umount", disk], check=True)


# Killed ----------------------------------------------------------------------------------------------------

DIE = """
import os, signal, sys
from pathlib import Path
from edge.compaction import merge_segments
from edge.installation import Installation
from edge.matcher import Matcher, check_golden, prepare_release_folder
from edge.transport import Transport
from edge.updater import Updater

folder, url, where = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def reached(name):
    if name == where:
        die()

def progress(done, total):
    reached("first byte" if done == 0 else "half of it" if done < total else "last byte")

def prepare(staging):
    reached("before it is made ready")
    prepare_release_folder(staging)
    reached("after it was made ready")

def trial(release):
    reached("before its trial")
    check_golden(Matcher.open(release), release)
    reached("after its trial")

def audit(event, arguments):
    # Between the steps that can be handed in: when a certain name comes to the disk.
    names = {"os.rename": {"tried": "trial begins", "floor": "floor", "current": "current", "seal": "sealed",
                           "3": "swap", ".discarded-releases-1": "clean-up"},
             "os.remove": {"tried": "trial ended"}}.get(event)
    if names is not None:
        reached(names.get(Path(str(arguments[1 if event == "os.rename" else 0])).name, ""))

sys.addaudithook(audit)
Updater(Installation(folder), Transport(url), prepare=prepare, trial=trial).update(3, progress=progress)
"""

STATES = (
    "first byte",
    "half of it",
    "last byte",
    "sealed",
    "before it is made ready",
    "after it was made ready",
    "swap",
    "trial begins",
    "before its trial",
    "after its trial",
    "floor",
    "current",
    "trial ended",
    "clean-up",
)
"""Where the process is killed; each time the next update brings the release."""


@pytest.mark.parametrize("state", STATES)
def test_a_device_killed_at_any_named_state_has_a_whole_release_and_goes_on(
    folder: Path, server: LoopbackServer, state: str
) -> None:
    kill_at(state, folder, server)
    check(folder, 2, 3)

    update(folder, server, 3)
    check(folder, 3)
    assert not list((folder / "incoming").iterdir())


def kill_at(state: str, folder: Path, server: LoopbackServer) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", DIE, str(folder), server.url, state],
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, (killed.returncode, killed.stderr)


def test_only_the_third_kill_in_a_row_in_its_trial_sets_a_release_aside(
    folder: Path, server: LoopbackServer, tmp_path: Path
) -> None:
    for state in ("before its trial", "after its trial"):
        kill_at(state, folder, server)
        check(folder, 2)
    lucky = tmp_path / "lucky"
    shutil.copytree(folder, lucky, symlinks=True)
    update(lucky, server, 3)
    check(lucky, 3)
    assert not (lucky / "tried").exists()

    kill_at("before its trial", folder, server)
    server.asked.clear()
    with pytest.raises(TrialFailed, match="release 3 failed on this device before"):
        update(folder, server, 3)
    assert server.asked == []
    check(folder, 2)
    assert Installation(folder).set_aside() == {3}
