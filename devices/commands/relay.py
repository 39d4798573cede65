"""`shelfsight relay`: a store's own server, through which its devices reach the cloud."""

import ipaddress
import logging
import signal
import sys
from pathlib import Path

import click

from devices.commands.options import data_option
from edge.errors import BadSetting


@click.command()
@click.argument("url", required=False)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on, in the network of the store.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8091,
    show_default=True,
    help="Port to listen on; 0: any.",
)
@click.option(
    "--space",
    metavar="MB",
    type=click.IntRange(1, 10_000_000),
    default=4096,
    show_default=True,
    help="Most that the files kept here take.",
)
@data_option
def command(url: str | None, host: str, port: int, space: int, data: Path | None) -> None:
    """Stand between the devices of a store and the server at URL, so that each file comes once.

    Enroll the devices with the address of the relay. Without URL it is the server that this device is
    enrolled at. What devices ask for and was here before, they get while the server is away.
    """
    from devices.config import load_settings
    from devices.enrollment import read_enrollment
    from edge.disk import only_one, storage_error

    _check_extra()
    _check_host(host)
    settings = load_settings(data)
    server = url or read_enrollment(settings.data).url
    folder = settings.data / "relay"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # Whoever starts relays stops them by SIGTERM: leave as by Ctrl-C.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    with only_one(folder / "lock", f"another relay uses {folder}"):
        _serve(server.rstrip("/"), folder, space * 1_000_000, host, port)


def _serve(server: str, folder: Path, capacity: int, host: str, port: int) -> None:
    """Answer devices until this process is told to stop."""
    import waitress

    from devices.relay.app import Relay, create_app
    from devices.relay.fanout import MOST_LISTENERS

    app = create_app(Relay(server, folder, capacity))
    try:
        # A device that listens for hints holds a thread.
        listening = waitress.create_server(
            app, host=host, port=port, threads=MOST_LISTENERS + 16, connection_limit=500, ident=None
        )
    except OSError as error:
        reason = (error.strerror or "no reason").lower()
        raise BadSetting(f"{host}:{port} cannot be listened on ({reason}): choose another --port") from error
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"relay of {server} at http://{shown}:{listening.effective_port} (Ctrl-C stops it)")
    try:
        listening.run()
    finally:
        listening.close()


def _check_extra() -> None:
    try:
        import flask  # noqa: F401
        import waitress  # noqa: F401
    except ImportError as error:
        raise BadSetting(
            f"a relay needs {error.name}, which is not installed: pip install 'shelfsight[kiosk]'"
        ) from error


def _check_host(host: str) -> None:
    """Refuse to stand open to the world: a relay is for one store."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    if address.is_unspecified or not address.is_private:
        raise BadSetting(f"--host {host} is not in a store's own network: name this machine's address in it")
