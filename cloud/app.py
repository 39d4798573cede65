"""Builds the sync server: what devices call, and what people see."""

from flask import Flask, Response

from cloud import api, console, hints_api, people, problems, proposals_api, proposals_page
from cloud.hints_mqtt import Broker
from cloud.rooms import Rooms
from cloud.workspace import Workspace

_LARGEST_BODY = 64 * 1024  # bytes, of a request that does not say otherwise


def create_app(workspace: Workspace, *, people_anywhere: bool = False, broker: Broker | None = None) -> Flask:
    """Build the server of one workspace; devices are told to listen for hints at `broker`, if there is one.

    The console and the read-only pages for people have no login yet, so they answer callers on this machine
    alone, unless `people_anywhere` says that something in front of the server keeps strangers out.

    Raises:
        StorageUnusable: the database cannot be opened.
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = _LARGEST_BODY
    app.json.sort_keys = False  # type: ignore[attr-defined]
    Rooms.open(workspace, people_anywhere=people_anywhere, broker=broker).attach(app)
    problems.register(app)
    for blueprint in (
        api.blueprint,
        hints_api.blueprint,
        proposals_api.blueprint,
        people.blueprint,
        console.blueprint,
        proposals_page.blueprint,
    ):
        app.register_blueprint(blueprint)
    app.after_request(_harden)
    return app


def _harden(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    return response
