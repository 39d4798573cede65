"""What a device tells about itself: `shelfsight status`."""

from dataclasses import dataclass
from pathlib import Path

from devices.device import Device
from devices.enrollment import read_enrollment
from devices.sync_report import last_sync
from edge.errors import NotEnrolled, ShelfsightError
from edge.index import IndexRecord
from edge.matcher import Matcher


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """Who a device is, what it answers from, and how its last sync went.

    `floor` is the lowest release it will accept; `rows` counts vectors; `search` says how they are searched;
    `outbox` counts events that wait; `error` is the code of what keeps it from answering, `last_error` that
    of the last sync. What is not known is None.
    """

    data: str
    name: str
    device_id: str | None
    server: str | None
    release: int | None
    confirmed: tuple[int, ...]
    set_aside: tuple[int, ...]
    floor: int
    model: str | None
    variant: str | None
    runtime: str | None
    products: int | None
    rows: int | None
    search: str | None
    outbox: int
    dropped: dict[str, int]
    last_sync: str | None
    last_error: str | None
    error: str | None


def device_status(device: Device) -> DeviceStatus:
    """Gather the status of `device`; its release is opened, nothing is changed.

    Raises:
        StorageUnusable: the device folder cannot be read.
    """
    settings, installation = device.settings, device.installation
    last = last_sync(settings.data)
    matcher, error = _open(device)
    try:
        enrollment = read_enrollment(settings.data)
    except NotEnrolled:
        enrollment = None
    return DeviceStatus(
        data=str(settings.data),
        name=settings.name,
        device_id=enrollment.device_id if enrollment else None,
        server=enrollment.url if enrollment else None,
        release=installation.current_version(),
        confirmed=installation.confirmed(),
        set_aside=tuple(sorted(installation.set_aside())),
        floor=installation.floor(),
        model=matcher.release.model if matcher else None,
        variant=matcher.variant.name if matcher else None,
        runtime=matcher.embedder.runtime if matcher else None,
        products=len(matcher.stack.products) if matcher else None,
        rows=int(matcher.stack.alive.sum()) if matcher else None,
        search=search_method(matcher, installation.current()) if matcher else None,
        outbox=device.waiting(),
        dropped=device.dropped(),
        last_sync=last.at if last else None,
        last_error=last.error if last else None,
        error=error.code if error else None,
    )


def search_method(matcher: Matcher, folder: Path) -> str:
    """Say how the release in `folder` is searched here, and what was measured when that was chosen."""
    recipe, later = matcher.release.recipe, matcher.stack.row_count - matcher.stack.base_row_count
    method = "exact scan" if matcher.index.exact else f"annoy ({recipe.trees} trees)"
    if later and not matcher.index.exact:
        method += f" + exact scan of {later} newer rows"
    record = IndexRecord.read(folder / "index.json")
    if record.annoy_ms is None or record.scan_ms is None:
        return method
    return f"{method}; measured here: annoy {record.annoy_ms:.2f} ms, scan {record.scan_ms:.2f} ms"


def _open(device: Device) -> tuple[Matcher | None, ShelfsightError | None]:
    """Open the release without stepping back from one that fails: a status changes nothing."""
    try:
        folder = device.installation.current()
        settings = device.settings
        return Matcher.open(folder, variant=settings.variant, threads=settings.threads), None
    except ShelfsightError as error:
        return None, error
