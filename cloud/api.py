"""What devices call: signed metadata, files, enrollment, heartbeat, events.

Metadata and files are plain static files that any cache may carry; what a device says comes as JSON with its
token. Nothing here decides what to trust: a device believes only what is signed.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from flask import Blueprint, Response, abort, g, json, jsonify, request, send_file

from cloud import signing
from cloud.database import why_not_kept
from cloud.events import LARGEST_BATCH
from cloud.fleet import DeviceInfo
from cloud.offers import Offer
from cloud.problems import problem
from cloud.proposals import proposal_ids
from cloud.rooms import rooms
from cloud.times import now, rfc3339
from cloud.unpacking import ENCODINGS, unpack
from edge.errors import AccessDenied, BadSetting, EnrollmentRefused, Oversize
from edge.fields import Fields, parse_json
from edge.heartbeat import HeartbeatAnswer

FOREVER_S: Final = int(timedelta(days=365).total_seconds())
_METADATA: Final = re.compile(
    r"timestamp\.json|[1-9][0-9]{0,8}\.(root|targets|snapshot|bin-[0-9a-f]{2})\.json"
)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LARGEST_STATUS: Final = 16 * 1024

blueprint = Blueprint("api", __name__)
_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


@blueprint.get("/v1/metadata/<name>")
def metadata(name: str) -> Response:
    """Send one file of signed metadata; the numbered ones never change."""
    if not _METADATA.fullmatch(name):
        abort(404, f"there is no metadata called {name[:60]!r}")
    try:
        data = (rooms().workspace.metadata / name).read_bytes()
    except FileNotFoundError:
        abort(404, f"{name} has not been signed")
    response = Response(data, mimetype="application/json")
    response.add_etag()
    response.make_conditional(request)
    if name == "timestamp.json":
        response.headers["Cache-Control"] = "no-cache"
    else:
        response.headers["Cache-Control"] = f"public, max-age={FOREVER_S}, immutable"
    return response


@blueprint.get("/v1/files/<sha256>")
def file(sha256: str) -> Response:
    """Send one file of a release by the hash of its content, or the range of it that is asked for.

    The manifest of a release that is not everybody's is there for those alone that are offered it.
    """
    if not _SHA256.fullmatch(sha256):
        abort(404, "a file is named by the 64 hex digits of its SHA-256")
    here = rooms()
    path = here.workspace.files / sha256
    if not path.is_file():
        abort(404, f"there is no file {sha256}")
    public = here.offers.is_public(sha256, path)
    if not public and not here.offers.may_have(sha256, _token()):
        abort(404, f"there is no file {sha256}")
    response = send_file(path.absolute(), mimetype="application/octet-stream", conditional=True, etag=sha256)
    kept = f"public, max-age={FOREVER_S}, immutable" if public else "private, no-store"
    response.headers["Cache-Control"] = kept
    return response


@blueprint.post("/v1/devices/enroll")
def enroll() -> tuple[Response, int]:
    """Take in a device that brings a code, and give it an id, a token and the root of trust."""
    here = rooms()
    address = request.remote_addr or ""
    here.brake.check(address)
    body = _body()
    code, info = body.text("code"), _device_info(body.inner("device"))
    root = signing.root_bytes(here.workspace.metadata).decode()
    try:
        device, token = here.fleet.enroll(code, info)
    except EnrollmentRefused:
        here.brake.wrong(address)
        raise
    answer = {"device_id": device, "token": token, "root": root, "server_time": rfc3339(now())}
    return jsonify(answer), 201


def for_the_device(view: Callable[_Arguments, _Answer]) -> Callable[_Arguments, _Answer]:
    """Let only the device itself in, by its token."""

    @wraps(view)
    def guarded(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Answer:
        token = _token()
        if not token:
            raise AccessDenied("a device proves itself by `Authorization: Bearer TOKEN`: enroll it first")
        g.store = rooms().fleet.authenticate(str(kwargs["device"]), token)
        return view(*args, **kwargs)

    return guarded


@blueprint.post("/v1/devices/<device>/heartbeat")
@for_the_device
def heartbeat(device: str) -> Response:
    """Note that a device is alive and what it runs, and tell it which release it is offered."""
    body = _body()
    value = body.take("release")
    release = None if value is None else _release(value)
    status = body.inner("status").rest()
    if (why := why_not_kept(status)) is not None:
        raise BadSetting(f"a device's status {why}")
    if len(json.dumps(status)) > _LARGEST_STATUS:
        raise BadSetting(f"a device's status is at most {_LARGEST_STATUS} bytes of JSON")
    here = rooms()
    here.presence.seen(device, release, status)
    set_aside = status.get("set_aside")
    offer = here.offers.offer(
        device,
        g.store,
        release,
        set_aside=set_aside if isinstance(set_aside, list) else (),
    )
    next_poll_s = here.pace.next_poll_s(device)
    if offer.version in (None, release):
        here.turns.forget(device)
    elif wait_s := here.turns.wait_s(device, offer.version):
        offer, next_poll_s = Offer(None), wait_s
    answer = HeartbeatAnswer(
        offer.version,
        assortment=offer.assortment,
        shadow=offer.shadow,
        next_poll_s=round(next_poll_s, 1),
        server_time=rfc3339(now()),
        hints=here.hints_of(device),
        settled=here.proposals.settled(device, proposal_ids(status)),
    )
    return jsonify(answer.to_record())


@blueprint.post("/v1/devices/<device>/events")
@for_the_device
def events(device: str) -> Response:
    """Keep the events that a device brings, each once; it may forget those that are named in the answer."""
    request.max_content_length = LARGEST_BATCH
    taken = rooms().events.take(device, _body(LARGEST_BATCH).items("events"))
    refused = [{"id": event.id, "reason": event.reason} for event in taken.refused]
    response = jsonify({"accepted": list(taken.accepted), "refused": refused})
    response.headers["Accept-Encoding"] = ", ".join(ENCODINGS)
    return response


@blueprint.get("/healthz")
def health() -> Response:
    """Say that the server answers and can read its database, and whether what it signed is still believed."""
    here = rooms()
    expires = signing.timestamp_expires(here.workspace.metadata)
    latest = here.releases.latest()
    return jsonify(
        {
            "status": "ok" if expires > now() else "stale",
            "release": latest.version if latest else None,
            "timestamp_expires": rfc3339(expires),
            "warnings": list(signing.running_out(here.workspace.metadata)),
        }
    )


def _token() -> str:
    """Return the bearer token of the request, "" if it has none."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _body(unpacked_most: int = 0) -> Fields:
    """Read the JSON of the request; up to `unpacked_most` bytes of it may be packed, by default none."""
    data, encoding = request.get_data(), request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity":
        if not unpacked_most or encoding not in ENCODINGS:
            refusal = problem(415, "unsupported_media_type", f"{encoding[:20]!r} is not unpacked here")
            refusal.headers["Accept-Encoding"] = ", ".join(ENCODINGS if unpacked_most else ("identity",))
            abort(refusal)
        try:
            data = unpack(data, encoding, unpacked_most)
        except Oversize as error:
            abort(413, str(error))
    return Fields("the request", parse_json(data, "the request", BadSetting), BadSetting)


def _device_info(device: Fields) -> DeviceInfo:
    record: dict[str, Any] = dict(device.rest())
    values = [record.get(name, "") for name in ("name", "class", "version")]
    if not all(isinstance(value, str) for value in values):
        raise BadSetting("a device's name, class and version are texts")
    return DeviceInfo(*values)


def _release(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**53:
        raise BadSetting(f"release must be a number from 1, or null, not {str(value)[:40]!r}")
    return value
