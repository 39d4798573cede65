"""The cloud's command line: `shelfsight-cloud`, one file per command, imported when it is called."""

from importlib import import_module
from pathlib import Path

import click

from cloud.commands.options import DEFAULT_DATA, failures_as_sentences

_MODULES = {
    "init": "init_",
    "catalog": "catalog",
    "train": "train",
    "evaluate": "evaluate",
    "publish": "publish",
    "rollout": "rollout",
    "fleet": "fleet",
    "serve": "serve",
    "tick": "tick",
    "keys": "keys",
    "demo": "demo",
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called, so that `--help` and small commands start at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order in which a new user needs them."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, or say that there is none of that name by returning None."""
        if cmd_name not in _MODULES:
            return None
        module = import_module(f"cloud.commands.{_MODULES[cmd_name]}")
        command = module.command
        if not isinstance(command, click.Command):
            raise TypeError(f"{module.__name__}.command is not a click command")
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; what Shelfsight raises on purpose becomes one sentence and exit code 1."""
        with failures_as_sentences():
            return super().invoke(ctx)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    envvar="SHELFSIGHT_CLOUD_DATA",
    help=f"The data folder (default: {DEFAULT_DATA}); a command's own --data goes first.",
)
@click.version_option(package_name="shelfsight")
@click.pass_context
def main(ctx: click.Context, data: Path | None) -> None:
    """Keep the catalog, train and evaluate, publish signed releases, and listen to devices."""
    ctx.obj = data
