"""The kiosk's page for the shop's staff: take photos of a new product, and see at once whether it is known.

No page links to it, and it answers the kiosk's own machine alone: who can reach its keyboard is staff.
"""

import hashlib
import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from flask import Flask, Response, abort, jsonify, make_response, render_template, request, url_for

from devices.advice import advice_for
from devices.camera import FolderCamera
from devices.config import Settings
from devices.explanation import draw_look_alike
from devices.kiosk.station import Station
from devices.kiosk.wording import name_of, words_for
from devices.learning import kept_photo, learn
from edge.errors import BadProduct
from edge.image import decode, decode_to_fit, encode_jpeg
from edge.local_products import MOST_PHOTOS, LocalProducts
from edge.newcomer import Concern
from edge.products import Product
from edge.quality import quality_problem

_SEEN_SIDE: Final = 224
_DRAFTS: Final = 3 * MOST_PHOTOS  # some tens of KB each


class Drafts:
    """The photos that were taken and belong to no product yet; the oldest go. Safe between threads."""

    def __init__(self) -> None:
        self._photos: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, photo: bytes) -> str:
        """Keep a photo, and give its name."""
        name = hashlib.sha256(photo).hexdigest()
        with self._lock:
            self._photos[name] = photo
            while len(self._photos) > _DRAFTS:
                self._photos.popitem(last=False)
        return name

    def get(self, name: str) -> bytes:
        """Return a photo.

        Raises:
            BadProduct: it is gone.
        """
        with self._lock:
            photo = self._photos.get(name)
        if photo is None:
            raise BadProduct("this photo is gone: take it again")
        return photo


def add_staff_page(app: Flask, station: Station, settings: Settings) -> None:
    """Add the page and the addresses behind it."""
    drafts = Drafts()
    _add_guard(app)
    _add_photos(app, station, settings, drafts)
    _add_products(app, station, settings, drafts)


def _add_guard(app: Flask) -> None:
    @app.before_request
    def _only_on_this_machine() -> None:
        if not request.path.startswith("/staff"):
            return
        try:
            here = ipaddress.ip_address(request.remote_addr or "").is_loopback
        except ValueError:
            here = False
        if not here or "Forwarded" in request.headers or "X-Forwarded-For" in request.headers:
            abort(403, "This page is for the staff, on the kiosk's own machine.")


def _add_photos(app: Flask, station: Station, settings: Settings, drafts: Drafts) -> None:
    folder = isinstance(station.camera, FolderCamera)
    source = "browser" if station.camera is None else "folder" if folder else "camera"

    @app.get("/staff")
    def staff() -> str:
        return render_template(
            "staff.html",
            name=settings.name,
            source=source,
            most=MOST_PHOTOS,
            proposes=settings.propose,
            currency=settings.currency,
        )

    @app.post("/staff/photos")
    def staff_photo() -> dict[str, object]:
        """Keep the photo that is sent, or take one with the kiosk's camera."""
        photo = kept_photo(request.get_data() or station.take())
        problem = quality_problem(decode_to_fit(photo, _SEEN_SIDE))
        name = drafts.add(photo)
        return {
            "id": name,
            "src": url_for("staff_draft", name=name),
            "problem": advice_for(problem) if problem else None,
        }

    @app.get("/staff/photos/<name>.jpg")
    def staff_draft(name: str) -> Response:
        return _jpeg(drafts.get(name))

    @app.get("/staff/photos/<name>/like/<path:sku>.jpg")
    def staff_look_alike(name: str, sku: str) -> Response:
        drawn, _ = draw_look_alike(station.device, sku, decode(drafts.get(name)))
        return _jpeg(encode_jpeg(drawn, quality=85))

    @app.post("/staff/try")
    def staff_try() -> dict[str, object]:
        """Answer a photo for the staff: it is no shopper's search, and no event tells of it."""
        answer = station.device.see(request.get_data() or station.take())
        words = words_for(answer, settings.currency)
        first = answer.candidates[0].product if answer.candidates else None
        return {
            "tone": words.tone,
            "heading": words.heading,
            "title": name_of(first) if first and words.tone == "match" else words.title,
            "sku": first.sku if first and words.tone == "match" else None,
            "sureness": words.sureness,
            "ms": round(answer.timings.total_ms, 1),
        }


def _add_products(app: Flask, station: Station, settings: Settings, drafts: Drafts) -> None:
    @app.post("/staff/products")
    def staff_learn() -> dict[str, object]:
        body = _body()
        chosen = body.get("photos")
        ids = [each for each in chosen if isinstance(each, str)] if isinstance(chosen, list) else []
        names = {f"photo {number}": id_ for number, id_ in enumerate(ids, start=1)}
        learned = learn(
            station.device,
            Product.from_record(body),
            [(name, drafts.get(id_)) for name, id_ in names.items()],
            anyway=body.get("anyway") is True,
            shrunk=True,
        )
        return {
            **learned.to_record(),
            "concerns": [_concern(concern, names) for concern in learned.concerns],
        }

    @app.get("/staff/products")
    def staff_products() -> dict[str, object]:
        local, release = LocalProducts(settings.data), station.device.installation.current_version()
        return {
            "products": [
                {
                    "sku": each.product.sku,
                    "title": name_of(each.product),
                    "state": each.state,
                    "photos": len(each.photos),
                    "unsent": len(each.unsent),
                    "src": url_for("staff_kept", sha256=each.photos[0]) if each.photos else None,
                }
                for each in reversed(local.all())
                if not each.is_in(release)
            ]
        }

    @app.get("/staff/kept/<sha256>.jpg")
    def staff_kept(sha256: str) -> Response:
        local = LocalProducts(settings.data)
        if not any(sha256 in each.photos for each in local.all()):
            abort(404, "There is no such photo.")
        return _jpeg(local.photo(sha256))

    @app.post("/staff/forget")
    def staff_forget() -> Response:
        gone = LocalProducts(settings.data).forget(str(_body().get("sku", "")))
        return jsonify(forgotten=sum(len(each.photos) for each in gone))


def _concern(concern: Concern, names: Mapping[str, str]) -> dict[str, object]:
    """Write a concern with the two pictures that show it side by side."""
    id_ = names.get(concern.photo)
    alike = id_ is not None and concern.sku is not None and concern.kind in ("look_alike", "close")
    return {
        **concern.to_record(),
        "src": url_for("staff_draft", name=id_) if id_ else None,
        "like": url_for("staff_look_alike", name=id_, sku=concern.sku) if alike else None,
    }


def _body() -> dict[str, object]:
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise BadProduct("the page sent no product: load it again")
    return body


def _jpeg(photo: bytes) -> Response:
    response = make_response(photo)
    response.content_type = "image/jpeg"
    return response
