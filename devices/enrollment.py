"""How a device gets its server: a code that a person types, once."""

import json
import platform
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from devices.config import Settings
from edge.disk import storage_error, write_atomically
from edge.errors import (
    AccessDenied,
    BadSetting,
    EnrollmentRefused,
    NotEnrolled,
    ServerUnreachable,
    StorageUnusable,
)

DEVICE_FILE = "device.json"

# Eight letters that the server drew, then the fingerprint of the keys it signs with (base32, RFC 4648).
_CODE = re.compile(r"([A-Z0-9]{4})-?([A-Z0-9]{4})-?([A-Z2-7]{10})")


@dataclass(frozen=True, slots=True)
class Enrollment:
    """Which server this device belongs to, and by what it is known there. The token is a secret."""

    url: str
    device_id: str
    token: str


def read_enrollment(data: Path) -> Enrollment:
    """Read who this device is from its folder.

    Raises:
        NotEnrolled: no server is known to this device.
        StorageUnusable: the file is there and cannot be read or understood.
    """
    path = data / DEVICE_FILE
    try:
        record = json.loads(path.read_bytes())
        return Enrollment(str(record["url"]), str(record["device_id"]), str(record["token"]))
    except FileNotFoundError:
        raise NotEnrolled(
            "this device is not enrolled: get a code with `shelfsight-cloud fleet code` on the server, "
            "then run `shelfsight enroll URL CODE`"
        ) from None
    except OSError as error:
        raise storage_error(error, path) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StorageUnusable(f"{path} is damaged: delete it and enroll this device again") from error


def enroll(settings: Settings, url: str, code: str, *, replace: bool = False) -> Enrollment:
    """Make this device known to the server at `url`, and trust the keys that the code names.

    The code carries a fingerprint of the server's root of trust, so that whoever sits on the network between
    cannot hand this device other keys. The device's own file is written last: a device is enrolled whole or
    not at all.

    Raises:
        BadSetting: the address or the code is not written as one, or the device is enrolled already.
        EnrollmentRefused: the server does not take the code.
        BadSignature: the server's keys are not those that the code names.
        ServerUnreachable, ServerBusy, TransferBroken: no answer; try again.
        StorageUnusable, NoSpace: the device folder cannot be written.
    """
    whole, fingerprint = _checked_code(code)
    _check_free(settings.data, replace=replace)
    answer = _ask(settings, url, whole)

    from edge.trust import trust_root

    try:
        settings.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, settings.data) from error
    trust_root(settings.data, answer["root"].encode(), fingerprint)
    enrollment = Enrollment(url.rstrip("/"), answer["device_id"], answer["token"])
    record = json.dumps(asdict(enrollment), indent=2, sort_keys=True)
    write_atomically(settings.data / DEVICE_FILE, record.encode(), mode=0o600)
    return enrollment


def device_info(settings: Settings) -> dict[str, object]:
    """Describe this machine to the server."""
    return {
        "name": settings.name,
        "class": settings.device_class,
        "version": version("shelfsight"),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def clock_lead_s(server_time: object) -> float | None:
    """Say by how many seconds this device's clock is ahead of the server's; None when it sent no time."""
    if not isinstance(server_time, str):
        return None
    try:
        at = datetime.fromisoformat(server_time)
    except ValueError:
        return None
    if at.tzinfo is None:
        return None
    return (datetime.now(UTC) - at).total_seconds()


def _checked_code(code: str) -> tuple[str, str]:
    """Return the code as the server wrote it, and the fingerprint in it."""
    found = _CODE.fullmatch(code.strip().upper())
    if found is None:
        raise BadSetting(
            f"{code!r} is not an enrollment code: it looks like XXXX-XXXX-FFFFFFFFFF; "
            "get one with `shelfsight-cloud fleet code` on the server"
        )
    return "-".join(found.groups()), found.group(3)


def _check_free(data: Path, *, replace: bool) -> None:
    if replace:
        return
    try:
        known = read_enrollment(data)
    except NotEnrolled:
        return
    raise BadSetting(
        f"this device is enrolled already, as {known.device_id} at {known.url}: "
        "add --replace to give it a new identity"
    )


def _ask(settings: Settings, url: str, code: str) -> dict[str, str]:
    from edge.transport import Transport

    with Transport(url) as transport:
        try:
            answer: Any = transport.post_json(
                "/v1/devices/enroll", {"code": code, "device": device_info(settings)}
            )
        except AccessDenied as error:
            raise EnrollmentRefused(
                f"{url} does not take the code {code}: it is wrong, used or expired; "
                "get a new one with `shelfsight-cloud fleet code` on the server"
            ) from error
    fields = ("device_id", "token", "root")
    if not isinstance(answer, dict) or not all(isinstance(answer.get(name), str) for name in fields):
        raise ServerUnreachable(f"what answers at {url} is no Shelfsight server: check the address")
    return {name: answer[name] for name in fields}
