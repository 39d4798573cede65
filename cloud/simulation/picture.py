"""Draws the wave: who has the release when, how many polls come, what goes wrong."""

import io
from pathlib import Path

import numpy as np

from cloud.simulation.wave import Wave
from edge.disk import write_atomically

_INK, _BLUE, _RED, _SOFT = "#202428", "#1f6fb2", "#b3261e", "#9aa3ab"


def draw_wave(wave: Wave, path: Path) -> None:
    """Draw three strips over the seconds since the release was offered: a PNG of 1200 x 800.

    Raises:
        StorageUnusable, NoSpace: `path` cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 8.0), dpi=100, layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1, 1))
    zero = wave.offered if wave.offered is not None else wave.began
    seconds = np.arange(len(wave.per_second([]))) + wave.began - zero

    times = np.sort(np.array(list(wave.installed.values()), dtype=float) - zero)
    share = 100 * np.arange(1, len(times) + 1) / wave.devices
    top.step([0, *times], [0, *share], where="post", color=_BLUE, linewidth=2, label="virtual devices")
    real = sorted(each for each in wave.real if each is not None)
    if real:
        heights = [float(np.interp(at, times, share)) if len(times) else 0.0 for at in real]
        top.plot(real, heights, "o", color=_INK, label="real devices, every signature checked")
    for reached in (50, 90, 99):
        at = wave.figures().to_fleet_s[str(reached)]
        if at is not None:
            top.annotate(f"{reached} % after {at:.0f} s", (at, reached), (8, -14), textcoords="offset points")
    top.set(
        ylabel="% of the fleet",
        ylim=(0, 103),
        title=f"{wave.devices:,} devices, one product added: who has the release",
    )
    top.legend(loc="lower right")

    middle.fill_between(
        seconds, wave.per_second([at for at, _ in wave.polls]), step="post", color=_BLUE, alpha=0.35
    )
    middle.set(ylabel="polls a second", ylim=(0, None))
    traffic = middle.twinx()
    weights = np.array([count for _, count in wave.bytes_at], dtype=float)
    at_times = np.array([at for at, _ in wave.bytes_at], dtype=float) - wave.began
    per_second, _ = np.histogram(at_times, bins=len(seconds), range=(0, len(seconds)), weights=weights)
    traffic.plot(seconds, per_second / 1e6, color=_INK, linewidth=1)
    traffic.set(ylabel="MB a second", ylim=(0, None))

    for code in sorted({code for _, code in wave.errors}):
        color = _SOFT if code in ("server_unreachable", "cut_short") else _RED
        counts = wave.per_second([at for at, each in wave.errors if each == code])
        bottom.plot(
            seconds,
            counts,
            linewidth=1,
            color=color,
            alpha=0.9,
            label=f"{code.replace('_', ' ')}: {counts.sum():,}",
        )
    bottom.set(ylabel="failures a second", xlabel="seconds since the release was offered", ylim=(0, None))
    if bottom.lines:
        bottom.legend(loc="upper right", ncols=3)
    for axes in (top, middle, bottom):
        axes.axvline(0, color=_SOFT, linestyle=":", linewidth=1)
        axes.grid(alpha=0.25)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())
