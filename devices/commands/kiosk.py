"""`shelfsight kiosk`: the page on a kiosk's screen."""

import ipaddress
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devices.commands.options import data_option, frames_options, say_failure
from edge.errors import BadSetting

if TYPE_CHECKING:
    from devices.camera import Camera
    from devices.device import Device


@click.command()
@frames_options
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; who reaches it sees what the camera sees.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8090,
    show_default=True,
    help="Port to listen on; 0: any.",
)
@click.option("--profile", help="The kind of hardware, such as kiosk-x86.")
@click.option("--sync/--no-sync", "with_sync", default=True, help="Stay in step with the server meanwhile.")
@data_option
def command(
    *,
    frames: Path | None,
    camera: int | None,
    host: str,
    port: int,
    profile: str | None,
    with_sync: bool,
    data: Path | None,
) -> None:
    """Serve the page that says what the camera sees.

    Without --camera and --frames the page uses the browser's own camera, which browsers allow on localhost
    and over HTTPS.
    """
    from devices.bell import Bell
    from devices.camera import open_camera
    from devices.config import load_settings
    from devices.device import Device
    from devices.sync_loop import sync_beside

    _check_extra()
    settings = load_settings(data, flags={"profile": profile})
    device = Device(settings)
    device.recover(answers=True)
    if with_sync and device.device_id() is not None and device.installation.current_version() is None:
        device.sync()  # just enrolled: there is nothing to show before the first release is here
    device.matcher()  # a kiosk that cannot answer says so now, not to its first shopper
    eyes = open_camera(frames, camera, width=settings.camera_width, height=settings.camera_height)
    # Whoever starts kiosks stops them by SIGTERM: leave as by Ctrl-C, with the camera let go.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    bell = Bell()
    try:
        if with_sync:
            sync_beside(bell, device, failed=say_failure)
        _serve(device, eyes, host, port)
    finally:
        bell.stop()
        device.close_shadow()
        if eyes is not None:
            eyes.close()


def _check_extra() -> None:
    try:
        import flask  # noqa: F401
        import waitress  # noqa: F401
    except ImportError as error:
        raise BadSetting(
            f"the kiosk's page needs {error.name}, which is not installed: pip install 'shelfsight[kiosk]'"
        ) from error


def _serve(device: "Device", eyes: "Camera | None", host: str, port: int) -> None:
    """Serve the page until this process is told to stop."""
    import waitress

    from devices.kiosk.app import create_app
    from devices.kiosk.station import Station

    app = create_app(Station(device, eyes), device.settings, hosts=_hosts(host))
    try:
        server = waitress.create_server(app, host=host, port=port, threads=6, ident=None)
    except OSError as error:
        reason = (error.strerror or "no reason").lower()
        raise BadSetting(f"{host}:{port} cannot be listened on ({reason}): choose another --port") from error
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"kiosk at http://{shown}:{server.effective_port}/ (Ctrl-C stops it)")
    try:
        server.run()
    finally:
        server.close()


def _hosts(host: str) -> list[str] | None:
    """Name the hosts a browser may ask for: on loopback only its own names, so that no foreign name that is
    made to point here (DNS rebinding) reaches the camera."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return [host, "localhost"]
    return ["127.0.0.1", "localhost", "[::1]", host] if address.is_loopback else None
