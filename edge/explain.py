"""Why this product: where in a picture the similarity comes from.

The embedding is the mean of the local map, so the similarity to a reference is a sum over the places of the
map (A. Stylianou, R. Souvenir, R. Pless: Visualizing Deep Similarity Networks, WACV 2019). Nothing is
estimated: the numbers of a map add up to the similarity.
"""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.embedder import Embedding
from edge.errors import Incompatible
from edge.image import Picture, check_picture

_FOR = np.array((255, 110, 0), np.float32)
_AGAINST = np.array((0, 110, 255), np.float32)
_STRONGEST = 0.8  # opacity of the color where the map is strongest
_GAP = 8  # white pixels between pictures


def similarity_map(query: Embedding, reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Split the similarity of a picture to a reference vector over the places of the picture's local map.

    `reference` is float32 (dimension,), of any length but zero. The result is float32 (h, w): what each place
    contributes, negative where it speaks against; its sum is the similarity. What int8 rounding leaves
    between the embedding and the mean of its map is spread over all places alike.

    To see the same pair from the other side, give the reference picture's embedding and the query's vector.

    Raises:
        Incompatible: vectors of two dimensions, or one without direction.
    """
    length = float(np.linalg.norm(reference))
    pooled = query.local.mean(axis=(0, 1))
    scale = float(np.linalg.norm(pooled))
    if reference.shape != query.vector.shape or length == 0.0 or scale == 0.0:
        raise Incompatible(
            f"a map of {query.local.shape} cannot be compared with a vector of {reference.shape} and length "
            f"{length:g}: take both from one model"
        )
    direction = reference / np.float32(length)
    places = query.local.shape[0] * query.local.shape[1]
    contributions = query.local @ direction / np.float32(places * scale)
    rounding = float(query.vector @ direction) - float(contributions.sum())
    return (contributions + np.float32(rounding / places)).astype(np.float32)


def draw_heat_map(
    picture: Picture, contributions: NDArray[np.float32], *, strongest: float | None = None
) -> Picture:
    """Lay a similarity map over its picture: orange speaks for the product, blue against it.

    The picture, `uint8` (height, width, 3), fades to gray so that its own colors are not taken for the map's.
    `strongest` is the contribution that gets full color; without it the map's largest. Give two maps that
    stand side by side the same.

    Raises:
        PhotoUnreadable: not a picture.
        Incompatible: not a map of (h, w).
    """
    check_picture(picture)
    if contributions.ndim != 2 or contributions.size == 0:
        raise Incompatible(f"a map of {contributions.shape} cannot be drawn: take one of similarity_map")
    height, width = picture.shape[:2]
    peak = strongest or float(np.abs(contributions).max()) or 1.0
    relative = Image.fromarray((contributions / peak).astype(np.float32))
    weight = np.clip(np.asarray(relative.resize((width, height), Image.Resampling.BICUBIC)), -1.0, 1.0)
    opacity = _STRONGEST * np.abs(weight)[:, :, np.newaxis]
    color = np.where(weight[:, :, np.newaxis] > 0, _FOR, _AGAINST)
    gray = picture.mean(axis=2, keepdims=True)
    faded = 0.25 * picture + 0.75 * gray
    drawn: Picture = (faded * (1 - opacity) + color * opacity + 0.5).astype(np.uint8)
    return drawn


def side_by_side(pictures: Sequence[Picture], *, height: int = 360) -> Picture:
    """Put pictures in a row on white, each brought to `height` pixels, its proportions kept.

    Raises:
        PhotoUnreadable: not a picture.
    """
    parts: list[Picture] = []
    for picture in pictures:
        check_picture(picture)
        width = max(1, round(picture.shape[1] * height / picture.shape[0]))
        image = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
        parts += [np.full((height, _GAP, 3), 255, np.uint8), np.asarray(image)]
    return np.concatenate(parts[1:], axis=1) if parts else np.full((height, _GAP, 3), 255, np.uint8)


def draw_pair(query: Picture, of_query: Embedding, reference: Picture, of_reference: Embedding) -> bytes:
    """Draw query and reference photo, and beside each what in it speaks for the other, as PNG bytes.

    Raises:
        PhotoUnreadable: not a picture.
        Incompatible: embeddings of two models.
    """
    maps = (similarity_map(of_query, of_reference.vector), similarity_map(of_reference, of_query.vector))
    strongest = max(float(np.abs(each).max()) for each in maps)
    row: list[Picture] = []
    for picture, contributions in zip((query, reference), maps, strict=True):
        row += [picture, draw_heat_map(picture, contributions, strongest=strongest)]
    return encode_png(side_by_side(row))


def encode_png(picture: Picture) -> bytes:
    """Encode a picture as PNG bytes.

    Raises:
        PhotoUnreadable: not a picture.
    """
    check_picture(picture)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
