"""Draws a chart as SVG for a page: in the page's own font, and in colors that follow its light or dark theme.

Matplotlib wants colors as numbers, a page has names for them. So charts are drawn in a few numbers that
nothing else uses, and these are written as the page's variables afterwards.
"""

import io
import re
from collections.abc import Callable, Mapping
from html import escape
from typing import Any, Final

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK: Final = "#010203"
SOFT: Final = "#020304"
LINE: Final = "#030405"
FIRST: Final = "#040506"
SECOND: Final = "#050607"
BAD: Final = "#060708"
GOOD: Final = "#070809"
CARD: Final = "#08090a"
SERIES: Final = (FIRST, SECOND)

WIDE: Final = (5.4, 3.4)
"""The size of a chart in inches, two of which lie side by side."""
NARROW: Final = (4.0, 3.2)
"""The same for three."""

_VARIABLES: Final[Mapping[str, str]] = {
    INK: "--ink",
    SOFT: "--soft",
    LINE: "--line",
    FIRST: "--first",
    SECOND: "--second",
    BAD: "--bad",
    GOOD: "--good",
    CARD: "--card",
}
_STYLE: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.color": LINE,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 2,
    "lines.markersize": 5,
    "lines.solid_capstyle": "round",
}
_NO_METADATA: Final = dict.fromkeys(("Creator", "Date", "Format", "Type"))
# Names that Matplotlib gives to groups and nothing refers to; in one page they would come many times.
_GROUP_NAME = re.compile(r' id="\w[\w.]*_\d+"')
_HEAD = re.compile(r"^.*?<svg [^>]*?viewBox=\"([^\"]+)\"[^>]*>", re.DOTALL)


def chart(paint: Callable[[Axes], None], label: str, *, size: tuple[float, float] = WIDE) -> Markup:
    """Let `paint` draw into axes of `size` inches and return them as an `<svg>` that is as wide as its place.

    `label` is what the chart shows, for people who cannot see it.
    """
    settings: Any = {**_STYLE, "svg.hashsalt": label}  # a name of Matplotlib's own for each setting, or any
    with rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    return Markup(_themed(buffer.getvalue(), label))  # our own drawing, whose texts Matplotlib has escaped


def _themed(svg: str, label: str) -> str:
    head = _HEAD.match(svg)
    assert head is not None  # every SVG of Matplotlib has a viewBox
    body = _GROUP_NAME.sub("", svg[head.end() :])
    # The page's font is narrower than the one that was measured with, so nothing runs out of its place.
    body = re.sub(r"font-family: [^;\"]+;? ?", "", body)
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    for color, variable in _VARIABLES.items():
        body = body.replace(color, f"var({variable})")
    # Drawn a little larger than in print, but never so large that its texts shout.
    widest = 1.4 * float(head[1].split()[2])
    said = f'role="img" aria-label="{escape(label)}" viewBox="{head[1]}" style="max-width: {widest:.0f}px"'
    return f'<svg class="chart" {said}>{body}'
