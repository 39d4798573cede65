"""What a relay answers: metadata and files from its disk, everything else from the server.

It is not trusted, and cannot be: a device verifies what it gets by its own keys, and shows its token to the
server through it. What the server calls private is passed on to the one who asked, and never kept.
"""

import logging
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flask import Flask, Response, json, jsonify, request, send_file

from devices.relay.fanout import Fanout
from devices.relay.files import Files
from devices.relay.metadata import MOST_BYTES, Metadata
from edge.errors import NoSpace, ServerUnreachable, ShelfsightError
from edge.transport import Exchanged, Transport

MOST_SENT: Final = 34 * 1024 * 1024  # a full batch of the longest events
WAIT_S: Final = 5.0
"""So long a device waits for a file that is on its way here; it gives up after ten seconds of silence."""

UPSTREAM_S: Final = 8.0  # silence; less than the ten seconds after which a device gives up
RETRY_S: Final = 2
AWAY_S: Final = 10
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_METADATA: Final = re.compile(r"[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,2}\.json")
_PATH: Final = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]*/?){1,10}")
_ASKED: Final = ("Authorization", "Content-Type", "Content-Encoding", "Accept")
_ANSWERED: Final = ("content-type", "retry-after", "www-authenticate", "cache-control", "etag")
_log = logging.getLogger(__name__)


class Relay:
    """A relay of the server at `url`, with its cache in `folder`."""

    def __init__(self, url: str, folder: Path, capacity: int) -> None:
        """Open the cache; the server is not asked yet.

        Raises:
            BadSetting: The address is not one of an HTTP server.
            StorageUnusable, NoSpace: The folder cannot be used.
        """
        self.url = url
        self._own = threading.local()  # a connection a thread
        self.files = Files(folder, capacity, lambda: Transport(url))
        self.metadata = Metadata(folder, self._ask_metadata)
        self.fanout = Fanout(url)

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, most: int = MOST_BYTES
    ) -> Exchanged:
        """Ask the server, by this thread's own connection.

        Raises:
            TryLater: It does not answer.
        """
        kept: Transport | None = getattr(self._own, "upstream", None)
        if kept is not None:
            try:
                return kept.exchange(method, path, headers=headers, body=body, max_bytes=most)
            except ServerUnreachable:
                # The server may close a line that nobody used for a while, just as we use it again. All but
                # a code, which works once, may be sent twice.
                kept.close()
                if path.endswith("/enroll"):
                    raise
        self._own.upstream = Transport(self.url, timeout_s=UPSTREAM_S)
        upstream: Transport = self._own.upstream
        return upstream.exchange(method, path, headers=headers, body=body, max_bytes=most)

    def _ask_metadata(self, name: str, etag: str | None) -> Exchanged:
        return self.ask("GET", f"/v1/metadata/{name}", {"If-None-Match": etag} if etag else {}, None)


def create_app(relay: Relay) -> Flask:
    """Make the web application of one relay."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MOST_SENT
    app.register_error_handler(ShelfsightError, _come_again)

    @app.get("/v1/metadata/<name>")
    def metadata(name: str) -> Response:
        body = relay.metadata.get(name) if _METADATA.fullmatch(name) else None
        if body is None:
            return _problem(404, "not_found", f"there is no metadata called {name[:60]!r}")
        response = Response(body, mimetype="application/json")
        response.add_etag()
        response.headers["Cache-Control"] = "no-cache"
        response.make_conditional(request)
        return response

    @app.get("/v1/files/<sha256>")
    def file(sha256: str) -> Response:
        if not _SHA256.fullmatch(sha256):
            return _problem(404, "not_found", "a file is named by the 64 hex digits of its SHA-256")
        return _give(relay, sha256)

    @app.get("/v1/devices/<device>/hints")
    def hints(device: str) -> Response:
        return relay.fanout.listen()

    @app.route("/v1/devices/<path:rest>", methods=["POST", "PUT", "GET"])
    def device(rest: str) -> Response:
        if not _PATH.fullmatch(rest):
            return _problem(404, "not_found", "there is nothing of that name")
        said = relay.ask(request.method, f"/v1/devices/{rest}", _asked(), request.get_data() or None)
        body = said.body
        if rest.endswith("/heartbeat") and said.status == 200:
            body = relay.fanout.take_over(body, f"/v1/devices/{rest.partition('/')[0]}/hints", _token())
        return _pass_on(said, body)

    @app.get("/healthz")
    def health() -> Response:
        count, size = relay.files.sizes()
        downloaded = relay.files.downloaded
        return jsonify(status="ok", server=relay.url, files=count, bytes=size, downloaded=downloaded)

    return app


def _give(relay: Relay, sha256: str) -> Response:
    """Give a file from the disk, after it was brought there; a private one straight from the server."""
    path = relay.files.find(sha256)
    if path is None:
        address = f"/v1/files/{sha256}"
        said = relay.ask("HEAD", address, _asked(), None)
        length = said.headers.get("content-length", "")
        if said.status != 200 or not length.isdecimal():
            return _pass_on(said, b"")
        if "public" not in said.headers.get("cache-control", ""):
            whole = relay.ask("GET", address, _asked(), None)
            return _pass_on(whole, whole.body)
        try:
            if relay.files.fetch(sha256, int(length), WAIT_S):
                path = relay.files.find(sha256)
        except NoSpace as error:
            if int(length) > MOST_BYTES:
                raise
            _log.warning("%s is passed on and not kept: %s", sha256, error)
            whole = relay.ask("GET", address, _asked(), None)
            return _pass_on(whole, whole.body)
        if path is None:
            return _problem(503, "on_its_way", "the file is on its way here: ask again", RETRY_S)
    response = send_file(path.absolute(), mimetype="application/octet-stream", conditional=True, etag=sha256)
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


def _asked() -> dict[str, str]:
    headers = {name: request.headers[name] for name in _ASKED if name in request.headers}
    return headers | {"Via": "1.1 shelfsight-relay"}


def _token() -> str:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _pass_on(said: Exchanged, body: bytes) -> Response:
    response = Response(body, said.status)
    for name in _ANSWERED:
        if name in said.headers:
            response.headers[name] = said.headers[name]
    return response


def _come_again(error: ShelfsightError) -> Response:
    """Answer what this relay cannot do now; the reason is for its log."""
    _log.warning("%s %s: %s", request.method, request.path, error)
    if isinstance(error, NoSpace):
        return _problem(503, error.code, "the relay has no space for it: give it more", AWAY_S)
    wait = getattr(error, "retry_after", None) or AWAY_S
    return _problem(503, "server_away", "the server is away, and this was never here", int(wait) + 1)


def _problem(status: int, code: str, sentence: str, retry_s: int | None = None) -> Response:
    body = json.dumps({"status": status, "code": code, "error": sentence})
    response = Response(body, status, mimetype="application/problem+json")
    response.headers["Cache-Control"] = "no-store"
    if retry_s is not None:
        response.headers["Retry-After"] = str(retry_s)
    return response
