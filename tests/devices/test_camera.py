"""Frames from a folder, and a camera that is not there."""

import builtins
from pathlib import Path

import numpy as np
import pytest

from devices.camera import FolderCamera, open_camera
from edge.errors import BadSetting, PhotoMissing, PhotoUnreadable, StorageUnusable
from edge.image import encode_jpeg


def photo_of(gray: int) -> bytes:
    return encode_jpeg(np.full((48, 64, 3), gray, np.uint8))


def test_a_folder_gives_its_photos_by_name_and_begins_again(tmp_path: Path) -> None:
    for name, gray in [("b.jpg", 200), ("a.JPG", 40)]:
        (tmp_path / name).write_bytes(photo_of(gray))
    (tmp_path / "notes.txt").write_text("not a photo")
    camera = FolderCamera(tmp_path)
    frames = [camera.read() for _ in range(3)]
    assert [frame.name for frame in frames] == ["a.JPG", "b.jpg", "a.JPG"]
    assert frames[0].picture.shape == (48, 64, 3)
    assert abs(int(frames[1].picture.mean()) - 200) < 3


def test_a_broken_photo_is_said_and_the_next_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"not a photo at all")
    (tmp_path / "b.jpg").write_bytes(photo_of(90))
    camera = FolderCamera(tmp_path)
    with pytest.raises(PhotoUnreadable, match=r"a\.jpg: "):
        camera.read()
    assert camera.read().name == "b.jpg"


def test_a_folder_without_photos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PhotoMissing, match="holds no photo"):
        FolderCamera(tmp_path)
    with pytest.raises(StorageUnusable, match="cannot be read"):
        FolderCamera(tmp_path / "nowhere")


def test_frames_come_from_one_place(tmp_path: Path) -> None:
    assert open_camera(None, None, width=640, height=480) is None
    with pytest.raises(BadSetting, match="not from both"):
        open_camera(tmp_path, 0, width=640, height=480)


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_cv2(name: str, *rest: object, **named: object) -> object:
        if name == "cv2":
            raise ImportError("No module named 'cv2'", name="cv2")
        return real_import(name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_cv2)
    with pytest.raises(BadSetting, match=r"shelfsight\[camera\]"):
        open_camera(None, 0, width=640, height=480)


def test_a_camera_that_is_not_plugged_in_is_said_plainly() -> None:
    pytest.importorskip("cv2")
    with pytest.raises(BadSetting, match="camera 97 does not open"):
        open_camera(None, 97, width=640, height=480)
