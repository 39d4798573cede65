"""What a kiosk does, without its page: look, answer, and hear whether the answer was right."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from devices.camera import Camera, FolderCamera, Frame
from devices.device import Device
from devices.kiosk.barcodes import Scan, product_of
from edge.errors import BadSetting
from edge.events import uuid7
from edge.image import Picture, decode, encode_jpeg
from edge.matcher import Answer
from edge.quality import PROBLEMS

REMEMBERED = 16
"""So many answers can still be confirmed or corrected; each costs the bytes of one JPEG."""

PHOTO_SIDE = 1280
"""Pixels that a photo from the page keeps on its shorter side, if it has more: enough to be shown again."""

SETTLED_LOOKS = 2
"""A live answer counts as searched when given so many times in a row: a hand on its way is no search."""


SCANNED_WITHIN_S = 30.0
"""A bar code is scanned so soon after the answer that it is about, or it is about something else."""


@dataclass(frozen=True, slots=True)
class Given:
    """An answer that was given, with the photo it was about."""

    id: str
    answer: Answer
    photo: bytes
    name: str

    @property
    def sku(self) -> str | None:
        """Name the product that was answered, if it was a match."""
        return self.skus[0] if self.answer.verdict == "match" else None

    @property
    def skus(self) -> tuple[str, ...]:
        """Name the candidates, best first."""
        return tuple(candidate.product.sku for candidate in self.answer.candidates)


class Station:
    """Answers what is in front of one camera and writes what shoppers say to the outbox.

    Safe to call from several threads: the page's requests overlap.
    """

    def __init__(self, device: Device, camera: Camera | None) -> None:
        self.device = device
        self.camera = camera
        self._given: OrderedDict[str, Given] = OrderedDict()
        self._lock = threading.Lock()
        self._camera_lock = threading.Lock()
        self._settled_after = 1 if isinstance(camera, FolderCamera) else SETTLED_LOOKS
        self._last: tuple[str, str | None] | None = None
        self._seen = 0
        self._searched: tuple[Given, float] | None = None

    def look(self) -> Given:
        """Take a frame from the camera and answer it.

        Raises:
            SkipPhoto: this frame cannot be used.
            FixSetup, StepBack: there is no camera, or no release can answer.
        """
        frame = self._frame()
        given = self._answer(frame.picture, encode_jpeg(frame.picture), frame.name)
        if self._settles(given):
            self._record_search(given)
        return given

    def view(self) -> bytes:
        """Take a frame from the camera and give it as a JPEG, with no answer.

        Raises:
            SkipPhoto: this frame cannot be used.
        """
        return encode_jpeg(self._frame().picture, quality=80)

    def take(self) -> bytes:
        """Take a frame from the camera to be kept, as a JPEG that loses little.

        Raises:
            SkipPhoto: this frame cannot be used.
            BadSetting: there is no camera.
        """
        return encode_jpeg(self._frame().picture, quality=95)

    def answer_photo(self, photo: bytes) -> Given:
        """Answer a photo that the page's own camera took.

        Raises:
            SkipPhoto: it is no photo that can be answered.
            FixSetup, StepBack: no release can answer.
        """
        picture = decode(photo, shrink_to=PHOTO_SIDE)
        # Encoded anew: upright, of one kind, and without the place and time a phone writes into its photos.
        given = self._answer(picture, encode_jpeg(picture), "your photo")
        if self._settles(given):
            self._record_search(given)
        return given

    def given(self, answer_id: str) -> Given | None:
        """Recall an answer, as long as it is among the last ones."""
        with self._lock:
            return self._given.get(answer_id)

    def confirm(self, given: Given) -> None:
        """Write down that the shopper says the match was right.

        Raises:
            StorageUnusable, NoSpace: the outbox cannot be written.
        """
        self.device.record("confirmed", {**_about(given), "sku": given.sku})

    def correct(self, given: Given, sku: str | None) -> None:
        """Write down which of the candidates the shopper says it is; None: none of them.

        Raises:
            StorageUnusable, NoSpace: the outbox cannot be written.
        """
        told = {"verdict": given.answer.verdict, "was": given.skus[0] if given.skus else None}
        self.device.record("corrected", {**_about(given), **told, "sku": sku, "candidates": list(given.skus)})

    def scanned(self, gtin: str) -> Scan | None:
        """Write down whether the last answer named the product whose bar code was scanned beside it.

        None, and nothing is written, where the release has no product with this number. An answer counts for
        one scan, and not for long: later another product lies there.

        Raises:
            BadGtin: it is no number of a product.
            NoRelease, StepBack, RuntimeMissing: no release can answer.
            StorageUnusable, NoSpace: the outbox cannot be written.
        """
        product = self.device.ask(lambda matcher: product_of(gtin, matcher.stack.products.values()))
        with self._lock:
            searched, self._searched = self._searched, None
        if product is None:
            return None
        if searched is None or time.monotonic() - searched[1] > SCANNED_WITHIN_S:
            return Scan(product, None)
        given = searched[0]
        told = {"sku": product.sku, "answered": given.sku, "agrees": given.sku == product.sku}
        self.device.record("scanned", {**_about(given), **told})
        return Scan(product, given.sku == product.sku)

    def _frame(self) -> Frame:
        if self.camera is None:
            raise BadSetting("this kiosk has no camera: start it with --camera N or --frames FOLDER")
        with self._camera_lock:
            return self.camera.read()

    def _answer(self, picture: Picture, photo: bytes, name: str) -> Given:
        answer = self.device.see(picture)
        given = Given(uuid7(), answer, photo, name)
        with self._lock:
            self._given[given.id] = given
            while len(self._given) > REMEMBERED:
                self._given.popitem(last=False)
        return given

    def _settles(self, given: Given) -> bool:
        """Say whether this answer has just been given often enough in a row to be what was searched."""
        answer = given.answer
        what = (answer.verdict, given.sku)
        # A picture that nobody could recognize anything in is no search: what it resembles means nothing.
        usable = bool(answer.candidates) and answer.reason not in PROBLEMS
        with self._lock:
            self._seen = self._seen + 1 if usable and what == self._last else int(usable)
            self._last = what if usable else None
            return usable and self._seen == self._settled_after

    def _record_search(self, given: Given) -> None:
        with self._lock:
            self._searched = given, time.monotonic()
        self.device.record("searched", {**_about(given), "sku": given.sku, **search_record(given.answer)})


def _about(given: Given) -> dict[str, object]:
    """Name the answer that an event is about."""
    return {"answer": given.id, "release": given.answer.release}


def search_record(answer: Answer) -> dict[str, object]:
    """Write down an answer for a `searched` event: verdict, category and candidates, no picture."""
    return {
        "verdict": answer.verdict,
        "category": answer.category.name if answer.category else None,
        "candidates": [
            {
                "sku": candidate.product.sku,
                "similarity": round(candidate.similarity, 4),
                "confidence": round(candidate.confidence, 4),
            }
            for candidate in answer.candidates
        ],
        "total_ms": round(answer.timings.total_ms, 2),
    }
