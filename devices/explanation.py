"""Why the device said so: the photo, and where in it the likeness to the answer lies and to the runner-up.

A device holds no reference photos, only their vectors: what it can show is the photo that it was asked about.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge.disk import write_atomically
from edge.errors import BadProduct, SkipPhoto
from edge.explain import Explanation, explain_answer, similarity_map
from edge.explain_picture import LEGEND, Panel, draw_heat_map, draw_sheet, encode_png, map_panels
from edge.image import Picture, decode, fit
from edge.local_products import LocalProducts
from edge.matcher import Answer, Matcher
from edge.newcomer import Concern

if TYPE_CHECKING:
    from devices.device import Device

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


def write_look_alikes(
    device: "Device", concerns: Sequence[Concern], photos: Mapping[str, bytes], path: Path
) -> bool:
    """Draw each photo that is too close to another product beside that one, as the PNG at `path`.

    `photos` are the bytes by the names that the concerns call them. Of a product that this device was taught
    its photo is shown; of a release's, whose photos no device has, the map of what in the photo speaks for
    it. Returns whether there was anything to draw.

    Raises:
        SkipPhoto: a photo cannot be decoded.
        NoSpace, StorageUnusable: the file cannot be written.
    """
    alike = [each for each in concerns if each.kind in ("look_alike", "close") and each.sku is not None]
    panels: list[Panel] = []
    for each in alike:
        picture = decode(photos[each.photo], shrink_to=SHOWN_SIDE)
        taken_for, what = draw_look_alike(device, each.sku or "", picture)
        caption = (each.title, f"similarity {each.similarity or 0.0:+.3f}")
        panels += [Panel(picture, "The photo", (each.photo,)), Panel(taken_for, what, caption)]
    if panels:
        heading = ("Photos that are too close to another product.", LEGEND)
        write_atomically(path, encode_png(draw_sheet(heading, panels, columns=2)))
    return bool(panels)


def draw_look_alike(device: "Device", sku: str, picture: Picture) -> tuple[Picture, str]:
    """Return what a photo is taken for, and what that shows: the product's own photo, if it is kept here.

    Else the map of what in the photo, `uint8` (height, width, 3), speaks for the product.

    Raises:
        BadProduct: there is no such product, or nothing to recognize it by.
        StepBack, NextDelegate: the release cannot answer.
    """
    local = LocalProducts(device.settings.data)
    for sha256 in (photo for each in local.all() if each.product.sku == sku for photo in each.photos):
        with suppress(SkipPhoto):
            return decode(local.photo(sha256)), sku

    def draw(matcher: Matcher) -> Picture:
        rows = matcher.stack.vectors(matcher.stack.rows_of(sku))
        if len(rows) == 0:
            raise BadProduct(f"nothing here recognizes a product {sku!r}: look at the list of products")
        query = matcher.embedder.embed(fit(picture, matcher.release.input_size))
        return draw_heat_map(picture, similarity_map(query, rows[int(np.argmax(rows @ query.vector))]))

    return device.ask(draw), f"{sku}: what speaks for it"
