"""`edge.explain`: the parts add up to the whole, the difference to the margin, and the words say where."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.embedder import Embedder, Embedding
from edge.errors import Incompatible, NoRelease
from edge.explain import Explanation, Likeness, explain_answer, find_place, similarity_map
from edge.image import decode, fit
from edge.matcher import Candidate, Matcher
from edge.model import Model
from edge.products import Product
from tests.edge.drawn_release import ReleaseMaker, draw_pack, photograph

Picture = NDArray[np.uint8]


def embed(model: Model, picture: Picture, variant: str = "int8") -> Embedding:
    path = model.path(model.variant(variant))
    embedder = Embedder.open(path, dimension=model.dimension, input_size=model.input_size)
    return embedder.embed(fit(picture, model.input_size))


def likeness(sku: str, contributions: NDArray[np.floating], *, score: float | None = None) -> Likeness:
    """A candidate whose similarity is the sum of its map."""
    total = float(contributions.sum())
    candidate = Candidate(Product(sku, sku.title()), total, 0.9, total if score is None else score)
    return Likeness(candidate, np.ones(2, np.float32), contributions.astype(np.float32))


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


def test_what_a_release_answers_is_explained_by_maps_that_add_up_to_its_similarities(
    release_folder: Path, packs: dict[str, Picture]
) -> None:
    matcher = Matcher.open(release_folder)
    answer = matcher.match_photo(photograph(packs["pack-6"]))
    explained = explain_answer(answer, matcher.stack)
    assert explained.runner_up is not None
    for side, candidate in zip((explained.first, explained.runner_up), answer.candidates, strict=False):
        assert side.candidate == candidate
        assert float(side.contributions.sum()) == pytest.approx(candidate.similarity, abs=1e-4)


def test_the_difference_is_that_of_the_maps_and_adds_up_to_the_margin(
    release_folder: Path, packs: dict[str, Picture]
) -> None:
    matcher = Matcher.open(release_folder)
    answer = matcher.match_photo(photograph(packs["pack-2"]))
    explained = explain_answer(answer, matcher.stack)
    assert explained.runner_up is not None
    assert explained.difference is not None
    assert explained.margin is not None
    difference = explained.first.contributions - explained.runner_up.contributions
    np.testing.assert_array_equal(explained.difference, difference)
    assert float(explained.difference.sum()) == pytest.approx(explained.margin, abs=1e-4)
    # The same as asking the picture how far it leans from one reference to the other.
    assert answer.embedding is not None
    lean = explained.first.reference - explained.runner_up.reference
    places = np.prod(difference.shape)
    scale = float(np.linalg.norm(answer.embedding.local.mean(axis=(0, 1))))
    np.testing.assert_allclose(difference, answer.embedding.local @ lean / (places * scale), atol=2e-3)


def test_the_reference_photo_that_explains_is_the_most_similar_of_its_product(
    release_maker: ReleaseMaker, packs: dict[str, Picture], tmp_path: Path
) -> None:
    matcher = Matcher.open(release_maker.write(tmp_path / "release", packs))
    answer = matcher.match_photo(photograph(packs["pack-5"]))
    assert answer.embedding is not None
    first = explain_answer(answer, matcher.stack).first
    rows = matcher.stack.vectors(matcher.stack.rows_of(first.candidate.product.sku))
    assert float(first.reference @ answer.embedding.vector) == pytest.approx(
        float((rows @ answer.embedding.vector).max())
    )


def test_one_product_alone_is_explained_without_a_runner_up(
    release_maker: ReleaseMaker, tmp_path: Path
) -> None:
    matcher = Matcher.open(release_maker.write(tmp_path / "one", {"only": draw_pack(1)}))
    explained = explain_answer(matcher.match(draw_pack(1)), matcher.stack)
    assert (explained.runner_up, explained.difference, explained.margin) == (None, None, None)
    assert "no other product" in explained.words()[-1]
    assert explained.to_record()["difference"] is None


def test_an_empty_catalog_has_nothing_to_explain(release_maker: ReleaseMaker, tmp_path: Path) -> None:
    matcher = Matcher.open(release_maker.write(tmp_path / "empty", {}))
    with pytest.raises(NoRelease, match="no candidate"):
        explain_answer(matcher.match(draw_pack(1)), matcher.stack)


def test_an_answer_of_another_release_is_not_explained(
    release_maker: ReleaseMaker, release_folder: Path, tmp_path: Path
) -> None:
    other = Matcher.open(release_maker.write(tmp_path / "other", {"else": draw_pack(9)}))
    with pytest.raises(Incompatible, match="'else'"):
        explain_answer(other.match(draw_pack(9)), Matcher.open(release_folder).stack)


def test_vectors_that_do_not_belong_together_are_refused() -> None:
    query = Embedding(np.ones(4, np.float32) / 2, np.ones((2, 2, 4), np.float32))
    for reference in (np.ones(5, np.float32), np.zeros(4, np.float32)):
        with pytest.raises(Incompatible, match="one model"):
            similarity_map(query, reference)


# --- where, in words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "column", "name"),
    [(0, 0, "upper left"), (0, 6, "upper right"), (3, 3, "middle"), (6, 3, "bottom"), (3, 6, "right")],
)
def test_a_place_is_named_by_where_most_lies(row: int, column: int, name: str) -> None:
    contributions = np.full((7, 7), -0.01, np.float32)
    contributions[row, column] = 0.4
    place = find_place(contributions)
    assert (place.name, place.share, place.amount) == (name, pytest.approx(1.0), pytest.approx(0.4))


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 4), (7, 7), (8, 8)])
def test_what_is_even_lies_all_over(shape: tuple[int, int]) -> None:
    place = find_place(np.full(shape, 0.1, np.float32))
    assert (place.name, place.amount) == ("all over", pytest.approx(0.1 * shape[0] * shape[1]))
    assert find_place(np.full(shape, -0.1, np.float32)).amount == 0.0


def test_the_words_say_what_separates_the_two_and_where() -> None:
    pear, apple = np.full((3, 3), 0.05), np.full((3, 3), 0.05)
    apple[0, 2] += 0.3
    pear[2, 0] += 0.1
    said = Explanation("match", "clear", likeness("apple", apple), likeness("pear", pear)).words()
    assert said == (
        "Apple is the answer, with similarity 0.750.",
        "The runner-up is Pear, with similarity 0.550.",
        "The margin is 0.200: 0.300 speaks for it (100% of it at the upper right), "
        "0.100 for the runner-up (100% of it at the lower left).",
    )


def test_a_runner_up_whose_best_photo_is_nearer_is_told_from_the_first_by_its_score() -> None:
    near, many = likeness("pear", np.full((2, 2), 0.2), score=0.7), likeness("apple", np.full((2, 2), 0.15))
    first = replace(many, candidate=replace(many.candidate, score=0.72))
    said = Explanation("unsure", "close_runner_up", first, near).words()[-1]
    assert "0.200 nearer" in said
    assert "score 0.700, and those of Apple 0.720" in said


def test_the_record_holds_the_maps_as_nested_lists_that_add_up() -> None:
    apple, pear = np.array([[0.5, 0.1], [0.2, -0.1]]), np.array([[0.1, 0.1], [0.1, 0.3]])
    record = Explanation("match", "clear", likeness("apple", apple), likeness("pear", pear)).to_record()
    assert record["grid"] == {"rows": 2, "columns": 2}
    assert record["answer"]["map"] == [[0.5, 0.1], [0.2, -0.1]]  # type: ignore[index]
    assert record["runner_up"]["sku"] == "pear"  # type: ignore[index]
    difference = record["difference"]
    assert isinstance(difference, dict)
    np.testing.assert_allclose(difference["map"], apple - pear, atol=1e-5)
    assert difference["margin"] == pytest.approx(sum(map(sum, difference["map"])), abs=1e-4)
    # 0.4 of 0.5 lies in the upper left quarter, of which a ninth of the picture is four ninths.
    assert difference["for_answer"] == {"place": "upper left", "share": 0.356, "amount": 0.5}
    assert difference["for_runner_up"]["place"] == "lower right"
