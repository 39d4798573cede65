"""Products and GTIN check digits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import BadGtin, BadProduct
from edge.products import Product, check_gtin


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("96385074", "96385074"),  # GTIN-8 of the GS1 specification
        ("614141000036", "614141000036"),  # UPC-A
        ("4006381333931", "4006381333931"),  # EAN-13
        ("10614141000415", "10614141000415"),  # GTIN-14
        ("4-006381-333931", "4006381333931"),
        (" 4006381 333931 ", "4006381333931"),
    ],
)
def test_a_right_gtin_gives_its_digits(text: str, digits: str) -> None:
    assert check_gtin(text) == digits


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("4006381333932", "its check digit is 1"),
        ("40063813339", "11 digits"),
        ("", "something other than digits"),
        ("4006381E33931", "something other than digits"),
        ("٤٠٠٦٣٨١٣٣٣٩٣١", "something other than digits"),
    ],
)
def test_a_wrong_gtin_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(BadGtin, match=why):
        check_gtin(text)


@given(st.text("0123456789", min_size=12, max_size=12), st.integers(0, 12), st.integers(1, 9))
def test_every_single_wrong_digit_is_found(body: str, place: int, shift: int) -> None:
    right = next(body + str(last) for last in range(10) if _is_right(body + str(last)))
    wrong = right[:place] + str((int(right[place]) + shift) % 10) + right[place + 1 :]
    assert not _is_right(wrong)


def _is_right(text: str) -> bool:
    try:
        check_gtin(text)
    except BadGtin:
        return False
    return True


def test_a_record_comes_back_as_the_same_product() -> None:
    product = Product("milk-1", "Fresh milk 1 l", "Dairy", "4006381333931", "1.19")
    assert Product.from_record(product.to_record()) == product


def test_a_record_leaves_empty_fields_out() -> None:
    assert Product("milk-1").to_record() == {"sku": "milk-1"}


def test_reading_trims_and_takes_numbers_and_passes_over_other_fields() -> None:
    record = {"sku": " 17 ", "gtin": 4006381333931, "price": 2.5, "title": None, "color": "red"}
    assert Product.from_record(record) == Product("17", gtin="4006381333931", price="2.5")


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({}, "no SKU"),
        ({"sku": "   "}, "no SKU"),
        ({"sku": "x" * 121}, "121 characters"),
        ({"sku": "a\x00b"}, "control characters"),
        ({"sku": "a", "title": "t" * 301}, "301 characters"),
        ({"sku": "a", "title": ["t"]}, "write it as text"),
        ({"sku": True}, "write it as text"),
        ({"sku": "a", "price": "two"}, "not a decimal number"),
        ({"sku": "a", "price": "-1"}, "not a decimal number"),
    ],
)
def test_a_malformed_record_is_refused_with_the_reason(record: dict[str, object], why: str) -> None:
    with pytest.raises(BadProduct, match=why):
        Product.from_record(record)


def test_a_product_with_a_wrong_gtin_cannot_exist() -> None:
    with pytest.raises(BadGtin):
        Product("a", gtin="4006381333932")
    with pytest.raises(BadGtin, match="write 4006381333931"):
        Product("a", gtin="4-006381-333931")
