"""The cloud's command line: `shelfsight-cloud`, one file per command, imported when it is called."""

from importlib import import_module
from pathlib import Path

import click

from cloud.commands.options import DEFAULT_DATA, database_option, failures_as_sentences

# The order in which a new user needs them. The help stands here, so that showing it imports none of them.
_COMMANDS = {
    "init": ("init_", "Make the data folder, the signing keys and an empty repository."),
    "catalog": ("catalog", "Import, add, remove, list and check products and photos."),
    "proposals": ("proposals", "See the products that devices propose, and accept or refuse them."),
    "store": ("store", "Add stores, and say what is sold in which."),
    "train": ("train", "Train an embedder on the catalog's photos."),
    "evaluate": ("evaluate", "Measure a model on the test photos, with the device's own code."),
    "explain": ("explain", "Show why a photo is answered as it is, beside the reference photos."),
    "publish": ("publish", "Sign a release of model and catalog, and offer it to devices."),
    "rollout": ("rollout", "Offer a release in stages, or stop it."),
    "fleet": ("fleet", "Invite devices, and see how they are."),
    "serve": ("serve", "Run the sync server."),
    "tick": ("tick", "Re-sign the short-lived metadata."),
    "keys": ("keys", "Show, renew, rotate and revoke the signing keys."),
    "simulate": ("simulate", "Let ten thousand virtual devices take a release, and show the wave."),
    "demo": ("demo", "Show the whole road on a sample catalog, with nothing downloaded."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called, so that each of them starts as fast as it can."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, or say that there is none of that name by returning None.

        Raises:
            click.ClickException: it needs a package that a plain install does not bring.
        """
        if cmd_name not in _COMMANDS:
            return None
        module, _ = _COMMANDS[cmd_name]
        try:
            command = import_module(f"cloud.commands.{module}").command
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"`{cmd_name}` needs the package {error.name}: pip install 'shelfsight[cloud]'"
            ) from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands into the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; what Shelfsight raises on purpose becomes one sentence and exit code 1."""
        with failures_as_sentences():
            return super().invoke(ctx)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "SHELFSIGHT"},
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    envvar="SHELFSIGHT_CLOUD_DATA",
    help=f"The data folder (default: {DEFAULT_DATA}); a command's own --data goes first.",
)
@database_option
@click.version_option(package_name="shelfsight")
@click.pass_context
def main(ctx: click.Context, data: Path | None) -> None:
    """Keep the catalog, train and evaluate, publish signed releases, and listen to devices."""
    ctx.obj = data
