"""The kiosk's page and the few addresses behind it, for a browser on the same device."""

from dataclasses import asdict
from urllib.parse import urlsplit

from flask import Flask, Response, abort, jsonify, make_response, render_template, request, url_for
from werkzeug.exceptions import HTTPException

from devices.camera import FolderCamera
from devices.config import Settings
from devices.kiosk.staff import add_staff_page
from devices.kiosk.station import Given, Station
from devices.kiosk.wording import name_of, price_of, words_for
from edge.errors import BadGtin, ShelfsightError, SkipPhoto, SkipRecord

MOST_PHOTO_BYTES = 24 * 1024 * 1024
FOLDER_INTERVAL_S = 4.0  # a photo from a folder stays long enough to be read

_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "media-src 'self' blob: mediastream:",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def create_app(station: Station, settings: Settings, *, hosts: list[str] | None = None) -> Flask:
    """Make the web application of one kiosk; it answers requests for one of `hosts` only, None means any."""
    app = Flask(__name__)
    app.config.update(MAX_CONTENT_LENGTH=MOST_PHOTO_BYTES, TRUSTED_HOSTS=hosts)
    _add_guards(app)
    _add_page(app, station, settings)
    _add_answers(app, station, settings)
    add_staff_page(app, station, settings)
    return app


def _add_guards(app: Flask) -> None:
    @app.before_request
    def _only_from_this_page() -> tuple[Response, int] | None:
        """Refuse what another website makes a browser send here (OWASP, cross-site request forgery)."""
        if request.method in ("GET", "HEAD", "OPTIONS"):
            return None
        origin = request.headers.get("Origin")
        foreign = origin is not None and urlsplit(origin).netloc != request.host
        if foreign or request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            return jsonify(error="Another website asked for this: use the kiosk's own page."), 403
        return None

    @app.after_request
    def _harden(response: Response) -> Response:
        response.headers.update(_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.errorhandler(ShelfsightError)
    def _failed(error: ShelfsightError) -> tuple[Response, int]:
        return jsonify(error=str(error), code=error.code), 422 if isinstance(
            error, SkipPhoto | SkipRecord
        ) else 503

    @app.errorhandler(HTTPException)
    def _refused(error: HTTPException) -> tuple[Response, int]:
        return jsonify(error=error.description), error.code or 500


def _add_page(app: Flask, station: Station, settings: Settings) -> None:
    folder = isinstance(station.camera, FolderCamera)
    source = "browser" if station.camera is None else "folder" if folder else "camera"
    interval_s = max(settings.look_interval_s, FOLDER_INTERVAL_S if folder else 0.0)

    @app.get("/")
    def page() -> str:
        return render_template(
            "page.html", name=settings.name, source=source, interval_ms=round(1000 * interval_s)
        )

    @app.get("/view.jpg")
    def view() -> Response:
        return _jpeg(station.view())

    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify(ok=True, release=station.device.installation.current_version())


def _add_answers(app: Flask, station: Station, settings: Settings) -> None:
    def record(given: Given) -> dict[str, object]:
        return answer_record(given, settings.currency) | {"frame": url_for("frame", answer_id=given.id)}

    @app.post("/look")
    def look() -> dict[str, object]:
        return record(station.look())

    @app.post("/answer")
    def answer() -> dict[str, object]:
        return record(station.answer_photo(request.get_data()))

    def recall(answer_id: str) -> Given:
        given = station.given(answer_id)
        if given is None:
            abort(404, "That was too long ago: show the product once more.")
        return given

    @app.get("/frames/<answer_id>.jpg")
    def frame(answer_id: str) -> Response:
        return _jpeg(recall(answer_id).photo)

    @app.post("/answers/<answer_id>/confirm")
    def confirm(answer_id: str) -> dict[str, str]:
        given = recall(answer_id)
        if given.sku is None:
            abort(400, "That answer named no product: choose one of those shown.")
        station.confirm(given)
        return {"thanks": "Thank you!"}

    @app.post("/answers/<answer_id>/correct")
    def correct(answer_id: str) -> dict[str, str]:
        given = recall(answer_id)
        body = request.get_json(silent=True)
        if not isinstance(body, dict) or body.get("sku", "") not in (None, *given.skus):
            abort(400, 'Say which of the products shown it is, {"sku": "…"}, or null for none of them.')
        if body["sku"] is not None and body["sku"] == given.sku:
            station.confirm(given)
        else:
            station.correct(given, body["sku"])
        return {"thanks": "Thank you, I will pass that on."}

    @app.post("/scanned")
    def scanned() -> dict[str, object]:
        body = request.get_json(silent=True)
        gtin = body.get("gtin") if isinstance(body, dict) else None
        try:
            found = station.scanned(gtin if isinstance(gtin, str) else "")
        except BadGtin as error:
            abort(400, str(error))
        if found is None:
            abort(404, "There is no product with this bar code here.")
        words = [name_of(found.product), price_of(found.product, settings.currency)]
        return {"sku": found.product.sku, "agrees": found.agrees, "words": " · ".join(filter(None, words))}


def answer_record(given: Given, currency: str) -> dict[str, object]:
    """Write an answer as the page wants it."""
    return {
        "id": given.id,
        "name": given.name,
        "verdict": given.answer.verdict,
        "category": given.answer.category.name if given.answer.category else None,
        "words": asdict(words_for(given.answer, currency)),
        "candidates": [
            {
                "sku": candidate.product.sku,
                "title": name_of(candidate.product),
                "category": candidate.product.category,
                "price": price_of(candidate.product, currency),
                "similarity": round(candidate.similarity, 4),
                "confidence": round(candidate.confidence, 4),
            }
            for candidate in given.answer.candidates
        ],
        "release": given.answer.release,
        "total_ms": round(given.answer.timings.total_ms, 2),
    }


def _jpeg(photo: bytes) -> Response:
    response = make_response(photo)
    response.content_type = "image/jpeg"
    return response
