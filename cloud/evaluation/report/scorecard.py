"""The table of figures and targets, ready for a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cloud.evaluation.figures import Figure, figures, model_figures
from cloud.evaluation.told import MEANS, written
from cloud.evaluation.whole import WholeEvaluation

_PAD: Final = 0.18


@dataclass(frozen=True, slots=True)
class Bullet:
    """Where a figure lies among its marks, 0 (worst) to 1 (best) of the width."""

    value: float
    must: float
    aim: float
    before: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: its key, what it means, and all its texts; `reached` is `aim`, `must`, `missed` or None."""

    key: str
    meaning: str
    value: str | None
    wanted: str
    aim: str
    before: str
    reached: str | None
    model: str
    reason: str | None
    bullet: Bullet | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure by each of several models, as texts, in their order."""

    key: str
    meaning: str
    values: tuple[str, ...]


def score_rows(whole: WholeEvaluation) -> list[Row]:
    """Make a row of every figure that has a meaning in words."""
    by_key = {figure.key: figure for figure in figures(whole)}
    return [_row(by_key[key], meaning) for key, meaning in MEANS.items()]


def comparisons(whole: WholeEvaluation) -> list[Comparison]:
    """Put the figures of several models beside each other; none where there is one model only."""
    if len(whole.models) < 2:
        return []
    columns = [{figure.key: figure for figure in model_figures(each)} for each in whole.models]
    found = []
    for key, meaning in MEANS.items():
        if key in columns[0]:
            values = [column[key].value for column in columns]
            texts = tuple("–" if value is None else written(key, value) for value in values)
            if any(value is not None for value in values):
                found.append(Comparison(key, meaning, texts))
    return found


def summary(rows: Sequence[Row]) -> dict[str, int]:
    """Count the rows with a target by what they have reached: `aim`, `must`, `missed`, `open`."""
    counts = dict.fromkeys(("aim", "must", "missed", "open"), 0)
    for row in rows:
        if row.wanted:
            counts[row.reached or "open"] += 1
    return counts


def _row(figure: Figure, meaning: str) -> Row:
    target = figure.target
    sign = "" if target is None else ("≤ " if target.at_most else "≥ ")
    before = target.before if target is not None else None
    return Row(
        key=figure.key,
        meaning=meaning,
        value=None if figure.value is None else written(figure.key, figure.value),
        wanted=sign + written(figure.key, target.must) if target else "",
        aim=sign + written(figure.key, target.aim) if target else "",
        before="" if before is None else written(figure.key, before),
        reached=figure.reached,
        model=figure.model or "–",
        reason=figure.reason,
        bullet=_bullet(figure),
    )


def _bullet(figure: Figure) -> Bullet | None:
    target, value = figure.target, figure.value
    if target is None or value is None:
        return None
    marks = [value, target.must, target.aim, *([] if target.before is None else [target.before])]
    low, high = min(marks), max(marks)
    pad = _PAD * ((high - low) or 1.0)

    def place(mark: float) -> float:
        share = (mark - low + pad) / (high - low + 2 * pad)
        return round(1 - share if target.at_most else share, 4)

    return Bullet(
        place(value),
        place(target.must),
        place(target.aim),
        None if target.before is None else place(target.before),
    )
