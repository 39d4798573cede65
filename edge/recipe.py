"""How a search index is to be built and asked: numbers that travel in a release.

They stand apart from `edge.index`, so that what only reads or signs a release does not load Annoy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class IndexRecipe:
    """What makes a device build the same index twice and every device look equally hard.

    The defaults were measured on one thread of a busy server CPU with vectors of 256 components, 5 to a
    product, 1,000 queries each. Recall is the share of queries whose nearest row is the true one:

        vectors   similarity of answers          search_k   recall   right product   p50
        20,000    0.84, a trained network's         6,000    1.000   1.000           0.51 ms
        50,000    0.84, a trained network's         6,000    0.999   1.000           0.74 ms
        50,000    0.84, a trained network's        12,000    1.000   1.000           1.28 ms
        50,000    0.69, photos unlike each other    6,000    0.953   0.977           0.74 ms
        50,000    0.69, photos unlike each other   12,000    0.984   0.992           1.30 ms
        50,000    0.93, an untrained network's     12,000    0.950   0.972           0.90 ms

    On real photos, as the bundled model embeds them, 12,000 finds the nearest of 6,717 in 0.999 of 2,485
    searches. Twice the trees find no more at the same `search_k` and cost memory. Smaller catalogs are
    scanned, see `edge.index`, and need no recipe.

    Attributes:
        trees: Trees of the forest, from 1. More trees find more and cost memory and time to build.
        search_k: Rows that a search looks at before it ranks them, from 1, counting a row once for every tree
            that offers it. More finds more and takes longer.
        seed: Seed of the random planes, 0 to 2**31 - 1.
        extra: Fields of a later Shelfsight, kept so that they survive a round trip.
    """

    trees: int = 50
    search_k: int = 12_000
    seed: int = 7
    extra: Mapping[str, object] = field(default_factory=dict)
