"""What a product is, and the check digits of its GTIN.

A product is one sellable thing. Its key is `sku`, the shop's own; `gtin` is the number under the bar code
(GS1 General Specifications, section 7.9: the check digit of GTIN-8, -12, -13 and -14).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edge.errors import BadGtin, BadProduct

LONGEST_SKU = 120
LONGEST_TEXT = 300
_GTIN_LENGTHS = frozenset({8, 12, 13, 14})
_PRICE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,4})?")
_FIELDS = ("sku", "title", "category", "gtin", "price")


def check_gtin(text: str) -> str:
    """Return the digits of a GTIN-8, -12, -13 or -14; spaces and hyphens between them are dropped.

    Raises:
        BadGtin: wrong length, letters, or a wrong check digit.
    """
    digits = text.replace(" ", "").replace("-", "")
    if not (digits.isascii() and digits.isdigit()):
        raise BadGtin(f"GTIN {text!r} holds something other than digits: type the number under the bar code")
    if len(digits) not in _GTIN_LENGTHS:
        raise BadGtin(f"GTIN {text!r} has {len(digits)} digits: a GTIN has 8, 12, 13 or 14")
    expected = _check_digit(digits[:-1])
    if digits[-1] != expected:
        raise BadGtin(
            f"GTIN {text!r} ends in {digits[-1]}, but its check digit is {expected}: look for a typo"
        )
    return digits


def _check_digit(body: str) -> str:
    # Weights 3, 1, 3, … count from the right, so that one rule serves all four lengths.
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(body)))
    return str(-total % 10)


@dataclass(frozen=True, slots=True)
class Product:
    """One sellable thing, as the shop names it.

    `sku`, `title` and `category` are printable text without surrounding spaces; `gtin` is digits only with a
    right check digit; `price` is a decimal string such as `"2.49"`, in the shop's currency.

    Raises:
        BadProduct: a missing SKU, text that is too long or not printable, or a price that is not a number.
        BadGtin: wrong length, letters, or a wrong check digit.
    """

    sku: str
    title: str = ""
    category: str = ""
    gtin: str | None = None
    price: str | None = None

    def __post_init__(self) -> None:
        if not self.sku:
            raise BadProduct("a product has no SKU: give each product its own key")
        if len(self.sku) > LONGEST_SKU:
            raise BadProduct(
                f"SKU {self.sku[:40]!r}… has {len(self.sku)} characters: shorten it to {LONGEST_SKU}"
            )
        _check_text("sku", self.sku, self.sku)
        for field, text in (("title", self.title), ("category", self.category)):
            if len(text) > LONGEST_TEXT:
                raise BadProduct(
                    f"the {field} of {self.sku!r} has {len(text)} characters: shorten it to {LONGEST_TEXT}"
                )
            _check_text(field, text, self.sku)
        if self.gtin is not None and check_gtin(self.gtin) != self.gtin:
            raise BadGtin(
                f"GTIN {self.gtin!r} of product {self.sku!r} is not bare: write {check_gtin(self.gtin)}"
            )
        if self.price is not None and not _PRICE.fullmatch(self.price):
            raise BadProduct(
                f"price {self.price!r} of product {self.sku!r} is not a decimal number: write it like 2.49"
            )

    def to_record(self) -> dict[str, str]:
        """Return the fields that say something, ready for JSON; empty ones are left out."""
        values = ((field, getattr(self, field)) for field in _FIELDS)
        return {field: value for field, value in values if value}

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> "Product":
        """Read a product from a record with text fields; fields of other names are passed over.

        Surrounding spaces are dropped, an empty `gtin` or `price` counts as none, and spaces and hyphens in a
        GTIN are dropped.

        Raises:
            BadProduct: a missing or malformed field.
            BadGtin: wrong length, letters, or a wrong check digit.
        """
        sku = _text(record, "sku")
        gtin = _text(record, "gtin")
        return cls(
            sku=sku,
            title=_text(record, "title"),
            category=_text(record, "category"),
            gtin=check_gtin(gtin) if gtin else None,
            price=_text(record, "price") or None,
        )


def _text(record: Mapping[str, object], field: str) -> str:
    value = record.get(field)
    if value is None:
        return ""
    # A GTIN or a price that a spreadsheet or JSON writer left as a number is plain enough; a list is not.
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise BadProduct(f"field {field!r} of product {record.get('sku')!r} is {value!r}: write it as text")
    return str(value).strip()


def _check_text(field: str, text: str, sku: str) -> None:
    if text != text.strip() or not text.isprintable():
        raise BadProduct(
            f"the {field} {text!r} of product {sku!r} holds control characters or surrounding spaces: "
            "remove them"
        )
