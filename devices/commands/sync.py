"""`shelfsight sync`: take the newest release, deliver the events."""

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from devices.commands.options import data_option, json_option, say_failure

if TYPE_CHECKING:
    from devices.sync_report import SyncReport


@click.command()
@click.option("--once", is_flag=True, help="Sync once and exit: 0 if all went well, 1 if not.")
@json_option
@data_option
def command(once: bool, as_json: bool, data: Path | None) -> None:
    """Stay in step with the server: newest release in, events out.

    Without --once it goes on until it is told to stop (SIGTERM, Ctrl-C), at the pace the server asks for.
    """
    from devices.config import load_settings
    from devices.device import Device

    device = Device(load_settings(data))
    device.recover()
    if once:
        progress = None if as_json else _Progress()
        report = device.sync(progress=progress)
        _say(report, as_json)
        if report.error is not None:
            raise click.exceptions.Exit(1)
        return

    from devices.bell import Bell
    from devices.sync_loop import sync_until

    bell = Bell()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        bell.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_to_stop)
    sync_until(bell, device, said=lambda report: _say(report, as_json), failed=say_failure)


def _say(report: "SyncReport", as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(report)))
        return
    if report.error is not None:
        click.echo(f"error: {report.message}", err=True)
    if report.installed is not None:
        size = f"{report.bytes_received / 1e6:.2f} MB in {report.files} files"
        click.echo(f"release {report.installed} installed ({size}, {report.seconds:.1f} s)")
    elif report.error is None:
        click.echo("no release yet" if report.current is None else f"release {report.current} is the newest")
    if report.delivered:
        click.echo(f"{report.delivered} events delivered, {report.waiting} waiting")


class _Progress:
    """A bar on stderr for a download; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self._shown = -1

    def __call__(self, done: int, total: int) -> None:
        share = done * 100 // total if total else 100
        if not sys.stderr.isatty() or share == self._shown:
            return
        self._shown = share
        bar = "█" * (share // 4) + "░" * (25 - share // 4)
        end = "\n" if share == 100 else ""
        click.echo(f"\r{bar} {share:3d} %  {done / 1e6:.1f} of {total / 1e6:.1f} MB", err=True, nl=False)
        click.echo(end, err=True, nl=False)
