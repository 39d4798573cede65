"""`shelfsight-cloud init`: make the data folder, the signing keys and an empty, signed repository."""

from pathlib import Path

import click

from cloud.commands.options import data_option
from cloud.workspace import Workspace


@click.command("init")
@data_option
def command(data: Path) -> None:
    """Make the data folder: an empty catalog, signing keys, and a repository that devices can trust.

    Running it again keeps everything that is there.
    """
    Workspace.create(data)
    click.echo(f"{data} is ready: import a catalog with `shelfsight-cloud catalog import FOLDER`.")
