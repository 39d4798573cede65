"""Draws the wave: who has the release when, how many polls come, what the server does and what goes wrong."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cloud.simulation.wave import PLANNED, Figures, Wave
from edge.disk import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _BLUE, _RED, _SOFT, _GREEN = "#202428", "#1f6fb2", "#b3261e", "#9aa3ab", "#3c8a5a"
_BEFORE_S = 30.0  # of the quiet before that are shown
_AFTER = 1.2


def draw_wave(wave: Wave, path: Path) -> None:
    """Draw three strips over the seconds since the release was offered: a PNG of 1200 x 800.

    Raises:
        StorageUnusable, NoSpace: `path` cannot be written.
    """
    from matplotlib.figure import Figure

    zero = wave.offered if wave.offered is not None else wave.began
    figure = Figure(figsize=(12.0, 8.0), dpi=100, layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1, 1))
    figures = wave.figures()
    figure.suptitle(f"A product is published for {wave.devices:,} devices", fontsize=15, color=_INK)
    top.set_title(_summary(figures), fontsize=10, color=_SOFT)
    _draw_shares(top, wave, figures, zero)
    _draw_polls(middle, wave, zero)
    _draw_failures(bottom, wave, zero)
    bottom.set(
        xlabel="seconds since the release was offered",
        xlim=(max(wave.began - zero, -_BEFORE_S), _last_s(wave, figures, zero)),
    )
    for axes in (top, middle, bottom):
        axes.axvline(0, color=_SOFT, linestyle=":", linewidth=1)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())


def _summary(figures: Figures) -> str:
    cost = figures.bytes_per_device["received"]
    told = [
        f"{cost['p50'] / 1000:.1f} kB a device (95 % at most {cost['p95'] / 1000:.1f} kB)",
        f"{figures.polls_per_s['peak']:.0f} polls a second at most",
        f"a poll takes {figures.poll_ms['p50']:.0f} ms (99 % at most {figures.poll_ms['p99']:.0f} ms)",
    ]
    return "  ·  ".join(told)


def _last_s(wave: Wave, figures: Figures, zero: float) -> float:
    """Return where the picture ends: a while after 99 % have the release, or when the simulation did."""
    whole, reached = wave.ended - zero, figures.to_fleet_s["99"]
    return max(1.0, whole if reached is None else min(whole, _AFTER * reached))


def _draw_shares(axes: "Axes", wave: Wave, figures: Figures, zero: float) -> None:
    times = np.array(wave.times())
    share = 100 * np.arange(1, len(times) + 1) / wave.devices
    end = max(1.0, wave.ended - zero)
    at, height = [0.0, *times, end], [0.0, *share, share[-1] if len(share) else 0.0]
    axes.fill_between(at, height, step="post", color=_BLUE, alpha=0.12)
    axes.step(at, height, where="post", color=_BLUE, linewidth=2, label=f"{wave.devices:,} virtual devices")
    real = sorted(each for each in wave.real if each is not None)
    if real:
        heights = np.interp(real, times, share) if len(times) else np.zeros(len(real))
        label = f"{len(real)} real devices, every signature checked"
        axes.plot(real, heights, "o", color=_INK, markersize=5, label=label, clip_on=False, zorder=3)
    for reached in (50, 90, 99):
        seconds = figures.to_fleet_s[str(reached)]
        if seconds is not None:
            axes.plot([seconds], [reached], "o", color=_BLUE, markersize=5)
            text = f"{reached} % after {seconds:.0f} s"
            axes.annotate(text, (seconds, reached), (8, -14), textcoords="offset points", color=_BLUE)
    axes.set(ylabel="devices with the release, %", ylim=(0, 103))
    axes.legend(loc="lower right", frameon=False)


def _draw_polls(axes: "Axes", wave: Wave, zero: float) -> None:
    polls = wave.per_second([at for at, _ in wave.polls])
    seconds = np.arange(len(polls)) + wave.began - zero
    axes.fill_between(seconds, polls, step="post", color=_BLUE, alpha=0.35)
    axes.set(ylabel="polls a second", ylim=(0, None))
    load = wave.server_load()
    if load:
        cores = axes.twinx()
        cores.plot([at - zero for at, _ in load], [cores for _, cores in load], color=_GREEN, linewidth=1.2)
        cores.set(ylim=(0, max(1.2, *(each for _, each in load))))
        cores.set_ylabel("server, processor cores", color=_GREEN)
        cores.tick_params(axis="y", colors=_GREEN)
        cores.spines["top"].set_visible(False)


def _draw_failures(axes: "Axes", wave: Wave, zero: float) -> None:
    planned = [at for at, code in wave.errors if code in PLANNED]
    other = [at for at, code in wave.errors if code not in PLANNED]
    codes = sorted({code for _, code in wave.errors} - set(PLANNED))
    names = ", ".join(code.replace("_", " ") for code in codes) or "none"
    shown = (
        (planned, _SOFT, f"lines that break, as planned: {len(planned):,}"),
        (other, _RED, f"all else ({names}): {len(other):,}"),
    )
    for times, color, label in shown:
        counts = wave.per_second(times)
        seconds = np.arange(len(counts)) + wave.began - zero
        axes.step(seconds, counts, where="post", linewidth=1.2, color=color, label=label)
    axes.set(ylabel="failures a second", ylim=(0, max(1, axes.get_ylim()[1])))
    axes.legend(loc="upper right", frameon=False)
