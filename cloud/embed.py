"""Embeds many photos with one model file, on all cores, and remembers what it has embedded."""

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cloud.embeddings import EmbeddingCache
from cloud.photos import PhotoStorage
from edge.embedder import Embedder
from edge.errors import SkipPhoto
from edge.image import Picture, decode_to_fit
from edge.model import Model, Variant
from edge.reference import embed_reference

Vector = NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Told after each step how many of how many are done."""

_STEP: Final = 64  # a killed run loses at most so many embeddings
_MOST_THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings by the names of their photos, and why others have none.

    Attributes:
        vectors: float32 (D,), of unit length.
        made: how many of them were made just now, and not taken from the cache.
        refused: why a photo could not be embedded.
    """

    vectors: Mapping[str, Vector]
    made: int
    refused: Mapping[str, str]


def embed_queries(
    model: Model,
    variant: Variant,
    pictures: Mapping[str, Callable[[], Picture]],
    *,
    cache: EmbeddingCache,
    progress: Progress | None = None,
) -> Embedded:
    """Embed pictures as a device embeds what it is asked.

    Args:
        model: whose file it is.
        variant: the file.
        pictures: makes each picture, `uint8` (S, S, 3) as the model takes it, or raises `SkipPhoto`. Names
            say what is on them down to the pixel: what the cache has under a name is not made again.
        cache: embeddings of earlier runs.
        progress: told of each step.

    Raises:
        ModelBroken: the model file does not load, or answers with nothing usable.
        RuntimeMissing: there is no TFLite runtime here.
        StorageUnusable: the cache cannot be read or written.
    """
    return _Role("query", _as_query).embed(model, variant, pictures, cache, progress)


def embed_references(
    model: Model,
    variant: Variant,
    pictures: Mapping[str, Callable[[], Picture]],
    *,
    cache: EmbeddingCache,
    progress: Progress | None = None,
) -> Embedded:
    """Embed pictures as references are embedded (`edge.reference`); otherwise as `embed_queries`."""
    return _Role("reference", embed_reference).embed(model, variant, pictures, cache, progress)


def open_embedder(model: Model, variant: Variant) -> Embedder:
    """Open one of the model's files as a device does.

    Raises:
        ModelBroken: the file does not load.
        Incompatible: the file has another input size or dimension than model.json says.
        RuntimeMissing: there is no TFLite runtime here.
    """
    return Embedder.open(model.folder / variant.file, dimension=model.dimension, input_size=model.input_size)


def fitted_pictures(
    photos: PhotoStorage, names: Iterable[str], size: int
) -> Mapping[str, Callable[[], Picture]]:
    """Return what makes the pictures of stored photos, by their SHA-256, at the side that a model takes."""

    def maker(sha256: str) -> Callable[[], Picture]:
        return lambda: decode_to_fit(photos.read(sha256), size)

    return {sha256: maker(sha256) for sha256 in names}


def _as_query(embedder: Embedder, picture: Picture) -> Vector:
    return embedder.embed(picture).vector


@dataclass(frozen=True, slots=True)
class _Role:
    """What a photo is embedded for: `name` tells it in the cache, `look` is how it is done."""

    name: str
    look: Callable[[Embedder, Picture], Vector]

    def embed(
        self,
        model: Model,
        variant: Variant,
        pictures: Mapping[str, Callable[[], Picture]],
        cache: EmbeddingCache,
        progress: Progress | None,
    ) -> Embedded:
        """Embed what the cache has not. Runtimes let go of Python while they compute: every core works."""
        vectors = dict(cache.known(variant.sha256, self.name, list(pictures)))
        missing = sorted(name for name in pictures if name not in vectors)
        refused: dict[str, str] = {}
        if not missing:
            return Embedded(vectors, 0, refused)
        own = threading.local()

        def look(name: str) -> Vector | str:
            try:
                picture = pictures[name]()
            except SkipPhoto as error:
                return str(error)
            if not hasattr(own, "embedder"):
                own.embedder = open_embedder(model, variant)
            return self.look(own.embedder, picture)

        with ThreadPoolExecutor(min(_MOST_THREADS, _cores())) as pool:
            for start in range(0, len(missing), _STEP):
                step = missing[start : start + _STEP]
                made = dict(zip(step, pool.map(look, step), strict=True))
                refused |= {name: reason for name, reason in made.items() if isinstance(reason, str)}
                fresh = {name: vector for name, vector in made.items() if not isinstance(vector, str)}
                cache.keep(variant.sha256, self.name, fresh)
                vectors.update(fresh)
                if progress is not None:
                    progress(start + len(step), len(missing))
        return Embedded(vectors, len(missing) - len(refused), refused)


def _cores() -> int:
    """Count the cores that this process may use."""
    allowed: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1
