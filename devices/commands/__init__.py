"""The command `shelfsight`: each subcommand is a module of this package, imported when it is called."""

from collections.abc import Mapping
from importlib import import_module
from typing import IO, Any

import click

from devices.commands.options import data_option
from edge.errors import ShelfsightError

MODULES: Mapping[str, str] = {
    "enroll": "devices.commands.enroll",
    "sync": "devices.commands.sync",
    "match": "devices.commands.match",
    "add": "devices.commands.add",
    "forget": "devices.commands.forget",
    "kiosk": "devices.commands.kiosk",
    "shelf-camera": "devices.commands.shelf_camera",
    "status": "devices.commands.status",
    "doctor": "devices.commands.doctor",
    "relay": "devices.commands.relay",
    "bench": "devices.commands.bench",
    "similar": "devices.commands.similar",
}


class CommandFailed(click.ClickException):
    """A failure that Shelfsight understands, as one sentence on stderr."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentence."""
        click.echo(f"error: {self.message}", file=file, err=file is None)


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is asked for, so that `match` pays for nothing else."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the subcommands, in the order of a device's life."""
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the subcommand `cmd_name`."""
        if cmd_name not in MODULES:
            return None
        command: click.Command = import_module(MODULES[cmd_name]).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand and turn what Shelfsight raises into `error: …` and exit 1."""
        try:
            return super().invoke(ctx)
        except ShelfsightError as error:
            raise CommandFailed(str(error)) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="shelfsight")
@data_option
def main(data: object) -> None:
    """Shelfsight on a device: answer photos, watch shelves, stay in step with the server."""
