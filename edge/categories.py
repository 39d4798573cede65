"""Which kind of thing a picture shows, also where the catalog does not hold the very product.

A stranger looks like its kin: four of five photos of products that a network had never seen were nearest to a
product of their own category. So the best candidates share out one certainty by their scores, and what the
products of one category get together is how likely that category is. A sum over products was compared with
the best product's category, and with scoring all photos of a category together
(docs/decisions/0010-product-score.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge.products import Product


@dataclass(frozen=True, slots=True)
class CategoryGuess:
    """The category that a picture most likely shows, as the catalog names it, and how likely it is, 0..1."""

    name: str
    confidence: float


def guess_category(
    candidates: Sequence[tuple[Product, float]], confidence: float, temperature: float, *, is_match: bool
) -> CategoryGuess | None:
    """Guess the category from the best-scoring products.

    Args:
        candidates: products and their scores, best first; a dozen are plenty.
        confidence: how likely it is the first of them, 0..1.
        temperature: shares are exp(score / temperature) over the sum of all, above 0.
        is_match: the first product is the answer, so its category is.

    Returns:
        The guess, never less likely than the first product if it is that one's own category; None where there
        are no candidates, or where those that count have no category.
    """
    if not candidates:
        return None
    shares: dict[str, float] = {}
    best = candidates[0][1]
    total = sum(math.exp((score - best) / temperature) for _, score in candidates)
    for product, score in candidates:
        share = math.exp((score - best) / temperature) / total
        shares[product.category] = shares.get(product.category, 0.0) + share
    own = candidates[0][0].category
    # A category holds each of its products, so it cannot be less likely than one of them.
    shares[own] = max(shares[own], confidence)
    name = own if is_match else max(shares, key=lambda each: shares[each])
    return CategoryGuess(name, min(1.0, shares[name])) if name else None
