"""`shelfsight-cloud rollout`: which share of the devices is offered which release."""

from pathlib import Path

import click

from cloud.commands.options import data_option, json_option, open_workspace, print_json
from cloud.fleet import Fleet
from cloud.rollouts import Rollout, Rollouts
from cloud.times import rfc3339


@click.group("rollout")
def command() -> None:
    """Widen, hold or stop the offer of a release."""


@command.command("start")
@click.argument("version", type=click.IntRange(min=1))
@click.option(
    "--percent", type=click.FloatRange(0, 100), default=100.0, show_default=True, help="Share of the devices."
)
@data_option
def start(version: int, percent: float, data: Path) -> None:
    """Offer release VERSION to a share of the devices; run it again to widen the share."""
    _tell(_rollouts(data).start(version, percent))


@command.command("status")
@data_option
@json_option
def status(data: Path, as_json: bool) -> None:
    """List the rollouts, newest release first, with the devices that run each."""
    sessions = open_workspace(data).sessions()
    found = Rollouts(sessions).newest()
    running = Fleet(sessions).count_by_release()
    if as_json:
        print_json([{**_record(rollout), "devices": running.get(rollout.version, 0)} for rollout in found])
        return
    for rollout in found:
        count = running.get(rollout.version, 0)
        click.echo(f"{_line(rollout)}, on {count} device{'' if count == 1 else 's'}")
    if not found:
        click.echo("Nothing is offered yet; `shelfsight-cloud publish` makes the first release.")


@command.command("pause")
@click.argument("version", type=click.IntRange(min=1), required=False)
@data_option
def pause(version: int | None, data: Path) -> None:
    """Offer release VERSION (or the newest) to no further device for now."""
    _tell(_rollouts(data).pause(version))


@command.command("resume")
@click.argument("version", type=click.IntRange(min=1), required=False)
@data_option
def resume(version: int | None, data: Path) -> None:
    """Go on with the paused rollout of release VERSION (or the newest)."""
    _tell(_rollouts(data).resume(version))


@command.command("abort")
@click.argument("version", type=click.IntRange(min=1), required=False)
@data_option
def abort(version: int | None, data: Path) -> None:
    """Offer release VERSION (or the newest) to nobody any more, for good.

    Devices that have it keep it until another is published.
    """
    _tell(_rollouts(data).abort(version))


def _rollouts(data: Path) -> Rollouts:
    return Rollouts(open_workspace(data).sessions())


def _tell(rollout: Rollout) -> None:
    click.echo(_line(rollout))


def _line(rollout: Rollout) -> str:
    share = f"{rollout.percent:g} % of the devices"
    return f"release {rollout.version} on {rollout.channel}: {rollout.state}, {share}"


def _record(rollout: Rollout) -> dict[str, object]:
    return {
        "version": rollout.version,
        "channel": rollout.channel,
        "state": rollout.state,
        "percent": rollout.percent,
        "started": rfc3339(rollout.started),
        "changed": rfc3339(rollout.changed),
    }
