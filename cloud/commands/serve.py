"""`shelfsight-cloud serve`: the sync server."""

import logging
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

import click
import waitress

from cloud import signing
from cloud.app import create_app
from cloud.commands.options import data_option, open_workspace
from cloud.conductor import Conductor
from cloud.events import LARGEST_BATCH
from cloud.rooms import rooms_of
from cloud.ticking import Ticker
from edge.errors import BadSetting

_THREADS = 8


@click.command("serve")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 for all."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="The port to listen on; 0 for any that is free.",
)
@click.option(
    "--open-console",
    is_flag=True,
    help="Show the pages for people to other machines too: only behind something that asks for a login.",
)
@data_option
def command(host: str, port: int, open_console: bool, data: Path) -> None:
    """Serve devices, and show people the console at /.

    Devices need this address to enroll and to sync, and answer without it. The console and the other pages
    for people have no login yet and answer on this machine only. Metadata that nears its end is signed again
    while the server runs.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    workspace = open_workspace(data)
    signing.timestamp_expires(workspace.metadata)
    app = create_app(workspace, people_anywhere=open_console)
    here = rooms_of(app)
    try:
        server = waitress.create_server(
            app,
            host=host,
            port=port,
            threads=_THREADS,
            ident=None,
            max_request_body_size=LARGEST_BATCH + 1,
            # Kept, so that the app can see that a caller was passed on; it never believes them.
            clear_untrusted_proxy_headers=False,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadSetting(
            f"the server cannot listen on {host} port {port} ({reason}): "
            "stop what is using it, or choose others with --host and --port"
        ) from error
    ticker = Ticker(workspace.metadata, workspace.keys)
    ticker.start()
    here.presence.start()
    conductor = Conductor(workspace.sessions(), here.offers)
    conductor.start()
    signal.signal(signal.SIGTERM, _stop)
    # Inside the loop waitress itself takes both, and answers the running requests first.
    with suppress(KeyboardInterrupt, SystemExit):
        _greet(host, int(getattr(server, "effective_port", port)), data)
        server.run()
    conductor.stop()
    here.presence.stop()
    ticker.stop()
    click.echo("Stopped.")


def _greet(host: str, port: int, data: Path) -> None:
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
    click.echo(f"Serving {data} on {address}, console at {address}/ (Ctrl-C stops it).")
    click.echo(f"To enroll a device: shelfsight-cloud fleet code --data {data}")
    click.echo(f"             there: shelfsight enroll {address} CODE")
    sys.stdout.flush()


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
