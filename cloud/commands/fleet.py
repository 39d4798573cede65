"""`shelfsight-cloud fleet`: the devices, and the codes with which new ones join."""

from datetime import timedelta
from pathlib import Path

import click

from cloud import signing
from cloud.commands.options import data_option, json_option, open_workspace, print_json
from cloud.fleet import DEFAULT_TTL, Fleet
from cloud.stores import Stores
from cloud.times import rfc3339


@click.group("fleet", invoke_without_command=True)
@data_option
@json_option
@click.pass_context
def command(ctx: click.Context, data: Path, as_json: bool) -> None:
    """List the devices with their release and when they were last seen."""
    if ctx.invoked_subcommand is not None:
        ctx.obj = data
        return
    devices = Fleet(open_workspace(data).sessions()).devices()
    if as_json:
        print_json([device.to_record() for device in devices])
        return
    for device in devices:
        release = "no release" if device.release is None else f"release {device.release}"
        kind = f" ({device.device_class})" if device.device_class else ""
        click.echo(f"{device.id}  {device.name}{kind}  {release}  last seen {rfc3339(device.last_seen)}")
    if not devices:
        click.echo("No device is enrolled; `shelfsight-cloud fleet code` prints a code for one.")


@command.command("code")
@click.option(
    "--ttl",
    type=click.FloatRange(min=0, min_open=True),
    default=DEFAULT_TTL / timedelta(hours=1),
    show_default=True,
    metavar="HOURS",
    help="For how long the code can be used.",
)
@click.option("--store", help="The store that the device will stand in.")
@data_option
@json_option
def code(ttl: float, store: str | None, data: Path, as_json: bool) -> None:
    """Print a code with which one device can enroll, once."""
    workspace = open_workspace(data)
    if store is not None:
        Stores(workspace.sessions()).require(store)
    fingerprint = signing.fingerprint(workspace.metadata)
    made = Fleet(workspace.sessions()).new_code(fingerprint, timedelta(hours=ttl), store=store)
    if as_json:
        print_json({"code": made, "ttl_hours": ttl, "store": store})
    else:
        click.echo(made)


@command.command("move")
@click.argument("device")
@click.argument("store", required=False)
@data_option
def move(device: str, store: str | None, data: Path) -> None:
    """Give DEVICE (its id) to STORE, or to none: then it gets the whole catalog."""
    moved = Stores(open_workspace(data).sessions()).move(device, store)
    where = f"store {store}" if store else "no store"
    click.echo(
        f"Moved {device} to {where}; with the next `shelfsight-cloud publish` it gets what is sold there."
        if moved
        else f"{device} belongs to {where} already."
    )


@command.command("remove")
@click.argument("device")
@data_option
def remove(device: str, data: Path) -> None:
    """Turn DEVICE (its id) away from now on, when it was lost or sold; what it told is kept."""
    Fleet(open_workspace(data).sessions()).remove(device)
    click.echo(f"Removed {device}; it answers on with the release it has, and is brought nothing new.")
