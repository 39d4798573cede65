"""The options by which a person says how a release is let out: shared by `publish` and `rollout start`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def plan_options(function: _Decorated) -> _Decorated:
    """Give a command the options of a rollout, passed on by their names; `plan_of` makes a plan of them."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def plan_of(options: dict[str, Any]) -> Any:
    """Make a `cloud.rollout_rules.Plan` of what a command was given.

    Raises:
        BadSetting: shares, stores or a window that cannot be.
    """
    from cloud.rollout_rules import Plan, Rule

    agreement = options["agreement"]
    rule = Rule(
        min_devices=options["min_devices"],
        min_seconds=60 * options["min_minutes"],
        max_failed=options["max_failed"] / 100,
        silent_polls=options["silent_polls"],
        min_agreement=None if agreement is None else agreement / 100,
        on_failure=options["on_failure"],
    )
    return Plan.parse(
        options["stages"],
        options["canary"],
        percent=options["percent"],
        shadow=options["shadow"],
        window=options["window"],
        rule=rule,
    )


_OPTIONS = (
    click.option(
        "--percent",
        type=click.FloatRange(0, 100),
        default=100.0,
        show_default=True,
        help="Share of the devices, at once.",
    ),
    click.option(
        "--stages",
        default="",
        metavar="SHARES",
        help="Shares that follow each other by themselves while all is well: canary,5,25,100.",
    ),
    click.option(
        "--canary",
        multiple=True,
        metavar="STORE",
        help="A store whose devices are in every stage; repeatable.",
    ),
    click.option(
        "--shadow",
        is_flag=True,
        help="Let it answer unseen beside the release in use, until it is let speak.",
    ),
    click.option(
        "--agreement",
        type=click.FloatRange(0, 100),
        metavar="PERCENT",
        help="With --shadow: it speaks by itself when it gave the same product in so many answers.",
    ),
    click.option(
        "--window", default="", metavar="HH:MM-HH:MM", help="Hours of the day, instead of the stores' own."
    ),
    click.option(
        "--min-devices",
        type=click.IntRange(min=1),
        default=5,
        show_default=True,
        help="Devices that must run it before a stage is passed, or all there are.",
    ),
    click.option(
        "--min-minutes",
        type=click.FloatRange(min=0),
        default=60.0,
        show_default=True,
        help="How long they must run it.",
    ),
    click.option(
        "--max-failed",
        type=click.FloatRange(0, 100),
        default=5.0,
        show_default=True,
        metavar="PERCENT",
        help="Share of failed and silent devices that is put up with.",
    ),
    click.option(
        "--silent-polls",
        type=click.IntRange(min=2),
        default=30,
        show_default=True,
        help="Polls after which a device that was offered it counts as failed.",
    ),
    click.option(
        "--on-failure",
        type=click.Choice(["pause", "abort"]),
        default="pause",
        show_default=True,
        help="What becomes of it when too many fail, or its answers are worse.",
    ),
)
