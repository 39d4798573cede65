"""`shelfsight-cloud demo`: the whole road on a sample catalog, with nothing downloaded."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from cloud.commands.options import json_option, print_json
from cloud.demo.road import Plan, Shown, demo_road
from cloud.demo.score import Outcome

_COLORS = {"right": "green", "asks": "yellow", "wrong": "bold red"}


class _Announcer:
    """Announces each step, shows a bar where there is a terminal, and says how long the step took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._number = 0
        self._result = ""
        self._bar: Progress | None = None

    @contextmanager
    def __call__(self, title: str) -> Iterator["_Announcer"]:
        """Announce a step and time it."""
        self._number += 1
        self._result = ""
        began = time.monotonic()
        columns = (TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        ) as bar:
            self._bar = bar
            bar.add_task(title, total=None)
            yield self
        seconds = time.monotonic() - began
        said = f"  [dim]{self._result}[/dim]" if self._result else ""
        self._console.print(
            f"[bold]{self._number:2d}[/bold] {title}  [cyan]{seconds:.1f} s[/cyan]{said}", highlight=False
        )

    def progress(self, done: int, total: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)

    def say(self, result: str) -> None:
        """Keep what came of the step for its line."""
        self._result = result


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave the server running until Ctrl-C, and say its address.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="The folder for all that the demo makes; an earlier demo in it is replaced.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path, file_okay=False),
    help="general, grocery, or a model folder (default: the one that comes with Shelfsight).",
)
@click.option("--seed", default=7, show_default=True, help="Another seed takes other photos.")
@click.option("--products", type=click.IntRange(4, 80), default=80, hidden=True)
@click.option("--photos", type=click.IntRange(5, 200), default=40, hidden=True)
@json_option
def command(
    *, keep: bool, data: Path, model: Path | None, seed: int, products: int, photos: int, as_json: bool
) -> None:
    """Show the whole road on a sample shop that is drawn on the spot, with nothing downloaded.

    Draws products and photos of them in a shop, publishes a signed release, starts the sync server and a
    device in processes of their own, lets the device match the photos, and teaches it one more product.
    """
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console.width = 120  # a log has no edge
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` would have it ignored
    began = time.monotonic()
    workers = min(8, os.cpu_count() or 1)
    plan = Plan(data, products=products, photos=photos, seed=seed, workers=workers, model=model)
    with demo_road(plan, _Announcer(console)) as shown:
        seconds = time.monotonic() - began
        if as_json:
            print_json(_record(shown, seconds))
        else:
            _print_result(console, shown, seconds)
        if keep:
            _keep(console, shown)
    if shown.score.absurd:
        raise click.ClickException(
            f"only {shown.score.best_right} of {shown.score.known} known products came out on top: "
            "something is broken"
        )
    if shown.update.after.sku != shown.update.sku:
        raise click.ClickException(
            f"the device has release {shown.update.release} and does not know {shown.update.title}"
        )


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(1)  # so that the server is ended on the way out


def _keep(console: Console, shown: Shown) -> None:
    """Wait for Ctrl-C, having said what there is to see."""
    device, photos = shown.folder / "device", shown.folder / "shop" / "photos"
    try:  # from here on, for who reads "Ctrl-C" may press it before the sentence ends
        console.print(f"\nThe server goes on. Its console: [link={shown.address}/]{shown.address}/[/link]")
        console.print(
            f"The device as a kiosk: shelfsight kiosk --data {device} --frames {photos}", highlight=False
        )
        console.print("Ctrl-C ends the server.")
        sys.stdout.flush()
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print("Stopped.")


def _print_result(console: Console, shown: Shown, seconds: float) -> None:
    total = shown.score
    console.print()
    console.print(_table(shown.outcomes))
    console.print(
        f"Known products: best answer right [bold]{total.best_right} of {total.known}[/bold] "
        f"({total.best_right / total.known:.0%}), {total.matched_right} of them without asking."
    )
    offered = total.strangers - total.strangers_told - total.strangers_matched
    console.print(
        f"Products outside the catalog: of {total.strangers}, {total.strangers_told} called unknown, "
        f"{offered} answered with a list, {total.strangers_matched} taken for another product."
    )
    console.print(f"Wrong matches: {total.wrong_matches} of {len(shown.outcomes)} photos.")
    update = shown.update
    console.print(
        f"A new product: [bold]{update.title}[/bold] was {update.before!r}; {update.seconds:.1f} s and "
        f"{update.bytes_received:,} bytes after `catalog add` the device answers "
        f"{update.after.verdict!r} ({update.after.title}, {update.after.similarity:.2f})."
    )
    console.print(f"To look at: {shown.picture}", highlight=False)
    console.print(f"All in {seconds:.1f} s.")


def _table(outcomes: tuple[Outcome, ...]) -> Table:
    """Lay the answers out as a table, the judgment last."""
    table = Table(title="What the device answered", title_justify="left")
    for name, width in (("photo", 6), ("verdict", 7)):
        table.add_column(name, min_width=width, no_wrap=True)
    table.add_column("product", overflow="ellipsis", no_wrap=True)
    for name, width in (("similarity", 10), ("ms", 4), ("", 5)):
        table.add_column(name, min_width=width, justify="right", no_wrap=True)
    for outcome in outcomes:
        color = _COLORS[outcome.mark]
        truth = "" if outcome.mark != "wrong" else f" (is {outcome.photo.sku or 'not in the catalog'})"
        table.add_row(
            outcome.photo.path.name,
            outcome.verdict,
            (outcome.title if outcome.verdict != "unknown" else "—") + truth,
            f"{outcome.similarity:.3f}",
            f"{outcome.milliseconds:.1f}",
            f"[{color}]{outcome.mark}[/{color}]",
        )
    return table


def _record(shown: Shown, seconds: float) -> dict[str, object]:
    photos = [
        {
            "photo": str(outcome.photo.path),
            "truth": outcome.photo.sku,
            "verdict": outcome.verdict,
            "sku": outcome.sku,
            "similarity": outcome.similarity,
            "ms": outcome.milliseconds,
            "mark": outcome.mark,
        }
        for outcome in shown.outcomes
    ]
    update = {
        "sku": shown.update.sku,
        "release": shown.update.release,
        "bytes": shown.update.bytes_received,
        "seconds": round(shown.update.seconds, 2),
        "before": shown.update.before,
        "after": shown.update.after.verdict,
        "after_sku": shown.update.after.sku,
    }
    return {
        "address": shown.address,
        "model": shown.model,
        "first_sync": asdict(shown.first_sync),
        "score": asdict(shown.score),
        "photos": photos,
        "update": update,
        "picture": str(shown.picture),
        "seconds": round(seconds, 2),
    }
