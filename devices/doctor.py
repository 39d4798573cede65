"""What a device needs, checked one by one, each with its cure: `shelfsight doctor`."""

import json
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from devices.config import Settings
from edge.errors import NoRelease, NotEnrolled, ShelfsightError, StepBack, TryLater

LEAST_FREE_BYTES = 50_000_000
SCANT_FREE_BYTES = 500_000_000
CLOCK_WARNING_S = 120.0
CLOCK_FAULT_S = 3600.0
FULL_OUTBOX = 10_000
PROBE_S = 120
_ENROLL = "shelfsight-cloud fleet code (on the server), then here: shelfsight enroll URL CODE"

EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""No device that runs this code can be at an earlier date."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked. `level` is ok, warning or fault; `cure` is empty when it is ok."""

    name: str
    level: str
    found: str
    cure: str = ""


def examine(settings: Settings, camera: int | None = None) -> Iterator[Finding]:
    """Check everything this device needs, one finding at a time; nothing on it is changed."""
    checks: list[tuple[str, Callable[[Settings], Finding]]] = [
        ("python", check_python),
        ("numpy", check_numpy),
        ("annoy", check_annoy),
        ("data", check_data),
        ("disk", check_disk),
        ("clock", check_clock),
        ("enrollment", check_enrollment),
        ("server", check_server),
        ("release", check_release),
        ("outbox", check_outbox),
    ]
    for name, check in checks:
        try:
            yield check(settings)
        except ShelfsightError as error:
            yield Finding(name, "fault", str(error), _cure(error))
    if camera is not None:
        yield check_camera(settings, camera)


def check_python(_settings: Settings) -> Finding:
    """Name the interpreter and the machine."""
    return Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def check_numpy(_settings: Settings) -> Finding:
    """Try whether numpy computes."""
    import numpy as np

    product = np.ones((8, 8), np.float32) @ np.ones((8, 8), np.float32)
    if float(product.sum()) != 512:
        return Finding(
            "numpy", "fault", f"{np.__version__} multiplies wrongly", "pip install --force-reinstall numpy"
        )
    return Finding("numpy", "ok", np.__version__)


def check_annoy(_settings: Settings) -> Finding:
    """Build and search a small index in a process of its own."""
    return _probe(
        "annoy",
        ["annoy"],
        "pip install --force-reinstall --no-binary annoy annoy",
        "it was compiled for another CPU: "
        "ANNOY_COMPILER_ARGS='-O2' pip install --force-reinstall --no-binary annoy annoy",
        _installed("annoy") or "",
    )


def check_data(settings: Settings) -> Finding:
    """Try whether the device folder can be written."""
    folder = settings.data
    if not folder.exists():
        return Finding("data", "warning", f"{folder} is not there yet", "shelfsight enroll URL CODE makes it")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"doctor")
    except OSError as error:
        return Finding(
            "data",
            "fault",
            f"{folder} cannot be written ({(error.strerror or 'no reason').lower()})",
            "give this user the folder, or name another with --data",
        )
    return Finding("data", "ok", f"{folder} can be written")


def check_disk(settings: Settings) -> Finding:
    """Measure the free space where releases are kept."""
    folder = next(path for path in [settings.data, *settings.data.absolute().parents] if path.exists())
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:.1f} GB free"
    if free < LEAST_FREE_BYTES:
        return Finding("disk", "fault", found, f"free some space on the disk of {folder}")
    if free < SCANT_FREE_BYTES:
        return Finding("disk", "warning", found, "a large release may not fit: free some space")
    return Finding("disk", "ok", found)


def check_clock(settings: Settings) -> Finding:
    """Compare the clock with the last sync's server: signatures expire by it."""
    from devices.sync_report import last_sync

    now = datetime.now(UTC)
    written = now.isoformat(timespec="seconds")
    cure = "set the clock, for instance: timedatectl set-ntp true"
    if now < EARLIEST:
        return Finding("clock", "fault", f"{written} cannot be", cure)
    last = last_sync(settings.data)
    lead = last.clock_lead_s if last else None
    if lead is None:
        return Finding("clock", "ok", f"{written}; not compared with a server yet")
    found = f"{abs(lead):.1f} s {'ahead of' if lead > 0 else 'behind'} the server"
    if abs(lead) > CLOCK_WARNING_S:
        return Finding("clock", "fault" if abs(lead) > CLOCK_FAULT_S else "warning", found, cure)
    return Finding("clock", "ok", found)


