"""Crops of shelf places, and what an empty one looks like."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.errors import BadSetting, PhotoTooSmall, PhotoUnreadable
from edge.image import Picture
from edge.regions import Box, check_box, crop, is_bare, texture


def drawn(height: int = 300, width: int = 200, *, noise: float = 0, seed: int = 1) -> Picture:
    """A back wall that is lit from above."""
    wall = np.linspace(160, 90, height)[:, np.newaxis, np.newaxis] * np.ones((1, width, 3))
    wall += noise * np.random.default_rng(seed).normal(size=wall.shape)
    return wall.clip(0, 255).astype(np.uint8)


def packed(height: int = 300, width: int = 200) -> Picture:
    """The same wall with a pack before it: patches of color, and stripes where its text would be."""
    picture = drawn(height, width)
    random = np.random.default_rng(3)
    pack = np.repeat(np.repeat(random.integers(0, 256, (12, 8, 3)), 20, axis=0), 20, axis=1)[:240, :160]
    picture[30:270, 20:180] = pack
    picture[100:160:6, 40:160] = 255
    return picture


ROUNDING = 1e-9  # pixels

# --- crop --------------------------------------------------------------------------------------------------


def test_a_crop_is_the_named_part_of_the_frame() -> None:
    frame = np.arange(100 * 200 * 3, dtype=np.uint32).reshape(100, 200, 3).astype(np.uint8)
    assert np.array_equal(crop(frame, (0.25, 0.5, 0.75, 1.0)), frame[50:100, 50:150])


@given(
    height=st.integers(40, 300),
    width=st.integers(40, 300),
    box=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.5, 1), st.floats(0.5, 1)),
)
@example(height=75, width=40, box=(0.0, 1 / 3, 1.0, 1.0))
def test_a_crop_holds_its_box_and_at_most_a_pixel_more(height: int, width: int, box: Box) -> None:
    frame = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = box
    try:
        cut = crop(frame, box)
    except (PhotoTooSmall, BadSetting):
        assert (right - left) * width < 16 or (bottom - top) * height < 16
        return
    # Two thirds of 75 pixels are 50.000000000000004 here, in the arithmetic of the test.
    assert -ROUNDING <= cut.shape[1] - (right - left) * width <= 2
    assert -ROUNDING <= cut.shape[0] - (bottom - top) * height <= 2


@pytest.mark.parametrize(
    "box",
    [
        (0.5, 0, 0.5, 1),
        (0.6, 0, 0.5, 1),
        (0, 0.6, 1, 0.5),
        (-0.1, 0, 1, 1),
        (0, 0, 1, 1.1),
        (float("nan"), 0, 1, 1),
    ],
)
def test_a_box_that_is_no_part_of_a_frame_is_refused(box: Box) -> None:
    with pytest.raises(BadSetting, match="fractions of the frame"):
        check_box(box)


def test_a_place_of_a_few_pixels_is_refused_with_the_cure() -> None:
    with pytest.raises(PhotoTooSmall, match="larger frames"):
        crop(drawn(), (0.0, 0.0, 0.02, 1.0))


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(PhotoUnreadable):
        crop(np.zeros((40, 40), np.uint8), (0, 0, 1, 1))


# --- bare --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0, 3, 10])
def test_a_lit_wall_is_bare(noise: float) -> None:
    assert is_bare(drawn(noise=noise))


def test_a_wall_with_the_edge_of_a_board_is_bare() -> None:
    picture = drawn(noise=3)
    picture[200:215] = 60
    assert is_bare(picture)


def test_a_place_with_a_pack_is_not_bare() -> None:
    assert not is_bare(packed())
    assert texture(packed()) > 3 * texture(drawn(noise=10))


@pytest.mark.parametrize("level", [0, 10, 255])
def test_a_place_that_cannot_be_seen_is_not_called_bare(level: int) -> None:
    assert not is_bare(np.full((300, 200, 3), level, np.uint8))
