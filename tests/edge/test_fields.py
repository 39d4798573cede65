"""`edge.fields`: JSON that somebody else wrote, taken field by field."""

import re
from collections.abc import Callable

import pytest

from edge.errors import BadManifest
from edge.fields import Fields, canonical_json, parse_json


def fields(**record: object) -> Fields:
    return Fields("thing", record, BadManifest)


def test_what_was_not_taken_is_the_rest() -> None:
    reader = fields(name="x", size=3, color="red")

    assert (reader.text("name"), reader.integer("size")) == ("x", 3)
    assert reader.rest() == {"color": "red"}


@pytest.mark.parametrize(
    ("take", "value", "wanted"),
    [
        (lambda reader: reader.integer("x"), -1, "a whole number from 0"),
        (lambda reader: reader.integer("x"), True, "a whole number"),
        (lambda reader: reader.integer("x"), 10**400, "a whole number"),
        (lambda reader: reader.number("x"), "1", "a number"),
        (lambda reader: reader.number("x", above=0.0), 0, "a number from 0"),
        (lambda reader: reader.number("x"), 10**400, "a number"),
        (lambda reader: reader.text("x"), "", "a text that is not empty"),
        (lambda reader: reader.optional_text("x"), 5, "a text"),
        (lambda reader: reader.one_of("x", ("a", "b")), "c", "one of a, b"),
        (lambda reader: reader.matching("x", re.compile("[a-z]"), "a letter"), "a\n", "a letter"),
        (lambda reader: reader.sha256("x"), "0" * 63, "a sha256"),
        (lambda reader: reader.timestamp("x"), "2026-01-01", "a date and time with a zone"),
        (lambda reader: reader.texts("x"), ["a", ""], "a text"),
        (lambda reader: reader.sha256s("x"), ["a"], "a sha256"),
        (lambda reader: reader.items("x"), {}, "a list"),
        (lambda reader: reader.inner("x"), [], "an object"),
        (lambda reader: reader.each("x", lambda inner: inner), [{}, 3], "an object"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(
    take: Callable[[Fields], object], value: object, wanted: str
) -> None:
    with pytest.raises(BadManifest, match=f"thing.*{re.escape(wanted)}"):
        take(fields(x=value))
    with pytest.raises(BadManifest, match="thing has no field 'x'"):
        take(fields(y=value))


def test_a_long_value_is_shown_in_brief() -> None:
    with pytest.raises(BadManifest) as caught:
        fields(x=["a" * 10_000]).text("x")
    assert len(str(caught.value)) < 200


def test_null_is_a_text_only_where_it_may_be() -> None:
    assert fields(x=None).optional_text("x") is None
    assert fields(x="a").optional_text("x") == "a"
    with pytest.raises(BadManifest):
        fields(x=None).text("x")


def test_canonical_json_is_the_same_for_the_same_content() -> None:
    assert canonical_json({"b": [1, 2.5], "a": "ä"}) == '{"a":"ä","b":[1,2.5]}'.encode()
    assert parse_json(canonical_json({"a": None}), "it", BadManifest) == {"a": None}
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})
