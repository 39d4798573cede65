"""From a photo's bytes to the picture that a model wants.

A photo is encoded bytes (JPEG, PNG, WebP, GIF, BMP, TIFF); a picture is a `uint8` array (height, width, 3) in
RGB. The one resize of Shelfsight is `fit`: resizers do not agree with each other, and a model notices.
"""

import io
import struct
import warnings
import zlib
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from edge.errors import PhotoMissing, PhotoTooLarge, PhotoTooSmall, PhotoUnreadable

Picture = NDArray[np.uint8]

LARGEST_PHOTO_BYTES = 64 * 1024 * 1024
LARGEST_PHOTO_PIXELS = 100_000_000
SMALLEST_SIDE = 16

# First bytes -> Pillow's reader, imported on first use: who sees only JPEG never pays for the others, as with
# `Image.open`, which also warns of large pictures before we can refuse them.
_READERS = (
    (b"\xff\xd8\xff", "PIL.JpegImagePlugin", "JpegImageFile"),
    (b"\x89PNG\r\n\x1a\n", "PIL.PngImagePlugin", "PngImageFile"),
    (b"RIFF", "PIL.WebPImagePlugin", "WebPImageFile"),
    (b"GIF8", "PIL.GifImagePlugin", "GifImageFile"),
    (b"BM", "PIL.BmpImagePlugin", "BmpImageFile"),
    (b"II*\x00", "PIL.TiffImagePlugin", "TiffImageFile"),
    (b"MM\x00*", "PIL.TiffImagePlugin", "TiffImageFile"),
)
# What Pillow's readers let out on bytes that are not what their first bytes say (found by fuzzing).
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError)
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_photo(path: Path) -> bytes:
    """Read the photo's bytes at `path`, at most `LARGEST_PHOTO_BYTES`; they are not looked into.

    Raises:
        PhotoMissing: there is no such file, or it may not be read.
        PhotoTooLarge: it is longer than a device reads.
        PhotoUnreadable: it is empty.
    """
    try:
        with path.open("rb") as file:
            photo = file.read(LARGEST_PHOTO_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise PhotoMissing(f"{path} cannot be read ({reason}): check the path and who may read it") from error
    if len(photo) > LARGEST_PHOTO_BYTES:
        limit = LARGEST_PHOTO_BYTES // 2**20
        raise PhotoTooLarge(f"{path} is over {limit} MB: save it as a smaller JPEG")
    if not photo:
        raise PhotoUnreadable(f"{path} is empty: take or copy the photo again")
    return photo


def decode(photo: bytes, *, shrink_to: int | None = None) -> Picture:
    """Decode a photo into an upright RGB picture, `uint8` (height, width, 3).

    Upright by its EXIF orientation; an animation gives its first frame; transparency lies on white; 16-bit
    gray is scaled to 8. With `shrink_to`, a JPEG may be decoded at a half, a quarter or an eighth of its size
    (both sides stay at least `shrink_to` pixels, if they were): several times faster, for pictures that `fit`
    will shrink to that size anyway.

    Raises:
        PhotoUnreadable: not a picture, cut short or corrupt.
        PhotoTooLarge: more than `LARGEST_PHOTO_PIXELS`; refused by its header, before anything is decoded.
        PhotoTooSmall: a side shorter than `SMALLEST_SIDE`.
    """
    return np.asarray(_decode(photo, shrink_to))


def decode_to_fit(photo: bytes, size: int) -> Picture:
    """Decode a photo straight to a model input: the pixels of `fit(decode(photo, shrink_to=size), size)`.

    The large picture in between never becomes an array, which saves a tenth of the time of an answer.

    Raises:
        PhotoUnreadable, PhotoTooLarge, PhotoTooSmall: as `decode`.
    """
    return np.asarray(_resize(_decode(photo, size), size))


def fit(picture: Picture, size: int) -> Picture:
    """Squash the whole picture to (size, size, 3) by Pillow's antialiased BILINEAR; the one resize there is.

    Raises:
        PhotoUnreadable: not a `uint8` (height, width, 3) array.
    """
    check_picture(picture)
    if picture.shape[:2] == (size, size):
        return picture
    return np.asarray(_resize(Image.fromarray(picture), size))


def shrink(picture: Picture, shorter_side: int) -> Picture:
    """Bring a picture to so many pixels on its shorter side, in its own shape; a smaller one stays as it is.

    For photos that are kept for a model to see later: `fit` takes them from there.

    Raises:
        PhotoUnreadable: not a `uint8` (height, width, 3) array.
    """
    check_picture(picture)
    height, width = picture.shape[:2]
    share = shorter_side / min(height, width)
    if share >= 1:
        return picture
    size = max(shorter_side, round(width * share)), max(shorter_side, round(height * share))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def encode_jpeg(picture: Picture, quality: int = 90) -> bytes:
    """Encode a picture as JPEG bytes; `quality` from 1 to 95.

    Raises:
        PhotoUnreadable: not a `uint8` (height, width, 3) array.
    """
    check_picture(picture)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def check_picture(picture: NDArray[Any]) -> None:
    """Refuse what is not a picture.

    Raises:
        PhotoUnreadable: not a `uint8` (height, width, 3) array with at least one pixel.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise PhotoUnreadable(
            f"a picture is a uint8 (height, width, 3) RGB array, not {picture.dtype} {picture.shape}: convert"
        )


def _resize(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _decode(photo: bytes, shrink_to: int | None) -> Image.Image:
    """Decode to an upright image of mode RGB; the only place where Pillow's failures become ours."""
    with _pillow_is_quiet:
        try:
            image = _open(photo)
            _check_size(image.size)
            if shrink_to is not None:
                image.draft(None, (shrink_to, shrink_to))
            image.load()
            return _to_rgb(_upright(image))
        except (Image.DecompressionBombError, MemoryError) as error:
            raise PhotoTooLarge(f"the photo does not fit in memory ({error}): make it smaller") from error
        except (*_BROKEN, struct.error, zlib.error, EOFError) as error:
            raise PhotoUnreadable(
                f"the photo is cut short or corrupt ({error}): take or copy it again"
            ) from error


def _open(photo: bytes) -> ImageFile.ImageFile:
    """Read the header with the reader that the first bytes ask for; nothing is decoded yet."""
    for start, module, reader in _READERS:
        if photo.startswith(start):
            image = getattr(import_module(module), reader)(io.BytesIO(photo))
            assert isinstance(image, ImageFile.ImageFile)
            return image
    if not photo:
        raise PhotoUnreadable("the photo is empty: take or copy it again")
    if photo[4:8] == b"ftyp":
        raise PhotoUnreadable("the photo is HEIC, AVIF or a video, which is not read here: save it as JPEG")
    raise PhotoUnreadable("this is not a JPEG, PNG, WebP, GIF, BMP or TIFF photo: save it as JPEG")


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > LARGEST_PHOTO_PIXELS:
        limit = LARGEST_PHOTO_PIXELS // 1_000_000
        raise PhotoTooLarge(f"the photo is {width} x {height} pixels, over {limit} million: make it smaller")
    if min(size) < SMALLEST_SIDE:
        raise PhotoTooSmall(
            f"the photo is {width} x {height} pixels, under {SMALLEST_SIDE} on a side: take a larger one"
        )


def _upright(image: Image.Image) -> Image.Image:
    """Turn the image as its EXIF orientation says; EXIF that cannot be read says nothing."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except (*_BROKEN, struct.error, EOFError):
        return image
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_deep_gray(np.asarray(image))
    if image.mode == "F":
        raise PhotoUnreadable(
            "the photo has floating-point pixels, which have no fixed white: save it as JPEG"
        )
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        opaque = image.convert("RGBA")
        image = Image.new("RGB", image.size, (255, 255, 255))
        image.paste(opaque, mask=opaque)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_deep_gray(levels: NDArray[Any]) -> Image.Image:
    """Scale 16-bit gray levels (0..65535, in an integer type of 16 or 32 bits) to a gray image."""
    clipped = np.clip(levels.astype(np.int64), 0, 65535)
    return Image.fromarray(((clipped * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")


class _PillowIsQuiet:
    """Silence Pillow's warnings of what is refused or repaired here anyway, in any number of threads at once.

    `warnings.catch_warnings` alone would restore the filters in the wrong order when two threads overlap:
    here the first one in silences, the last one out restores.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(None, None, None)


_pillow_is_quiet = _PillowIsQuiet()
