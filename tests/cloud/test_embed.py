"""Embedding many photos, in their two roles, with a cache."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud.catalog import Catalog
from cloud.embed import embed_queries, embed_references, fitted_pictures, open_embedder
from cloud.embeddings import EmbeddingCache
from edge.errors import ModelBroken
from edge.image import decode_to_fit
from edge.model import Model
from edge.reference import embed_reference


def names(catalog: Catalog) -> list[str]:
    return [photo.sha256 for photo in catalog.reference_photos()]


def test_a_photo_has_one_vector_to_ask_with_and_another_to_be_found_by(
    catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    pictures = fitted_pictures(catalog.photos, names(catalog), tiny_model.input_size)
    variant, name = tiny_model.variant(), names(catalog)[0]
    with EmbeddingCache(tmp_path) as cache:
        asked = embed_queries(tiny_model, variant, pictures, cache=cache)
        kept = embed_references(tiny_model, variant, pictures, cache=cache)
    assert (asked.made, kept.made) == (len(pictures), len(pictures)), "neither role takes the other's vector"
    embedder = open_embedder(tiny_model, variant)
    picture = decode_to_fit(catalog.photos.read(name), tiny_model.input_size)
    np.testing.assert_array_equal(asked.vectors[name], embedder.embed(picture).vector)
    np.testing.assert_array_equal(kept.vectors[name], embed_reference(embedder, picture))


def test_what_is_in_the_cache_is_not_made_again(catalog: Catalog, tiny_model: Model, tmp_path: Path) -> None:
    pictures = fitted_pictures(catalog.photos, names(catalog), tiny_model.input_size)
    few = dict(list(pictures.items())[:3])
    steps: list[tuple[int, int]] = []
    with EmbeddingCache(tmp_path) as cache:
        embed_references(tiny_model, tiny_model.variant(), few, cache=cache)
        found = embed_references(
            tiny_model, tiny_model.variant(), pictures, cache=cache, progress=lambda *at: steps.append(at)
        )
    assert found.made == len(pictures) - 3
    assert set(found.vectors) == set(pictures)
    assert steps == [(len(pictures) - 3, len(pictures) - 3)]


def test_a_photo_that_is_gone_is_told_and_the_others_go_on(
    catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    gone = "0" * 64
    pictures = fitted_pictures(catalog.photos, [gone, *names(catalog)], tiny_model.input_size)
    with EmbeddingCache(tmp_path) as cache:
        found = embed_queries(tiny_model, tiny_model.variant(), pictures, cache=cache)
    assert set(found.vectors) == set(names(catalog))
    assert list(found.refused) == [gone]


def test_a_broken_model_is_its_own_error(catalog: Catalog, tiny_model: Model, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    variant = tiny_model.variant()
    (tmp_path / "model" / variant.file).write_bytes(b"no network")
    broken = replace(tiny_model, folder=tmp_path / "model")
    pictures = fitted_pictures(catalog.photos, names(catalog), tiny_model.input_size)
    with EmbeddingCache(tmp_path) as cache, pytest.raises(ModelBroken):
        embed_references(broken, variant, pictures, cache=cache)
