"""How a failure looks on the wire: a status, one sentence for people, a word for programs (RFC 9457)."""

import logging
import math
import threading
import time

from flask import Flask, Response, json, request
from werkzeug.exceptions import HTTPException

from edge.errors import (
    AccessDenied,
    BadSetting,
    EnrollmentRefused,
    NoRelease,
    NoSpace,
    ShelfsightError,
    SkipPhoto,
    StorageUnusable,
    TryLater,
)

_STATUS: tuple[tuple[type[ShelfsightError], int], ...] = (
    (EnrollmentRefused, 403),
    (AccessDenied, 401),
    (BadSetting, 400),
    (NoRelease, 404),
    (SkipPhoto, 404),
    (TryLater, 429),
    (StorageUnusable, 503),
    (NoSpace, 503),
)
_RETRY_S = 10.0
_SAID_EVERY_S = 1.0
_log = logging.getLogger(__name__)


class _Brief:
    """Write a line a second at the most: without its database a server refuses thousands a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said, self._left_out = float("-inf"), 0

    def error(self, text: str) -> None:
        with self._lock:
            if time.monotonic() - self._said < _SAID_EVERY_S:
                self._left_out += 1
                return
            more = f" (and {self._left_out} more since the last line)" if self._left_out else ""
            self._said, self._left_out = time.monotonic(), 0
        _log.error("%s%s", text, more)


_brief = _Brief()


def register(app: Flask) -> None:
    """Answer every failure of this app with a problem document."""
    app.register_error_handler(ShelfsightError, _refuse)
    app.register_error_handler(HTTPException, _refuse_http)


def problem(status: int, code: str, sentence: str) -> Response:
    """Make a problem document; nobody may cache it."""
    body = json.dumps({"status": status, "code": code, "error": sentence})
    response = Response(body, status, mimetype="application/problem+json")
    response.headers["Cache-Control"] = "no-store"
    return response


def _refuse(error: ShelfsightError) -> Response:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if status >= 500:
        # The sentence names paths of this machine: it is for the log, not for whoever asks.
        _brief.error(f"{request.method} {request.path}: {error}")
        response = problem(
            status, error.code, "the server cannot read or write its data now: try again later"
        )
        response.headers["Retry-After"] = f"{_RETRY_S:.0f}"
        return response
    response = problem(status, error.code, str(error))
    if isinstance(error, TryLater):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after or _RETRY_S))
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _refuse_http(error: HTTPException) -> Response:
    status = error.code or 500
    code = (error.name or "error").lower().replace(" ", "_")
    response = problem(status, code, error.description or error.name)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response
