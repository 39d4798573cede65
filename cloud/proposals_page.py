"""Where a person looks at what devices propose, and takes it into the catalog or refuses it.

The one page of the console that changes something. Like the rest it has no login and answers on its own
machine; and a form is taken from its own pages alone, whatever another website makes a browser send.
"""

from typing import Final
from urllib.parse import urlsplit

from flask import Blueprint, Response, abort, redirect, render_template, request, send_file, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response as AnyResponse

from cloud.console import _POLICY
from cloud.people import keep_strangers_out
from cloud.proposals import STATES
from cloud.rooms import rooms
from cloud.times import now
from edge.errors import BadProduct, SkipRecord

_SHOWN: Final = 50

blueprint = Blueprint("proposals_page", __name__)
blueprint.before_request(keep_strangers_out)


@blueprint.before_request
def only_from_this_page() -> None:
    """Refuse a change that another website asked for (OWASP, cross-site request forgery).

    A browser says where a form comes from, in one header or the other, and no page can make it lie.
    """
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    own = origin is not None and urlsplit(origin).netloc == request.host
    if not (site == "same-origin" if site is not None else own):
        abort(403, "this form was not sent by the console's own page: open the console and send it there")


@blueprint.get("/proposals")
def page() -> ResponseReturnValue:
    """Show what waits, with its photos, and what was decided last."""
    here = rooms()
    waiting = here.proposals.all(catalog=here.catalog, limit=_SHOWN)
    decided = [
        proposal
        for state in STATES[1:]
        for proposal in here.proposals.newest(state, limit=_SHOWN // len(STATES))
    ]
    html = render_template(
        "proposals.html",
        now=now(),
        waiting=waiting,
        count=here.proposals.count_waiting(),
        decided=sorted(decided, key=lambda each: each.decided or each.created, reverse=True),
        names={device.id: device.name for device in here.fleet.devices()},
        said=request.args.get("said", "")[:300],
    )
    return html, {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}


@blueprint.get("/proposals/photos/<sha256>.jpg")
def photo(sha256: str) -> Response:
    """Send a photo of a proposal that waits."""
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        abort(404, "a photo is named by the 64 hex digits of its SHA-256")
    path = rooms().proposals.photos.path(sha256)
    if not path.is_file():
        abort(404, "this photo is not here: its proposal was decided, or its device has yet to bring it")
    response = send_file(path.absolute(), mimetype="image/jpeg", conditional=True, etag=sha256)
    response.headers["Cache-Control"] = "private, no-store"  # a refused photo is gone from here too
    return response


@blueprint.post("/proposals/<id_>/accept")
def accept(id_: str) -> AnyResponse:
    """Take a proposal into the catalog, as it is or into the product that the form names."""
    into = request.form.get("into", "").strip() or None
    here = rooms()
    try:
        done = here.proposals.accept(id_, here.catalog, into=into)
    except SkipRecord as error:
        return _back(str(error))
    return _back(f"{done.product.sku} is {done.state}: `shelfsight-cloud publish` tells the devices")


@blueprint.post("/proposals/<id_>/refuse")
def refuse(id_: str) -> AnyResponse:
    """Refuse a proposal."""
    try:
        done = rooms().proposals.refuse(id_)
    except BadProduct as error:
        return _back(str(error))
    return _back(f"{done.product.sku} is refused: the devices forget it at their next visit")


def _back(said: str) -> AnyResponse:
    return redirect(url_for("proposals_page.page", said=said), 303)
