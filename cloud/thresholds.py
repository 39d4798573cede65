"""Fits the decision of a release to the shop that it is made for, from photos that somebody labeled there.

A model's own decision comes from the catalog that it was trained on. How alike a photo and its reference are
is another matter in another shop, with other products and cameras: photos of the split `validation` tell.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud.calibration import LabeledVectors, blend, calibrate
from cloud.catalog import ReferencePhoto
from edge.model import Decision

LEAST_PHOTOS = 20
LEAST_PRODUCTS = 3


@dataclass(frozen=True, slots=True)
class FittedDecision:
    """A decision that fits one catalog, and the labeled photos that it was fitted to."""

    decision: Decision
    photos: frozenset[ReferencePhoto]


def may_ask(references: Sequence[ReferencePhoto], fitted: Collection[str] = ()) -> list[ReferencePhoto]:
    """Return the photos that a decision may be fitted to: in-store, of the split `validation`.

    Those that the network itself was `fitted` to (the beginnings of their SHA-256) say nothing of others.
    """
    return [
        photo
        for photo in references
        if photo.split == "validation"
        and photo.kind == "in-store"
        and not any(photo.sha256.startswith(name) for name in fitted)
    ]


def fit_decision(
    references: Sequence[ReferencePhoto],
    vectors: Mapping[str, NDArray[np.float32]],
    asked_vectors: Mapping[str, NDArray[np.float32]],
    fitted_skus: Collection[str] = (),
) -> FittedDecision | None:
    """Fit a decision to how the photos that may be asked find their products.

    They are asked against all photos that are not of the split `validation`, once with their product there
    and once with it left out. Where most products asked for are among the `fitted_skus`, leaving them out
    says little about strangers, and `blend` stands in.

    Args:
        references: the catalog's reference photos, those to ask among them.
        vectors: the embedding of each as a reference by its SHA-256, float32 (D,), unit length; photos
            without one are passed over.
        asked_vectors: the embedding, as a device embeds what it is asked, of each photo of `may_ask`.
        fitted_skus: products that the network was fitted to.

    Returns:
        None where fewer than `LEAST_PHOTOS` can be asked: a few say less than what the model brought along.
    """
    asked = [photo for photo in references if photo.sha256 in asked_vectors]
    others = [photo for photo in references if photo.sha256 in vectors and photo.split != "validation"]
    numbers = {sku: number for number, sku in enumerate(sorted({photo.sku for photo in others}))}
    queries = [photo for photo in asked if photo.sku in numbers]
    if len(queries) < LEAST_PHOTOS or len(numbers) < LEAST_PRODUCTS:
        return None
    asked_for, fitted = {photo.sku for photo in queries}, frozenset(fitted_skus)
    labeled = _labeled(queries, numbers, asked_vectors)
    strangers = blend(labeled) if 2 * len(asked_for & fitted) > len(asked_for) else None
    calibration = calibrate(labeled, [_labeled(others, numbers, vectors)], strangers)
    return FittedDecision(calibration.decision, frozenset(queries))


def _labeled(
    photos: Sequence[ReferencePhoto],
    numbers: Mapping[str, int],
    vectors: Mapping[str, NDArray[np.float32]],
) -> LabeledVectors:
    return LabeledVectors(
        np.stack([vectors[photo.sha256] for photo in photos]),
        np.array([numbers[photo.sku] for photo in photos], np.int32),
    )
