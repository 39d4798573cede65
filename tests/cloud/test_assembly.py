"""A release is assembled by the code and the files that devices run."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud import assembly
from cloud.assembly import (
    Assembled,
    EmbeddedCatalog,
    Previous,
    embed_catalog,
    make_release,
    says_nothing_new,
    with_golden,
    write_release_folder,
)
from cloud.catalog import Catalog
from cloud.embeddings import EmbeddingCache
from cloud.golden import golden_candidates
from cloud.rehearsal import Rehearsal
from edge.compaction import merge_segments
from edge.disk import sha256_file
from edge.errors import BadModel, Incompatible, ModelBroken, NoRelease, StorageUnusable
from edge.image import encode_jpeg
from edge.matcher import Matcher, check_golden
from edge.model import Model
from edge.products import Product
from edge.segments import Segment, SegmentStack, encode_base, encode_delta, open_segment
from tests.cloud.conftest import add_pack, draw_pack


def embed(catalog: Catalog, model: Model, cache_folder: Path) -> EmbeddedCatalog:
    with EmbeddingCache(cache_folder) as cache:
        return embed_catalog(
            model,
            model.variant(),
            products=catalog.products(),
            references=catalog.reference_photos(),
            photos=catalog.photos,
            cache=cache,
        )


def assemble(
    catalog: Catalog, model: Model, tmp_path: Path, version: int = 1, previous: Previous | None = None
) -> Assembled:
    assembled = make_release(
        version,
        model,
        [variant for variant in model.variants if variant.target == "cpu"],
        embed(catalog, model, tmp_path / "cache").content,
        certificate=b"a certificate",
        previous=previous,
    )
    before = previous.release if previous else None
    candidates = golden_candidates(catalog.reference_photos(), catalog.photos, before)
    folder = write_release_folder(assembled, tmp_path / "made" / str(version))
    with Rehearsal(model, [model.variant()], folder, tmp_path / "cache") as rehearsal:
        return with_golden(assembled, candidates, rehearsal.matchers(assembled), previous=previous)


def as_previous(assembled: Assembled, folder: Path) -> Previous:
    return Previous(assembled.release, write_release_folder(assembled, folder))


def test_the_assembled_release_answers_a_photo_it_has_never_seen(
    catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    folder = write_release_folder(assemble(catalog, tiny_model, tmp_path), tmp_path / "release")
    matcher = Matcher.open(folder)
    best = [matcher.match_photo(encode_jpeg(draw_pack(number, 9))).candidates[0] for number in range(6)]
    assert [candidate.product.sku for candidate in best] == [f"pack-{number:02}" for number in range(6)]


def test_the_golden_photos_are_answered_rightly_and_by_every_device(
    catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    assembled = assemble(catalog, tiny_model, tmp_path)
    golden = assembled.release.golden
    assert len(golden) == 4
    assert len({each.sku for each in golden}) == 4
    own = {photo.sha256: photo.sku for photo in catalog.reference_photos()}
    assert all(each.verdict == "match" and each.sku == own[each.photo] for each in golden)
    folder = write_release_folder(assembled, tmp_path / "release")
    check_golden(Matcher.open(folder), folder)


def test_every_file_of_the_manifest_is_there_under_its_hash(
    catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    assembled = assemble(catalog, tiny_model, tmp_path)
    folder = write_release_folder(assembled, tmp_path / "release")
    for entry in assembled.release.files:
        assert sha256_file(folder / entry.sha256) == entry.sha256
        assert (folder / entry.sha256).stat().st_size == entry.size
    assert {entry.role for entry in assembled.release.files} == {
        "model",
        "segment",
        "golden",
        "certificate",
    }


def test_the_same_catalog_gives_the_same_release(catalog: Catalog, tiny_model: Model, tmp_path: Path) -> None:
    first = assemble(catalog, tiny_model, tmp_path)
    second = assemble(catalog, tiny_model, tmp_path / "elsewhere")
    assert first.files == second.files
    assert replace(first.release, created="") == replace(second.release, created="")


def test_a_photo_that_was_embedded_is_not_embedded_again(
    catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    first = embed(catalog, tiny_model, tmp_path)
    assert (first.embedded, first.reused) == (18, 0)
    add_pack(catalog, 6)
    second = embed(catalog, tiny_model, tmp_path)
    assert (second.embedded, second.reused) == (3, 18)
    assert all(np.array_equal(rows, second.content.rows[sku]) for sku, rows in first.content.rows.items())


def test_a_damaged_cache_is_made_anew(catalog: Catalog, tiny_model: Model, tmp_path: Path) -> None:
    (tmp_path / "embeddings.db").write_bytes(b"not a database, and rather long for one" * 100)
    assert embed(catalog, tiny_model, tmp_path).embedded == 18


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StorageUnusable, match="cache"):
        EmbeddingCache(tmp_path / "cache")


def test_test_photos_are_never_in_a_release(catalog: Catalog, tiny_model: Model, tmp_path: Path) -> None:
    catalog.add_photo("pack-00", encode_jpeg(draw_pack(0, 7)), "in-store", "test", "test/0.jpg")
    embedded = embed(catalog, tiny_model, tmp_path)
    assert embedded.embedded == 18


def test_a_photo_that_went_bad_is_left_out_and_named(
    catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    victim = catalog.reference_photos()[0]
    catalog.photos.path(victim.sha256).write_bytes(b"spoiled")
    embedded = embed(catalog, tiny_model, tmp_path)
    (refused,) = embedded.refused
    assert (refused.sku, refused.sha256) == (victim.sku, victim.sha256)
    assert "import it again" in refused.reason
    assert embedded.embedded == 17


def test_a_product_without_photos_is_known_and_has_no_rows(
    catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    catalog.put_product(Product("bare", "Not photographed yet"))
    content = embed(catalog, tiny_model, tmp_path).content
    assert "bare" in content.products
    assert "bare" not in content.rows


def test_a_catalog_without_photos_makes_no_release(
    catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    for product in catalog.products():
        catalog.remove(product.sku)
    with pytest.raises(NoRelease, match="catalog import"):
        assemble(catalog, tiny_model, tmp_path)


def test_a_small_change_is_a_delta_and_a_new_price_costs_no_vectors(
    catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    for number in range(6, 30):
        add_pack(catalog, number)
    first = assemble(catalog, tiny_model, tmp_path)
    previous = as_previous(first, tmp_path / "1")
    add_pack(catalog, 0, price="2.49")
    second = assemble(catalog, tiny_model, tmp_path, 2, previous)
    assert len(second.release.segments) == 2
    assert second.release.segments[0] == first.release.segments[0]
    assert len(second.files[second.release.segments[1]]) < 512
    matcher = Matcher.open(write_release_folder(second, tmp_path / "2"))
    assert matcher.stack.products["pack-00"].price == "2.49"
    assert matcher.match_photo(encode_jpeg(draw_pack(0, 9))).candidates[0].product.sku == "pack-00"


def test_the_golden_photos_stay_when_a_product_is_added(
    catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    first = assemble(catalog, tiny_model, tmp_path)
    previous = as_previous(first, tmp_path / "1")
    add_pack(catalog, 6)
    second = assemble(catalog, tiny_model, tmp_path, 2, previous)
    assert {golden.photo for golden in first.release.golden} == {
        golden.photo for golden in second.release.golden
    }


def test_a_change_of_everything_is_a_new_base(catalog: Catalog, tiny_model: Model, tmp_path: Path) -> None:
    previous = as_previous(assemble(catalog, tiny_model, tmp_path), tmp_path / "1")
    for number in range(6):
        catalog.remove(f"pack-{number:02}")
        add_pack(catalog, number + 6)
    second = assemble(catalog, tiny_model, tmp_path, 2, previous)
    assert len(second.release.segments) == 1
    assert second.release.file(second.release.segments[0]).merge == ()


def test_deltas_that_get_heavy_are_folded_into_a_base_that_devices_make_themselves(
    catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    for number in range(6, 24):
        add_pack(catalog, number)
    previous = as_previous(assemble(catalog, tiny_model, tmp_path), tmp_path / "1")
    for version in range(2, 7):
        add_pack(catalog, 0, price=f"{version}.00")
        assembled = assemble(catalog, tiny_model, tmp_path, version, previous)
        before, after = previous.release.segments, assembled.release.segments
        if after[0] != before[0]:
            break
        assert after[:-1] == before
        previous = as_previous(assembled, tmp_path / str(version))
    assert version == 4
    assert assembled.release.file(after[0]).merge == before
    assert len(after) == 2
    merge_segments([(previous.files / name, name) for name in before], tmp_path / "merged")
    assert sha256_file(tmp_path / "merged") == after[0]


def test_the_newest_deltas_are_not_folded_so_that_who_missed_some_can_fold_too(
    catalog: Catalog, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "DELTA_SHARE", 100.0)
    monkeypatch.setattr(assembly, "MOST_DELTAS", 7)
    previous = as_previous(assemble(catalog, tiny_model, tmp_path), tmp_path / "1")
    chains = [previous.release.segments]
    for version in range(2, 10):
        add_pack(catalog, 0, price=f"{version}.00")
        assembled = assemble(catalog, tiny_model, tmp_path, version, previous)
        previous = as_previous(assembled, tmp_path / str(version))
        chains.append(assembled.release.segments)
    assert [len(chain) for chain in chains] == [1, 2, 3, 4, 5, 6, 7, 8, 6]
    assert chains[-1][1:-1] == chains[-2][-assembly.LEFT_DELTAS :]
    assert assembled.release.file(chains[-1][0]).merge == chains[-2][: -assembly.LEFT_DELTAS]
    # Who was last here four releases ago has all of it.
    assert set(assembled.release.file(chains[-1][0]).merge) <= set(chains[-2 - assembly.LEFT_DELTAS])
    add_pack(catalog, 0, price="10.00")
    later = assemble(catalog, tiny_model, tmp_path, 10, previous).release
    assert later.file(later.segments[0]) == assembled.release.file(chains[-1][0])


def test_a_price_that_goes_there_and_back_and_there_is_never_the_same_file_twice(
    catalog: Catalog, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "DELTA_SHARE", 100.0)
    previous = as_previous(assemble(catalog, tiny_model, tmp_path), tmp_path / "1")
    for version, price in enumerate(["1.00", "2.00", "1.00", "2.00", "1.00"], start=2):
        add_pack(catalog, 0, price=price)
        assembled = assemble(catalog, tiny_model, tmp_path, version, previous)
        previous = as_previous(assembled, tmp_path / str(version))  # checks the merge against what is signed
        opened = Matcher.open(previous.files)
        assert opened.stack.products["pack-00"].price == price


@pytest.mark.parametrize("change", ["remove", "price", "title", "photos"])
def test_no_change_of_a_product_touches_the_vectors_of_another(
    catalog: Catalog, tiny_model: Model, tmp_path: Path, change: str
) -> None:
    for number in range(6, 24):
        add_pack(catalog, number)
    first = assemble(catalog, tiny_model, tmp_path)
    previous = as_previous(first, tmp_path / "1")
    if change == "remove":
        catalog.remove("pack-03")
    elif change == "price":
        catalog.put_product(Product("pack-03", "Pack 3", "packs", price="9.99"))
    elif change == "title":
        catalog.put_product(Product("pack-03", "Another title", "packs"))
    else:
        catalog.remove("pack-03")
        catalog.put_product(Product("pack-03", "Pack 3", "packs"))
        catalog.add_photo("pack-03", encode_jpeg(draw_pack(3, 77)), "in-store", "reference", "anew.jpg")
    second = assemble(catalog, tiny_model, tmp_path, 2, previous)
    base, delta = second.release.segments
    written = open_segment(as_previous(second, tmp_path / "2").files / delta, delta)
    assert {product.sku for product in written.products} <= {"pack-03"}
    assert len(written.rows) == (1 if change == "photos" else 0)
    before = SegmentStack.open([(previous.files / base, base)]).content()
    after = SegmentStack.open([(tmp_path / "2" / name, name) for name in (base, delta)]).content()
    others = before.rows.keys() - {"pack-03"}
    assert len(others) == 23
    assert all(after.rows[sku].tobytes() == before.rows[sku].tobytes() for sku in others)
    assert all(after.products[sku] == before.products[sku] for sku in others)


def test_another_model_brings_a_base_of_its_own_and_no_vector_of_the_old_one(
    catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    first = assemble(catalog, tiny_model, tmp_path)
    previous = as_previous(first, tmp_path / "1")
    other = replace(tiny_model, space="f" * 16)
    second = assemble(catalog, other, tmp_path, 2, previous)
    (base,) = second.release.segments
    assert second.release.file(base).merge == ()
    assert not {base} & set(first.release.segments)
    folder = write_release_folder(second, tmp_path / "2")
    matcher = Matcher.open(folder)
    assert (matcher.release.space, matcher.stack.space) == ("f" * 16, "f" * 16)
    check_golden(matcher, folder)
    with pytest.raises(Incompatible, match="embed the catalog with one model"):
        SegmentStack([*SegmentStack.open([(folder / base, base)]).segments, *_delta_of(previous, tmp_path)])


def _delta_of(previous: Previous, tmp_path: Path) -> list[Segment]:
    stack = SegmentStack.open([(previous.files / name, name) for name in previous.release.segments])
    old = stack.content()
    gone = next(iter(old.products))
    without = replace(
        old,
        products={sku: each for sku, each in old.products.items() if sku != gone},
        rows={sku: each for sku, each in old.rows.items() if sku != gone},
    )
    delta = encode_delta(old, without)
    assert delta is not None
    (tmp_path / "delta").write_bytes(delta)
    return [open_segment(tmp_path / "delta", None)]


def test_the_whole_content_is_there_as_one_base_to_fall_back_to(
    catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    first = assemble(catalog, tiny_model, tmp_path)
    assert first.release.whole_base is None  # its only segment is it
    for number in range(6, 24):
        add_pack(catalog, number)
    previous = as_previous(assemble(catalog, tiny_model, tmp_path, 2), tmp_path / "2")
    add_pack(catalog, 0, price="2.49")
    second = assemble(catalog, tiny_model, tmp_path, 3, previous)
    whole = second.release.whole_base
    assert whole is not None
    assert (len(second.whole), hashlib.sha256(second.whole).hexdigest()) == (whole.size, whole.sha256)
    assert whole.sha256 not in second.files


@pytest.mark.parametrize("damage", ["lost", "spoiled"])
def test_a_lost_segment_costs_a_new_base_and_not_the_release(
    catalog: Catalog, tiny_model: Model, tmp_path: Path, damage: str
) -> None:
    previous = as_previous(assemble(catalog, tiny_model, tmp_path), tmp_path / "1")
    segment = previous.files / previous.release.segments[0]
    if damage == "lost":
        segment.unlink()
    else:
        segment.write_bytes(segment.read_bytes()[:-1])
    add_pack(catalog, 0, price="2.49")
    assert len(assemble(catalog, tiny_model, tmp_path, 2, previous).release.segments) == 1


def test_an_unchanged_catalog_says_nothing_new(catalog: Catalog, tiny_model: Model, tmp_path: Path) -> None:
    first = assemble(catalog, tiny_model, tmp_path)
    previous = as_previous(first, tmp_path / "1")
    second = assemble(catalog, tiny_model, tmp_path, 2, previous)
    assert says_nothing_new(first.release, second.release)
    assert second.release.segments == first.release.segments
    add_pack(catalog, 0, price="2.49")
    assert not says_nothing_new(first.release, assemble(catalog, tiny_model, tmp_path, 3, previous).release)


def test_the_signed_hash_is_that_of_the_whole_content(
    catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    assembled = assemble(catalog, tiny_model, tmp_path)
    base = assembled.files[assembled.release.segments[0]]
    assert base == encode_base(embed(catalog, tiny_model, tmp_path / "cache").content)
    assert assembled.release.merged_sha256 == assembled.release.segments[0]


def test_a_model_file_that_was_changed_is_refused(
    catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    content = embed(catalog, tiny_model, tmp_path).content
    variant = tiny_model.variant()
    other = replace(tiny_model, folder=tmp_path / "model")
    other.folder.mkdir()
    with pytest.raises(BadModel, match="cannot be read"):
        make_release(1, other, [variant], content)
    (other.folder / variant.file).write_bytes(b"x" * variant.size)
    with pytest.raises(BadModel, match=r"is not the one that model\.json names"):
        make_release(1, other, [variant], content)


def test_a_model_that_answers_with_nan_makes_no_release(
    catalog: Catalog, tiny_model: Model, broken_models: Path, tmp_path: Path
) -> None:
    variant = replace(
        tiny_model.variants[0], file="nan.tflite", sha256=sha256_file(broken_models / "nan.tflite")
    )
    broken = replace(tiny_model, folder=broken_models, variants=(variant,))
    with pytest.raises(ModelBroken):
        embed(catalog, broken, tmp_path)
