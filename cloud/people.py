"""What people and their tools may read: catalog, releases, rollouts, fleet, metrics. It changes nothing."""

import ipaddress
from collections import Counter
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from flask import Blueprint, Response, abort, jsonify, request

from cloud import signing
from cloud.rollout_metrics import rollout_lines
from cloud.rollouts import rollout_record, step_record
from cloud.rooms import rooms
from cloud.times import rfc3339
from edge.delegates import DELEGATES
from edge.errors import BadSetting

_PAGE: Final = 100
_LARGEST_PAGE: Final = 1000
_METERED_ROLLOUTS: Final = 5
_PASSED_ON: Final = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")

blueprint = Blueprint("people", __name__)


@blueprint.before_request
def keep_strangers_out() -> None:
    """Answer callers on this machine alone, while there is no login.

    Behind a proxy every caller seems to sit on this machine; a request that was passed on says so itself. And
    a stranger's page in a browser on this machine may have its own name lead here (DNS rebinding); such a
    request asks for that name.
    """
    if rooms().people_anywhere:
        return
    passed_on = any(name in request.headers for name in _PASSED_ON)
    asked_for = urlsplit(f"//{request.host}").hostname
    local = asked_for == "localhost" or _is_loopback(asked_for)
    if passed_on or not local or not _is_loopback(request.remote_addr):
        abort(403, "this page has no login yet, so it is shown on the server's own machine only")


@blueprint.get("/v1/catalog")
def catalog() -> Response:
    """List products: `search`, `offset` and `limit` narrow the list."""
    offset, limit = number_argument("offset", 0), number_argument("limit", _PAGE, most=_LARGEST_PAGE)
    page = rooms().catalog.page(request.args.get("search", ""), offset=offset, limit=limit)
    products = [
        {**entry.product.to_record(), "photos": entry.photos, "cover": entry.cover} for entry in page.entries
    ]
    return jsonify({"total": page.total, "offset": offset, "products": products})


@blueprint.get("/v1/releases")
def releases() -> Response:
    """List the releases, newest first."""
    found = rooms().releases.newest(_LARGEST_PAGE)
    return jsonify(
        {
            "releases": [
                {
                    "version": release.version,
                    "created": rfc3339(release.created),
                    "sha256": release.sha256,
                    "model": release.model,
                    "space": release.space,
                    "products": release.products,
                    "rows": release.rows,
                    "files": release.files,
                    "size": release.size,
                    "new_bytes": release.new_bytes,
                }
                for release in found
            ]
        }
    )


@blueprint.get("/v1/rollouts")
def rollouts() -> Response:
    """List the rollouts, newest release first, with their plans, what was seen of them, and every step."""
    here = rooms()
    found = here.rollouts.newest(_LARGEST_PAGE)
    steps: dict[int, list[dict[str, object]]] = {}
    for step in here.rollouts.steps(limit=10 * _LARGEST_PAGE):
        steps.setdefault(step.version, []).append(step_record(step))
    return jsonify(
        {
            "rollouts": [
                {**rollout_record(rollout), "steps": steps.get(rollout.version, [])} for rollout in found
            ]
        }
    )


@blueprint.get("/v1/fleet")
def fleet() -> Response:
    """List the devices, most recently seen first."""
    return jsonify({"devices": [device.to_record() for device in rooms().fleet.devices(_LARGEST_PAGE)]})


@blueprint.get("/metrics")
def metrics() -> Response:
    """Tell Prometheus which releases the devices run, what events came in, and when was published last."""
    here = rooms()
    latest = here.releases.latest()
    expires = signing.timestamp_expires(here.workspace.metadata)
    lines = [
        "# HELP shelfsight_devices Enrolled devices by the release that they run.",
        "# TYPE shelfsight_devices gauge",
        *(
            f'shelfsight_devices{{release="{"none" if release is None else release}"}} {count}'
            for release, count in sorted(here.fleet.count_by_release().items(), key=lambda each: each[0] or 0)
        ),
        *_delegate_lines(here.fleet.count_by_delegate()),
        "# HELP shelfsight_events_total Events taken from devices, by kind.",
        "# TYPE shelfsight_events_total counter",
        *(
            f'shelfsight_events_total{{kind="{kind}"}} {count}'
            for kind, count in here.events.count_by_kind().items()
        ),
        *rollout_lines(here.rollouts.newest(_METERED_ROLLOUTS), here.rollouts.count_steps()),
        "# HELP shelfsight_release The newest published release, 0 before the first.",
        "# TYPE shelfsight_release gauge",
        f"shelfsight_release {latest.version if latest else 0}",
        "# HELP shelfsight_last_publish_timestamp_seconds When the newest release was published, or 0.",
        "# TYPE shelfsight_last_publish_timestamp_seconds gauge",
        f"shelfsight_last_publish_timestamp_seconds {latest.created.timestamp() if latest else 0:.0f}",
        "# HELP shelfsight_timestamp_expires_seconds Until when devices believe what was signed last.",
        "# TYPE shelfsight_timestamp_expires_seconds gauge",
        f"shelfsight_timestamp_expires_seconds {expires.timestamp():.0f}",
    ]
    return Response("\n".join(lines) + "\n", mimetype="text/plain; version=0.0.4; charset=utf-8")


def _delegate_lines(counts: Mapping[tuple[str | None, str | None], int]) -> list[str]:
    """Count devices by the delegate that runs their network, and those that do not run what they want.

    A device may say anything: names that are not known here share one line.
    """
    known = {delegate.name for delegate in DELEGATES}
    by_delegate: Counter[str] = Counter()
    for (used, _), count in counts.items():
        by_delegate["unknown" if used is None else used if used in known else "other"] += count
    fallen_back = sum(count for (used, wanted), count in counts.items() if used != wanted)
    return [
        "# HELP shelfsight_devices_by_delegate Enrolled devices by the delegate that runs their network.",
        "# TYPE shelfsight_devices_by_delegate gauge",
        *(
            f'shelfsight_devices_by_delegate{{delegate="{name}"}} {count}'
            for name, count in sorted(by_delegate.items())
        ),
        "# HELP shelfsight_devices_fallen_back Devices that run their network by another one than wanted.",
        "# TYPE shelfsight_devices_fallen_back gauge",
        f"shelfsight_devices_fallen_back {fallen_back}",
    ]


def number_argument(name: str, default: int, *, most: int = 10**9) -> int:
    """Read a whole number from the address of the request.

    Raises:
        BadSetting: it is not a number from 0 to `most`.
    """
    text = request.args.get(name, str(default))
    if not (text.isascii() and text.isdigit() and int(text[:12]) <= most):
        raise BadSetting(f"{name} must be a number from 0 to {most}, not {text[:40]!r}")
    return int(text)


def _is_loopback(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False
