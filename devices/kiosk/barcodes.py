"""What a bar code beside an answer says: which product it belongs to, and who was right.

A scanner at the counter is a keyboard to the computer (a "wedge"). It knows for certain what the camera has
to guess, so each scan beside an answer says how right the release is (`cloud.accuracy`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from edge.products import Product, check_gtin

_LONGEST = 14


@dataclass(frozen=True, slots=True)
class Scan:
    """A product whose bar code was scanned; `agrees`: whether the last answer named it, None without one."""

    product: Product
    agrees: bool | None


def product_of(gtin: str, products: Iterable[Product]) -> Product | None:
    """Find the product with this number, however many zeros are written before it.

    Raises:
        BadGtin: It is no number of a product.
    """
    wanted = check_gtin(gtin).zfill(_LONGEST)
    return next((each for each in products if each.gtin and each.gtin.zfill(_LONGEST) == wanted), None)
