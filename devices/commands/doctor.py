"""`shelfsight doctor`: what is wrong with this device, and what to do about it."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from devices.commands.options import data_option, json_option

_MARKS = {"ok": ("ok     ", "green"), "warning": ("warning", "yellow"), "fault": ("FAULT  ", "red")}


@click.command()
@click.option("--camera", metavar="N", type=click.IntRange(min=0), help="Try camera number N too.")
@json_option
@data_option
def command(camera: int | None, as_json: bool, data: Path | None) -> None:
    """Check everything this device needs, and say the cure for what is wrong; exit 1 on a fault."""
    from devices.config import load_settings
    from devices.doctor import examine

    faults = 0
    for finding in examine(load_settings(data), camera):
        faults += finding.level == "fault"
        if as_json:
            click.echo(json.dumps(asdict(finding), ensure_ascii=False))
            continue
        mark, color = _MARKS[finding.level]
        click.echo(f"{click.style(mark, fg=color)}  {finding.name:<12}  {finding.found}")
        if finding.cure:
            click.echo(f"{'':23}→ {finding.cure}")
    if faults:
        raise click.exceptions.Exit(1)
