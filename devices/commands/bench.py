"""`shelfsight bench`: how fast this machine answers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devices.commands.options import data_option, json_option

if TYPE_CHECKING:
    from edge.model import Model


@click.command()
@click.option(
    "--model",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Measure the model in this folder.  [default: the installed release's]",
)
@click.option(
    "--variant",
    metavar="NAME",
    help="Take this file of the model.  [default: the one that this device would run]",
)
@click.option(
    "--profile",
    metavar="NAME",
    help="Take this profile's settings, budget and reference.  [default: the device's, else by its looks]",
)
@click.option(
    "--vectors",
    type=click.IntRange(4, 1_000_000),
    default=10_000,
    show_default=True,
    help="Size of the catalog.",
)
@click.option(
    "--rounds", type=click.IntRange(10, 100_000), default=300, show_default=True, help="Answers to time."
)
@click.option(
    "--against",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Compare with this file of --keep-reference.  [default: the reference of the profile]",
)
@click.option(
    "--keep-reference",
    "kept",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the figures to this file, to compare with later.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Exit 1 unless the run counts, keeps the budget, and is nowhere worse than a reference.",
)
@json_option
@data_option
def command(
    *,
    folder: Path | None,
    variant: str | None,
    profile: str | None,
    vectors: int,
    rounds: int,
    against: Path | None,
    kept: Path | None,
    strict: bool,
    as_json: bool,
    data: Path | None,
) -> None:
    """Time one 1280 x 720 photo from its bytes to the answer, and its stages, against an invented catalog.

    Beside it stand the floor, which is the network and a scaled JPEG decode alone, timed in the same run, and
    the figures of a machine of the same kind. A run on a machine that stalls says that it does not count.
    Nothing on this device is changed.
    """
    from devices.bench import measure, steps_of
    from devices.bench_reference import find_reference
    from devices.bench_table import sentences, table
    from devices.bench_verdict import judge, keep
    from devices.config import load_settings
    from devices.hardware import choose_profile, look

    usual = choose_profile(look()).profile
    settings = load_settings(data, flags={"variant": variant, "profile": profile}, usual_profile=usual)
    reference = find_reference(settings.profile or usual, against)
    model = _model(folder, settings.data)
    with click.progressbar(length=steps_of(rounds), label="measuring", hidden=as_json) as bar:
        report = measure(model, settings, vectors=vectors, rounds=rounds, progress=lambda: bar.update(1))
    verdict = judge(report, settings, reference)
    if as_json:
        told = {**report.to_record(), "profile": settings.profile or usual, **verdict.to_record()}
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        click.echo(table(report, verdict.comparison) + "\n")
        for sentence in sentences(report, verdict):
            click.echo(sentence)
    if kept is not None:
        keep(report, kept)
    if strict and not verdict.passes:
        raise click.exceptions.Exit(1)


def _model(folder: Path | None, data: Path) -> "Model":
    if folder is not None:
        from edge.model import open_model

        return open_model(folder)
    from devices.bench_release import model_of_release
    from edge.installation import Installation

    return model_of_release(Installation(data).current())
