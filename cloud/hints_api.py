"""Where a device waits for hints: its connection is handed over to those that only wait."""

from typing import Final

from flask import Blueprint, Response, abort, request

from cloud.api import for_the_device
from cloud.rooms import rooms
from cloud.serving import HAND_OVER
from edge.errors import ServerBusy

_LATER_S: Final = 60.0

blueprint = Blueprint("hints", __name__)


@blueprint.get("/v1/devices/<device>/hints")
@for_the_device
def hints(device: str) -> Response:
    """Keep the connection, and send on it server-sent events of releases until either side goes."""
    listeners = rooms().listeners
    if HAND_OVER not in request.environ or not listeners.are_open:
        abort(404, "this server gives no hints: poll it")
    try:
        connection = request.environ[HAND_OVER]() if listeners.have_room() else None
    except OSError:  # no more files may be open
        connection = None
    if connection is None:
        raise ServerBusy("too many devices listen already: poll, and try again later", retry_after=_LATER_S)
    listeners.take(connection, device)
    return Response()  # nothing of it is sent: the connection is somebody else's now
