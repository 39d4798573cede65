"""How a search index is to be built and asked: numbers that travel in a release.

They stand apart from `edge.index`, so that what only reads or signs a release does not load Annoy.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IndexRecipe:
    """What makes two devices build the same index and look equally hard.

    Attributes:
        trees: Trees of the forest, from 1. More trees find more and cost memory and time to build.
        search_k: Rows that a search looks at before it ranks them, from 1. More finds more and takes longer.
        seed: Seed of the random planes, 0 to 2**31 - 1.
    """

    trees: int = 50
    search_k: int = 4000
    seed: int = 7
