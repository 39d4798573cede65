"""Where in a frame to look: the crop of a shelf place, and whether anything stands in it.

For now the places are told (a planogram has them); finding items in a frame that nobody has marked is later
work and belongs here too.
"""

import math

import numpy as np

from edge.errors import BadSetting, PhotoTooSmall
from edge.image import SMALLEST_SIDE, Picture, check_picture, fit
from edge.quality import quality_problem

# left, top, right, bottom as fractions of the frame's width and height, 0 to 1, from the upper left corner.
Box = tuple[float, float, float, float]

# Of 500 photos of groceries the smoothest has a texture of 4.5 and one in a hundred is under 6.7; of 200
# photos of clothes the smoothest has 3.3; of 40 drawn packs with little print, in colors near the wall's, the
# plainest 2.2. A bare back wall with camera noise has 0.7 to 1.6, with the edge of a board 1.9.
BARE_TEXTURE = 2.2


def check_box(box: Box) -> Box:
    """Return `box` when it is a part of a frame with an area.

    Raises:
        BadSetting: A corner outside the frame or not finite, or left and right or top and bottom swapped.
    """
    left, top, right, bottom = box
    # Written so that NaN, which compares to nothing, is refused.
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise BadSetting(
            f"box {list(box)} is not left, top, right, bottom as fractions of the frame; write it like "
            "[0.1, 0.2, 0.3, 0.6]"
        )
    return box


def crop(picture: Picture, box: Box) -> Picture:
    """Cut `box` out of a picture, rounded outward to whole pixels; a view of the picture, not a copy.

    Raises:
        BadSetting: A box that is not a part of the frame.
        PhotoTooSmall: The cut has too few pixels to recognize anything.
        PhotoUnreadable: Not a picture.
    """
    check_picture(picture)
    left, top, right, bottom = check_box(box)
    height, width = picture.shape[:2]
    cut = picture[
        math.floor(top * height) : math.ceil(bottom * height),
        math.floor(left * width) : math.ceil(right * width),
    ]
    if min(cut.shape[:2]) < SMALLEST_SIDE:
        raise PhotoTooSmall(
            f"the place {list(box)} is {cut.shape[1]} x {cut.shape[0]} pixels of the frame; move the camera "
            f"closer or let it take larger frames, at least {SMALLEST_SIDE} pixels a side"
        )
    return cut


def texture(picture: Picture) -> float:
    """Measure how much is to be seen: the mean step from pixel to pixel of a 64 x 64 gray copy, 0 to 255."""
    gray = fit(picture, 64).astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    down, across = np.abs(np.diff(gray, axis=0)).mean(), np.abs(np.diff(gray, axis=1)).mean()
    return float((down + across) / 2)


def is_bare(picture: Picture) -> bool:
    """Tell whether a well-lit picture shows next to nothing: a back wall, a board, an empty crate.

    It knows nothing of products. A pack with a plain face that fills the crop looks bare, and an empty place
    in front of a patterned wall does not; a reference picture of the empty place is surer. Darkness is not
    emptiness: in a picture that is too dark, too bright or full of glare nothing can be said, and the answer
    is False.
    """
    lit = quality_problem(picture) not in ("too_dark", "too_bright", "glare")
    return lit and texture(picture) < BARE_TEXTURE
