"""A large base says how hard devices look, by what was measured on it."""

import numpy as np
import pytest

from cloud import search_tuning
from cloud.search_tuning import tune_search
from edge.products import Product
from edge.recipe import IndexRecipe
from edge.segments import Content, quantize_rows

SCALE = 1 / 127


def a_content(products: int, rows: int, dimension: int = 16) -> Content:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(products, rows, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    skus = [f"p{number:05}" for number in range(products)]
    return Content(
        space="0" * 16,
        dimension=dimension,
        scale=SCALE,
        products={sku: Product(sku) for sku in skus},
        rows={sku: quantize_rows(each, SCALE) for sku, each in zip(skus, vectors, strict=True)},
    )


def test_a_small_catalog_gets_the_usual_recipe_unmeasured() -> None:
    assert tune_search(a_content(40, 3)) == IndexRecipe()


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch) -> Content:
    monkeypatch.setattr(search_tuning, "LEAST_ROWS", 2_000)
    monkeypatch.setattr(search_tuning, "_TREES", (1, 10))
    monkeypatch.setattr(search_tuning, "_SEARCH_K", (400, 800, 1_600, 3_200))
    return a_content(1_000, 4)


def test_the_cheapest_recipe_that_reaches_the_target_is_chosen_and_what_it_found_is_written(
    content: Content,
) -> None:
    modest, demanding = tune_search(content, target=0.3), tune_search(content, target=0.97)
    assert (modest.trees, modest.search_k) == (1, 400)
    assert (demanding.trees, demanding.search_k) > (modest.trees, modest.search_k)
    assert demanding.extra["recall_target"] == 0.97
    assert 0.97 <= float(str(demanding.extra["recall"])) <= 1
    assert demanding.extra["measured_rows"] == 4_000
    assert tune_search(content, target=0.97) == demanding


def test_a_target_that_nothing_reaches_gives_what_comes_nearest(
    content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_tuning, "_SEARCH_K", (400,))
    monkeypatch.setattr(search_tuning, "_TREES", (1, 2))
    recipe = tune_search(content, target=1.0)
    assert recipe.trees == 2
    assert float(str(recipe.extra["recall"])) < 1
