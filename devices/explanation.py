"""Why the device said so: the photo, and where in it the likeness to the answer lies and to the runner-up.

A device holds no reference photos, only their vectors: what it can show is the photo that it was asked about.
"""

import json
from pathlib import Path

from edge.disk import write_atomically
from edge.explain import Explanation, explain_answer
from edge.explain_picture import LEGEND, draw_sheet, encode_png, map_panels
from edge.image import Picture, decode
from edge.matcher import Answer, Matcher

SHOWN_SIDE = 720


def write_explanation(matcher: Matcher, photo: bytes, answer: Answer, name: str, path: Path) -> Explanation:
    """Draw why as the PNG at `path`, and write it as data beside that: `why.png`, `why.json`.

    `name` is what the data calls the photo.

    Raises:
        SkipPhoto: the photo cannot be decoded.
        NoRelease: there is no candidate to explain.
        NoSpace, StorageUnusable: the files cannot be written.
    """
    explanation = explain_answer(answer, matcher.stack)
    picture = decode(photo, shrink_to=SHOWN_SIDE)
    write_atomically(path, encode_png(draw_explanation(picture, explanation)))
    record = {"photo": name, "release": answer.release, **explanation.to_record()}
    write_atomically(
        path.with_suffix(".json"), (json.dumps(record, ensure_ascii=False, indent=1) + "\n").encode()
    )
    return explanation


def draw_explanation(picture: Picture, explanation: Explanation) -> Picture:
    """Draw the photo, its maps for the first candidate and the runner-up, and their difference, captioned.

    Raises:
        PhotoUnreadable: not a picture.
    """
    return draw_sheet((*explanation.words(), LEGEND), map_panels(picture, explanation), columns=2)
