"""Measures a network after each epoch, at the size and precision it will be finished in."""

import numpy as np
from numpy.typing import NDArray

from cloud.training.data import Examples, Progress, first_of_each, load_pictures
from cloud.training.heads import mean_directions
from cloud.training.neighbors import embed, top1
from cloud.training.network import build_network, embedding_of
from cloud.training.recipe import Recipe
from cloud.training.run import RunFolder, Weights

# So many references a product are enough to see, after each epoch, how well neighbors are found.
_REFERENCES_PER_PRODUCT = 12


class Validation:
    """Finds the validation photos' nearest neighbors among some of the fitted photos."""

    def __init__(self, examples: Examples, recipe: Recipe, run: RunFolder, progress: Progress) -> None:
        references = first_of_each(examples.fit, _REFERENCES_PER_PRODUCT)
        # Look-alikes are found by the directions of the products, which cost a look at the references.
        self._wanted = bool(examples.validation) or recipe.hard_share > 0
        photos = (*references, *examples.validation)
        self._labels = examples.labels(photos)
        self._count = len(references)
        self._any = bool(examples.validation)
        if self._wanted:
            self._network = build_network(recipe, weights="none")
            self._model = embedding_of(self._network)
            self._pictures = load_pictures(photos, recipe.input_size, run.pictures, progress)

    def __call__(self, weights: Weights) -> tuple[float | None, NDArray[np.float32] | None]:
        """Return the share found right, and the products' directions, float32 (D, K).

        Without validation photos the share is None; the directions are None where nobody asks for them.
        """
        if not self._wanted:
            return None, None
        self._network.embedder.set_weights(weights)
        vectors = embed(self._model, self._pictures)
        references, queries = slice(None, self._count), slice(self._count, None)
        directions = mean_directions(vectors[references], self._labels[references])
        if not self._any:
            return None, directions
        share = top1(vectors[queries], self._labels[queries], vectors[references], self._labels[references])
        return round(share, 5), directions
