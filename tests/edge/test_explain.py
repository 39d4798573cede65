"""`edge.explain`: the parts add up to the whole, and the picture shows them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.embedder import Embedder, Embedding
from edge.errors import Incompatible, PhotoUnreadable
from edge.explain import draw_heat_map, draw_pair, side_by_side, similarity_map
from edge.image import decode, fit
from edge.matcher import Matcher
from edge.model import Model
from tests.edge.drawn_release import draw_pack, photograph

Picture = NDArray[np.uint8]


def embed(model: Model, picture: Picture, variant: str = "int8") -> Embedding:
    path = model.path(model.variant(variant))
    embedder = Embedder.open(path, dimension=model.dimension, input_size=model.input_size)
    return embedder.embed(fit(picture, model.input_size))


@pytest.mark.parametrize("variant", ["int8", "int8-out", "float32"])
def test_the_map_of_a_real_network_adds_up_to_the_similarity(tiny_model: Model, variant: str) -> None:
    query = embed(tiny_model, decode(photograph(draw_pack(1))), variant)
    for seed in range(5):
        reference = embed(tiny_model, draw_pack(seed), variant).vector
        contributions = similarity_map(query, reference)
        assert contributions.shape == (4, 4)
        assert float(contributions.sum()) == pytest.approx(float(query.vector @ reference), abs=1e-5)


@given(seed=st.integers(0, 2**32 - 1), length=st.floats(0.01, 100))
def test_without_rounding_each_place_contributes_its_own_share(seed: int, length: float) -> None:
    rng = np.random.default_rng(seed)
    local = rng.normal(size=(3, 5, 8)).astype(np.float32)
    pooled = local.mean(axis=(0, 1))
    query = Embedding(pooled / np.linalg.norm(pooled), local)
    reference = rng.normal(size=8).astype(np.float32)
    direction = reference / np.linalg.norm(reference)
    expected = local @ direction / (15 * np.linalg.norm(pooled))
    np.testing.assert_allclose(similarity_map(query, reference * np.float32(length)), expected, atol=1e-4)


def test_what_an_installed_release_answers_can_be_explained(
    release_folder: Path, packs: dict[str, Picture]
) -> None:
    matcher = Matcher.open(release_folder)
    answer = matcher.match_photo(photograph(packs["pack-6"]))
    assert answer.embedding is not None
    hit = matcher.index.search(answer.embedding.vector, 1)[0]
    reference = matcher.stack.vectors(np.array([hit.row]))[0]
    contributions = similarity_map(answer.embedding, reference)
    assert float(contributions.sum()) == pytest.approx(answer.candidates[0].similarity, abs=1e-4)


def test_vectors_that_do_not_belong_together_are_refused() -> None:
    query = Embedding(np.ones(4, np.float32) / 2, np.ones((2, 2, 4), np.float32))
    for reference in (np.ones(5, np.float32), np.zeros(4, np.float32)):
        with pytest.raises(Incompatible, match="one model"):
            similarity_map(query, reference)


def test_orange_is_for_and_blue_is_against() -> None:
    picture = np.full((80, 120, 3), 128, np.uint8)
    drawn = draw_heat_map(picture, np.array([[1.0, 0.0, -1.0]], np.float32)).astype(int)
    assert drawn.shape == picture.shape
    assert drawn[40, 5, 0] - drawn[40, 5, 2] > 100
    assert drawn[40, 115, 2] - drawn[40, 115, 0] > 100
    np.testing.assert_allclose(drawn[40, 60], 128, atol=4)


def test_a_map_of_nothing_leaves_a_gray_picture() -> None:
    drawn = draw_heat_map(draw_pack(1), np.zeros((4, 4), np.float32))
    assert drawn.shape == (64, 64, 3)


def test_maps_side_by_side_share_their_scale() -> None:
    picture = np.full((40, 40, 3), 128, np.uint8)
    weak = draw_heat_map(picture, np.full((2, 2), 0.1, np.float32), strongest=1.0).astype(int)
    strong = draw_heat_map(picture, np.full((2, 2), 1.0, np.float32), strongest=1.0).astype(int)
    assert np.ptp(weak[20, 20]) < np.ptp(strong[20, 20]) / 5


def test_a_pair_is_drawn_as_four_pictures_in_a_row(tiny_model: Model) -> None:
    query, reference = decode(photograph(draw_pack(1, size=200))), draw_pack(1, size=100)
    drawn = decode(draw_pair(query, embed(tiny_model, query), reference, embed(tiny_model, reference)))
    assert drawn.shape == (360, 4 * 360 + 3 * 8, 3)


def test_pictures_in_a_row_keep_their_proportions() -> None:
    assert side_by_side([np.zeros((50, 100, 3), np.uint8)] * 2, height=100).shape == (100, 408, 3)
    assert side_by_side([], height=20).shape[0] == 20


def test_what_is_no_picture_or_no_map_is_refused() -> None:
    with pytest.raises(PhotoUnreadable):
        draw_heat_map(np.zeros((4, 4), np.uint8), np.zeros((2, 2), np.float32))
    with pytest.raises(Incompatible, match="similarity_map"):
        draw_heat_map(draw_pack(1), np.zeros(4, np.float32))
