"""`edge.matcher`: a real release of drawn packs, opened and asked."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.disk import write_atomically
from edge.errors import (
    Incompatible,
    IndexBroken,
    ModelBroken,
    PhotoUnreadable,
    SegmentBroken,
    ShelfsightError,
    StepBack,
    TrialFailed,
)
from edge.image import encode_jpeg
from edge.matcher import Matcher, check_golden, prepare_release_folder
from edge.release import Release
from edge.scoring import ScoreRule
from tests.edge.drawn_release import ReleaseMaker, draw_pack, photograph

Picture = NDArray[np.uint8]


def release_of(folder: Path) -> Release:
    return Release.from_bytes((folder / "release.json").read_bytes())


def rewrite(folder: Path, **fields: Any) -> None:
    write_atomically(folder / "release.json", replace(release_of(folder), **fields).to_bytes())


def test_a_photo_of_a_pack_finds_the_pack(release_folder: Path, packs: dict[str, Picture]) -> None:
    matcher = Matcher.open(release_folder)
    for sku, pack in packs.items():
        answer = matcher.match_photo(photograph(pack, 5))
        assert answer.candidates[0].product.sku == sku
        assert answer.candidates[0].similarity > 0.85
        assert answer.release == 1
    assert matcher.match(packs["pack-4"]).verdict == "match"
    assert matcher.match(packs["pack-4"]).reason == "clear"


def test_candidates_come_best_first_and_as_many_as_asked_for(
    release_folder: Path, packs: dict[str, Picture]
) -> None:
    matcher = Matcher.open(release_folder)
    for top in (1, 3, 10):
        answer = matcher.match(packs["pack-0"], top=top)
        similarities = [candidate.similarity for candidate in answer.candidates]
        assert len(similarities) == top
        assert similarities == sorted(similarities, reverse=True)
        assert len({candidate.product.sku for candidate in answer.candidates}) == top
        assert answer.verdict == "match"
    assert len(matcher.match(packs["pack-0"], top=0).candidates) == 1


def test_what_is_not_in_the_catalog_is_unknown(release_folder: Path) -> None:
    matcher = Matcher.open(release_folder)
    stranger = next(
        answer
        for answer in (matcher.match(draw_pack(seed)) for seed in range(100, 200))
        if answer.candidates[0].similarity < 0.7
    )
    assert (stranger.verdict, stranger.reason) == ("unknown", "low_similarity")


def test_twins_are_unsure_and_the_reason_says_that_they_are_close(
    release_maker: ReleaseMaker, tmp_path: Path
) -> None:
    pack = draw_pack(1)
    folder = release_maker.write(tmp_path / "twins", {"left": pack, "right": pack, "other": draw_pack(2)})
    answer = Matcher.open(folder).match(pack)
    assert (answer.verdict, answer.reason) == ("unsure", "close_runner_up")
    assert {candidate.product.sku for candidate in answer.candidates[:2]} == {"left", "right"}


def test_a_threshold_out_of_reach_is_the_reason_where_no_runner_up_is_close(
    release_folder: Path, packs: dict[str, Picture]
) -> None:
    matcher = Matcher.open(release_folder)
    strict = replace(matcher.variant.decision, match_confidence=1.0)
    rewrite(release_folder, golden=(), variants=(replace(matcher.variant, decision=strict),))
    answer = Matcher.open(release_folder).match(packs["pack-4"])
    assert (answer.verdict, answer.reason) == ("unsure", "below_confidence")


def test_candidates_are_ordered_by_the_score_of_all_their_photos_and_keep_their_best_ones_similarity(
    release_folder: Path, packs: dict[str, Picture]
) -> None:
    plain = Matcher.open(release_folder).match(packs["pack-4"])
    assert [each.score for each in plain.candidates] == [each.similarity for each in plain.candidates]
    variant = Matcher.open(release_folder).variant
    # One photo a product: without the count's weight a score is the similarity still.
    decision = replace(variant.decision, score=ScoreRule(0.1, 0.5), unknown_similarity=0.0)
    rewrite(release_folder, golden=(), variants=(replace(variant, decision=decision),))
    assert b'"format":2' in (release_folder / "release.json").read_bytes()
    scored = Matcher.open(release_folder).match(packs["pack-4"])
    assert [each.product.sku for each in scored.candidates] == [each.product.sku for each in plain.candidates]
    assert [each.similarity for each in scored.candidates] == pytest.approx(
        [each.score for each in scored.candidates], abs=1e-5
    )


def test_a_confidence_too_low_to_be_known_is_unknown_however_alike(
    release_folder: Path, packs: dict[str, Picture]
) -> None:
    matcher = Matcher.open(release_folder)
    assert matcher.match(packs["pack-4"]).verdict == "match"
    wary = replace(matcher.variant.decision, unknown_confidence=1.0)
    rewrite(release_folder, golden=(), variants=(replace(matcher.variant, decision=wary),))
    answer = Matcher.open(release_folder).match(packs["pack-4"])
    assert (answer.verdict, answer.reason) == ("unknown", "low_similarity")
    assert answer.knownness == answer.candidates[0].confidence < 1


def test_an_answer_names_a_category_also_where_the_product_is_unknown(
    release_maker: ReleaseMaker, packs: dict[str, Picture], tmp_path: Path
) -> None:
    folder = release_maker.write(tmp_path / "kinds", packs, category="packs")
    matcher = Matcher.open(folder)
    match = matcher.match(packs["pack-4"])
    assert match.category is not None
    assert match.category.name == "packs"
    assert match.category.confidence >= match.candidates[0].confidence
    assert match.to_record()["category"] == "packs"
    stranger = next(
        answer
        for answer in (matcher.match(draw_pack(seed)) for seed in range(100, 200))
        if answer.verdict == "unknown"
    )
    assert stranger.category is not None
    assert stranger.category.name == "packs"


def test_nothing_is_guessed_of_a_picture_of_nothing_or_of_products_without_category(
    release_maker: ReleaseMaker, release_folder: Path, packs: dict[str, Picture], tmp_path: Path
) -> None:
    kinds = Matcher.open(release_maker.write(tmp_path / "kinds", packs, category="packs"))
    assert kinds.match(np.full((90, 120, 3), 3, np.uint8)).category is None
    answer = Matcher.open(release_folder).match(packs["pack-4"])
    assert answer.category is None
    assert answer.to_record()["category"] is None


@pytest.mark.parametrize(
    ("level", "reason"), [(3, "too_dark"), (254, "too_bright"), (120, "nothing_in_view")]
)
def test_a_picture_of_nothing_is_unsure_and_says_why(release_folder: Path, level: int, reason: str) -> None:
    answer = Matcher.open(release_folder).match(np.full((90, 120, 3), level, np.uint8))
    assert (answer.verdict, answer.reason) == ("unsure", reason)


def test_an_empty_catalog_answers_unknown(release_maker: ReleaseMaker, tmp_path: Path) -> None:
    answer = Matcher.open(release_maker.write(tmp_path / "empty", {})).match(draw_pack(1))
    assert (answer.verdict, answer.reason, answer.candidates) == ("unknown", "empty_catalog", ())


def test_a_catalog_of_one_product_still_tells_it_from_a_stranger(
    release_maker: ReleaseMaker, tmp_path: Path
) -> None:
    matcher = Matcher.open(release_maker.write(tmp_path / "one", {"only": draw_pack(1)}))
    assert matcher.match_photo(photograph(draw_pack(1))).verdict == "match"
    assert {matcher.match(draw_pack(seed)).verdict for seed in range(20, 60)} >= {"unknown"}


def test_the_record_is_what_the_command_prints(release_folder: Path, packs: dict[str, Picture]) -> None:
    record = Matcher.open(release_folder).match_photo(photograph(packs["pack-2"]), top=2).to_record()
    assert json.loads(json.dumps(record)) == record
    assert list(record) == ["verdict", "category", "candidates", "release", "reason", "timings_ms"]
    candidates: Any = record["candidates"]
    assert [list(each) for each in candidates] == [["sku", "title", "similarity", "confidence"]] * 2
    assert candidates[0]["title"] == "Pack-2"
    assert list(record["timings_ms"]) == ["decode", "embed", "search", "total"]  # type: ignore[call-overload]


def test_timings_add_up(release_folder: Path, packs: dict[str, Picture]) -> None:
    matcher = Matcher.open(release_folder)
    timings = matcher.match_photo(photograph(packs["pack-2"])).timings
    parts = timings.decode_ms + timings.embed_ms + timings.search_ms
    assert 0 < parts <= timings.total_ms
    assert matcher.match(packs["pack-2"]).timings.total_ms > 0


def test_every_variant_of_the_release_answers_alike(release_folder: Path, packs: dict[str, Picture]) -> None:
    int8, int8_out = (Matcher.open(release_folder, variant=name) for name in ("int8", "int8-out"))
    for pack in packs.values():
        one, other = int8.match(pack), int8_out.match(pack)
        assert one.candidates[0].product == other.candidates[0].product
        assert one.candidates[0].similarity == pytest.approx(other.candidates[0].similarity, abs=0.02)
    with pytest.raises(Incompatible, match="no variant named 'gpu'"):
        Matcher.open(release_folder, variant="gpu")


def test_a_matcher_survives_a_bad_photo(release_folder: Path, packs: dict[str, Picture]) -> None:
    matcher = Matcher.open(release_folder)
    before = matcher.match(packs["pack-1"]).candidates
    with pytest.raises(PhotoUnreadable):
        matcher.match_photo(b"not a photo")
    with pytest.raises(PhotoUnreadable):
        matcher.match(np.zeros((40, 40), np.uint8))
    assert matcher.match(packs["pack-1"]).candidates == before


def spoil(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b"\x00\x01")


def spoil_role(role: str) -> Callable[[Path], None]:
    def spoil_file(folder: Path) -> None:
        for entry in release_of(folder).files:
            if entry.role == role:
                spoil(entry.name)(folder)

    return spoil_file


@pytest.mark.parametrize(
    ("damage", "error", "sentence"),
    [
        (spoil_role("model"), ModelBroken, "not its own name"),
        (spoil_role("segment"), SegmentBroken, "sha256"),
        (spoil("index.ann"), IndexBroken, "index"),
        (spoil("index.json"), IndexBroken, "index.json"),
        (spoil("release.json"), StepBack, "cannot be used"),
        (lambda folder: (folder / "index.ann").unlink(), IndexBroken, "index"),
        (lambda folder: (folder / "index.json").unlink(), IndexBroken, "index.json"),
        (lambda folder: (folder / "release.json").unlink(), StepBack, "no installed release"),
        (
            lambda folder: (folder / release_of(folder).variants[0].sha256).unlink(),
            ModelBroken,
            "is missing",
        ),
        (lambda folder: (folder / release_of(folder).segments[0]).unlink(), SegmentBroken, "cannot be read"),
    ],
)
def test_spoiled_files_are_told_before_they_are_used(
    release_folder: Path, damage: Callable[[Path], None], error: type[ShelfsightError], sentence: str
) -> None:
    damage(release_folder)
    with pytest.raises(error, match=sentence) as caught:
        Matcher.open(release_folder)
    assert isinstance(caught.value, StepBack)


def test_a_release_whose_segments_belong_to_another_space_is_incompatible(release_folder: Path) -> None:
    rewrite(release_folder, space="f" * 16)
    for verb in (Matcher.open, prepare_release_folder):
        with pytest.raises(Incompatible, match="f" * 16):
            verb(release_folder)


def test_a_release_whose_model_takes_another_size_is_incompatible(release_folder: Path) -> None:
    rewrite(release_folder, input_size=48)
    with pytest.raises(Incompatible, match="48"):
        Matcher.open(release_folder)


def test_segments_that_do_not_merge_to_the_signed_hash_are_refused(release_folder: Path) -> None:
    rewrite(release_folder, merged_sha256="0" * 64)
    with pytest.raises(SegmentBroken, match="merge to"):
        prepare_release_folder(release_folder)


def test_preparing_twice_gives_the_same_bytes(release_folder: Path) -> None:
    before = [(release_folder / name).read_bytes() for name in ("index.ann", "index.json")]
    prepare_release_folder(release_folder)
    assert [(release_folder / name).read_bytes() for name in ("index.ann", "index.json")] == before


def test_golden_photos_are_answered_as_signed(release_folder: Path) -> None:
    matcher = Matcher.open(release_folder)
    assert len(matcher.release.golden) == 2
    check_golden(matcher, release_folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"verdict": "unknown", "sku": None}, "not unknown"),
        ({"sku": "pack-0"}, r"not match \(pack-0\)"),
        ({"similarity": 0.5}, r"not 0\.5000 as signed"),
    ],
)
def test_a_golden_photo_that_is_answered_otherwise_fails_the_trial(
    release_folder: Path, change: dict[str, Any], sentence: str
) -> None:
    first, second = release_of(release_folder).golden
    rewrite(release_folder, golden=(first, replace(second, **change)))
    with pytest.raises(TrialFailed, match=sentence):
        check_golden(Matcher.open(release_folder), release_folder)


def test_a_golden_photo_that_is_missing_or_spoiled_fails_the_trial(
    release_folder: Path, packs: dict[str, Picture]
) -> None:
    matcher = Matcher.open(release_folder)
    photo = release_folder / matcher.release.golden[0].photo
    photo.write_bytes(encode_jpeg(packs["pack-3"]))
    with pytest.raises(TrialFailed, match="not what its name says"):
        check_golden(matcher, release_folder)
    photo.unlink()
    with pytest.raises(TrialFailed, match="cannot be answered"):
        check_golden(matcher, release_folder)
