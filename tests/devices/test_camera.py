"""Frames from a folder, and a camera that is not there."""

import builtins
import sys
from pathlib import Path

import numpy as np
import pytest

from devices import camera
from devices.bench_scene import draw_shelf_photo
from devices.camera import FolderCamera, fit_frame, open_camera
from edge.errors import BadSetting, PhotoMissing, PhotoUnreadable, StorageUnusable
from edge.image import decode, encode_jpeg, fit


def photo_of(gray: int) -> bytes:
    return encode_jpeg(np.full((48, 64, 3), gray, np.uint8))


def test_a_folder_gives_its_photos_by_name_and_begins_again(tmp_path: Path) -> None:
    for name, gray in [("b.jpg", 200), ("a.JPG", 40)]:
        (tmp_path / name).write_bytes(photo_of(gray))
    (tmp_path / "notes.txt").write_text("not a photo")
    folder = FolderCamera(tmp_path)
    frames = [folder.read() for _ in range(3)]
    assert [frame.name for frame in frames] == ["a.JPG", "b.jpg", "a.JPG"]
    assert frames[0].picture.shape == (48, 64, 3)
    assert abs(int(frames[1].picture.mean()) - 200) < 3


def test_a_broken_photo_is_said_and_the_next_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"not a photo at all")
    (tmp_path / "b.jpg").write_bytes(photo_of(90))
    folder = FolderCamera(tmp_path)
    with pytest.raises(PhotoUnreadable, match=r"a\.jpg: "):
        folder.read()
    assert folder.read().name == "b.jpg"


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


# --- frames become model inputs ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080), (720, 1280)])
def test_a_large_frame_is_fitted_nearly_as_the_one_resize_does_it(size: tuple[int, int]) -> None:
    pytest.importorskip("cv2")
    frame = decode(draw_shelf_photo(1, size))
    exact, quick = fit(frame, 224).astype(int), fit_frame(frame, 224).astype(int)
    assert quick.shape == (224, 224, 3)
    assert np.abs(exact - quick).mean() < 2.5, "levels of 255"
    by_sampling = frame[:: size[1] // 224 or 1, :: size[0] // 224 or 1][:224, :224].astype(int)
    assert np.abs(exact - by_sampling).mean() > 10, "a bad resize is much further off"


def test_a_small_frame_goes_through_the_one_resize() -> None:
    frame = decode(draw_shelf_photo(1, (640, 360)))
    np.testing.assert_array_equal(fit_frame(frame, 224), fit(frame, 224))


def test_without_opencv_a_frame_goes_through_the_one_resize(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    camera._opencv.cache_clear()
    try:
        frame = decode(draw_shelf_photo(1))
        np.testing.assert_array_equal(fit_frame(frame, 224), fit(frame, 224))
    finally:
        camera._opencv.cache_clear()


def test_what_is_no_picture_is_refused_before_opencv_sees_it() -> None:
    with pytest.raises(PhotoUnreadable):
        fit_frame(np.zeros((900, 900), np.uint8), 224)
