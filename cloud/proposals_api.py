"""What a device calls to bring the photos of a product that it proposes."""

import re
from typing import Final

from flask import Blueprint, Response, abort, jsonify, request

from cloud.api import for_the_device
from cloud.proposals import LARGEST_PHOTO
from cloud.rooms import rooms

_SHA256: Final = re.compile(r"[0-9a-f]{64}")

blueprint = Blueprint("proposals_api", __name__)


@blueprint.put("/v1/devices/<device>/photos/<sha256>")
@for_the_device
def photo(device: str, sha256: str) -> tuple[Response, int]:
    """Keep a photo that a `proposed` event of the device names; bringing it again changes nothing."""
    if not _SHA256.fullmatch(sha256):
        abort(404, "a photo is named by the 64 hex digits of its SHA-256")
    request.max_content_length = LARGEST_PHOTO
    kept = rooms().proposals.take_photo(device, sha256, request.get_data())
    return jsonify({"sha256": sha256, "kept": kept}), 201 if kept else 200
