"""`shelfsight-cloud init`: make the data folder, the signing keys and an empty, signed repository."""

from pathlib import Path

import click

from cloud import signing
from cloud.commands.options import data_option, database_url
from cloud.commands.settings import keep_database
from cloud.workspace import Workspace


@click.command("init")
@data_option
def command(data: Path) -> None:
    """Make the data folder: an empty catalog, signing keys, and a repository that devices can trust.

    Running it again keeps everything that is there.
    """
    url = database_url(data)
    workspace = Workspace.create(data, url)
    if url is not None:
        keep_database(data, url)
    signing.create_repository(workspace.metadata, workspace.keys)
    click.echo(f"{data} is ready; devices will trust the root key {signing.fingerprint(workspace.metadata)}")
    click.echo(
        f"{workspace.keys} holds three root keys, two of which must sign, and the targets key: before "
        "devices are in shops, move each root key to a stick of its own (docs/keys.md)."
    )
    click.echo(
        f"Keep a copy of {workspace.keys} somewhere safe: without two root keys and the targets key "
        "no device of yours can be given another release."
    )
    click.echo("Next: shelfsight-cloud catalog import FOLDER")
