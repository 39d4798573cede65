"""Embeds many pictures, on all cores, and remembers what it has embedded."""

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from cloud.assembly import open_embedder
from cloud.embeddings import EmbeddingCache
from cloud.evaluation.bench import Progress
from edge.embedder import Embedder
from edge.errors import SkipPhoto
from edge.image import Picture
from edge.model import Model, Variant

Vector = NDArray[np.float32]

_STEP = 256  # a killed run loses at most so many embeddings
_MOST_THREADS = 8


def embed_pictures(
    model: Model,
    variant: Variant,
    pictures: Mapping[str, Callable[[], Picture]],
    *,
    cache: EmbeddingCache,
    task: str,
    progress: Progress,
) -> dict[str, Vector]:
    """Return the embedding of each picture by its name, float32 (D,), of unit length.

    `pictures` makes them, each `uint8` (S, S, 3) as the model takes them; names say what is on them down to
    the pixel, for an embedding that is in the cache under its name is not made again. Pictures that cannot
    be made (`SkipPhoto`) are left out. Runtimes let go of Python while they compute, so every core works.

    Raises:
        ModelBroken: the model file does not load, or answers with nothing usable.
        RuntimeMissing: there is no TFLite runtime here.
        StorageUnusable: the cache cannot be read or written.
    """
    vectors = dict(cache.known(variant.sha256, list(pictures)))
    missing = [name for name in pictures if name not in vectors]
    if not missing:
        return vectors
    own = threading.local()

    def embed(name: str) -> Vector | None:
        try:
            picture = pictures[name]()
        except SkipPhoto:
            return None
        if not hasattr(own, "embedder"):
            own.embedder = open_embedder(model, variant)
        embedder: Embedder = own.embedder
        return embedder.embed(picture).vector

    with ThreadPoolExecutor(min(_MOST_THREADS, _cores())) as pool:
        for start in range(0, len(missing), _STEP):
            step = missing[start : start + _STEP]
            made = zip(step, pool.map(embed, step), strict=True)
            fresh = {name: vector for name, vector in made if vector is not None}
            cache.keep(variant.sha256, fresh)
            vectors.update(fresh)
            progress(task, start + len(step), len(missing))
    return vectors


def _cores() -> int:
    """Count the cores that this process may use."""
    allowed: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1
