"""Finds reference photos that look like another product than the one they are filed under.

`cloud.label_judgment` says which and how sure; here photos are embedded as a device would embed them, and
each doubt gets its witnesses: the photos that speak against the label, and those that speak for it. Nothing
is changed or left out: a person decides.

Photos of a product that were all filed wrongly vouch for each other: they are not found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud.assembly import embed_catalog
from cloud.catalog import Catalog, ReferencePhoto
from cloud.embed import Progress
from cloud.embeddings import EmbeddingCache
from cloud.label_judgment import judge_labels
from edge.model import Model

DOUBTFUL = 0.5  # probability of a wrong label from which a person should look
_WITNESSES = 4  # nearest photos that are named for each product
_NEIGHBORS = 10  # nearest photos that are counted


@dataclass(frozen=True, slots=True)
class Witness:
    """A photo that looks like a doubtful one, and the similarity (cosine) of the two."""

    photo: ReferencePhoto
    similarity: float


@dataclass(frozen=True, slots=True)
class Doubt:
    """A photo that looks like another product.

    Attributes:
        photo: the photo, with the SKU it is filed under.
        suspect: SKU of the product it looks like.
        confidence: probability 0..1 that it is filed wrongly.
        against: the nearest photos of the suspect, nearest first.
        pro: the nearest other photos of the product that it is filed under, nearest first.
        reason: one sentence that says what speaks against the label, and what to do.
    """

    photo: ReferencePhoto
    suspect: str
    confidence: float
    against: tuple[Witness, ...]
    pro: tuple[Witness, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Doubts:
    """What comparing labels found: the doubts, surest first; how many photos were and could not be judged.

    `alone` are the only photos of their products: nothing says what else those look like. `unread` could not
    be embedded. `share` is the estimated share of wrong labels, None where too few photos could be judged.
    """

    found: tuple[Doubt, ...]
    judged: int
    alone: int
    unread: int
    share: float | None


NOT_COMPARED = Doubts((), 0, 0, 0, None)


def doubt_labels(
    catalog: Catalog, model: Model, cache: EmbeddingCache, progress: Progress | None = None
) -> Doubts:
    """Embed the catalog's reference photos as a device would, and return those that look filed wrongly.

    Test photos are not asked: labels that were mended where a model doubts them would measure that model too
    well.

    Raises:
        BadModel: the model has no file for a CPU.
        ModelBroken, Incompatible, RuntimeMissing: the model does not run here.
        StorageUnusable: database or cache cannot be used.
    """
    photos = catalog.reference_photos()
    variant = model.variant()
    embedded = embed_catalog(
        model,
        variant,
        products=(),
        references=photos,
        photos=catalog.photos,
        cache=cache,
        progress=progress,
    )
    return find_doubts(photos, embedded.vectors)


def find_doubts(photos: Sequence[ReferencePhoto], vectors: Mapping[str, NDArray[np.float32]]) -> Doubts:
    """Return the photos that look like another product than theirs, surest first.

    `vectors` holds the embedding of each photo by its SHA-256, float32 (D,), unit length; photos without one
    are counted as `unread`.
    """
    read = [photo for photo in photos if photo.sha256 in vectors]
    skus = sorted({photo.sku for photo in read})
    unread = len(photos) - len(read)
    if len(skus) < 2:
        return Doubts((), 0, len(read), unread, None)
    number = {sku: index for index, sku in enumerate(skus)}
    rows = np.stack([vectors[photo.sha256] for photo in read])
    labels = np.array([number[photo.sku] for photo in read], np.intp)
    judgment = judge_labels(rows, labels, np.array([photo.kind == "packshot" for photo in read]))
    surest = np.argsort(-judgment.confidence, kind="stable")
    doubtful = surest[judgment.confidence[surest] >= DOUBTFUL]
    found = tuple(
        _doubt(index, skus[judgment.suspects[index]], float(judgment.confidence[index]), read, rows)
        for index in doubtful.tolist()
    )
    judged = int(judgment.judged.sum())
    return Doubts(found, judged, len(read) - judged, unread, judgment.share)


def _doubt(
    index: int,
    suspect: str,
    confidence: float,
    photos: Sequence[ReferencePhoto],
    vectors: NDArray[np.float32],
) -> Doubt:
    photo = photos[index]
    similarities = vectors @ vectors[index]
    order = [place for place in np.argsort(-similarities, kind="stable").tolist() if place != index]
    nearest = [photos[place].sku for place in order[:_NEIGHBORS]]

    def witnesses(sku: str) -> tuple[Witness, ...]:
        chosen = [place for place in order if photos[place].sku == sku][:_WITNESSES]
        return tuple(Witness(photos[place], round(float(similarities[place]), 4)) for place in chosen)

    against, pro = witnesses(suspect), witnesses(photo.sku)
    reason = (
        f"looks like {suspect} (sure to {confidence:.0%}): {nearest.count(suspect)} of the {len(nearest)} "
        f"photos most like it are of that product and {nearest.count(photo.sku)} of {photo.sku}; nearest is "
        f"{against[0].photo.source} at similarity {against[0].similarity:.2f}, of its own product "
        f"{pro[0].photo.source} at {pro[0].similarity:.2f}: file it under {suspect}, or keep it if right"
    )
    return Doubt(photo, suspect, round(confidence, 4), against, pro, reason)
