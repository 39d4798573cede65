"""What people see at `/`: one page, made by the server, with nothing from outside and no script."""

import re
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from flask import Blueprint, Response, abort, render_template, request, send_file
from flask.typing import ResponseReturnValue

from cloud.catalog import CatalogPage
from cloud.people import keep_strangers_out, number_argument
from cloud.rollouts import Step
from cloud.rooms import rooms
from cloud.telling import size, told
from cloud.times import now
from cloud.wave import plot
from edge.disk import storage_error, write_atomically
from edge.image import Picture, decode, encode_jpeg, fit

PRODUCTS_A_PAGE: Final = 24
_DEVICES: Final = 50
_SLOTS: Final = 200
_EVENTS: Final = 25
_RELEASES: Final = 10
_ROLLOUTS: Final = 4
_STEPS: Final = 6
_WAVE: Final = timedelta(days=2)
_THUMBNAIL: Final = 176  # pixels a side: sharp on a screen with two pixels per point
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_QUIET_AFTER: Final = timedelta(minutes=5)  # five missed heartbeats
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))

blueprint = Blueprint("console", __name__, static_folder="static", static_url_path="/console/static")
blueprint.before_request(keep_strangers_out)
blueprint.add_app_template_filter(size, "size")
blueprint.add_app_template_filter(told, "told")


@blueprint.get("/")
def page() -> ResponseReturnValue:
    """Show products, releases, devices, shelf states and events."""
    here = rooms()
    search = request.args.get("search", "").strip()[:100]
    number = max(1, number_argument("page", 1, most=10**6))
    products = here.catalog.page(search, offset=(number - 1) * PRODUCTS_A_PAGE, limit=PRODUCTS_A_PAGE)
    devices = here.fleet.devices()
    slots = here.events.slots(_SLOTS)
    counts = here.fleet.count_by_release()
    html = render_template(
        "console.html",
        now=now(),
        search=search,
        products=products,
        everything=products.total if not search else here.catalog.page(limit=1).total,
        number=number,
        pages=_pages(products),
        releases=here.releases.newest(_RELEASES),
        latest=here.releases.latest(),
        rollouts={rollout.version: rollout for rollout in here.rollouts.newest(_RELEASES)},
        devices=devices[:_DEVICES],
        device_count=sum(counts.values()),
        on_release=counts,
        awake=sum(1 for device in devices if now() - device.last_seen < _QUIET_AFTER),
        names={device.id: device.name for device in devices},
        slots=sorted(slots, key=lambda slot: (slot.state == "ok", slot.device, slot.slot)),
        troubled=sum(1 for slot in slots if slot.state in ("empty", "misplaced")),
        events=here.events.newest(_EVENTS),
        proposed=here.proposals.count_waiting(),
        quiet_after=_QUIET_AFTER,
        **_rollouts(),
    )
    return html, {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}


def _rollouts() -> dict[str, Any]:
    """Gather what the section of the rollouts shows."""
    here = rooms()
    newest = here.rollouts.newest(_ROLLOUTS)
    versions = [rollout.version for rollout in newest]
    steps: dict[int, list[Step]] = {}
    for step in here.rollouts.steps(versions, limit=_STEPS * _ROLLOUTS):
        steps.setdefault(step.version, []).append(step)
    return {
        "shown_rollouts": newest,
        "steps_of": {version: each[:_STEPS] for version, each in steps.items()},
        "failures_of": here.rollout_devices.failures(versions),
        "wave": plot(here.wave.since(now() - _WAVE)),
    }


@blueprint.get("/console/thumbnails/<sha256>.jpg")
def thumbnail(sha256: str) -> Response:
    """Send a reference photo, whole, on a small white square."""
    if not _SHA256.fullmatch(sha256):
        abort(404, "a photo is named by the 64 hex digits of its SHA-256")
    here = rooms()
    path = here.workspace.cache / "thumbnails" / sha256[:2] / f"{sha256}.jpg"
    if not path.is_file():
        picture = decode(here.catalog.photos.read(sha256), shrink_to=_THUMBNAIL)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, path) from error
        write_atomically(path, encode_jpeg(fit(_on_square(picture), _THUMBNAIL), quality=85))
    response = send_file(path.absolute(), mimetype="image/jpeg", conditional=True, etag=sha256)
    response.headers["Cache-Control"] = "private, max-age=86400, immutable"
    return response


@blueprint.app_template_filter("ago")
def ago(time: datetime) -> str:
    """Say how long ago a time was: `just now`, `3 min ago`, `2 d ago`."""
    seconds = (now() - time).total_seconds()
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return "just now"


def _pages(products: CatalogPage) -> int:
    return max(1, -(-products.total // PRODUCTS_A_PAGE))


def _on_square(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    side = max(height, width)
    square = np.full((side, side, 3), 255, dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = picture
    return square
