"""Photos kept by their content."""

import hashlib
from pathlib import Path

import pytest

from cloud.photos import PhotoStorage
from edge.errors import PhotoMissing, StorageUnusable


def test_a_photo_is_kept_under_the_hash_of_its_bytes(tmp_path: Path) -> None:
    storage = PhotoStorage(tmp_path / "photos")
    name = storage.add(b"some photo")
    assert name == hashlib.sha256(b"some photo").hexdigest()
    assert storage.read(name) == b"some photo"
    assert storage.path(name) == tmp_path / "photos" / name[:2] / name


def test_the_same_bytes_are_kept_once(tmp_path: Path) -> None:
    storage = PhotoStorage(tmp_path)
    first = storage.path(storage.add(b"some photo")).stat()
    second = storage.path(storage.add(b"some photo")).stat()
    assert (first.st_ino, first.st_mtime_ns) == (second.st_ino, second.st_mtime_ns)
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 1


def test_a_file_cut_short_is_mended_by_adding_the_photo_again(tmp_path: Path) -> None:
    storage = PhotoStorage(tmp_path)
    name = storage.add(b"some photo")
    storage.path(name).write_bytes(b"some")
    with pytest.raises(PhotoMissing, match="changed or damaged"):
        storage.read(name)
    assert storage.add(b"some photo") == name
    assert storage.read(name) == b"some photo"


def test_a_photo_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(PhotoMissing, match="import it again"):
        PhotoStorage(tmp_path).read("0" * 64)


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "photos").write_text("in the way")
    with pytest.raises(StorageUnusable, match="photos"):
        PhotoStorage(tmp_path / "photos").add(b"some photo")
