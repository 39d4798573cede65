"""Where frames come from: a camera (the only door to OpenCV), or a folder of photos in its place."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edge.errors import BadSetting, PhotoMissing, PhotoUnreadable, SkipPhoto, StorageUnusable
from edge.image import Picture, check_picture, decode, fit, load_photo

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture with its time (UTC) and a name that a person can find it by."""

    picture: Picture
    at: datetime
    name: str


class Camera(Protocol):
    """Anything that gives one frame after another."""

    def read(self) -> Frame:
        """Take the next frame.

        Raises:
            SkipPhoto: this frame cannot be used; the next may.
        """

    def close(self) -> None:
        """Let the hardware go."""


class FolderCamera:
    """The photos of a folder in the order of their names, from the first again after the last."""

    def __init__(self, folder: Path) -> None:
        """List the photos of `folder`.

        Raises:
            StorageUnusable: the folder is missing or must not be read.
            PhotoMissing: there is no photo in it.
        """
        try:
            self._photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
        except OSError as error:
            raise StorageUnusable(
                f"{folder} cannot be read ({(error.strerror or '').lower()}): name a folder of photos"
            ) from error
        if not self._photos:
            raise PhotoMissing(f"{folder} holds no photo: put JPEG, PNG or WebP files into it")
        self._next = 0

    def __len__(self) -> int:
        return len(self._photos)

    def read(self) -> Frame:
        """Decode the next photo.

        Raises:
            SkipPhoto: this photo cannot be decoded; the next call takes the one after it.
        """
        path = self._photos[self._next]
        self._next = (self._next + 1) % len(self._photos)
        try:
            return Frame(decode(load_photo(path)), datetime.now(UTC), path.name)
        except SkipPhoto as error:
            # The decoder knows bytes only; a person needs to know which of the photos it is.
            raise type(error)(f"{path.name}: {error}") from error

    def close(self) -> None:
        """Nothing to let go."""


class OpenCVCamera:
    """A camera that OpenCV opens by its number."""

    def __init__(self, number: int, *, width: int, height: int) -> None:
        """Open camera `number` and ask it for frames of `width` × `height` pixels; it may give others.

        Raises:
            BadSetting: OpenCV is not installed, or there is no such camera.
        """
        try:
            import cv2
        except ImportError as error:
            raise BadSetting(
                f"camera {number} needs OpenCV, which is not installed: pip install 'shelfsight[camera]'"
            ) from error
        self._cv2: Any = cv2
        self._number = number
        _silence(cv2)  # failures are said below, once
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise BadSetting(
                f"camera {number} does not open: check that it is plugged in, free, and that you may use it"
            )
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        # A long queue would answer about what was in view a second ago.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def read(self) -> Frame:
        """Take a frame.

        Raises:
            PhotoUnreadable: the camera gave none, as when it was unplugged.
        """
        taken, pixels = self._capture.read()
        if not taken:
            raise PhotoUnreadable(f"camera {self._number} gives no frame: check its cable")
        picture: Picture = np.ascontiguousarray(self._cv2.cvtColor(pixels, self._cv2.COLOR_BGR2RGB), np.uint8)
        return Frame(picture, datetime.now(UTC), f"camera {self._number}")

    def close(self) -> None:
        """Let the camera go, so that another program may have it."""
        self._capture.release()


def fit_frame(picture: Picture, size: int) -> Picture:
    """Bring a frame to a model's input, uint8 (size, size, 3), as `edge.image.fit` does, six times faster.

    Where OpenCV is installed, it halves a frame of twice the size or more (each pixel the mean of four),
    smooths it by a Gaussian as wide as the triangle that `fit` averages with, and samples. What a network
    sees in that lies as near to what it sees through `fit` as with a JPEG decoded at half its size
    (docs/decisions/0014). Anything smaller goes through `fit` itself.

    Raises:
        PhotoUnreadable: not a `uint8` (height, width, 3) array.
    """
    check_picture(picture)
    cv2 = _opencv()
    if cv2 is None or min(picture.shape[:2]) < 2 * size:
        return fit(picture, size)
    small: Picture = picture
    while min(small.shape[:2]) >= 2 * size:
        small = cv2.resize(small, (small.shape[1] // 2, small.shape[0] // 2), interpolation=cv2.INTER_AREA)
    down, across = (_spread(side / size) for side in small.shape[:2])
    small = cv2.GaussianBlur(small, (_width(across), _width(down)), sigmaX=across, sigmaY=down)
    return np.asarray(cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)


def _spread(ratio: float) -> float:
    """Return the Gaussian's standard deviation in pixels, where so many become one.

    The triangle of `fit` has the variance ratio**2 / 6, and sampling between pixels adds 1 / 6 by itself.
    """
    return float(np.sqrt(max(ratio**2 / 6 - 1 / 6, 1e-4)))


def _width(spread: float) -> int:
    return 2 * int(np.ceil(1.6 * spread)) + 1 if spread > 0.2 else 1


@cache
def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)  # an answer has one core; the other draws the page
    return cv2


def _silence(cv2: Any) -> None:
    if hasattr(cv2, "setLogLevel"):  # OpenCV 4
        cv2.setLogLevel(0)
    else:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def open_camera(frames: Path | None, number: int | None, *, width: int, height: int) -> Camera | None:
    """Open the folder `frames` or camera `number`; None when neither is given.

    Raises:
        BadSetting: both are given, OpenCV is missing, or the camera does not open.
        PhotoMissing: the folder holds no photo.
        StorageUnusable: the folder cannot be read.
    """
    if frames is not None and number is not None:
        raise BadSetting(f"frames come from {frames} or from camera {number}, not from both: name one")
    if frames is not None:
        return FolderCamera(frames)
    return None if number is None else OpenCVCamera(number, width=width, height=height)
