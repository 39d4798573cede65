"""`edge.categories`: what kind of thing it is, told with the product or without it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.categories import CategoryGuess, guess_category
from edge.products import Product

GALA, FUJI = Product("gala", category="Apples"), Product("fuji", category="Apples")
LIME, NAMELESS = Product("lime", category="Limes"), Product("x")

SHOPS = st.lists(
    st.tuples(st.sampled_from([GALA, FUJI, LIME, NAMELESS]), st.floats(-1, 1)), min_size=1, max_size=9
).map(lambda found: sorted(found, key=lambda each: -each[1]))


def test_products_of_one_category_outweigh_a_single_better_one_of_another() -> None:
    guess = guess_category([(LIME, 0.60), (GALA, 0.59), (FUJI, 0.58)], 0.2, 0.1, is_match=False)
    weights = [1.0, math.exp(-0.1), math.exp(-0.2)]
    assert guess is not None
    assert guess.name == "Apples"
    assert guess.confidence == pytest.approx((weights[1] + weights[2]) / sum(weights))


def test_a_match_has_its_own_category_whatever_the_others_are() -> None:
    guess = guess_category([(LIME, 0.60), (GALA, 0.59), (FUJI, 0.58)], 0.9, 0.1, is_match=True)
    assert guess == CategoryGuess("Limes", 0.9)


@given(SHOPS, st.floats(0, 1), st.floats(0.01, 1), st.booleans())
def test_a_category_is_never_less_likely_than_the_product_that_is_in_it(
    found: list[tuple[Product, float]], confidence: float, temperature: float, is_match: bool
) -> None:
    guess = guess_category(found, confidence, temperature, is_match=is_match)
    if guess is not None:
        assert confidence <= guess.confidence <= 1
        assert guess.name in {product.category for product, _ in found}
        if is_match:
            assert guess.name == found[0][0].category


def test_no_candidates_and_products_without_a_category_give_no_guess() -> None:
    assert guess_category([], 0.0, 0.1, is_match=False) is None
    assert guess_category([(NAMELESS, 0.9), (GALA, 0.1)], 0.5, 0.1, is_match=False) is None
    assert guess_category([(NAMELESS, 0.9)], 0.9, 0.1, is_match=True) is None


def test_scores_far_apart_do_not_overflow() -> None:
    guess = guess_category([(GALA, 1.0), (LIME, -1e6)], 0.5, 0.01, is_match=False)
    assert guess == CategoryGuess("Apples", 1.0)
