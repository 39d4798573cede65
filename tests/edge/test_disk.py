"""`edge.disk`: whole or absent."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.disk import only_one, sha256_file, storage_error, sync_folder, write_atomically
from edge.errors import NoSpace, StorageUnusable


def test_writing_replaces_the_old_bytes_and_leaves_nothing_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "current"
    write_atomically(path, b"6")
    write_atomically(path, b"7")
    assert path.read_bytes() == b"7"
    assert list(tmp_path.iterdir()) == [path]


def test_the_mode_is_the_one_asked_for(tmp_path: Path) -> None:
    write_atomically(tmp_path / "key.pem", b"secret", mode=0o600)
    write_atomically(tmp_path / "page.json", b"{}")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "page.json").stat().st_mode & 0o777 == 0o644


def test_a_missing_folder_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "current"
    with pytest.raises(StorageUnusable, match="nowhere/current"):
        write_atomically(path, b"7")
    assert not path.parent.exists()


def test_a_name_that_a_folder_has_is_refused_and_the_temporary_file_is_gone(tmp_path: Path) -> None:
    (tmp_path / "current" / "inside").mkdir(parents=True)
    with pytest.raises(StorageUnusable, match="current"):
        write_atomically(tmp_path / "current", b"7")
    assert [entry.name for entry in tmp_path.iterdir()] == ["current"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told_from_a_forbidden_one() -> None:
    with pytest.raises(OSError) as caught, Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"7")
    assert isinstance(storage_error(caught.value, Path("/data/current")), NoSpace)


def test_a_file_over_the_limit_of_the_process_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "current"
    path.write_bytes(b"6")
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from edge.disk import write_atomically\n"
        "from edge.errors import NoSpace\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    write_atomically(Path(sys.argv[1]), bytes(5000))\n"
        "except NoSpace as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert "no space left" in done.stdout
    assert path.read_bytes() == b"6"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_at_any_moment_leaves_one_whole_version(tmp_path: Path) -> None:
    path = tmp_path / "state"
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from edge.disk import write_atomically\n"
        "number = 0\n"
        "while True:\n"
        "    write_atomically(Path(sys.argv[1]), bytes([number % 256]) * 200_000)\n"
        "    number += 1\n"
    )
    for delay_ms in (0, 3, 7, 11):
        with subprocess.Popen([sys.executable, "-c", script, str(path)]) as writer:
            deadline = time.monotonic() + 30
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(delay_ms / 1000)
            os.kill(writer.pid, signal.SIGKILL)
        data = path.read_bytes()
        assert len(data) == 200_000
        assert len(set(data)) == 1


def test_the_hash_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "segment").write_bytes(b"rows" * 100_000)
    assert sha256_file(tmp_path / "segment") == hashlib.sha256(b"rows" * 100_000).hexdigest()


def test_a_missing_file_and_a_missing_folder_have_one_typed_error(tmp_path: Path) -> None:
    with pytest.raises(StorageUnusable, match="segment"):
        sha256_file(tmp_path / "segment")
    with pytest.raises(StorageUnusable, match="folder"):
        sync_folder(tmp_path / "folder")


def test_one_process_at_a_time_holds_a_lock(tmp_path: Path) -> None:
    path, what = tmp_path / ".lock", "another copy is at work"
    with only_one(path, what), pytest.raises(StorageUnusable, match=f"{what}: wait"), only_one(path, what):
        raise AssertionError("both held it")
    with only_one(path, what):
        assert path.exists()
    with pytest.raises(StorageUnusable), only_one(tmp_path / "missing" / ".lock", what):
        raise AssertionError("a lock without a folder")
