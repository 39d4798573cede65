"""What the commands share: where the data is, how results, progress and failures are shown."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from cloud.commands.settings import written_database, written_settings
from edge.errors import ShelfsightError

if TYPE_CHECKING:
    from cloud.workspace import Workspace

DEFAULT_DATA = Path("shelfsight-data")
_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


_DATABASE: Final = "cloud.database"


def data_option(function: _Decorated) -> _Decorated:
    """Give a command `--data DIR`: its own, else the group's or the environment's, else the default.

    What `cloud.toml` in that folder says of the command becomes the default of its options. With it comes
    `--database URL`, which is not passed on: `database_url` tells it.
    """
    return _data_option(database_option(function))


def database_option(function: _Decorated) -> _Decorated:
    """Give a command `--database URL`: its own, else the group's, the environment's, the file's."""
    return click.option(
        "--database",
        metavar="URL",
        expose_value=False,
        callback=_choose_database,
        help="Another database than the file in the data folder: postgresql://USER@HOST/NAME.",
    )(function)


def _choose_database(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value:
        ctx.meta[_DATABASE] = value


def database_url(data: Path) -> str | None:
    """Return the address of the database that the running command was given; None is the file in `data`.

    Raises:
        BadSetting: `cloud.toml` cannot be read, or names something else than an address.
    """
    ctx = click.get_current_context(silent=True)
    given = ctx.meta.get(_DATABASE) if ctx is not None else None
    return given or written_database(data)


def _data_option(function: _Decorated) -> _Decorated:
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        is_eager=True,  # the folder must be known before any other option looks for its default
        callback=_choose_data,
        help=f"The data folder (default: {DEFAULT_DATA}).",
    )(function)


def json_option(function: _Decorated) -> _Decorated:
    """Give a command `--json`, passed on as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")(function)


def _choose_data(ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> Path:
    chosen = value or ctx.find_object(Path) or DEFAULT_DATA
    ctx.default_map = written_settings(ctx, chosen)
    return chosen


def open_workspace(data: Path) -> "Workspace":
    """Open the data folder that a command was given.

    Raises:
        StorageUnusable: it was never initialized.
    """
    from cloud.workspace import Workspace  # not at the top: it brings SQLAlchemy, which a plain install lacks

    return Workspace.open(data, database_url(data))


def print_json(value: object) -> None:
    """Print one JSON document on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


@contextmanager
def failures_as_sentences() -> Iterator[None]:
    """Turn a failure that Shelfsight raises on purpose into `error: …` on standard error and exit code 1."""
    try:
        yield
    except ShelfsightError as error:
        click.echo(f"error: {error}", err=True)
        raise click.exceptions.Exit(1) from error


@contextmanager
def progress_bar(task: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on standard error; yields a function to tell how much of how much is done."""
    with progress_bars() as tell:
        yield lambda done, total: tell(task, done, total)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar for each task; yields a function to tell the task and how much of how much is done.

    Nothing is drawn where standard error is not a terminal, so that logs and tests stay readable.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def tell(task: str, done: int, total: int) -> None:
            if task not in bars:
                bars[task] = progress.add_task(task, total=total)
            progress.update(bars[task], completed=done, total=total)

        yield tell
