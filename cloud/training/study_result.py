"""What a study tells: its trials, and the best recipe."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.training.recipe import Recipe
from cloud.training.study_score import StudyScore


@dataclass(frozen=True, slots=True)
class TrialResult:
    """How a trial ended.

    Attributes:
        number: counted from 0.
        values: the fields of the recipe that it was drawn.
        epochs: share of the validation photos found right after each epoch.
        score: what the trained network was measured at; None if it did not come to its end.
        reason: why it was refused; empty if it was not.
    """

    number: int
    values: dict[str, Any]
    epochs: tuple[float, ...]
    score: StudyScore | None
    reason: str

    @property
    def state(self) -> str:
        """Return `complete`, `refused` (by its recipe, or its loss was no number) or `pruned` (stopped)."""
        return "complete" if self.score else "refused" if self.reason else "pruned"

    @property
    def value(self) -> float:
        """Return what trials are compared by, 0 without a score."""
        return self.score.value if self.score else 0.0

    def to_record(self) -> dict[str, object]:
        """Return the result as plain values."""
        return {
            "number": self.number,
            "state": self.state,
            "value": round(self.score.value, 5) if self.score else None,
            "seen": self.score and self.score.seen,
            "unseen": self.score and self.score.unseen,
            "keep": self.score and self.score.keep,
            "epochs": list(self.epochs),
            "values": self.values,
            "reason": self.reason,
        }

    def __str__(self) -> str:
        drawn = ", ".join(f"{name} {_shown(value)}" for name, value in self.values.items())
        if not self.score:
            ended = self.reason or f"stopped after epoch {len(self.epochs)}"
            return f"trial {self.number}: {ended} ({drawn})"
        parts = (("seen", self.score.seen), ("unseen", self.score.unseen))
        measured = ", ".join(f"{name} {share:.3f}" for name, share in parts if share is not None)
        return f"trial {self.number}: {self.value:.4f} ({measured}) with keep {self.score.keep:g}, {drawn}"


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What a study found: the best recipe and its score, all trials, and where it is written and drawn."""

    best: Recipe
    score: StudyScore
    trials: tuple[TrialResult, ...]
    recipe_file: Path
    history: Path

    def to_record(self) -> dict[str, object]:
        """Return the JSON object that `train --tune N --json` prints."""
        return {
            "value": round(self.score.value, 5),
            "seen": self.score.seen,
            "unseen": self.score.unseen,
            "best": self.best.to_record(),
            "recipe": str(self.recipe_file),
            "history": str(self.history),
            "trials": [trial.to_record() for trial in self.trials],
        }

    def text(self) -> str:
        """Return the same for people: the trials, best first, then the best recipe as TOML."""
        trials = sorted(self.trials, key=lambda trial: -trial.value)
        where = f"Written to {self.recipe_file}: `shelfsight-cloud train --recipe` makes a model by it."
        drawn = f"The way there is drawn in {self.history}."
        return "\n".join([*map(str, trials), "", self.best.to_toml(), where, drawn])


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
