"""Golden photos: answered alike by all files of a release, and kept as long as they are good."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cloud.assembly import embed_catalog, make_release, write_release_folder
from cloud.catalog import Catalog
from cloud.embeddings import EmbeddingCache
from cloud.golden import GOLDEN_PHOTOS, choose_golden, golden_candidates
from edge.image import decode, encode_jpeg
from edge.matcher import GOLDEN_TOLERANCE, Matcher
from edge.model import Decision, Model
from edge.products import Product
from edge.release import Golden, Release
from tests.cloud.conftest import draw_pack


@pytest.fixture
def release_folder(catalog: Catalog, several_model: Model, tmp_path: Path) -> Path:
    """Write a release of the six packs with the files that run here."""
    with EmbeddingCache(tmp_path / "cache") as cache:
        content = embed_catalog(
            several_model,
            several_model.variant(),
            products=catalog.products(),
            references=catalog.reference_photos(),
            photos=catalog.photos,
            cache=cache,
        ).content
    files = [several_model.variant(name) for name in ("int8", "float16")]
    return write_release_folder(make_release(1, several_model, files, content), tmp_path / "release")


def opened(folder: Path, name: str = "int8", **changes: float) -> Matcher:
    """Open one of the files, with another decision; without, whatever it finds is a match."""
    matcher = Matcher.open(folder, variant=name)
    decision = replace(
        matcher.variant.decision, **{"unknown_similarity": -1.0, "match_confidence": 0.0, **changes}
    )
    matcher.variant = replace(matcher.variant, decision=decision)
    return matcher


@pytest.fixture
def candidates(catalog: Catalog) -> list[tuple[str, bytes]]:
    return list(golden_candidates(catalog.reference_photos(), catalog.photos))


def photos_of(chosen: list[tuple[Golden, bytes]]) -> list[str]:
    return [golden.photo for golden, _ in chosen]


def confidence(matcher: Matcher, photo: bytes) -> float:
    return matcher.match_photo(photo).candidates[0].confidence


def test_the_surest_photos_become_golden(release_folder: Path, candidates: list[tuple[str, bytes]]) -> None:
    matcher = opened(release_folder)
    chosen = choose_golden([matcher], candidates)
    assert len(chosen) == GOLDEN_PHOTOS
    found = [confidence(matcher, photo) for _, photo in chosen]
    assert found == sorted(found, reverse=True)
    rest = [photo for _, photo in candidates if photo not in [each for _, each in chosen]]
    assert min(found) >= max(confidence(matcher, photo) for photo in rest)


def test_a_photo_that_devices_hold_is_kept_although_others_are_surer(
    release_folder: Path, candidates: list[tuple[str, bytes]]
) -> None:
    matcher = opened(release_folder)
    before = photos_of(choose_golden([matcher], candidates))
    others = [each for each in candidates if photos_of(choose_golden([matcher], [each]))[0] not in before]
    held = photos_of(choose_golden([matcher], others))
    assert len(held) == 2
    rest = [each for each in candidates if each not in others]
    chosen = photos_of(choose_golden([matcher], [*others, *rest], held))
    assert set(held) < set(chosen)
    assert set(chosen) - set(held) == set(before[:2])


def test_a_photo_that_devices_hold_is_kept_whatever_the_decision_as_long_as_it_is_right(
    release_folder: Path, candidates: list[tuple[str, bytes]]
) -> None:
    before = photos_of(choose_golden([opened(release_folder)], candidates))
    weakest = min(confidence(opened(release_folder), photo) for _, photo in candidates)
    for changes in ({"bias": -5.5}, {"match_confidence": weakest - 0.01}, {"margin_weight": 18.0}):
        refitted = opened(release_folder, **changes)
        assert set(photos_of(choose_golden([refitted], candidates, before))) == set(before)


def test_a_held_photo_that_is_answered_wrongly_by_now_makes_room(
    release_folder: Path, candidates: list[tuple[str, bytes]]
) -> None:
    matcher = opened(release_folder)
    wrong = [("pack-99", photo) for _, photo in candidates[:2]]
    held = photos_of(choose_golden([matcher], candidates[:2]))
    chosen = choose_golden([matcher], [*wrong, *candidates[2:]], held)
    assert len(chosen) == GOLDEN_PHOTOS
    assert not set(photos_of(chosen)) & set(held)


def test_enough_held_photos_that_are_right_spare_all_others_the_look(
    release_folder: Path, candidates: list[tuple[str, bytes]]
) -> None:
    matcher = opened(release_folder)
    chosen = choose_golden([matcher], candidates)
    held = [each for each in candidates if each[1] in [photo for _, photo in chosen]]

    def no_further() -> Iterator[tuple[str, bytes]]:
        yield from held
        raise AssertionError("looked at another candidate")

    assert len(choose_golden([matcher], no_further(), photos_of(chosen))) == GOLDEN_PHOTOS


def test_a_photo_that_another_file_answers_otherwise_is_left_out(
    release_folder: Path, candidates: list[tuple[str, bytes]]
) -> None:
    signing = opened(release_folder)
    confidences = sorted(confidence(opened(release_folder, "float16"), photo) for _, photo in candidates)
    # The other file calls the three photos that it is least sure of unsure.
    stricter = opened(release_folder, "float16", match_confidence=(confidences[2] + confidences[3]) / 2)
    chosen = choose_golden([signing, stricter], candidates)
    assert len(chosen) == 3
    for golden, photo in chosen:
        assert golden.verdict == "match"
        assert confidence(stricter, photo) >= stricter.variant.decision.match_confidence


def test_a_held_photo_that_another_file_answers_otherwise_is_left_out_too(
    release_folder: Path, candidates: list[tuple[str, bytes]]
) -> None:
    signing, never = opened(release_folder), opened(release_folder, "float16", match_confidence=1.0)
    held = photos_of(choose_golden([signing], candidates))
    assert choose_golden([signing, never], candidates, held) == []


def test_the_similarities_of_all_files_leave_a_devices_processor_room_to_stray(
    release_folder: Path, candidates: list[tuple[str, bytes]]
) -> None:
    signing, other = opened(release_folder), opened(release_folder, "float16")
    for golden, photo in choose_golden([signing, other], candidates):
        strayed = other.match_photo(photo).candidates[0].similarity - golden.similarity
        assert 0 < abs(strayed) <= GOLDEN_TOLERANCE / 2


def test_of_photos_that_are_no_match_those_far_from_a_threshold_are_taken(
    release_folder: Path, catalog: Catalog, candidates: list[tuple[str, bytes]]
) -> None:
    everything = sorted(confidence(opened(release_folder), photo) for _, photo in candidates)
    between: dict[str, float] = {"match_confidence": 1.0, "unknown_confidence": everything[-1] - 1e-6}
    matcher = opened(release_folder, **between)
    assert {matcher.match_photo(photo).verdict for _, photo in candidates} == {"unsure", "unknown"}
    chosen = choose_golden([matcher], candidates)
    assert len(chosen) == GOLDEN_PHOTOS
    decision: Decision = matcher.variant.decision
    assert all(abs(confidence(matcher, photo) - decision.unknown_confidence) > 1e-5 for _, photo in chosen)


def test_the_previous_golden_photos_are_the_first_candidates(
    release_folder: Path, catalog: Catalog, candidates: list[tuple[str, bytes]]
) -> None:
    release = Release.from_bytes((release_folder / "release.json").read_bytes())
    last = catalog.reference_photos()[-1]
    previous = replace(release, golden=(Golden(last.sha256, "match", last.sku, 0.9),))
    again = list(golden_candidates(catalog.reference_photos(), catalog.photos, previous))
    assert again[0] == (last.sku, catalog.photos.read(last.sha256))
    assert again[1:] == candidates


def test_a_photo_that_cannot_be_read_is_no_candidate_and_a_large_one_is_shrunk(catalog: Catalog) -> None:
    spoiled, *_ = catalog.reference_photos()
    catalog.photos.path(spoiled.sha256).write_bytes(b"spoiled")
    large = encode_jpeg(draw_pack(7, 5, size=2000))
    assert len(large) > 512 * 1024
    catalog.put_product(Product("pack-07", "Pack 7"))
    catalog.add_photo("pack-07", large, "packshot", "reference", "7.jpg")
    found = dict(golden_candidates(catalog.reference_photos(), catalog.photos))
    packs = {f"pack-{number:02}" for number in (*range(6), 7)}
    assert set(found) == packs - {spoiled.sku}
    assert len(found["pack-07"]) <= 512 * 1024
    assert min(decode(found["pack-07"]).shape[:2]) == 448
    assert found == dict(golden_candidates(catalog.reference_photos(), catalog.photos))


def test_of_a_large_catalog_another_product_changes_few_candidates(catalog: Catalog) -> None:
    for number in range(100):
        add_pack(catalog, 100 + number)
    before = dict(golden_candidates(catalog.reference_photos(), catalog.photos))
    assert len(before) == 64
    add_pack(catalog, 99)  # the first in the catalog's order
    after = dict(golden_candidates(catalog.reference_photos(), catalog.photos))
    assert len(before.items() - after.items()) <= 1


def add_pack(catalog: Catalog, number: int) -> None:
    catalog.put_product(Product(f"pack-{number}"))
    photo = encode_jpeg(draw_pack(number, 5, size=64))
    catalog.add_photo(f"pack-{number}", photo, "packshot", "reference", f"{number}.jpg")


def test_of_a_large_catalog_that_lost_many_photos_those_that_are_left_are_candidates(
    catalog: Catalog,
) -> None:
    for number in range(100):
        add_pack(catalog, 100 + number)
    of_packs = [each for each in catalog.reference_photos() if each.sku.startswith("pack-1")]
    by_hash = sorted(of_packs, key=lambda each: each.sha256)
    for lost in by_hash[:80]:
        catalog.photos.path(lost.sha256).unlink()
    found = {sku for sku, _ in golden_candidates(catalog.reference_photos(), catalog.photos)}
    assert {each.sku for each in by_hash[80:]} <= found
