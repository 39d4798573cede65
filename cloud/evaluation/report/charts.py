"""The charts of the report, each from what was measured to an `<svg>`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from cloud.evaluation.corruptions import STRENGTHS
from cloud.evaluation.domain import SecondDomain
from cloud.evaluation.exact import Drift
from cloud.evaluation.newcomers import Newcomers
from cloud.evaluation.reliability import AtSetting, Reliability, trade_off
from cloud.evaluation.report.drawing import (
    BAD,
    CARD,
    FIRST,
    GOOD,
    INK,
    LINE,
    NARROW,
    SECOND,
    SERIES,
    SOFT,
    chart,
)
from cloud.evaluation.robust import Robustness
from cloud.evaluation.scores import Answered
from cloud.evaluation.suite import Target

_PERCENT: Final = PercentFormatter(1.0, decimals=0)
_BARS: Final = 32


def reliability_chart(found: Reliability) -> Markup:
    """Draw how often answers of a like confidence are right, and how many there are of each."""

    def paint(axes: Axes) -> None:
        middles = [(each.low + each.high) / 2 for each in found.bins]
        widths = [(each.high - each.low) * 0.86 for each in found.bins]
        count = sum(each.count for each in found.bins)
        axes.bar(
            middles, [each.count / count for each in found.bins], widths, color=LINE, label="share of photos"
        )
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(
            [each.confidence for each in found.bins],
            [each.right for each in found.bins],
            color=FIRST,
            marker="o",
            label="of these right",
        )
        axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="confidence", ylabel="right")
        _percent(axes, "x", "y")
        axes.legend(loc="upper left")

    return chart(paint, "Confidence against the share of right answers")


def trade_off_chart(
    answers: Sequence[Answered], setting: AtSetting | None, wrong: Target | None, answered: Target | None
) -> Markup:
    """Draw the share of wrong matches as more photos are answered `match`, and where the setting lies."""

    def paint(axes: Axes) -> None:
        shares, wrongs = trade_off(answers)
        axes.plot(shares, wrongs, color=FIRST)
        top = max(0.02, float(wrongs[-1]) * 1.1 if len(wrongs) else 0.02)
        if wrong is not None and answered is not None:
            axes.fill_between([answered.must, 1], 0, wrong.must, color=GOOD, alpha=0.12, linewidth=0)
            axes.text(answered.must, wrong.must, "must", color=GOOD, va="bottom", fontsize=10)
        if setting is not None and setting.wrong is not None:
            axes.plot(setting.answered, setting.wrong, marker="o", markersize=8, color=INK, linestyle="")
            said = f"set to {setting.rate:.1%} wrong:\n{setting.wrong:.2%} of {setting.answered:.0%}"
            axes.annotate(
                said,
                (setting.answered, setting.wrong),
                xytext=(-10, 14),
                textcoords="offset points",
                ha="right",
                fontsize=10,
            )
        axes.set(xlim=(0, 1), ylim=(0, top), xlabel="answered match", ylabel="wrong among these")
        _percent(axes, "x")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1 if top < 0.1 else 0))

    return chart(paint, "Wrong answers among matches against the share of photos answered match")


def open_set_chart(newcomers: Newcomers) -> Markup:
    """Draw what is accepted of known products, and of these rightly, as absent ones come to be accepted."""
    found = newcomers.unknown

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        wrongly = np.append(0, found.false_accepts)
        accepted, right = np.append(0, found.true_accepts), np.append(0, found.right_accepts)
        axes.plot(wrongly, accepted, color=FIRST, label=f"accepted (area {found.auroc:.3f})")
        axes.plot(wrongly, right, color=SECOND, label="accepted and right")
        axes.plot(0.05, found.ccr_at_5fpr, marker="o", color=SECOND, markersize=7, markeredgecolor=CARD)
        axes.annotate(
            f"{found.ccr_at_5fpr:.0%} at 5 %",
            (0.05, found.ccr_at_5fpr),
            xytext=(8, -16),
            textcoords="offset points",
            fontsize=10,
        )
        axes.set(
            xlim=(-0.01, 1), ylim=(0, 1.02), xlabel="accepted of absent products", ylabel="of known ones"
        )
        _percent(axes, "x", "y")
        axes.legend(loc="lower right")

    return chart(paint, "ROC of known against absent products", size=NARROW)


def knownness_chart(newcomers: Newcomers) -> Markup:
    """Draw how sure the device is that it knows what it sees: right, wrong, and of absent products."""
    groups = (
        ("known, answered right", FIRST, [each.knownness for each in newcomers.known if each.is_right]),
        ("known, answered wrong", BAD, [each.knownness for each in newcomers.known if not each.is_right]),
        ("absent from the catalog", SECOND, [each.knownness for each in newcomers.strangers]),
    )

    def paint(axes: Axes) -> None:
        values = np.concatenate([np.array(group) for _, _, group in groups])
        edges = np.linspace(values.min(), values.max() + 1e-9, _BARS + 1).tolist()
        for label, color, group in groups:
            if group:
                weights = np.full(len(group), 1 / len(group))
                # A light body and a clear edge: three of them lie over each other.
                axes.hist(group, edges, weights=weights, color=color, alpha=0.15)
                axes.hist(
                    group, edges, weights=weights, color=color, histtype="step", linewidth=1.6, label=label
                )
        axes.set(xlabel="how sure that it is in the catalog", ylabel="share of each")
        _percent(axes, "y")
        axes.legend(loc="upper left")

    return chart(paint, "How sure the device is, of known and of absent products", size=NARROW)


def shots_chart(newcomers: Newcomers, targets: Mapping[str, Target]) -> Markup:
    """Draw how often new products are told right by how many photos enroll them, with must and aim."""

    def paint(axes: Axes) -> None:
        counts = [each.photos_each for each in newcomers.shots]
        wanted = [targets.get(f"unseen.shots.{count}") for count in counts]
        known = [(count, target) for count, target in zip(counts, wanted, strict=True) if target]
        for name, style in (("aim", (0, (1, 2))), ("must", (0, (4, 3)))):
            if known:
                heights = [target.aim if name == "aim" else target.must for _, target in known]
                axes.plot([count for count, _ in known], heights, color=SOFT, linewidth=1.2, linestyle=style)
                axes.annotate(
                    name, (known[-1][0], heights[-1]), xytext=(5, -3), textcoords="offset points", color=SOFT
                )
        axes.plot(counts, [each.top1 for each in newcomers.shots], color=FIRST, marker="o")
        for each in newcomers.shots:
            axes.plot([each.photos_each] * len(each.draws), each.draws, color=FIRST, marker="_", linestyle="")
            axes.annotate(
                f"{each.top1:.2f}",
                (each.photos_each, max(each.draws)),
                xytext=(0, 8),
                textcoords="offset points",
                ha="center",
            )
        axes.set(ylim=(0, 1.05), xlabel="photos that enroll each product", ylabel="told right among all")
        axes.set_xlim(0.3, counts[-1] + 1.2)
        axes.set_xticks(counts)
        _percent(axes, "y")

    return chart(paint, "New products told right by the number of photos that enroll them", size=NARROW)


def spoiled_chart(name: str, models: Sequence[tuple[str, Robustness]]) -> Markup:
    """Draw the right answers of each model as one corruption grows: four places, under which pictures fit."""

    def paint(axes: Axes) -> None:
        for color, (_, robust) in zip(SERIES, models, strict=False):
            shares = [robust.clean, *(robust.spoiled[name][strength] for strength in STRENGTHS)]
            axes.plot(range(len(shares)), shares, color=color, marker="o")
            if color == FIRST:
                for place, share in enumerate(shares):
                    axes.annotate(
                        f"{share:.2f}", (place, share), xytext=(0, 8), textcoords="offset points", ha="center"
                    )
        axes.set(xlim=(-0.5, len(STRENGTHS) + 0.5), ylim=(0, 1.15))
        axes.set_xticks([])
        axes.set_yticks([0, 0.5, 1], ["", "", ""])
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)

    return chart(paint, f"Right answers as photos suffer from {name}", size=(3.2, 1.3))


def domain_chart(domain: SecondDomain, model: str) -> Markup:
    """Draw what kinds of other things come out as what: rows are the kinds, columns what was answered."""
    kinds, counts = len(domain.kinds), domain.counts
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))

    def paint(axes: Axes) -> None:
        for row in range(kinds):
            for column in range(kinds):
                color = GOOD if row == column else BAD
                depth = 0.05 + 0.7 * float(shares[row, column]) ** 0.7
                axes.add_patch(
                    Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, color=color, alpha=depth, linewidth=0)
                )
                if counts[row, column]:
                    axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=9.5)
        axes.set(xlim=(-0.5, kinds - 0.5), ylim=(kinds - 0.5, -0.5), xlabel="answered")
        axes.set_xticks(range(kinds), domain.kinds, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(kinds), domain.kinds)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)

    return chart(paint, f"Kinds of other things as {model} answers them", size=(5.4, 4.8))


def drift_chart(drift: Drift) -> Markup:
    """Draw how alike the int8 and the float embedding of each photo are."""

    def paint(axes: Axes) -> None:
        axes.hist(drift.cosines, _BARS, color=FIRST)
        axes.axvline(drift.mean_cosine, color=INK, linewidth=1.2)
        axes.annotate(
            f"mean {drift.mean_cosine:.4f}",
            (drift.mean_cosine, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-5, -10),
            textcoords="offset points",
            ha="right",
        )
        axes.set(xlabel="cosine of the int8 and the float embedding", ylabel="photos")

    return chart(paint, "Cosines of int8 and float embeddings")


def training_chart(metrics: Sequence[Mapping[str, Any]], model: str) -> Markup:
    """Draw what a training logged after each epoch: its accuracy, and products told right for validation."""

    def paint(axes: Axes) -> None:
        for name, color, label in (
            ("accuracy", SECOND, "fitted photos, softmax"),
            ("validation_top1", FIRST, "validation photos, nearest neighbor"),
        ):
            points = [(each["epoch"], each[name]) for each in metrics if _is_number(each.get(name))]
            if points:
                axes.plot(*zip(*points, strict=True), color=color, label=label, marker="o", markersize=3.5)
        axes.set(ylim=(0, 1.02), xlabel="epoch", ylabel="right")
        _percent(axes, "y")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right")

    return chart(paint, f"Training of {model}")


def loss_chart(metrics: Sequence[Mapping[str, Any]], model: str) -> Markup:
    """Draw the loss after each epoch."""

    def paint(axes: Axes) -> None:
        points = [(each["epoch"], each["loss"]) for each in metrics if _is_number(each.get("loss"))]
        if points:
            axes.plot(*zip(*points, strict=True), color=SECOND, marker="o", markersize=3.5)
        axes.set(xlabel="epoch", ylabel="loss")

    return chart(paint, f"Loss in the training of {model}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _percent(axes: Axes, *sides: str) -> None:
    for side in sides:
        (axes.xaxis if side == "x" else axes.yaxis).set_major_formatter(_PERCENT)
