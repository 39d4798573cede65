"""What the kiosk says about an answer, in words for a shopper."""

from dataclasses import dataclass

from edge.matcher import Answer
from edge.products import Product

# What the quality gate found wrong with the picture, said to the person who holds the product.
_POSES = {
    "nothing_in_view": ("Ready", "Show me a product", "Hold it in front of the camera."),
    "too_dark": ("Too dark", "A little more light", "I cannot see enough."),
    "too_bright": ("Too bright", "Turn it away from the light", "I cannot see enough."),
    "too_far": ("Too far away", "Hold it closer", "I cannot make it out."),
    "glare": ("Too much glare", "Turn it away from the light", "It hides what I should see."),
    "blurred": ("Blurred", "Hold it still", "I cannot make it out."),
}

LIKELY_CATEGORY = 0.5
"""From here on a category is named: what is wrong as often as right helps nobody to the right shelf."""


@dataclass(frozen=True, slots=True)
class Words:
    """One answer as it stands on the page; `tone` picks its color: match, unsure, unknown or waiting.

    `confidence` is 0 to 1 and fills the bar; an empty text is not shown.
    """

    tone: str
    heading: str
    title: str
    detail: str = ""
    price: str = ""
    sureness: str = ""
    confidence: float = 0.0
    others: str = ""


def words_for(answer: Answer, currency: str = "") -> Words:
    """Say `answer` in plain language; `currency` is put before prices."""
    if answer.reason in _POSES:
        heading, title, detail = _POSES[answer.reason]
        return Words("waiting", heading, title, detail)
    if answer.verdict == "match" and answer.candidates:
        first = answer.candidates[0]
        return Words(
            tone="match",
            heading="Found it",
            title=name_of(first.product),
            detail=first.product.category,
            price=price_of(first.product, currency),
            sureness=f"{_percent(first.confidence)} % sure",
            confidence=first.confidence,
            others="Or did you mean",
        )
    if answer.verdict == "unsure":
        return Words(
            tone="unsure",
            heading="Not quite sure",
            title="Is it one of these?",
            detail=f"{_looks_like(answer)}Turn it so that its front shows.",
            others="Most alike first",
        )
    return Words(
        tone="unknown",
        heading="Not found",
        title="I do not know this one",
        detail=f"{_looks_like(answer)}Bring it closer, turn it, or ask the staff.",
    )


def _looks_like(answer: Answer) -> str:
    """Name the kind of thing it is, where that is likely; else nothing."""
    guess = answer.category
    return f"Looks like: {guess.name}. " if guess and guess.confidence >= LIKELY_CATEGORY else ""


def name_of(product: Product) -> str:
    """Call a product by its title, or by its SKU where the catalog has no title."""
    return product.title or product.sku


def price_of(product: Product, currency: str) -> str:
    """Write the price with its currency; empty where the catalog has no price."""
    return f"{currency}{product.price}" if product.price else ""


def _percent(confidence: float) -> int:
    # Rounding up to "100 % sure" would promise what no camera can.
    return min(99, round(100 * confidence))
