"""`edge.explain_picture`: the colors say for and against, and captions can be read."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import Incompatible, PhotoUnreadable
from edge.explain import Explanation
from edge.explain_picture import Panel, draw_heat_map, draw_sheet, legible, map_panels, strongest_of
from tests.edge.drawn_release import draw_pack
from tests.edge.test_explain import likeness

Picture = NDArray[np.uint8]


def test_orange_is_for_and_blue_is_against() -> None:
    picture = np.full((80, 120, 3), 128, np.uint8)
    drawn = draw_heat_map(picture, np.array([[1.0, 0.0, -1.0]], np.float32)).astype(int)
    assert drawn.shape == picture.shape
    assert drawn[40, 5, 0] - drawn[40, 5, 2] > 100
    assert drawn[40, 115, 2] - drawn[40, 115, 0] > 100
    np.testing.assert_allclose(drawn[40, 60], 128, atol=4)


def test_a_map_of_nothing_leaves_a_gray_picture() -> None:
    drawn = draw_heat_map(draw_pack(1), np.zeros((4, 4), np.float32))
    assert drawn.shape == (64, 64, 3)


def test_maps_that_are_compared_share_their_scale() -> None:
    picture = np.full((40, 40, 3), 128, np.uint8)
    weak = draw_heat_map(picture, np.full((2, 2), 0.1, np.float32), strongest=1.0).astype(int)
    strong = draw_heat_map(picture, np.full((2, 2), 1.0, np.float32), strongest=1.0).astype(int)
    assert np.ptp(weak[20, 20]) < np.ptp(strong[20, 20]) / 5
    assert strongest_of(
        [np.array([[0.1, -0.4]], np.float32), np.array([[0.2]], np.float32)]
    ) == pytest.approx(0.4)
    assert strongest_of([np.zeros((2, 2), np.float32)]) == 1.0


def test_the_panels_are_photo_answer_runner_up_and_what_separates_them() -> None:
    apple, pear = np.array([[0.6, 0.1], [0.1, 0.1]]), np.array([[0.1, 0.1], [0.1, 0.4]])
    photo = np.full((60, 60, 3), 128, np.uint8)
    explained = Explanation("match", "clear", likeness("apple", apple), likeness("pear", pear))
    shown, first, second, difference = map_panels(photo, explained)
    assert np.array_equal(shown.picture, photo)
    assert (first.title, second.title) == ("1. Apple", "2. Pear")
    assert difference.lines[0].startswith("margin +0.200")
    drawn = difference.picture.astype(int)
    assert drawn[2, 2, 0] > drawn[2, 2, 2] + 100  # what speaks for the first is orange,
    assert drawn[57, 57, 2] > drawn[57, 57, 0] + 50  # for the second blue


def test_answer_and_runner_up_are_drawn_in_one_scale() -> None:
    apple, pear = likeness("apple", np.full((2, 2), 0.2)), likeness("pear", np.full((2, 2), 0.05))
    photo = np.full((60, 60, 3), 128, np.uint8)
    _, first, second, _ = map_panels(photo, Explanation("match", "clear", apple, pear))
    assert 0 < np.ptp(second.picture[30, 30]) < np.ptp(first.picture[30, 30]) / 3


def test_without_a_runner_up_there_are_two_panels() -> None:
    explained = Explanation("match", "clear", likeness("apple", np.ones((2, 2))), None)
    assert len(map_panels(draw_pack(1), explained)) == 2


def test_a_sheet_has_a_column_for_each_panel_and_ink_below_its_picture() -> None:
    wide, tall = np.full((100, 200, 3), 90, np.uint8), np.full((200, 100, 3), 90, np.uint8)
    panels = [Panel(wide, "Wide", ("one", "two")), Panel(tall, "Tall"), Panel(wide, "Below")]
    sheet = draw_sheet(("Why",), panels, columns=2).astype(int)
    assert sheet.shape[1] == 2 * 24 + 2 * 400 + 20
    gray = sheet.mean(axis=2)
    filled = np.abs(gray - 90) < 1
    # Pictures keep their proportions and stand on one line: 400 x 200 beside 200 x 400, then 400 x 200.
    assert filled[:, 24:424].sum() >= 400 * 200 * 2
    bottoms = [int(np.flatnonzero(filled[:480, left : left + 100].all(axis=1)).max()) for left in (24, 444)]
    assert bottoms[0] == bottoms[1]
    caption = gray[bottoms[0] + 5 : bottoms[0] + 40, 24:424]
    assert caption.min() < 120  # the title is there and dark
    assert gray[bottoms[0] + 1 : bottoms[0] + 5].min() > 200  # and not in the picture


def test_a_long_caption_is_cut_and_stays_in_its_column() -> None:
    picture = np.full((50, 50, 3), 255, np.uint8)
    panels = [Panel(picture, "W" * 400), Panel(picture, "")]
    sheet = draw_sheet((), panels, columns=2)
    assert sheet[:, 24 + 400 + 1 : 24 + 400 + 19].min() > 240


def test_a_long_heading_goes_on_in_the_next_line_and_loses_nothing() -> None:
    panels = [Panel(np.full((50, 50, 3), 255, np.uint8), "")]
    short, long = (
        draw_sheet(("word " * 5,), panels, columns=1),
        draw_sheet(("word " * 60,), panels, columns=1),
    )
    lines = (long.shape[0] - short.shape[0]) / 26 + 1
    ink = (255 - long[: long.shape[0] - 450].astype(float)).sum() / (255 - short[:50].astype(float)).sum()
    assert lines > 4
    assert ink == pytest.approx(12, rel=0.1)
    assert long[:, -20:].min() == 255


def test_letters_that_the_font_lacks_lose_their_accents_first() -> None:
    assert legible("Crème brûlée", wider=False) == "Creme brulee"
    assert legible("Crème 牛奶", wider=False) == "Creme ??"
    assert legible("Crème 牛奶", wider=True) == "Crème 牛奶"


def test_what_is_no_picture_or_no_map_is_refused() -> None:
    with pytest.raises(PhotoUnreadable):
        draw_heat_map(np.zeros((4, 4), np.uint8), np.zeros((2, 2), np.float32))
    with pytest.raises(PhotoUnreadable):
        draw_sheet((), [Panel(np.zeros((4, 4), np.uint8), "")], columns=1)
    with pytest.raises(Incompatible, match="similarity_map"):
        draw_heat_map(draw_pack(1), np.zeros(4, np.float32))
