"""The contact sheet shows rows of a picture with the views that the network sees of it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloud.training.contact_sheet import _choose, write_contact_sheet
from tests.training.augment_on_jax import ALL, IS_PACKSHOT, SIZE, draw_pictures

pytestmark = pytest.mark.training


def test_a_sheet_has_a_row_a_picture_and_a_column_a_view(tmp_path: Path) -> None:
    path = tmp_path / "views.png"
    write_contact_sheet(draw_pictures(), IS_PACKSHOT, ALL, path, rows=4, views=3)
    with Image.open(path) as image:
        sheet = np.asarray(image.convert("RGB"))
    assert sheet.shape[1] // (SIZE + 4) == 4
    assert sheet.shape[0] // (SIZE + 30) == 4
    # The first column is the packshots' white ground as it is; views of it differ from each other.
    first, second = (
        sheet[4 : 4 + SIZE, 4 + SIZE + 4 :][:, :SIZE],
        sheet[4 : 4 + SIZE, 4 + 2 * (SIZE + 4) :][:, :SIZE],
    )
    assert sheet[6, 6].tolist() == [255, 255, 255]
    assert np.abs(first.astype(int) - second).mean() > 5


def test_the_same_recipe_writes_the_same_sheet(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_contact_sheet(draw_pictures(), IS_PACKSHOT, ALL, tmp_path / name, rows=3, views=2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(("packshots", "expected"), [(0, 0), (2, 2), (50, 5), (97, 7), (100, 10)])
def test_half_of_the_rows_are_packshots_where_there_are_as_many(packshots: int, expected: int) -> None:
    is_packshot = np.arange(100) < packshots
    chosen = _choose(is_packshot, 10, seed=1)
    assert len(set(chosen.tolist())) == 10
    assert is_packshot[chosen].sum() == expected


def test_a_catalog_of_few_photos_has_a_short_sheet(tmp_path: Path) -> None:
    write_contact_sheet(draw_pictures(2), IS_PACKSHOT[:2], ALL, tmp_path / "views.png")
    with Image.open(tmp_path / "views.png") as image:
        assert image.height < 3 * (SIZE + 40)
