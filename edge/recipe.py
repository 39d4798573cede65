"""How a search index is to be built and asked: numbers that travel in a release.

They stand apart from `edge.index`, so that what only reads or signs a release does not load Annoy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class IndexRecipe:
    """What makes a device build the same index twice and every device look equally hard.

    The defaults were measured on 10,000 clustered vectors of 256 components, 5 to a product, one thread of a
    server CPU, with 2,000 queries each (recall is the share of queries whose nearest row is the true one):

        similarity of query and answer   recall   right product   p50
        0.84                             1.0000   1.0000          0.28 ms
        0.77                             1.0000   1.0000          0.29 ms
        0.70                             0.9980   0.9995          0.30 ms
        0.57                             1.0000   1.0000          0.31 ms

    Half the trees find 1 in 1,000 rows less in the hard cases; 80 trees find no more and cost 4 MB. At
    `search_k` 2000 a search takes 0.12 ms and misses 17 in 1,000 at a similarity of 0.70.

    Attributes:
        trees: Trees of the forest, from 1. More trees find more and cost memory and time to build.
        search_k: Rows that a search looks at before it ranks them, from 1, counting a row once for every tree
            that offers it. More finds more and takes longer.
        seed: Seed of the random planes, 0 to 2**31 - 1.
        extra: Fields of a later Shelfsight, kept so that they survive a round trip.
    """

    trees: int = 50
    search_k: int = 6000
    seed: int = 7
    extra: Mapping[str, object] = field(default_factory=dict)