def check_enrollment(settings: Settings) -> Finding:
    """Look up which server this device belongs to."""
    from devices.enrollment import read_enrollment

    try:
        enrollment = read_enrollment(settings.data)
    except NotEnrolled:
        return Finding("enrollment", "fault", "this device belongs to no server", _ENROLL)
    return Finding("enrollment", "ok", f"{enrollment.device_id} at {enrollment.url}")


def check_server(settings: Settings) -> Finding:
    """Ask the server whether it is well."""
    from devices.enrollment import read_enrollment
    from edge.transport import Transport

    try:
        enrollment = read_enrollment(settings.data)
    except NotEnrolled:
        return Finding("server", "warning", "no server is known", _ENROLL)
    with Transport(enrollment.url, timeout_s=5) as transport:
        if transport.get_bytes("/healthz", max_bytes=65_536) is None:
            return Finding(
                "server", "fault", f"{enrollment.url} is no Shelfsight server", "check the address"
            )
    return Finding("server", "ok", f"{enrollment.url} answers")


def check_release(settings: Settings) -> Finding:
    """Answer the golden photos of the current release in a process of its own."""
    from edge.installation import Installation

    try:
        folder = Installation(settings.data).current()
    except NoRelease:
        return Finding(
            "release", "fault", f"nothing is installed; the runtime is {_runtime()}", "shelfsight sync --once"
        )
    return _probe(
        "release",
        ["release", str(folder), settings.variant or "", str(settings.threads)],
        "shelfsight sync --once, then shelfsight doctor again",
        "the runtime does not fit this CPU: pip install --force-reinstall ai-edge-litert",
        "",
    )


def check_outbox(settings: Settings) -> Finding:
    """Count the events that wait for the server."""
    from devices.device import Device
    from devices.sync_report import last_sync

    waiting = Device(settings).waiting()
    last = last_sync(settings.data)
    found = f"{waiting} events wait"
    if last is not None and last.error is not None:
        return Finding(
            "outbox",
            "warning",
            f"{found}; the last sync failed ({last.error})",
            "shelfsight sync --once says why",
        )
    if waiting > FULL_OUTBOX:
        return Finding("outbox", "warning", found, "shelfsight sync --once delivers them")
    return Finding("outbox", "ok", found)


def check_camera(settings: Settings, number: int) -> Finding:
    """Take one frame from camera `number`."""
    from devices.camera import OpenCVCamera

    try:
        camera = OpenCVCamera(number, width=settings.camera_width, height=settings.camera_height)
        try:
            height, width, _ = camera.read().picture.shape
        finally:
            camera.close()
    except ShelfsightError as error:
        return Finding("camera", "fault", str(error), _cure(error))
    return Finding("camera", "ok", f"camera {number} gives {width}×{height} pixels")


def _probe(name: str, arguments: list[str], cure: str, cure_of_death: str, prefix: str) -> Finding:
    """Run `devices.probe` and read what it says, or how it died; `prefix` is put before either."""
    try:
        run = subprocess.run(
            [sys.executable, "-m", "devices.probe", *arguments],
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding(name, "fault", f"no answer in {PROBE_S} s", cure_of_death)
    if run.returncode < 0:
        died = signal.Signals(-run.returncode).name
        return Finding(name, "fault", f"{prefix} died of {died}".strip(), cure_of_death)
    try:
        answer = json.loads(run.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last_line = (run.stderr.strip().splitlines() or ["no output"])[-1]
        return Finding(name, "fault", f"{prefix} fails: {last_line}".strip(), cure_of_death)
    if "error" in answer:
        return Finding(name, "fault", answer["error"], cure)
    return Finding(name, "ok", f"{prefix} {answer['found']}".strip())


def _runtime() -> str:
    """Name the TFLite runtime that is installed, best first."""
    for package in ("ai-edge-litert", "tflite-runtime", "tensorflow"):
        if number := _installed(package):
            return f"{package} {number}"
    return "missing: pip install ai-edge-litert"


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cure(error: ShelfsightError) -> str:
    if isinstance(error, TryLater):
        return "check the network, the address and the server; the device answers without it"
    if isinstance(error, StepBack):
        return "shelfsight sync --once"
    return ""
