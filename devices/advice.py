"""What to do about a photo that the quality gate stopped, in words for whoever took it."""

from collections.abc import Mapping
from typing import Final

ADVICE: Final[Mapping[str, str]] = {
    "too_dark": "too dark to see anything: give it more light",
    "too_bright": "too bright to see anything: give it less light",
    "nothing_in_view": "nothing in view: hold a product in front of the camera",
    "too_far": "too small in the picture: hold it closer",
    "glare": "a light washes it out: turn it away from the light",
    "blurred": "blurred: hold it still",
}
"""One line for every problem of `edge.quality`, by the reason that an answer gives."""


def advice_for(reason: str) -> str | None:
    """Return what to do about a photo, where the answer's reason is a fault of the photo."""
    return ADVICE.get(reason)
