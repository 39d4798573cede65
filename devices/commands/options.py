"""The options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edge.errors import ShelfsightError

Function = TypeVar("Function", bound=Callable[..., Any])


def _inherit(context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    """Give a command the group's `--data` where it has none of its own."""
    if value is not None:
        context.obj = value
    given: Path | None = context.obj
    return given


def data_option(function: Function) -> Function:
    """Add `--data DIR`, which the command takes as `data: Path | None`."""
    return click.option(
        "--data",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        callback=_inherit,
        help="Folder of this device.  [default: SHELFSIGHT_DATA, else ~/.local/share/shelfsight]",
    )(function)


def json_option(function: Function) -> Function:
    """Add `--json`, which the command takes as `as_json: bool`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(function)


def frames_options(function: Function) -> Function:
    """Add `--frames FOLDER` and `--camera N`, which the command takes as `frames` and `camera`."""
    frames = click.option(
        "--frames",
        metavar="FOLDER",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Look at the photos in a folder, one after another, in place of a camera.",
    )
    camera = click.option(
        "--camera",
        metavar="N",
        type=click.IntRange(min=0),
        help="Look through camera number N (0 is the first).",
    )
    return frames(camera(function))


def say_failure(error: ShelfsightError, wait_s: float) -> None:
    """Tell on stderr what kept a sync from the server, and when the next one comes."""
    click.echo(f"error: {error}; again in {wait_s:.0f} s", err=True)
