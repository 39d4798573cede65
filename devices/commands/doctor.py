"""`shelfsight doctor`: what is wrong with this device, and what to do about it."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from devices.commands.options import data_option, json_option

_MARKS = {"ok": ("ok", "green", "✓"), "warning": ("warning", "yellow", "!"), "fault": ("FAULT", "red", "✗")}


@click.command()
@click.option("--camera", metavar="N", type=click.IntRange(min=0), help="Try camera number N too.")
@json_option
@data_option
def command(camera: int | None, as_json: bool, data: Path | None) -> None:
    """Check everything this device needs, and say the cure for what is wrong; exit 1 on a fault."""
    from devices.config import load_settings
    from devices.doctor import Finding, examine

    def show(finding: Finding) -> None:
        level, color, symbol = _MARKS[finding.level]
        mark = click.style(f"{symbol} {level:<8}" if on_terminal else f"{level:<9}", fg=color)
        click.echo(f"{mark} {finding.name:<12} {finding.found}")
        if finding.cure:
            click.echo(f"{'':{23 if on_terminal else 22}}{'→' if on_terminal else 'cure:'} {finding.cure}")

    on_terminal = sys.stdout.isatty()
    counts = dict.fromkeys(_MARKS, 0)
    for finding in examine(load_settings(data), camera):
        counts[finding.level] += 1
        if as_json:
            click.echo(json.dumps(asdict(finding), ensure_ascii=False))
        else:
            show(finding)
    if not as_json:
        click.echo(f"{counts['ok']} ok, {counts['warning']} to look at, {counts['fault']} wrong")
    if counts["fault"]:
        raise click.exceptions.Exit(1)
