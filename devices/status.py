"""What a device tells about itself: `shelfsight status`."""

from dataclasses import dataclass, replace
from pathlib import Path

from devices.config import Settings
from devices.device import Device
from devices.enrollment import read_enrollment
from devices.execution import Execution
from devices.execution_report import ExecutionReport, last_execution
from devices.sync_report import SyncReport, last_sync
from edge.delegates import delegate_order, find_delegate
from edge.errors import NotEnrolled, ShelfsightError
from edge.index import IndexRecord
from edge.local_products import LocalProduct, LocalProducts
from edge.matcher import Matcher, Vectors, open_vectors
from edge.segments import SegmentStack


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """Who a device is, what it answers from, and how its last sync went.

    `variant` is run in `runtime` by `delegate`; where that is not the `wanted` one, `why` says so. `floor` is
    the lowest release it will accept, `time_floor` the time before which it takes no signature to be valid;
    `proven` is a release that passed its trial and answers beside the one in use, in the shadow; `refused`
    says why each release was set aside. `rows` counts vectors, `segments` those of the base, of later
    segments, and those that a later segment took away; `search` says how they are searched; `outbox`
    counts events that wait; `error` is the code of what keeps it from answering, `last_error` that of the
    last sync, `last_refusal` the last release that was not taken (`release`, `error`: the code, `message`,
    `at`: when it was first refused so), until a later one is in use. `local` lists the products
    that this device was taught itself, and what became of them. What is not known is None.
    """

    data: str
    name: str
    device_id: str | None
    server: str | None
    release: int | None
    confirmed: tuple[int, ...]
    set_aside: tuple[int, ...]
    floor: int
    time_floor: str | None
    proven: int | None
    refused: dict[str, str]
    model: str | None
    variant: str | None
    runtime: str | None
    delegate: str | None
    wanted: str | None
    why: str | None
    products: int | None
    rows: int | None
    segments: dict[str, int]
    search: str | None
    outbox: int
    dropped: dict[str, int]
    last_sync: str | None
    last_error: str | None
    last_refusal: dict[str, object] | None
    error: str | None
    local: tuple[dict[str, object], ...] = ()


def device_status(device: Device) -> DeviceStatus:
    """Gather the status of `device`; its release is opened, nothing is changed.

    Raises:
        StorageUnusable: the device folder cannot be read.
    """
    settings, installation = device.settings, device.installation
    last = last_sync(settings.data)
    vectors, execution, error = _open(device)
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
        time_floor=vectors.release.created if vectors else None,
        proven=installation.proven_version(),
        refused={
            str(version): installation.set_aside_reason(version) or ""
            for version in sorted(installation.set_aside())
        },
        model=vectors.release.model if vectors else None,
        variant=execution.variant if execution else None,
        runtime=execution.runtime if execution else None,
        delegate=execution.delegate if execution else None,
        wanted=execution.wanted if execution else None,
        why=execution.message or None if execution else None,
        products=len(vectors.stack.products) if vectors else None,
        rows=int(vectors.stack.alive.sum()) if vectors else None,
        segments=_segments(vectors.stack) if vectors else {},
        search=search_method(vectors, installation.current()) if vectors else None,
        outbox=device.waiting(),
        dropped=device.dropped(),
        last_sync=last.at if last else None,
        last_error=last.error if last else None,
        last_refusal=_last_refusal(last, installation.current_version()),
        error=error.code if error else None,
        local=_local(settings.data, installation.current_version()),
    )


def _last_refusal(last: SyncReport | None, release: int | None) -> dict[str, object] | None:
    refused = last.refused if last else None
    if refused is None or not refused.stands(release):
        return None
    return {
        "release": refused.release,
        "error": refused.error,
        "message": refused.message,
        "at": refused.at,
    }


def _segments(stack: SegmentStack) -> dict[str, int]:
    """Count the rows: of the base, of what came on top of it, and those that are not searched any more."""
    later = stack.row_count - stack.base_row_count
    dead = stack.row_count - int(stack.alive.sum())
    return {"base": stack.base_row_count, "delta": later, "dead": dead, "files": len(stack.segments)}


def _local(data: Path, release: int | None) -> tuple[dict[str, object], ...]:
    """List the products that this device was taught and its release has not taken over."""
    return tuple(_local_record(each) for each in LocalProducts(data).all() if not each.is_in(release))


def _local_record(product: LocalProduct) -> dict[str, object]:
    return {
        "sku": product.product.sku,
        "title": product.product.title,
        "state": product.state,
        "photos": len(product.photos),
        "unsent": len(product.unsent),
        "since": product.at,
        "until": product.until,
    }


def search_method(matcher: Matcher | Vectors, folder: Path) -> str:
    """Say how the release in `folder` is searched here, and what was measured when that was chosen."""
    index, stack = matcher.index, matcher.stack
    later = stack.row_count - stack.base_row_count
    method = {
        "scan": "exact scan",
        "annoy": f"annoy ({matcher.release.recipe.trees} trees)",
        "cells": "cells",
    }[index.method]
    if later and not index.exact:
        method += f" + exact scan of {later} newer rows"
    record = IndexRecord.read(folder / "index.json")
    measured = {"annoy": record.annoy_ms, "scan": record.scan_ms, "cells": record.cells_ms}
    times = [f"{name} {time:.2f} ms" for name, time in measured.items() if time is not None]
    return f"{method}; measured here: {', '.join(times)}" if times else method


def _open(device: Device) -> tuple[Vectors | None, ExecutionReport | None, ShelfsightError | None]:
    """Open the release without stepping back from one that fails: a status changes nothing.

    By what the network is run, the program says that runs it; where none has yet, it is tried out.
    """
    try:
        folder, settings = device.installation.current(), device.settings
        vectors = open_vectors(folder)
        told = last_execution(settings.data)
        wanted = delegate_order(settings.delegates)[0].name
        if told is None or (told.release, told.wanted) != (vectors.release.version, wanted):
            return vectors, _try_out(settings, folder), None
        if not find_delegate(told.delegate).isolated:  # that of another program is left alone
            _try_out(replace(settings, delegates=(told.delegate,)), folder)
        return vectors, told, None
    except ShelfsightError as error:
        return None, None, error


def _try_out(settings: Settings, folder: Path) -> ExecutionReport:
    execution = Execution(settings)
    try:
        running = execution.open(folder)
        running.close()
        return running.report()
    finally:
        execution.close()
