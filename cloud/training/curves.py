"""Draws the metrics of a training as a picture."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.disk import write_atomically


def draw_curves(metrics: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw loss, share classified right and share found right over the epochs: a PNG of 960 x 400.

    Raises:
        StorageUnusable, NoSpace: `path` cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.0), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [line["epoch"] for line in metrics]
    left.plot(epochs, [line["loss"] for line in metrics], marker=".")
    left.set(xlabel="epoch", ylabel="loss", title="Loss on the fitted photos")
    drawn = {
        "accuracy": "fitted photos, nearest center",
        "validation_top1": "validation photos, nearest neighbor",
    }
    for name, label in drawn.items():
        found = [(line["epoch"], line[name]) for line in metrics if line[name] is not None]
        if found:
            right.plot(*zip(*found, strict=True), marker=".", label=label)
    right.set(xlabel="epoch", ylabel="share right", title="Products told right", ylim=(0, 1))
    if right.lines:
        right.legend(loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())
