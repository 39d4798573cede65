"""`shelfsight-cloud rollout`: which devices are offered which release, in which stages, and how it goes."""

from pathlib import Path
from typing import Any

import click

from cloud.commands.options import data_option, json_option, open_workspace, print_json
from cloud.commands.plan_options import plan_of, plan_options
from cloud.conductor import Conducting
from cloud.fleet import Fleet
from cloud.rollouts import Rollout, Rollouts, Step, rollout_record, step_record

_STEPS_SHOWN = 5
_VERSION = click.argument("version", type=click.IntRange(min=1), required=False)


@click.group("rollout")
def command() -> None:
    """Let a release out in stages; widen, hold or stop it."""


@command.command("start")
@click.argument("version", type=click.IntRange(min=1))
@plan_options
@data_option
@json_option
def start(version: int, data: Path, as_json: bool, **options: Any) -> None:
    """Offer release VERSION to a share of the devices; run it again to widen the share.

    With --stages the share widens by itself: a stage is passed when enough devices have run the release for
    long enough and few enough failed. Too many failures, devices that fall silent after they were offered it,
    or answers that are worse than those of the release before hold it. Reasons are in `rollout status`.
    """
    _tell(_rollouts(data).start(version, plan=plan_of(options)), as_json)


@command.command("status")
@data_option
@json_option
def status(data: Path, as_json: bool) -> None:
    """Look at the rollouts and list them, newest release first, with the devices that run each."""
    sessions = open_workspace(data).sessions()
    Conducting(sessions).once()
    rollouts = Rollouts(sessions)
    found, steps = rollouts.newest(), rollouts.steps()
    running = Fleet(sessions).count_by_release()
    if as_json:
        print_json(
            [
                {
                    **rollout_record(rollout),
                    "devices": running.get(rollout.version, 0),
                    "steps": [step_record(step) for step in steps if _is_of(step, rollout)],
                }
                for rollout in found
            ]
        )
        return
    for rollout in found:
        count = running.get(rollout.version, 0)
        click.echo(f"{_line(rollout)}, on {count} device{'' if count == 1 else 's'}")
        if rollout.finished is None and rollout.says and rollout.state == "active":
            click.echo(f"    now: {rollout.says}")
        if rollout.state == "paused":
            number = rollout.version
            click.echo(
                f"    now: `rollout resume {number}` goes on, `rollout abort {number}` ends it for good"
            )
        told = [step for step in steps if _is_of(step, rollout)]
        for step in told[:_STEPS_SHOWN]:
            why = f": {step.reason}" if step.reason else ""
            click.echo(f"    {step.at:%Y-%m-%d %H:%M} {step.action} by a {step.by}{why}")
    if not found:
        click.echo("Nothing is offered yet; `shelfsight-cloud publish` makes the first release.")


@command.command("pause")
@_VERSION
@data_option
@json_option
def pause(version: int | None, data: Path, as_json: bool) -> None:
    """Offer release VERSION (or the newest) to no further device for now."""
    _tell(_rollouts(data).pause(version), as_json)


@command.command("resume")
@_VERSION
@data_option
@json_option
def resume(version: int | None, data: Path, as_json: bool) -> None:
    """Go on with release VERSION (or the newest).

    One that was paused is offered again, and what failed until now is forgiven; one that runs in shadow
    speaks from now on.
    """
    _tell(_rollouts(data).resume(version), as_json)


@command.command("abort")
@_VERSION
@data_option
@json_option
def abort(version: int | None, data: Path, as_json: bool) -> None:
    """Offer release VERSION (or the newest) to nobody any more, for good.

    Devices that have it keep it until another is published. No device ever goes back to a lower number:
    earlier content is brought back by `publish --content-of VERSION`, under a new one.
    """
    rollout = _rollouts(data).abort(version)
    _tell(rollout, as_json)
    if not as_json:
        click.echo(
            f"Devices that have release {rollout.version} keep it. To bring earlier content back to them, "
            "publish it under a new number: shelfsight-cloud publish --content-of VERSION"
        )


def _rollouts(data: Path) -> Rollouts:
    return Rollouts(open_workspace(data).sessions())


def _tell(rollout: Rollout, as_json: bool) -> None:
    if as_json:
        print_json(rollout_record(rollout))
    else:
        click.echo(_line(rollout))


def _is_of(step: Step, rollout: Rollout) -> bool:
    return (step.channel, step.version) == (rollout.channel, rollout.version)


def _line(rollout: Rollout) -> str:
    share = f"{rollout.percent:g} % of the devices"
    if rollout.plan.canary:
        share += f" and store {', '.join(rollout.plan.canary)}"
    words = [f"release {rollout.version} on {rollout.channel}: {rollout.state}, {share}"]
    words += ["in shadow"] if rollout.shadow else []
    words += [f"stages {rollout.plan.told}"] if rollout.plan.staged else []
    return ", ".join(words)
