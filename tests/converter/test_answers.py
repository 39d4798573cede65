"""What differs between the answers of two files, worked out by hand on a few vectors."""

import numpy as np
import pytest

from converter import answers
from converter.answers import Answers, Question
from edge.decision import Decision
from edge.scoring import ScoreRule

SURE = Decision(
    match_confidence=0.5, unknown_similarity=0.6, bias=0.0, similarity_weight=0.0, margin_weight=1.0
)


def unit(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def question(products: list[int], references: list[int], **changes: object) -> Question:
    fields = {
        "products": np.array(products),
        "categories": ("fruit",) * len(products),
        "references": np.array(references),
        "own": np.full(len(products), -1),
    }
    return Question(**fields | changes)  # type: ignore[arg-type]


def test_products_are_ranked_by_their_best_reference_and_told_by_the_decision() -> None:
    asked = question([7, 7, 8], [8, 7, 8])
    given = answers.answer(unit(2, 50, 300), unit(0, 40, 90), asked, SURE)
    assert given.top.tolist() == [[8, 7], [7, 8], [8, 7]]
    assert given.judged.tolist() == [8, 7, -2], "a photo 60 degrees from everything is unknown"


def test_the_score_rule_of_the_decision_counts_all_references() -> None:
    asked = question([1], [1, 2, 2])
    references, photo = unit(9, 10.5, -10.5), unit(0)
    assert answers.answer(photo, references, asked, SURE).top[0, 0] == 1
    sum_of_all = Decision(0.5, 0.6, 0.0, 0.0, 1.0, score=ScoreRule(temperature=0.05))
    assert answers.answer(photo, references, asked, sum_of_all).top[0, 0] == 2


def test_a_photo_does_not_find_itself() -> None:
    asked = question([1, 2], [1, 2, 1, 2], own=np.array([0, 3]))
    references = unit(0, 20, 30, 50)
    given = answers.answer(references[[0, 3]], references, asked, SURE)
    assert given.top[:, 0].tolist() == [2, 1]
    assert answers.recall(given, asked) == 0.0


def test_agreement_counts_the_first_and_the_first_five() -> None:
    exact = Answers(np.array([[1, 2, 3], [1, 2, 3]]), np.array([1, 1]))
    strayed = Answers(np.array([[1, 3, 2], [2, 1, 4]]), np.array([1, -1]))
    assert answers.agreement(exact, strayed) == (0.5, round(5 / 6, 4))
    assert answers.flipped(exact, strayed) == 0.5
    assert answers.agreement(exact, exact) == (1.0, 1.0)


def test_recall_is_of_what_can_be_named_and_changes_are_told_by_category() -> None:
    asked = question([1, 1, 2, 9, -1], [1, 2], categories=("fruit", "fruit", "milk", "milk", "milk"))
    exact = Answers(np.array([[1], [1], [1], [1], [1]]), np.zeros(5))
    strayed = Answers(np.array([[1], [2], [2], [2], [2]]), np.zeros(5))
    assert answers.recall(exact, asked) == round(2 / 3, 4)
    assert answers.recall_change(exact, strayed, asked) == 0.0
    fruit, milk = answers.by_category(exact, strayed, asked)
    assert (fruit.category, fruit.photos, fruit.recall, fruit.change) == ("fruit", 2, 1.0, -50.0)
    assert (milk.category, milk.photos, milk.recall, milk.change) == ("milk", 1, 0.0, 100.0)


def test_a_photo_whose_product_has_no_other_reference_cannot_be_named() -> None:
    asked = question([1, 2], [1, 2, 2], own=np.array([0, 1]))
    exact = Answers(np.array([[2], [2]]), np.zeros(2))
    assert answers.recall(exact, asked) == 1.0


def test_without_labels_there_is_no_recall() -> None:
    asked = question([-1, -1], [1, 2])
    exact = Answers(np.array([[1], [2]]), np.zeros(2))
    assert answers.recall(exact, asked) is None
    assert answers.recall_change(exact, exact, asked) is None
    assert answers.by_category(exact, exact, asked) == ()


def test_cosines_are_told_by_their_worst() -> None:
    exact, strayed = unit(*[0] * 100), unit(*[0] * 95, *[60] * 4, 90)
    found = answers.cosines(exact, strayed)
    assert found.mean == pytest.approx(0.97)
    assert (found.p50, found.least) == (1.0, pytest.approx(0.0, abs=1e-6))
    assert found.p01 < found.p05 <= found.p50
