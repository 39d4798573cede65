"""`shelfsight-cloud tick`: say "still true" to devices, by signing the short-lived metadata again."""

from pathlib import Path

import click

from cloud import signing
from cloud.commands.options import data_option, json_option, open_workspace, print_json
from cloud.times import rfc3339


@click.command("tick")
@data_option
@json_option
def command(data: Path, as_json: bool) -> None:
    """Sign snapshot and timestamp again, with the online keys alone.

    Devices stop taking releases a day after the last tick. `serve` does this by itself; a server that only
    hands out static files needs it from a timer, every hour.
    """
    workspace = open_workspace(data)
    expires = signing.tick(workspace.metadata, workspace.keys)
    if as_json:
        print_json({"timestamp_expires": rfc3339(expires)})
    else:
        click.echo(f"Signed; devices believe it until {rfc3339(expires)}.")
    for warning in signing.running_out(workspace.metadata):
        click.echo(f"warning: {warning}", err=True)
