"""Whether a picture is good enough to be answered, and if not, what is wrong with it.

A network names some product for any picture, and it is as sure of a smear as of a pack. So what nobody could
recognize is told apart beforehand, by measures that know nothing of products. Each threshold stands where the
answers to photos of groceries have become wrong more often than right, or further off where it would have
stopped good pictures of another kind; `benchmarks/quality_gate.py` measures both again.

Give it the picture that the network is given: blur and distance are counted in that picture's pixels.
"""

from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edge.image import Picture, check_picture, fit

Problem = Literal["too_dark", "too_bright", "nothing_in_view", "glare", "blurred", "too_far"]
PROBLEMS: Final[tuple[Problem, ...]] = get_args(Problem)
"""Every problem there is, in the order in which they are looked for."""

DARKEST_HIGHLIGHT: Final = 40.0
LIGHTEST_SHADOW: Final = 225.0
LEAST_SPREAD: Final = 6.0
LEAST_EXTENT: Final = 0.15
MOST_GLARE: Final = 0.2
LEAST_SHARPNESS: Final = 0.025

_WORKING_SIDE = 224
_LARGEST_SIDE = 320  # pixels; a larger picture is not one that a network is given
_GRID = 32
_FEW = 100  # one pixel in so many may be otherwise: a speck, a spark, a hot pixel
_REACH = 8  # pixels between two that are compared for contrast: finer detail than that is what blur takes
_FAINTEST_EDGE, _CLEAREST_EDGE = 8, 24  # levels; a camera's noise is less, and so are the shadows on a wall
_LEAST_CONTRAST = 15.0  # squared levels; with less there is nothing that could be sharp
_CLIPPED, _NEARLY_CLIPPED = 248, 215
_EVENLY = np.full(3, 1 / 3, np.float32)


def quality_problem(picture: Picture) -> Problem | None:
    """Tell why nothing can be recognized in a picture, `uint8` (height, width, 3); None where something can.

    - `too_dark`, `too_bright`: all but 1 % is nearly black, or nearly white.
    - `nothing_in_view`: all but 1 % is of one color, or there is no edge at all: a bare wall.
    - `glare`: a light or its reflection washes out a large part.
    - `blurred`: moved, or out of focus: nowhere is there a sharp edge.
    - `too_far`: what there is covers a small part of a plain ground. In front of a busy ground nobody can
      tell how large the product is, and nothing is said.

    Raises:
        PhotoUnreadable: not a picture.
    """
    check_picture(picture)
    seen = picture if max(picture.shape[:2]) <= _LARGEST_SIDE else fit(picture, _WORKING_SIDE)
    shadow, highlight, spread = light(seen)
    if highlight < DARKEST_HIGHLIGHT:
        return "too_dark"
    if shadow > LIGHTEST_SHADOW:
        return "too_bright"
    if spread < LEAST_SPREAD:
        return "nothing_in_view"
    return _badly_taken(seen, highlight - shadow)


def _badly_taken(picture: Picture, contrast: float) -> Problem | None:
    if glare(picture) > MOST_GLARE:
        return "glare"
    # Before the extent: blur also takes the edges that tell it.
    if sharpness(picture) < LEAST_SHARPNESS:
        return "blurred"
    covered = extent(picture, contrast)
    if covered >= LEAST_EXTENT:
        return None
    return "too_far" if covered > 0 else "nothing_in_view"


