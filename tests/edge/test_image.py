"""`edge.image`: whatever bytes come, a picture or one clear sentence."""

import io
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edge.errors import PhotoMissing, PhotoTooLarge, PhotoTooSmall, PhotoUnreadable, SkipPhoto
from edge.image import (
    LARGEST_PHOTO_BYTES,
    decode,
    decode_to_fit,
    encode_jpeg,
    fit,
    load_photo,
)

RED_LEFT = np.zeros((40, 60, 3), np.uint8)
RED_LEFT[:, :30] = (220, 20, 20)
RED_LEFT[:, 30:] = (20, 20, 220)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes whose header promises any size."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
def test_a_lossless_photo_decodes_to_its_own_pixels(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = decode(encode(Image.fromarray(RED_LEFT), kind, **options))
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, RED_LEFT)


def test_a_jpeg_decodes_to_nearly_its_pixels() -> None:
    picture = decode(encode_jpeg(RED_LEFT, quality=95))
    assert np.abs(picture.astype(int) - RED_LEFT)[:, 2:26].max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_exif_rotated_photo_comes_upright(kind: str, orientation: int) -> None:
    upright = Image.fromarray(RED_LEFT)
    turns = Image.Transpose
    stored = {
        1: upright,
        2: upright.transpose(turns.FLIP_LEFT_RIGHT),
        3: upright.transpose(turns.ROTATE_180),
        4: upright.transpose(turns.FLIP_TOP_BOTTOM),
        5: upright.transpose(turns.TRANSPOSE),
        6: upright.transpose(turns.ROTATE_90),
        7: upright.transpose(turns.TRANSVERSE),
        8: upright.transpose(turns.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(encode(stored, kind, exif=exif), shrink_to=30).astype(int)
    assert picture.shape == (40, 60, 3)
    assert picture[20, 10, 0] - picture[20, 10, 2] > 120
    assert picture[20, 50, 2] - picture[20, 50, 0] > 120


def test_cmyk_and_palette_and_one_bit_photos_become_rgb() -> None:
    image = Image.fromarray(RED_LEFT)
    for photo in (
        encode(image.convert("CMYK"), "JPEG", quality=95),
        encode(image.quantize(8), "PNG"),
        encode(image.quantize(8), "GIF"),
    ):
        picture = decode(photo)
        assert picture.shape == (40, 60, 3)
        assert picture[20, 10, 0] > 150 > picture[20, 10, 2]
    assert set(np.unique(decode(encode(image.convert("1"), "PNG")))) <= {0, 255}


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_gray_is_scaled_and_not_clipped(kind: str) -> None:
    levels = np.linspace(0, 65535, 32 * 64).reshape(32, 64).astype(np.uint16)
    picture = decode(encode(Image.fromarray(levels), kind))
    assert (picture.min(), picture.max()) == (0, 255)
    expected = np.round(levels / 257).astype(int)
    assert np.abs(picture[:, :, 0].astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(picture[:, :, 0], picture[:, :, 2])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    first = Image.fromarray(RED_LEFT)
    second = first.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = decode(encode(first, kind, save_all=True, append_images=[second], duration=100))
    assert picture[20, 10, 0] > 150 > picture[20, 10, 2]


def test_transparency_lies_on_white() -> None:
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[:, 10:] = (0, 0, 0, 255)
    clear = Image.fromarray(pixels)
    half_gray = Image.merge("LA", (Image.new("L", (20, 20), 0), Image.new("L", (20, 20), 128)))
    palette = Image.fromarray(RED_LEFT).quantize(8)
    see_through = int(palette.getpixel((50, 20)))  # type: ignore[arg-type]
    for kind in ("PNG", "WEBP"):
        picture = decode(encode(clear, kind, **({"lossless": True} if kind == "WEBP" else {})))
        assert tuple(picture[5, 2]) == (255, 255, 255)
        assert tuple(picture[5, 15]) == (0, 0, 0)
    assert 125 <= decode(encode(half_gray, "PNG"))[5, 5, 0] <= 129
    assert tuple(decode(encode(palette, "PNG", transparency=see_through))[20, 50]) == (255, 255, 255)


def test_a_20000_by_20000_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(PhotoTooLarge, match="20000 x 20000"):
        decode(png_that_claims(20_000, 20_000))


def test_just_over_and_just_under_the_limit_of_pillow_no_warning_leaks() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(PhotoUnreadable):
            decode(png_that_claims(10_000, 9_500))
        with pytest.raises(PhotoTooLarge):
            decode(png_that_claims(10_001, 10_000))
    assert seen == []


def test_the_corrupt_exif_of_a_good_photo_is_passed_over_in_silence() -> None:
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x05\x00" + b"\x12\x01\x03\x00\xff\xff\xff\xff" * 4
    photo = encode(Image.fromarray(RED_LEFT), "JPEG", exif=exif)
    assert decode(photo).shape == (40, 60, 3)


@pytest.mark.parametrize("size", [(1, 1), (15, 400), (400, 15)])
def test_a_photo_with_too_few_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(PhotoTooSmall, match=f"{size[0]} x {size[1]}"):
        decode(encode(Image.new("RGB", size), "PNG"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_photo_cut_short_anywhere_is_unreadable(kind: str) -> None:
    photo = encode(Image.fromarray(noise(48, 64)), kind)
    for share in (0.02, 0.1, 0.5, 0.9):
        with pytest.raises(PhotoUnreadable, match=r"cut short or corrupt|is not a"):
            decode(photo[: int(len(photo) * share)])


@pytest.mark.parametrize(
    ("photo", "sentence"),
    [
        (b"", "empty"),
        (b"This is a text file that someone named apple.jpg.\n", "not a JPEG"),
        (b"\xff\xd8\xff\xe0" + b"text after the first bytes of a JPEG", "cut short or corrupt"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(200), "HEIC"),
    ],
)
def test_what_is_no_photo_gets_one_sentence(photo: bytes, sentence: str) -> None:
    with pytest.raises(PhotoUnreadable, match=sentence) as caught:
        decode(photo)
    assert "\n" not in str(caught.value)


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(PhotoUnreadable, match="floating-point"):
        decode(encode(Image.fromarray(np.ones((20, 20), np.float32)), "TIFF"))


@given(st.data())
def test_no_damage_gets_past_the_typed_errors(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP"]))
    photo = bytearray(encode(Image.fromarray(RED_LEFT), kind))
    for place in data.draw(st.lists(st.integers(0, len(photo) - 1), max_size=6)):
        photo[place] = data.draw(st.integers(0, 255))
    try:
        picture = decode(bytes(photo), shrink_to=data.draw(st.sampled_from([None, 16])))
    except SkipPhoto:
        return
    assert picture.dtype == np.uint8
    assert picture.ndim == 3


def test_shrinking_keeps_both_sides_at_least_the_wanted_size() -> None:
    photo = encode_jpeg(noise(720, 1280))
    assert decode(photo).shape == (720, 1280, 3)
    assert decode(photo, shrink_to=224).shape == (360, 640, 3)
    assert decode(photo, shrink_to=90).shape == (90, 160, 3)
    assert decode(photo, shrink_to=900).shape == (720, 1280, 3)


def test_a_shrunk_decode_fits_to_nearly_the_same_picture() -> None:
    rough = Image.fromarray(noise(18, 32)).resize((1280, 720), Image.Resampling.BICUBIC)
    photo = encode(rough, "JPEG", quality=92)
    whole, shrunk = (fit(decode(photo, shrink_to=side), 224).astype(int) for side in (None, 224))
    assert np.abs(whole - shrunk).mean() < 1.0


@pytest.mark.parametrize("size", [32, 224])
def test_decoding_to_fit_gives_the_very_pixels_of_decoding_and_fitting(size: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.linspace(0, 65535, 300 * 200).reshape(300, 200).astype(np.uint16))
    for photo in (
        encode_jpeg(noise(720, 1280)),
        encode(Image.fromarray(noise(500, 300)), "JPEG", exif=exif),
        encode(Image.fromarray(noise(100, 90)).convert("CMYK"), "JPEG"),
        encode(Image.fromarray(noise(300, 200)).convert("RGBA"), "PNG"),
        encode(deep, "PNG"),
    ):
        expected = fit(decode(photo, shrink_to=size), size)
        np.testing.assert_array_equal(decode_to_fit(photo, size), expected)


def test_fit_squashes_the_whole_picture() -> None:
    fitted = fit(RED_LEFT, 32)
    assert fitted.shape == (32, 32, 3)
    assert fitted[16, 4, 0] > 180
    assert fitted[16, 28, 2] > 180


def test_fit_gives_the_bytes_that_pillow_bilinear_gives() -> None:
    picture = noise(97, 131)
    expected = Image.fromarray(picture).resize((64, 64), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(fit(picture, 64), np.asarray(expected))


def test_fit_takes_a_view_and_leaves_a_fitting_picture_alone() -> None:
    picture = noise(64, 64)
    assert fit(picture, 64) is picture
    np.testing.assert_array_equal(fit(picture[::2, ::-1], 32), fit(picture[::2, ::-1].copy(), 32))


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((20, 20, 4), np.uint8), np.zeros((20, 20, 3), np.float32), np.zeros((0, 20, 3), np.uint8)],
)
@pytest.mark.parametrize("verb", [lambda p: fit(p, 16), encode_jpeg])
def test_what_is_no_picture_is_refused(verb: Callable[[Any], object], wrong: Any) -> None:
    with pytest.raises(PhotoUnreadable, match="height, width, 3"):
        verb(wrong)


def test_load_photo_gives_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "apple.jpg").write_bytes(b"bytes")
    assert load_photo(tmp_path / "apple.jpg") == b"bytes"


def test_load_photo_names_what_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with (tmp_path / "long.jpg").open("wb") as file:
        file.truncate(LARGEST_PHOTO_BYTES + 1)
    for name, error in (
        ("nowhere.jpg", PhotoMissing),
        (".", PhotoMissing),
        ("empty.jpg", PhotoUnreadable),
        ("long.jpg", PhotoTooLarge),
    ):
        with pytest.raises(error, match=str(tmp_path)):
            load_photo(tmp_path / name)


def test_threads_that_decode_at_once_leave_the_warning_filters_as_they_were() -> None:
    photo = encode_jpeg(noise(200, 300))
    before = list(warnings.filters)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=lambda: [decode(photo) for _ in range(30)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert list(warnings.filters) == before
