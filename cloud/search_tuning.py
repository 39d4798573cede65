"""Chooses how devices search a large base: the least work that finds what an exact search finds.

Devices that search by Annoy's trees take `trees` and `search_k` from the release; how much they need depends
on the vectors, so it is measured on them. Questions are rows of the base, each moved as far as another photo
of the same thing is.
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.index import ANNOY_FILE, IndexRecord, SearchIndex, build_annoy
from edge.recipe import IndexRecipe
from edge.segments import Content, SegmentStack, encode_base, open_segment, unit_rows

LEAST_ROWS: Final = 10_000
"""Below, the default recipe finds everything, and most devices look at every row anyway."""

RECALL_TARGET: Final = 0.99
_NEAREST: Final = 10
_QUESTIONS: Final = 200
_ALIKE: Final = 0.84  # cosine of two photos of a product, as a trained network has them
_TREES: Final = (25, 50)
_SEARCH_K: Final = (1_500, 3_000, 6_000, 12_000, 24_000, 48_000)


def tune_search(content: Content, *, target: float = RECALL_TARGET) -> IndexRecipe:
    """Choose trees and `search_k` for a base of this content, and write down what was measured.

    The recipe is the first that finds the share `target` (0..1) of the ten nearest products: few trees before
    many, because they cost every device time and space, and of those the one that looks at the fewest rows. A
    target that none reaches gives the recipe that comes nearest to it. Small contents get the default.

    Raises:
        StorageUnusable, NoSpace: there is no room for an index in the temporary folder.
    """
    rows = sum(len(each) for each in content.rows.values())
    if rows < LEAST_ROWS:
        return IndexRecipe()
    with TemporaryDirectory(prefix="shelfsight-tuning-") as scratch:
        base, path = Path(scratch) / "base", Path(scratch) / ANNOY_FILE
        base.write_bytes(encode_base(content))
        stack = SegmentStack([open_segment(base, None)])
        questions = _questions(stack)
        exact = SearchIndex(stack)
        nearest = [_found(exact, question) for question in questions]
        best, most = IndexRecipe(), -1.0
        for trees in _TREES:
            record = IndexRecord(build_annoy(stack, path, IndexRecipe(trees=trees)), "annoy")
            for search_k in _SEARCH_K:
                recipe = IndexRecipe(trees=trees, search_k=search_k)
                index = SearchIndex.open(stack, path, record, recipe)
                pairs = zip(questions, nearest, strict=True)
                recall = float(np.mean([len(_found(index, each) & true) / len(true) for each, true in pairs]))
                if recall > most:
                    best, most = recipe, recall
                if recall >= target:
                    return _written(recipe, target, recall, rows)
    return _written(best, target, most, rows)


def _questions(stack: SegmentStack) -> NDArray[np.float32]:
    rng = np.random.default_rng(7)
    rows = rng.choice(stack.row_count, _QUESTIONS, replace=False)
    away = unit_rows(rng.integers(-127, 128, (_QUESTIONS, stack.dimension)).astype(np.int8))
    questions: NDArray[np.float32] = np.sqrt(_ALIKE) * stack.vectors(rows) + np.sqrt(1 - _ALIKE) * away
    return questions.astype(np.float32)


def _found(index: SearchIndex, question: NDArray[np.float32]) -> set[str]:
    return {hit.sku for hit in index.search(question, _NEAREST)}


def _written(recipe: IndexRecipe, target: float, recall: float, rows: int) -> IndexRecipe:
    measured = {"recall_target": target, "recall": round(recall, 4), "measured_rows": rows}
    return replace(recipe, extra=measured)