def light(picture: Picture) -> tuple[float, float, float]:
    """Measure shadow, highlight and spread of a picture, each in levels 0 to 255.

    Of a coarse grid of pixels, all but 1 % are at least as light as the shadow in every channel, all but 1 %
    at most as light as the highlight, and all but 1 % within the spread from the mean color.
    """
    step = max(1, min(picture.shape[:2]) // _GRID)
    levels = np.ascontiguousarray(picture[::step, ::step].reshape(-1, 3).T)
    few = levels.shape[1] // _FEW
    ordered = np.partition(levels, (few, levels.shape[1] - 1 - few), axis=1)
    apart = np.abs(levels - levels.mean(axis=1, dtype=np.float32, keepdims=True))
    spread = np.partition(apart, levels.shape[1] - 1 - few, axis=1)[:, -1 - few].max()
    return float(ordered[:, few].min()), float(ordered[:, -1 - few].max()), float(spread)


def extent(picture: Picture, contrast: float) -> float:
    """Measure the part of a picture, 0 to 1, that a box around all its edges covers; 0 without any edge.

    An edge is a step of a fifth of the picture's `contrast`, highlight less shadow, within eight pixels.
    """
    edge = min(_CLEAREST_EDGE, max(_FAINTEST_EDGE, contrast / 5))
    # Every channel, for a yellow pack on white differs in blue alone; every second pixel is enough for edges.
    planes, reach = picture[::2, ::2].transpose(2, 0, 1).astype(np.int16, order="C"), _REACH // 2
    across = np.abs(planes[:, :, reach:] - planes[:, :, :-reach]).max(axis=0).max(axis=1, initial=0)
    down = np.abs(planes[:, reach:] - planes[:, :-reach]).max(axis=0).max(axis=0, initial=0)
    rows, columns = np.flatnonzero(across > edge), np.flatnonzero(down > edge)
    if len(rows) == 0 or len(columns) == 0:
        return 0.0
    box = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    return float(box / planes[0].size)


def glare(picture: Picture) -> float:
    """Measure the part of a picture, 0 to 1, that light washes out.

    Where a light is too strong for the camera, all channels are clipped, and it fades out softly: the part
    that is clipped counts in so far as its border is nearly clipped too. The white ground of a packshot is
    clipped as well, but it reaches around the picture, and then nothing counts.
    """
    red, green, blue = picture[2::4, 2::4].transpose(2, 0, 1)
    least = np.minimum(np.minimum(red, green), blue)
    clipped = least >= _CLIPPED
    part = np.count_nonzero(clipped) / clipped.size
    if part == 0.0:
        return 0.0
    border = np.concatenate([clipped[0], clipped[-1], clipped[:, 0], clipped[:, -1]])
    return 0.0 if np.count_nonzero(border) > border.size / 2 else part * _soft_border(least, clipped)


def sharpness(picture: Picture) -> float:
    """Measure how sharp the sharpest edges are, about 0 to 0.5; what is blurred in one direction is blurred.

    The mean square of the step from one pixel to the next, over that from one pixel to the eighth next, and
    the smaller of the two that are measured across and down. A good picture has a quarter of its contrast
    within few pixels, whatever it shows, and blur takes just that; as other measures without a reference
    picture, it compares what is there with a coarser view of it (F. Crété, T. Dolmiere, P. Ladret,
    M. Nicolas: The Blur Effect, 2007). 1.0 where there is too little contrast to tell.
    """
    gray = picture.astype(np.float32) @ _EVENLY
    return min(_fineness(gray[::2]), _fineness(gray[:, ::2].T))


def _fineness(lines: NDArray[np.float32]) -> float:
    if lines.shape[1] <= 2 * _REACH:
        return 1.0
    coarse = _mean_square_step(lines, _REACH)
    return _mean_square_step(lines, 1) / coarse if coarse >= _LEAST_CONTRAST else 1.0


def _mean_square_step(lines: NDArray[np.float32], reach: int) -> float:
    steps = lines[:, reach:] - lines[:, :-reach]
    steps = steps.ravel(order="K")
    return float(steps @ steps) / steps.size


def _soft_border(least: Picture, clipped: NDArray[np.bool_]) -> float:
    """Return the share of the pixels just beside clipped ones that are nearly clipped."""
    beside = np.zeros_like(clipped)
    beside[1:] |= clipped[:-1]
    beside[:-1] |= clipped[1:]
    beside[:, 1:] |= clipped[:, :-1]
    beside[:, :-1] |= clipped[:, 1:]
    around = least[beside & ~clipped]
    return np.count_nonzero(around >= _NEARLY_CLIPPED) / around.size if around.size else 1.0
