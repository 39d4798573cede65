"""The measurement of a model, on drawn packs and a small real TFLite model."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cloud.catalog import Catalog, ReferencePhoto
from cloud.commands import main
from cloud.embeddings import EmbeddingCache
from cloud.evaluation import Evaluation, draw_confusions, evaluate
from cloud.evaluation.scores import Answered, count_verdicts, score, worst_confusions
from cloud.look_alikes import fingerprint, near_pairs
from cloud.workspace import Workspace
from edge.errors import BadModel, BadSetting
from edge.image import decode
from edge.model import Model, write_model
from edge.products import Product
from tests.cloud.drawn_shop import draw_pack, encode, fill, photograph


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "shop")


@pytest.fixture
def catalog(workspace: Workspace) -> Catalog:
    """Give ten packs of two categories: three photos to know each by, a packshot, and two photos to ask."""
    return fill(Catalog(workspace.sessions(), workspace.photo_storage()))


@pytest.fixture
def cache(workspace: Workspace) -> Iterator[EmbeddingCache]:
    with EmbeddingCache(workspace.cache) as cache:
        yield cache


def ask(catalog: Catalog, model: Model, cache: EmbeddingCache) -> Evaluation:
    return evaluate(catalog, model, cache=cache)


def test_packs_that_a_small_network_can_tell_apart_are_told_apart(
    catalog: Catalog, tiny_model: Model, cache: EmbeddingCache
) -> None:
    found = ask(catalog, tiny_model, cache)
    assert (found.photos, found.references, found.packshots, found.products) == (20, 30, 10, 10)
    assert found.scores is not None
    assert 0.6 <= found.scores.fine_top1 <= found.scores.coarse_top1 <= 1
    assert found.scores.fine_top1 <= found.scores.fine_top5 <= 1
    assert found.packshot_fine_top1 is not None and found.packshot_fine_top1 >= 0.5
    assert found.ms_per_photo_p50 is not None and 0 < found.ms_per_photo_p50 < 1000
    assert (found.left_out, found.unread, found.strangers) == (0, (), 0)


def test_the_int8_file_is_compared_with_the_float_one_beside_it(
    catalog: Catalog, tiny_model: Model, cache: EmbeddingCache
) -> None:
    drift = ask(catalog, tiny_model, cache).drift
    assert drift is not None
    assert abs(drift.int8_minus_float) <= 0.15
    assert 0.97 < drift.mean_cosine < 1


def test_a_float_file_can_be_named_and_a_record_stands_in_for_it(
    catalog: Catalog, tiny_model: Model, cache: EmbeddingCache
) -> None:
    int8_only = replace(tiny_model, variants=tiny_model.variants[:1])
    assert evaluate(catalog, int8_only, cache=cache).drift is None
    float_file = tiny_model.path(tiny_model.variant("float32"))
    named = evaluate(catalog, int8_only, cache=cache, exact=float_file).drift
    assert named == ask(catalog, tiny_model, cache).drift
    record = {"parity": {"int8_minus_float": -0.004, "mean_cosine": 0.991}}
    recorded = evaluate(catalog, replace(int8_only, extra=record), cache=cache).drift
    assert recorded is not None
    assert (recorded.int8_minus_float, recorded.mean_cosine) == (-0.004, 0.991)


def test_the_record_has_the_promised_names(
    catalog: Catalog, tiny_model: Model, cache: EmbeddingCache
) -> None:
    record = ask(catalog, tiny_model, cache).to_record()
    assert list(record)[:7] == [
        "fine_top1",
        "coarse_top1",
        "fine_top5",
        "packshot_fine_top1",
        "int8_minus_float",
        "mean_cosine",
        "ms_per_photo_p50",
    ]
    assert json.loads(json.dumps(record)) == record


def test_a_catalog_without_test_photos_says_how_to_get_some(
    workspace: Workspace, tiny_model: Model, cache: EmbeddingCache
) -> None:
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    with pytest.raises(BadSetting, match="no test photos: import some"):
        ask(catalog, tiny_model, cache)
    catalog.put_product(Product("a"))
    catalog.add_photo("a", photograph(draw_pack(1), 1), "in-store", "test", "1.jpg")
    with pytest.raises(BadSetting, match="no reference photos"):
        ask(catalog, tiny_model, cache)


def test_a_test_photo_that_is_also_a_reference_is_left_out(
    catalog: Catalog, tiny_model: Model, cache: EmbeddingCache
) -> None:
    test_photo = catalog.photos.read(catalog.test_photos()[0].sha256)
    # The same bytes as a reference of another product: the reference goes.
    catalog.add_photo("pack-9", test_photo, "in-store", "train", "wrong.jpg")
    # The same picture at another size and quality: the test photo goes.
    again = Image.fromarray(decode(catalog.photos.read(catalog.test_photos()[5].sha256))).resize((128, 128))
    catalog.add_photo("pack-2", encode(again, quality=60), "in-store", "train", "copy.jpg")
    found = ask(catalog, tiny_model, cache)
    assert found.left_out == 2
    assert (found.photos, found.references) == (19, 31)


def test_products_nobody_has_photographed_are_strangers(
    catalog: Catalog, tiny_model: Model, cache: EmbeddingCache
) -> None:
    catalog.put_product(Product("stranger"))
    catalog.add_photo("stranger", photograph(draw_pack(77), 1), "in-store", "test", "stranger.jpg")
    found = ask(catalog, tiny_model, cache)
    assert (found.photos, found.strangers) == (20, 1)
    assert found.strangers_unknown in (0.0, 1.0)


def test_packshots_answer_where_there_is_nothing_else(
    catalog: Catalog, tiny_model: Model, cache: EmbeddingCache
) -> None:
    for photo in catalog.reference_photos(kinds=["in-store"]):
        catalog.add_photo(photo.sku, catalog.photos.read(photo.sha256), "packshot", "reference", photo.source)
    found = ask(catalog, tiny_model, cache)
    assert found.references == found.packshots == 40
    assert found.scores is not None
    assert found.packshot_fine_top1 == found.scores.fine_top1


def test_a_photo_that_was_lost_is_told_of_and_the_rest_go_on(
    catalog: Catalog, tiny_model: Model, cache: EmbeddingCache
) -> None:
    lost = [catalog.test_photos()[0], catalog.reference_photos(kinds=["in-store"])[0]]
    for photo in lost:
        catalog.photos.path(photo.sha256).unlink()
    found = ask(catalog, tiny_model, cache)
    assert found.photos == 19
    assert sorted(photo.source for photo in found.unread) == sorted(photo.source for photo in lost)


def test_a_second_domain_is_answered_by_kind(
    catalog: Catalog, tiny_model: Model, cache: EmbeddingCache, tmp_path: Path
) -> None:
    for kind in range(4):
        for split, shots in (("train", 4), ("test", 2)):
            folder = tmp_path / "clothes" / split / f"kind-{kind}"
            folder.mkdir(parents=True)
            for shot in range(shots):
                photo = photograph(draw_pack(50 + kind), 1000 * kind + 10 * shots + shot)
                (folder / f"{shot}.jpg").write_bytes(photo)
    (tmp_path / "clothes" / "test" / "kind-0" / "broken.jpg").write_bytes(b"no photo")
    found = evaluate(catalog, tiny_model, cache=cache, second_domain=tmp_path / "clothes")
    assert found.second_domain_top1 is not None and found.second_domain_top1 >= 0.75
    with pytest.raises(BadSetting, match="no photos in train/KIND/"):
        evaluate(catalog, tiny_model, cache=cache, second_domain=tmp_path / "clothes" / "train")


def test_an_unknown_variant_is_refused(catalog: Catalog, tiny_model: Model, cache: EmbeddingCache) -> None:
    with pytest.raises(BadModel, match="no variant"):
        evaluate(catalog, tiny_model, cache=cache, variant="int7")


def answered(sku: str, *skus: str, verdict: str = "match") -> Answered:
    photo = ReferencePhoto(sku, "0" * 64, "in-store", "test", f"{sku}.jpg")
    return Answered(photo, verdict, skus, np.zeros(4, np.float32), 1.0)


def test_scores_count_products_categories_and_the_first_five() -> None:
    products = {sku: Product(sku, category=category) for sku, category in (("a", "x"), ("b", "x"), ("c", ""))}
    answers = [
        answered("a", "a", "b"),
        answered("a", "b", "a"),
        answered("b", "c", "1", "2", "3", "b"),
        answered("c", "1", "2", "3", "4", "5", "c"),
    ]
    scores = score(answers, products)
    assert scores is not None
    assert (scores.fine_top1, scores.coarse_top1, scores.fine_top5) == (0.25, 0.5, 0.75)
    assert score([], products) is None


def test_verdicts_say_how_many_matches_are_right() -> None:
    answers = [
        answered("a", "a"),
        answered("a", "b"),
        answered("a", "a", verdict="unsure"),
        answered("a", "a", verdict="unknown"),
    ]
    verdicts = count_verdicts(answers)
    assert verdicts is not None
    shares = (verdicts.match, verdicts.unsure, verdicts.unknown, verdicts.match_is_right)
    assert shares == (0.5, 0.25, 0.25, 0.5)
    assert count_verdicts([]) is None


def test_the_most_frequent_confusion_comes_first() -> None:
    answers = [
        answered("a", "b"),
        answered("b", "a"),
        answered("b", "a"),
        answered("b", "b"),
        answered("c", "c"),
    ]
    first, second = worst_confusions(answers, count=5, examples=1)
    assert (first.sku, first.answered, first.count, first.photos) == ("b", "a", 2, 3)
    assert (second.sku, second.answered, second.count, second.photos) == ("a", "b", 1, 1)
    assert len(first.examples) == 1


def test_confusions_are_drawn_one_row_each(catalog: Catalog, tmp_path: Path) -> None:
    photos = catalog.test_photos()
    answers = [answered("pack-0", "pack-1"), answered("pack-2", "a product that left")]
    answers = [replace(answer, photo=photo) for answer, photo in zip(answers, photos, strict=False)]
    confusions = worst_confusions(answers, count=5, examples=4)
    draw_confusions(catalog, confusions, "Two confusions", tmp_path / "two.png")
    draw_confusions(catalog, (), "None", tmp_path / "none.png")
    with Image.open(tmp_path / "two.png") as two, Image.open(tmp_path / "none.png") as none:
        assert two.width == none.width
        assert two.height > none.height
        colors = two.getcolors(1 << 20)
        assert colors is not None and len(colors) > 1000  # photos, not frames alone


def test_copies_are_found_whatever_their_size_quality_and_light() -> None:
    packs = {f"{seed}": photograph(draw_pack(seed), seed) for seed in range(20)}
    picture = Image.fromarray(decode(packs["3"]))
    packs["half"] = encode(picture.resize((40, 40)))
    packs["poor"] = encode(picture, quality=50)
    packs["lit"] = encode(picture.point([min(255, round(level * 1.1)) for level in range(256)] * 3))
    pairs = near_pairs({name: fingerprint(decode(photo)) for name, photo in packs.items()})
    copies = {"half", "poor", "lit"}
    assert {("3", copy) for copy in copies} <= pairs
    assert {name for pair in pairs for name in pair} == {"3", *copies}


def test_the_command_prints_json_and_writes_what_it_is_asked_for(
    catalog: Catalog, tiny_model: Model, workspace: Workspace, tmp_path: Path
) -> None:
    runner = CliRunner()
    paths = ["--picture", str(tmp_path / "worst.png"), "--out", str(tmp_path / "scores.json")]
    command = ["evaluate", "--data", str(workspace.data), "--model", str(tiny_model.folder)]
    result = runner.invoke(main, [*command, "--json", *paths], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["photos"] == 20
    assert json.loads((tmp_path / "scores.json").read_text()) == record
    assert (tmp_path / "worst.png").read_bytes().startswith(b"\x89PNG")
    result = runner.invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0
    assert "tiny-int8 (int8): 20 test photos against 30 references of 10 products" in result.stdout


def test_the_command_says_in_one_sentence_what_is_missing(
    workspace: Workspace, tiny_model: Model, tmp_path: Path
) -> None:
    runner = CliRunner()
    command = ["--data", str(workspace.data), "evaluate", "--model"]
    result = runner.invoke(main, [*command, str(tiny_model.folder)])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: the catalog has no test photos")
    result = runner.invoke(main, [*command, str(tmp_path)])
    assert result.exit_code == 1
    assert "is no model folder" in result.stderr


def test_a_model_of_another_input_size_is_refused(
    catalog: Catalog, tiny_model: Model, workspace: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "wrong"
    folder.mkdir()
    for variant in tiny_model.variants:
        (folder / variant.file).write_bytes(tiny_model.path(variant).read_bytes())
    write_model(replace(tiny_model, input_size=48, folder=folder), folder)
    result = CliRunner().invoke(main, ["evaluate", "--data", str(workspace.data), "--model", str(folder)])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "48" in result.stderr
