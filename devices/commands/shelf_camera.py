"""`shelfsight shelf-camera`: watch a shelf."""

import json
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devices.commands.options import data_option, frames_options, json_option, say_failure
from edge.errors import SkipPhoto

if TYPE_CHECKING:
    from devices.camera import Camera
    from devices.shelf_camera.watch import Look, ShelfWatch


@click.command()
@click.option(
    "--planogram",
    "plan",
    metavar="FILE",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="JSON file of the slots: what belongs where in the frame.",
)
@frames_options
@click.option(
    "--empty",
    metavar="PHOTO",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A photo of the empty shelf from this camera: makes empty slots surer.",
)
@click.option(
    "--interval",
    metavar="S",
    type=click.FloatRange(min=0.05),
    help="Seconds between looks.  [default: look_interval_s of the settings, 30]",
)
@click.option("--hold", type=click.IntRange(1, 1000), help="Looks in a row that must agree.  [default: 3]")
@click.option("--profile", help="The kind of hardware.  [default: shelf-camera]")
@click.option("--once", is_flag=True, help="Look once and exit; with --frames: at each photo once.")
@click.option("--sync/--no-sync", "with_sync", help="Stay in step with the server meanwhile.")
@json_option
@data_option
def command(
    *,
    plan: Path,
    frames: Path | None,
    camera: int | None,
    empty: Path | None,
    interval: float | None,
    hold: int | None,
    profile: str | None,
    once: bool,
    with_sync: bool,
    as_json: bool,
    data: Path | None,
) -> None:
    """Look at a shelf again and again, and tell which slots are empty or hold the wrong product.

    What changes goes to the outbox; --sync, or `shelfsight sync` beside it, brings it to the server.
    """
    from devices.bell import Bell
    from devices.camera import FolderCamera, open_camera
    from devices.config import load_settings
    from devices.device import Device
    from devices.shelf_camera.watch import ShelfWatch, read_planogram
    from devices.sync_loop import sync_beside
    from edge.image import decode, load_photo

    if frames is None and camera is None:
        raise click.UsageError("Give --camera N or --frames FOLDER: a shelf camera needs to see.")
    flags = {"look_interval_s": interval, "hold": hold, "profile": profile}
    settings = load_settings(data, flags=flags, usual_profile="shelf-camera")
    planogram = read_planogram(plan)
    eyes = open_camera(frames, camera, width=settings.camera_width, height=settings.camera_height)
    assert eyes is not None, "one of the two was given"
    device = Device(settings)
    device.recover(answers=True)
    watch = ShelfWatch(
        device,
        planogram,
        hold=settings.hold,
        empty=decode(load_photo(empty)) if empty is not None else None,
    )
    if missing := watch.unknown_skus():
        click.echo(f"warning: the release here has no {', '.join(missing)}: they cannot be seen", err=True)
    looks = (len(eyes) if isinstance(eyes, FolderCamera) else 1) if once else None
    bell = Bell()
    try:
        if with_sync:
            sync_beside(bell, device, failed=say_failure)
        _watch(watch, eyes, looks, settings.look_interval_s, as_json)
    finally:
        bell.stop()
        device.close_shadow()
        eyes.close()


def _watch(watch: "ShelfWatch", eyes: "Camera", looks: int | None, interval_s: float, as_json: bool) -> None:
    """Look `looks` times, or until told to stop."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    done = 0
    while not stop.is_set():
        try:
            _show(watch.look(eyes.read()), as_json)
        except SkipPhoto as error:
            click.echo(f"error: {error}", err=True)
        done += 1
        if done == looks:
            return
        stop.wait(0 if looks else interval_s)


def _show(look: "Look", as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(look.to_record(), ensure_ascii=False))
        return
    colors = {"ok": "green", "empty": "red", "misplaced": "yellow", "unknown": "white"}
    click.echo(f"{look.at}  {look.frame}")
    click.echo(f"  {'slot':<12} {'belongs':<24} {'seen':<24} {'now':<10} told")
    for each in look.slots:
        state = each.observation.state.value
        now = click.style(f"{state:<10}", fg=colors[state])
        told = each.told.value if each.told else "-"
        click.echo(f"  {each.slot.id:<12} {each.slot.sku:<24} {each.observation.sku or '-':<24} {now} {told}")
    for change in look.changes:
        before = change.before.value if change.before else "not known"
        click.echo(f"  → slot {change.slot.id} was {before}, is {change.after.value}")
