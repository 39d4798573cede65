"""`shelfsight bench`: how fast this machine answers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devices.commands.options import data_option, json_option

if TYPE_CHECKING:
    from devices.bench import BenchReport
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
    "--variant", metavar="NAME", help="Take this file of the model.  [default: its first for the CPU]"
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
@json_option
@data_option
def command(
    *, folder: Path | None, variant: str | None, vectors: int, rounds: int, as_json: bool, data: Path | None
) -> None:
    """Time one 1280 x 720 photo from its bytes to the answer, on one thread, against an invented catalog.

    Beside it stands the floor: the network and a scaled JPEG decode alone, timed in the same run. Nothing on
    this device is changed.
    """
    from devices.bench import measure, rounds_of

    model = _model(folder, data)
    chosen = model.variant(variant)
    if as_json:
        report = measure(model, chosen, vectors=vectors, rounds=rounds)
        click.echo(json.dumps(report.to_record()))
        return
    with click.progressbar(length=rounds_of(rounds), label="measuring") as bar:
        report = measure(model, chosen, vectors=vectors, rounds=rounds, progress=lambda: bar.update(1))
    click.echo(_table(report, f"{model.name}, {chosen.name}, {chosen.size / 1e6:.1f} MB"))


def _model(folder: Path | None, data: Path | None) -> "Model":
    if folder is not None:
        from edge.model import open_model

        return open_model(folder)
    from devices.bench_release import model_of_release
    from devices.config import load_settings
    from edge.installation import Installation

    return model_of_release(Installation(load_settings(data).data).current())


def _table(report: "BenchReport", model: str) -> str:
    from devices.bench import TARGET_RATIO

    kept = "within" if report.ratio_to_floor <= TARGET_RATIO else "over"
    rows = [
        ("model", model),
        ("runtime", f"{report.runtime}, one thread"),
        ("catalog", f"{report.vectors:,} vectors"),
        ("photo to answer", f"{report.scan_p50_ms:.2f} ms median, {report.scan_p99_ms:.2f} ms at 99 %"),
        ("  network alone", f"{report.invoke_ms:.2f} ms"),
        ("  decode alone", f"{report.decode_ms:.2f} ms"),
        ("  search", f"{report.search_ms:.2f} ms ({report.search_method})"),
        ("ratio to floor", f"{report.ratio_to_floor:.2f} ({kept} the target of {TARGET_RATIO})"),
        ("cold start", f"{report.cold_start_s:.2f} s from `shelfsight match` to its answer"),
        ("memory", f"{report.rss_mb:.0f} MB in a device process"),
    ]
    return "\n".join(f"{name:<16}  {value}" for name, value in rows)
