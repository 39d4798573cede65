"""Power is cut between any two system calls of an update, and the disk forgets what it may forget."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks.on_fleet.power_replay import Replay, strace
from edge.installation import Installation
from edge.matcher import Matcher
from edge.model import open_model
from edge.release_files import MANIFEST, is_whole
from edge.transport import Transport
from edge.trust import trust_root
from edge.updater import Updater
from tests.conftest import DATA
from tests.edge.loopback_server import loopback_server
from tests.edge.release_maker import Made, make_release
from tests.edge.repository_simulator import RepositorySimulator

PACKS = {"a": 1, "b": 2, "c": 3}

UPDATE = """
import sys
from pathlib import Path
from edge.installation import Installation
from edge.transport import Transport
from edge.updater import Updater
Updater(Installation(Path(sys.argv[1])), Transport(sys.argv[2])).update(3)
"""


@dataclass
class Recorded:
    """A device before and after its update from release 2 to 3, and the calls in between."""

    before: Path
    after: Path
    trace: Path
    made: dict[int, Made]

    def replay(self) -> Replay:
        return Replay(self.before, self.after, self.trace)

    def trouble(self, folder: Path) -> str | None:
        """Say what is wrong with the disk in `folder`, as it is and after it was put in order."""
        for put_in_order in (False, True):
            if put_in_order:
                Installation(folder).recover()
            installation = Installation(folder)
            version = installation.current_version()
            if version not in (2, 3):
                return f"release {version} is in use"
            current = installation.current()
            if (current / MANIFEST).read_bytes() != self.made[version].manifest:
                return f"release {version} is not what was signed"
            if not is_whole(current):
                return f"release {version} is not whole"
        Matcher.open(current)
        return None


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed here")
    scratch = tmp_path_factory.mktemp("power")
    model = open_model(DATA / "tiny-int8")
    first = make_release(model, 1, PACKS)
    second = make_release(model, 2, {**PACKS, "d": 4}, before=first)
    third = make_release(model, 3, {"a": 1, "d": 4, "e": 5}, before=second)
    before, after, trace = scratch / "before", scratch / "after", scratch / "trace"
    with loopback_server() as server:
        repository = RepositorySimulator(server)
        trust_root(before, repository.root_bytes, repository.fingerprint)
        for one in (first, second):
            repository.add_release(one)
            with Transport(server.url) as transport:
                Updater(Installation(before), transport).update(one.release.version)
        repository.add_release(third)
        shutil.copytree(before, after, symlinks=True)
        command = [*strace(trace), sys.executable, "-c", UPDATE, str(after), server.url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "PTRACE" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    return Recorded(before, after, trace, {2: second, 3: third})


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give a folder in memory, where there is one: a thousand small disks are built there."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder) / "disk"


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: the cuts are in the recording."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def test_the_recording_holds_the_whole_update(recorded: Recorded, disk: Path) -> None:
    whole = [cut for cut in recorded.replay().cuts() if "all of it" in cut.said]
    assert content(whole[0].build(disk)) == content(recorded.before)
    assert content(whole[-1].build(disk)) == content(recorded.after)


def test_power_may_be_cut_between_any_two_system_calls(recorded: Recorded, disk: Path) -> None:
    cuts = [(cut.said, recorded.trouble(cut.build(disk))) for cut in recorded.replay().cuts()]
    assert len(cuts) > 100
    assert [cut for cut in cuts if cut[1] is not None] == []


def test_the_replay_would_notice_if_nothing_was_brought_to_the_disk(recorded: Recorded, disk: Path) -> None:
    lines = [line for line in recorded.trace.read_text().splitlines() if "sync(" not in line]
    careless = disk.with_name("careless")
    careless.write_text("\n".join(line for line in lines if "sync resumed" not in line))
    cuts = Replay(recorded.before, recorded.after, careless).cuts()
    late = [cut for cut in cuts if "bytes of file" in cut.said][-100:]
    assert any(any_trouble(recorded, cut.build(disk)) for cut in late)


def any_trouble(recorded: Recorded, folder: Path) -> str | None:
    try:
        return recorded.trouble(folder)
    except Exception as error:  # noqa: BLE001 - whatever it is, the device does not answer
        return str(error)
