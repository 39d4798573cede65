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
    root = signing.roles(workspace.metadata, workspace.keys)[0]
    if len(root.files) > 1:
        click.echo(
            f"{len(root.files)} root keys lie together in {workspace.keys}, and {root.threshold} of them can "
            "sign anything: before devices are in shops, move each to a stick of its own (docs/keys.md)."
        )
    click.echo(
        f"Keep a copy of {workspace.keys} somewhere safe: without its root and targets keys "
        "no device of yours can be given another release."
    )
    click.echo("Next: shelfsight-cloud catalog import FOLDER")
