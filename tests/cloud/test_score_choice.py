"""The choice of how a product's reference photos are scored together."""

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud.candidates import LabeledVectors, References
from cloud.score_choice import RULES, USUAL_RULE, choose_rule, rank, uneven
from edge.scoring import ScoreRule


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def shop(
    per_product: int, seed: int, *, views: int = 1, spread: float = 0.3, products: int = 20
) -> LabeledVectors:
    """Give photos of products, each of which looks `views` different ways."""
    sides = np.random.default_rng(0).normal(size=(products, views, 32))
    labels = np.repeat(np.arange(products, dtype=np.int32), per_product)
    random = np.random.default_rng(seed)
    vectors = unit(sides)[labels, random.integers(0, views, len(labels))]
    return LabeledVectors(unit(vectors + spread * random.normal(size=(len(labels), 32)) / 32**0.5), labels)


def test_the_usual_rule_stays_where_no_other_is_clearly_better() -> None:
    rule, _ = choose_rule(shop(6, 1), [shop(8, 2)])
    assert rule == USUAL_RULE == ScoreRule(0.03, 1.0)
    assert RULES[0] == USUAL_RULE
    assert len(set(RULES)) == 10


def test_products_of_many_faces_are_better_told_by_the_best_photos_than_by_all() -> None:
    # The mean over 12 views would ask that a photo be like all of them.
    rule, _ = choose_rule(shop(10, 1, views=12, spread=1.2), [shop(40, 2, views=12, spread=1.2)])
    assert rule.temperature <= 0.05


def test_the_temperature_says_how_sure_scores_are() -> None:
    _, clear = choose_rule(shop(6, 1, spread=0.2), [shop(8, 2, spread=0.2)])
    _, blurred = choose_rule(shop(6, 1, spread=3.0), [shop(8, 2, spread=3.0)])
    assert clear <= blurred


def test_in_an_uneven_catalog_every_second_product_has_few_photos() -> None:
    thinned = uneven(shop(8, 1, products=5))
    assert np.bincount(thinned.labels).tolist() == [8, 3, 8, 3, 8]
    numbers = np.array([7, 3, 3, 7, 3], np.int32)
    assert rank(numbers).tolist() == [0, 0, 1, 1, 2]
    sparse = uneven(LabeledVectors(np.eye(5, dtype=np.float32), numbers))
    assert sorted(sparse.labels.tolist()) == [3, 3, 3, 7, 7]


@pytest.mark.parametrize("rule", [ScoreRule(), ScoreRule(0.05, 0.5)])
def test_candidates_are_found_as_a_device_finds_them(rule: ScoreRule) -> None:
    queries, catalog = shop(5, 1), shop(4, 2)
    found = References(catalog).find(queries.vectors, queries.labels, rule)
    assert found.scores.shape == found.right.shape == (100, 5)
    for row in (0, 50, 99):
        similarities = catalog.vectors @ queries.vectors[row]
        scores = {
            product: float(
                rule.scores(
                    own := similarities[catalog.labels == product], np.zeros(1, np.intp), np.array([len(own)])
                )[0]
            )
            for product in range(20)
        }
        best = sorted(scores, key=lambda product: -scores[product])[:5]
        np.testing.assert_allclose(found.scores[row], [scores[product] for product in best], atol=1e-5)
        assert found.right[row].tolist() == [product == queries.labels[row] for product in best]
    without = References(catalog).find(queries.vectors, queries.labels, rule, without_own=True)
    assert not without.right.any()
    assert (without.scores[:, 0] <= found.scores[:, 0] + 1e-6).all()
