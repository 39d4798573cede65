"""Real embeddings in any number: of photos and of random views of them, by the network that is measured."""

import random
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.embedder import Embedder
from edge.model import Model

QUERIES = 1000
_LEAST_AREA = 0.35


def real_embeddings(
    model: Model, photos: Path, count: int, cache: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return `count` rows and 1,000 queries, float32 (n, D), of unit length; made once and kept in `cache`.

    Queries are photos as they are, rows are other photos, and where these do not suffice random views of them
    (a crop of 35 to 100 % of the area, mirrored or not).
    """
    variant = model.variant()
    kept = cache / f"{variant.sha256[:16]}-{count}.npz"
    if kept.exists():
        with np.load(kept) as found:
            return found["rows"], found["queries"]
    paths = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    draw = random.Random(5)
    draw.shuffle(paths)
    embedder = Embedder.open(model.path(variant), dimension=model.dimension, input_size=model.input_size)

    def embed(image: Image.Image) -> NDArray[np.float32]:
        side = model.input_size
        small = image.resize((side, side), Image.Resampling.BILINEAR)
        return embedder.embed(np.asarray(small)).vector

    queries = np.stack([embed(Image.open(path).convert("RGB")) for path in paths[:QUERIES]])
    rows = np.empty((count, model.dimension), np.float32)
    others = paths[QUERIES:]
    views = -(-count // len(others))
    for number, path in enumerate(others[: -(-count // views)]):
        image = Image.open(path).convert("RGB")
        for view in range(min(views, count - number * views)):
            rows[number * views + view] = embed(image if view == 0 else _view(image, draw))
        if sys.stderr.isatty():
            print(f"\rembedding {min(count, (number + 1) * views):,} of {count:,}", end="", file=sys.stderr)
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(kept, rows=rows, queries=queries)
    return rows, queries


def between(rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return `count` unit vectors between real ones: of each pair, 0.75 of one and 0.25 of the other.

    Embedding a million photos takes an hour; these are as crowded as real ones, and not more alike.
    """
    draw = np.random.default_rng(11)
    made = np.empty((count, rows.shape[1]), np.float32)
    made[: len(rows)] = rows
    for start in range(len(rows), count, len(rows)):
        part = made[start : start + len(rows)]
        part[:] = 0.75 * rows[: len(part)] + 0.25 * rows[draw.permutation(len(rows))[: len(part)]]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return made


def _view(image: Image.Image, draw: random.Random) -> Image.Image:
    side = draw.uniform(_LEAST_AREA, 1) ** 0.5
    width, height = int(image.width * side), int(image.height * side)
    left, top = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
    view = image.crop((left, top, left + width, top + height))
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else view
