"""`shelfsight-cloud simulate`: what a release would do to a fleet, before there is one."""

from dataclasses import asdict
from pathlib import Path

import click

from cloud.bundled import find_model
from cloud.commands.options import data_option, json_option, open_workspace, print_json, progress_bars
from cloud.simulation.picture import draw_wave
from cloud.simulation.run import Plan, simulate
from cloud.simulation.wave import PLANNED, Figures
from cloud.workspace import Workspace
from edge.errors import BadSetting
from edge.model import open_model

_SHARE = click.FloatRange(0, 1)


@click.command("simulate")
@click.option(
    "--devices", type=click.IntRange(1, 100_000), default=10_000, show_default=True, help="Virtual devices."
)
@click.option(
    "--real",
    type=click.IntRange(0, 50),
    default=3,
    show_default=True,
    help="Real devices among them, which check every signature and answer their golden photos.",
)
@click.option("--slow", type=_SHARE, default=0.1, show_default=True, help="Share of lines with 16 kB/s.")
@click.option(
    "--lossy", type=_SHARE, default=0.2, show_default=True, help="Share of lines that lose a tenth."
)
@click.option(
    "--wrong-clocks",
    type=_SHARE,
    default=0.001,
    show_default=True,
    help="Share of clocks that are years off; half of them ahead, so that they must refuse.",
)
@click.option(
    "--live", type=_SHARE, default=1.0, show_default=True, help="Share of the devices that listen to hints."
)
@click.option(
    "--restarts", default=0.5, show_default=True, type=click.FloatRange(0), help="Restarts a device and hour."
)
@click.option(
    "--warm",
    default=75.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds of polling before; after 60 all devices have come by once.",
)
@click.option(
    "--minutes", default=10.0, show_default=True, type=click.FloatRange(0.1), help="The longest to wait."
)
@click.option("--seed", default=7, show_default=True, help="Another seed deals other lines and clocks.")
@click.option("--drawn", is_flag=True, help="Play in a small drawn shop, also where there is a data folder.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the wave into this PNG file.",
)
@data_option
@json_option
def command(
    *,
    devices: int,
    real: int,
    slow: float,
    lossy: float,
    wrong_clocks: float,
    live: float,
    restarts: float,
    warm: float,
    minutes: float,
    seed: int,
    drawn: bool,
    picture: Path | None,
    data: Path,
    as_json: bool,
) -> None:
    """Play a morning: a fleet polls, a product is published, and the wave runs through it.

    It plays in a copy of the data folder, or in a small drawn shop where there is none, with the real server
    on loopback and nothing left behind. The copy's last product is taken out and added again, so what a
    device receives is what a new product costs yours.
    """
    plan = Plan(
        devices=devices,
        real=real,
        slow=slow,
        lossy=lossy,
        wrong_clocks=wrong_clocks,
        live=live,
        restarts_per_hour=restarts,
        warm_s=warm,
        longest_s=60 * minutes,
        seed=seed,
    )
    source = None if drawn or not data.is_dir() else _opened(data)
    model = open_model(find_model(None, source))
    with progress_bars() as progress:
        wave = simulate(source.data if source else None, model, plan, progress)
    figures = wave.figures()
    if picture is not None:
        draw_wave(wave, picture)
    if as_json:
        print_json(asdict(figures))
    else:
        _tell(figures, picture)


def _opened(data: Path) -> Workspace:
    workspace = open_workspace(data)
    if workspace.database_url is not None:
        raise BadSetting(
            f"the catalog of {data} lies in a database of its own, which cannot be copied with the folder: "
            "add --drawn to play in a drawn shop"
        )
    return workspace


def _tell(figures: Figures, picture: Path | None) -> None:
    click.echo(f"{figures.installed:,} of {figures.devices:,} devices have the new release.")
    for share, seconds in figures.to_fleet_s.items():
        name = "all that can" if share == "can" else f"{share} % of the fleet"
        click.echo(f"  {name:<20}{_seconds(seconds)}")
    for how_far, count in figures.rest.items():
        click.echo(f"  {count:,} without it: {how_far}")
    if figures.clock_wrong:
        click.echo(f"  {figures.clock_wrong:,} have a clock years ahead, and must refuse until it is set.")
    if figures.real:
        click.echo(f"Real devices, every signature checked: {', '.join(map(_seconds, figures.real))}.")
    click.echo("Bytes a device, median and 95th percentile:")
    for kind, cost in figures.bytes_per_device.items():
        click.echo(f"  {kind:<12}{cost['p50']:>10,.0f}{cost['p95']:>10,.0f}")
    polls, times = figures.polls_per_s, figures.poll_ms
    click.echo(f"Polls a second: {polls['mean']:.1f} (mean), {polls['peak']:.0f} (peak).")
    click.echo(f"A poll took {times['p50']:.0f} ms (median), {times['p99']:.0f} ms (99 in 100 at most).")
    for whose, planned in (("of the lines, as planned", True), ("of all else", False)):
        told = [
            f"{count:,} × {code.replace('_', ' ')}"
            for code, count in figures.errors.items()
            if (code in PLANNED) == planned
        ]
        click.echo(f"Failures {whose}: {', '.join(told) or 'none'}.")
    if (load := figures.server_cpu) is not None:
        click.echo(
            f"The server used {load['before']:.2f} cores before, {load['wave']:.2f} in the wave, "
            f"{load['peak']:.2f} at most."
        )
    own = figures.simulator
    click.echo(f"The simulation used {own['cpu']:.2f} and was up to {own['late_ms_p99']:.0f} ms late itself.")
    if picture is not None:
        click.echo(f"The wave: {picture}")


def _seconds(seconds: float | None) -> str:
    return "not reached" if seconds is None else f"after {seconds:.1f} s"
