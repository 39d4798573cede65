"""From a photo of a product to the vector that stands for it in the index.

A photo to answer is embedded once, because somebody waits for the answer. A reference photo is embedded once
for years, so it is looked at four times: as it is, mirrored, and two steps closer. The mean direction says
what stays of the product when it is held otherwise or nearer, and less of its background; it costs neither a
byte nor a microsecond at the time of an answer (docs/decisions/0012-reference-views.md has the figures).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.embedder import AnyEmbedder
from edge.errors import ModelBroken
from edge.image import Picture, check_picture, fit

CLOSER: Final = (0.8, 0.65)
"""Sides of the closer views, as shares of the picture's side."""


def reference_views(picture: Picture) -> tuple[Picture, ...]:
    """Return the views of a reference photo, each `uint8` (S, S, 3), the picture itself first.

    Args:
        picture: `uint8` (S, S, 3) as the model takes it (`edge.image.fit`).

    Raises:
        PhotoUnreadable: not a picture.
    """
    check_picture(picture)
    size = picture.shape[0]
    mirrored = np.ascontiguousarray(picture[:, ::-1])
    return (picture, mirrored, *(fit(_center(picture, share), size) for share in CLOSER))


def embed_reference(embedder: AnyEmbedder, picture: Picture) -> NDArray[np.float32]:
    """Embed a photo that is to be a reference: the mean direction of its views, float32 (D,), unit length.

    Args:
        embedder: the model file that will answer.
        picture: `uint8` (S, S, 3) as the model takes it (`edge.image.fit`).

    Raises:
        Incompatible: a picture of another size than the model takes.
        ModelBroken: the network answered with zero or NaN, or with opposite directions.
    """
    total = np.sum([embedder.embed(view).vector for view in reference_views(picture)], axis=0)
    length = float(np.linalg.norm(total))
    if length < 1e-6:
        raise ModelBroken("the model sees opposite things in a photo and its mirror image: train it again")
    return np.asarray(total / np.float32(length), np.float32)


def _center(picture: Picture, share: float) -> Picture:
    """Cut out the middle of a square picture."""
    size = picture.shape[0]
    margin = round(size * (1 - share) / 2)
    return np.ascontiguousarray(picture[margin : size - margin, margin : size - margin])
