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


def fit_decision(
    references: Sequence[ReferencePhoto],
    vectors: Mapping[str, NDArray[np.float32]],
    fitted_skus: Collection[str] = (),
) -> FittedDecision | None:
    """Fit a decision to how the in-store photos of the split `validation` find their products.

    They are asked against all other reference photos, once with their product there and once with it left
    out. `vectors` holds the embedding of each photo by its SHA-256, float32 (D,), unit length; photos without
    one are passed over. Where most products asked for are among the `fitted_skus`, those that the network was
    fitted to, leaving them out says little about strangers, and `blend` stands in. Returns None where fewer
    than `LEAST_PHOTOS` can be asked: a few photos say less than what the model brought along.
    """
    embedded = [reference for reference in references if reference.sha256 in vectors]
    asked = [photo for photo in embedded if photo.split == "validation" and photo.kind == "in-store"]
    others = [photo for photo in embedded if photo.split != "validation"]
    numbers = {sku: number for number, sku in enumerate(sorted({photo.sku for photo in others}))}
    queries = [photo for photo in asked if photo.sku in numbers]
    if len(queries) < LEAST_PHOTOS or len(numbers) < LEAST_PRODUCTS:
        return None
    asked_for, fitted = {photo.sku for photo in queries}, frozenset(fitted_skus)
    labeled = _labeled(queries, numbers, vectors)
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
