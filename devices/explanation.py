"""Why the device said so, as a picture: the photo, and where in it the likeness to the answer lies."""

import numpy as np

from edge.errors import PhotoUnreadable
from edge.explain import draw_heat_map, encode_png, side_by_side, similarity_map
from edge.image import decode
from edge.matcher import Answer, Matcher

SHOWN_SIDE = 720


def draw_explanation(matcher: Matcher, photo: bytes, answer: Answer) -> bytes:
    """Draw the photo beside its heat map for the first candidate, as PNG bytes.

    Orange is what speaks for the candidate's most similar reference photo, blue what speaks against it.

    Raises:
        SkipPhoto: the photo cannot be decoded, or there is no candidate to explain.
    """
    if not answer.candidates or answer.embedding is None:
        raise PhotoUnreadable("there is no candidate to explain: the catalog of this release is empty")
    vectors = matcher.stack.vectors(matcher.stack.rows_of(answer.candidates[0].product.sku))
    reference = vectors[int(np.argmax(vectors @ answer.embedding.vector))]
    picture = decode(photo, shrink_to=SHOWN_SIDE)
    heat = draw_heat_map(picture, similarity_map(answer.embedding, reference))
    return encode_png(side_by_side([picture, heat], height=min(SHOWN_SIDE, picture.shape[0])))
