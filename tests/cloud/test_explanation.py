"""Explaining an answer beside the reference photos it rests on."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cloud.catalog import Catalog
from cloud.commands import main
from cloud.embeddings import EmbeddingCache
from cloud.explanation import CatalogExplanation, draw_catalog_explanation, explain_photo
from cloud.workspace import Workspace
from edge.embedder import Embedder
from edge.errors import NoRelease, PhotoUnreadable
from edge.explain import similarity_map
from edge.image import decode, encode_jpeg, fit
from edge.model import Model
from edge.reference import embed_reference
from tests.cloud.conftest import add_pack, draw_pack

MODEL = Path(__file__).resolve().parents[1] / "data" / "tiny-int8"


def explain(workspace: Workspace, catalog: Catalog, model: Model, photo: bytes) -> CatalogExplanation:
    with EmbeddingCache(workspace.cache) as cache:
        return explain_photo(photo, model=model, variant=model.variant(), catalog=catalog, cache=cache)


def run(workspace: Workspace, *arguments: object) -> Result:
    command = ["explain", *map(str, arguments), "--model", str(MODEL), "--data", str(workspace.data)]
    return CliRunner().invoke(main, command)


def test_the_answer_rests_on_a_reference_photo_of_its_product_and_its_map_adds_up(
    workspace: Workspace, catalog: Catalog, tiny_model: Model
) -> None:
    explained = explain(workspace, catalog, tiny_model, encode_jpeg(draw_pack(3, 50)))
    sides = (explained.explanation.first, explained.explanation.runner_up)
    assert explained.explanation.first.candidate.product.sku == "pack-03"
    for side, reference in zip(sides, explained.references, strict=True):
        assert side is not None
        assert reference.photo.sku == side.candidate.product.sku
        assert float(side.contributions.sum()) == pytest.approx(side.candidate.similarity, abs=1e-4)
        # The index has the mean of four views of the reference photo; its map is of the photo as it is.
        assert 0.5 < float(reference.contributions.sum()) <= 1.001


def test_the_reference_photo_shown_is_the_nearest_of_its_product_seen_from_its_own_side(
    workspace: Workspace, catalog: Catalog, tiny_model: Model
) -> None:
    query = draw_pack(2, 50)
    explained = explain(workspace, catalog, tiny_model, encode_jpeg(query))
    size = tiny_model.input_size
    embedder = Embedder.open(
        tiny_model.path(tiny_model.variant()), dimension=tiny_model.dimension, input_size=size
    )
    asked = embedder.embed(fit(decode(encode_jpeg(query), shrink_to=size), size))
    own = [photo for photo in catalog.reference_photos() if photo.sku == "pack-02"]
    pictures = {each: fit(decode(catalog.photos.read(each.sha256), shrink_to=size), size) for each in own}
    nearest = max(own, key=lambda each: float(embed_reference(embedder, pictures[each]) @ asked.vector))
    first = explained.references[0]
    assert first.photo == nearest
    seen = embedder.embed(pictures[nearest])
    np.testing.assert_allclose(first.contributions, similarity_map(seen, asked.vector), atol=1e-5)


def test_a_photo_that_is_in_the_catalog_is_explained_by_itself(
    workspace: Workspace, catalog: Catalog, tiny_model: Model
) -> None:
    photo = catalog.reference_photos()[4]
    explained = explain(workspace, catalog, tiny_model, catalog.photos.read(photo.sha256))
    assert explained.references[0].photo == photo
    assert float(explained.references[0].contributions.sum()) == pytest.approx(1, abs=1e-3)


def test_the_sheet_shows_two_rows_of_four(workspace: Workspace, catalog: Catalog, tiny_model: Model) -> None:
    explained = explain(workspace, catalog, tiny_model, encode_jpeg(draw_pack(3, 50)))
    drawn = draw_catalog_explanation(explained)
    assert drawn.shape[1] == 2 * 24 + 4 * 400 + 3 * 20
    assert drawn.shape[0] > 2 * 400


def test_one_product_alone_has_one_row(workspace: Workspace, tiny_model: Model) -> None:
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    with pytest.raises(NoRelease):
        explain(workspace, catalog, tiny_model, encode_jpeg(draw_pack(1, 1)))
    add_pack(catalog, 1)
    explained = explain(workspace, catalog, tiny_model, encode_jpeg(draw_pack(1, 50)))
    assert len(explained.references) == 1
    assert 400 < draw_catalog_explanation(explained).shape[0] < 800
    assert explained.to_record()["runner_up"] is None


def test_what_is_no_photo_is_refused(workspace: Workspace, catalog: Catalog, tiny_model: Model) -> None:
    with pytest.raises(PhotoUnreadable):
        explain(workspace, catalog, tiny_model, b"hello")


def test_the_command_draws_and_tells(workspace: Workspace, catalog: Catalog, tmp_path: Path) -> None:
    photo, out = tmp_path / "seen.jpg", tmp_path / "why.png"
    photo.write_bytes(encode_jpeg(draw_pack(5, 50)))
    said = run(workspace, photo, "--out", out, "--json")
    assert said.exit_code == 0, said.stderr
    told = json.loads(said.stdout)
    assert json.loads(out.with_suffix(".json").read_bytes()) == told
    assert decode(out.read_bytes()).shape[1] == 1708
    assert (told["photo"], told["model"], told["variant"]) == (str(photo), "tiny-int8", "int8")
    assert told["answer"]["sku"] == "pack-05"
    assert told["answer"]["reference"]["source"].startswith("5/")
    for side in (told["answer"], told["runner_up"]):
        assert sum(map(sum, side["map"])) == pytest.approx(side["similarity"], abs=1e-3)
        assert 0.5 < sum(map(sum, side["reference"]["map"])) <= 1.001
    in_words = run(workspace, photo).stdout
    assert "The runner-up is" in in_words
    assert "pack-05: 5/" in in_words


def test_the_command_says_what_is_wrong(workspace: Workspace, catalog: Catalog, tmp_path: Path) -> None:
    photo = tmp_path / "seen.jpg"
    photo.write_bytes(encode_jpeg(draw_pack(5, 50)))
    assert run(workspace, photo, "--out", "why.gif").exit_code == 2
    missing = run(workspace, tmp_path / "gone.jpg")
    assert missing.exit_code == 1
    assert missing.stderr.startswith("error: ")
    assert "explain" in CliRunner().invoke(main, ["--help"]).stdout
