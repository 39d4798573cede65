"""Similar products, from the device's own vectors."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from edge.errors import BadSetting
from edge.index import SearchIndex, prepare_index
from edge.products import Product
from edge.recipe import IndexRecipe
from edge.recommend import similar
from edge.segments import Content, SegmentStack, encode_base, quantize_rows


def opened(folder: Path, photos: dict[str, list[list[float]]]) -> tuple[SegmentStack, SearchIndex]:
    rows = {
        sku: quantize_rows(np.array(vectors, dtype=np.float32).reshape(-1, 3), 1 / 127)
        for sku, vectors in photos.items()
    }
    data = encode_base(Content("s", 3, 1 / 127, {sku: Product(sku) for sku in photos}, rows))
    sha256 = hashlib.sha256(data).hexdigest()
    (folder / sha256).write_bytes(data)
    stack = SegmentStack.open([(folder / sha256, sha256)])
    recipe = IndexRecipe()
    record = prepare_index(stack, folder, recipe)
    return stack, SearchIndex.open(stack, folder / "index.ann", record, recipe)


def test_the_nearest_products_come_first_and_the_product_itself_never(tmp_path: Path) -> None:
    stack, index = opened(
        tmp_path,
        {
            "gala": [[1, 0, 0], [0.9, 0.1, 0]],
            "fuji": [[0.9, 0.3, 0]],
            "pear": [[0.5, 0.8, 0]],
            "soap": [[0, 0, 1]],
        },
    )
    assert [hit.sku for hit in similar(stack, index, "gala", 2)] == ["fuji", "pear"]
    assert [hit.sku for hit in similar(stack, index, "gala", 9)] == ["fuji", "pear", "soap"]


def test_the_middle_of_all_its_photos_stands_for_a_product(tmp_path: Path) -> None:
    stack, index = opened(
        tmp_path, {"cup": [[1, 0, 0], [0, 1, 0]], "between": [[0.7, 0.7, 0]], "beside": [[1, -0.1, 0]]}
    )
    assert similar(stack, index, "cup", 1)[0].sku == "between"


@pytest.mark.parametrize("photos", [[], [[0.0, 0.0, 0.0]], [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]])
def test_a_product_that_points_nowhere_is_similar_to_nothing(
    tmp_path: Path, photos: list[list[float]]
) -> None:
    stack, index = opened(tmp_path, {"new": photos, "old": [[1, 0, 0]]})
    assert similar(stack, index, "new", 3) == []


def test_an_unknown_sku_is_refused_by_name(tmp_path: Path) -> None:
    stack, index = opened(tmp_path, {"old": [[1, 0, 0]]})
    with pytest.raises(BadSetting, match="'older'"):
        similar(stack, index, "older", 3)
