"""Draws the history of a study as a picture."""

import io
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from cloud.training.study_result import TrialResult
from edge.disk import write_atomically

_COLORS = {"complete": "#1f6fb2", "pruned": "#b8bec4", "refused": "#b3261e"}


def draw_history(trials: Sequence[TrialResult], path: Path) -> None:
    """Draw the values of the trials with the best so far, and their way there: a PNG of 1200 x 450.

    Raises:
        StorageUnusable, NoSpace: `path` cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 4.5), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    done = [(trial.number, trial.value) for trial in trials if trial.score]
    if done:
        numbers, values = zip(*done, strict=True)
        left.plot(numbers, values, "o", color=_COLORS["complete"], label="trained to the end")
        left.step(numbers, list(accumulate(values, max)), where="post", color="#202428", label="best so far")
    stopped = [trial for trial in trials if trial.state == "pruned" and trial.epochs]
    if stopped:
        left.plot(
            [trial.number for trial in stopped],
            [trial.epochs[-1] for trial in stopped],
            "x",
            color=_COLORS["pruned"],
            label="stopped early (validation then)",
        )
    left.set(xlabel="trial", ylabel="mean of seen and unseen products", title="Value of each trial")
    for trial in trials:
        if trial.epochs:
            epochs = range(1, len(trial.epochs) + 1)
            right.plot(epochs, trial.epochs, marker=".", color=_COLORS[trial.state], alpha=0.7)
    right.set(xlabel="epoch", ylabel="share right", title="Validation photos, nearest neighbor")
    if done or stopped:
        left.legend(loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())
