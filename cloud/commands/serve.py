"""`shelfsight-cloud serve`: the sync server."""

import logging
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Protocol

import click

from cloud import signing
from cloud.app import create_app
from cloud.commands.options import data_option, open_workspace
from cloud.conductor import Conductor
from cloud.events import LARGEST_BATCH
from cloud.hints import Listeners, Watch
from cloud.hints_mqtt import Broker, BrokerTeller
from cloud.news import News
from cloud.rooms import Rooms, rooms_of
from cloud.serving import WebServer, let_many_connect
from cloud.ticking import Ticker
from cloud.workspace import Workspace


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
@click.option(
    "--hints/--no-hints",
    default=True,
    show_default=True,
    help="Let devices keep a connection open on which they hear of a release at once.",
)
@click.option(
    "--mqtt",
    metavar="HOST:PORT",
    help="Tell of releases through this MQTT broker too, and tell devices to listen there.",
)
@click.option("--mqtt-tls", is_flag=True, help="The broker wants TLS.")
@click.option(
    "--mqtt-ca",
    metavar="FILE",
    default="",
    help="The certificate that the broker's is signed by, if none of the system's did; means TLS.",
)
@click.option("--mqtt-user", metavar="NAME", default="", help="The name of this server at the broker.")
@click.option(
    "--mqtt-password",
    metavar="PASSWORD",
    default="",
    help="Its password: better in cloud.toml or SHELFSIGHT_SERVE_MQTT_PASSWORD, where nobody else sees it.",
)
@data_option
def command(
    *,
    host: str,
    port: int,
    open_console: bool,
    hints: bool,
    mqtt: str | None,
    mqtt_tls: bool,
    mqtt_ca: str,
    mqtt_user: str,
    mqtt_password: str,
    data: Path,
) -> None:
    """Serve devices, and show people the console at /.

    Devices need this address to enroll and to sync, and answer without it. The console and the other pages
    for people have no login yet and answer on this machine only. Metadata that nears its end is signed again
    while the server runs.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a request that waits a moment is no news
    workspace = open_workspace(data)
    signing.timestamp_expires(workspace.metadata)
    broker = None
    if mqtt:
        broker = Broker.parse(mqtt, tls=mqtt_tls, ca=mqtt_ca, user=mqtt_user, password=mqtt_password)
    app = create_app(workspace, people_anywhere=open_console, broker=broker)
    here = rooms_of(app)
    here.listeners.limit(let_many_connect())
    server = WebServer(app, host, port, largest_body=LARGEST_BATCH)
    here.pace.waiting = server.waiting
    parts = _parts(workspace, here, hints=hints)
    for part in parts:
        part.start()
    signal.signal(signal.SIGTERM, _stop)
    # Inside the loop waitress itself takes both, and answers the running requests first.
    with suppress(KeyboardInterrupt, SystemExit):
        _greet(host, server.port, data)
        server.run()
    for part in reversed(parts):
        part.stop()
    click.echo("Stopped.")


class _Part(Protocol):
    def start(self) -> None: ...

    def stop(self) -> None: ...


def _parts(workspace: Workspace, here: Rooms, *, hints: bool) -> list[_Part]:
    """Return what runs beside the answering of requests, in the order in which it is started."""
    parts: list[_Part] = [Ticker(workspace.metadata, workspace.keys), here.presence]
    parts.append(Conductor(workspace.sessions(), here.offers))
    tellers: list[Listeners | BrokerTeller] = []
    if hints:
        tellers.append(here.listeners)
    if here.broker is not None:
        tellers.append(BrokerTeller(here.broker))
    if tellers:
        parts += [*tellers, Watch(News(workspace.sessions(), here.offers).look, *tellers)]
    return parts


def _greet(host: str, port: int, data: Path) -> None:
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
    click.echo(f"Serving {data} on {address}, console at {address}/ (Ctrl-C stops it).")
    click.echo(f"To enroll a device: shelfsight-cloud fleet code --data {data}")
    click.echo(f"             there: shelfsight enroll {address} CODE")
    sys.stdout.flush()


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
