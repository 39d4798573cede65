"""How a failure looks on the wire: a status, one sentence for people, a word for programs (RFC 9457)."""

import logging
import math

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
_log = logging.getLogger(__name__)


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
        _log.error("%s %s: %s", request.method, request.path, error)
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
