"""What speaks against adding a product: true of photos that are wrong, silent on those that are right."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.image import fit
from edge.matcher import Matcher
from edge.model import Model
from edge.newcomer import Look, find_concerns, take_look
from tests.edge.drawn_release import Picture, ReleaseMaker, draw_pack

PACKS = {f"known {seed}": draw_pack(seed) for seed in (1, 2, 3, 4)}


@pytest.fixture
def matcher(tiny_model: Model, tmp_path: Path) -> Matcher:
    return Matcher.open(ReleaseMaker(tiny_model).write(tmp_path / "release", PACKS))


def seen(pack: Picture, seed: int) -> Picture:
    noisy = pack * 0.92 + np.random.default_rng(seed).normal(0, 4, pack.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def looks(matcher: Matcher, *pictures: Picture) -> list[Look]:
    size = matcher.release.input_size
    return [take_look(matcher, f"photo {place}", fit(each, size)) for place, each in enumerate(pictures, 1)]


def kinds(matcher: Matcher, *pictures: Picture, sku: str = "new") -> list[tuple[str, str, str | None]]:
    found = find_concerns(matcher, sku, looks(matcher, *pictures))
    return [(each.kind, each.photo, each.sku) for each in found]


def test_photos_of_a_new_product_raise_no_concern(matcher: Matcher) -> None:
    assert kinds(matcher, *(seen(draw_pack(77), seed) for seed in range(3))) == []


def test_a_known_product_under_another_sku_is_named_for_each_photo(matcher: Matcher) -> None:
    twins = [seen(PACKS["known 2"], seed) for seed in range(2)]
    named = kinds(matcher, *twins)
    assert {(photo, sku) for _, photo, sku in named} == {("photo 1", "known 2"), ("photo 2", "known 2")}
    assert {kind for kind, _, _ in named} <= {"look_alike", "close"}
    assert kinds(matcher, *twins, sku="known 2") == [], "more photos of the product itself are welcome"


def test_a_photo_of_another_product_is_named_among_good_ones(matcher: Matcher) -> None:
    good = [seen(draw_pack(77), seed) for seed in range(3)]
    assert kinds(matcher, *good, seen(PACKS["known 3"], 9)) == [("look_alike", "photo 4", "known 3")]


def test_a_photo_that_resembles_none_of_the_others_is_the_odd_one(matcher: Matcher) -> None:
    good = looks(matcher, *(seen(draw_pack(77), seed) for seed in range(3)))
    (odd,) = looks(matcher, seen(draw_pack(77), 5))
    # As no drawn pack is: at right angles to the others and to everything known.
    known = matcher.stack.vectors(np.arange(matcher.stack.row_count))
    rest = np.vstack([known, *(look.reference for look in good)])
    apart = np.linalg.svd(rest)[2][-1].astype(np.float32)
    stray = replace(odd, name="stray", query=replace(odd.query, vector=apart), reference=apart)
    (found,) = find_concerns(matcher, "new", [*good, stray])
    assert (found.kind, found.photo, found.sku) == ("odd", "stray", None)
    assert "same product" in found.sentence


def test_a_picture_of_nothing_is_not_compared(matcher: Matcher) -> None:
    blank = np.full((64, 64, 3), 120, np.uint8)
    assert kinds(matcher, seen(draw_pack(77), 1), blank) == [("quality", "photo 2", None)]


def test_the_record_says_what_the_command_prints(matcher: Matcher) -> None:
    (found,) = find_concerns(matcher, "new", looks(matcher, seen(PACKS["known 1"], 1)))
    record = found.to_record()
    assert (record["kind"], record["sku"], record["title"]) == ("look_alike", "known 1", "Known 1")
    assert isinstance(record["similarity"], float)
    assert "would be answered as known 1 (Known 1)" in str(record["sentence"])
