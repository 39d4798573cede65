"""Judges the device's answers: the drawing knows what is on each photo."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloud.sample.write import ShopPhoto


@dataclass(frozen=True, slots=True)
class Outcome:
    """One photo and what the device made of it.

    `sku` and `title` are its best candidate's, None and "" without one; `others` are the next SKUs.
    """

    photo: ShopPhoto
    verdict: str
    sku: str | None
    title: str
    similarity: float
    milliseconds: float
    others: tuple[str, ...]

    @property
    def mark(self) -> str:
        """Judge the answer: "right", "wrong", or "asks" where it leaves the choice from a list to people."""
        if self.verdict == "unknown":
            return "right" if self.photo.sku is None else "wrong"
        if self.verdict == "unsure":
            return "asks" if self.photo.sku is None or self.photo.sku in (self.sku, *self.others) else "wrong"
        return "right" if self.sku == self.photo.sku else "wrong"


@dataclass(frozen=True, slots=True)
class Score:
    """Counts over all photos.

    `best_right`: known products whose best candidate is right, whatever the verdict; `matched_right`: those
    that were answered `match`; `strangers_told`: products outside the catalog that were answered `unknown`,
    `strangers_matched`: and `match`.
    """

    known: int
    best_right: int
    matched_right: int
    strangers: int
    strangers_told: int
    strangers_matched: int
    wrong_matches: int
    median_ms: float

    @property
    def absurd(self) -> bool:
        """Tell whether something must be broken: not even half of the known products come out on top."""
        return self.best_right * 2 < self.known


def read_outcome(photo: ShopPhoto, answer: Mapping[str, Any]) -> Outcome:
    """Read one object of `shelfsight match --json`."""
    candidates = answer["candidates"]
    best: Mapping[str, Any] = candidates[0] if candidates else {"sku": None, "title": "", "similarity": 0.0}
    return Outcome(
        photo=photo,
        verdict=answer["verdict"],
        sku=best["sku"],
        title=best["title"],
        similarity=best["similarity"],
        milliseconds=answer["timings_ms"]["total"],
        others=tuple(candidate["sku"] for candidate in candidates[1:]),
    )


def score(outcomes: Sequence[Outcome]) -> Score:
    """Count what was right and wrong; `outcomes` may not be empty."""
    known = [outcome for outcome in outcomes if outcome.photo.sku is not None]
    strangers = [outcome for outcome in outcomes if outcome.photo.sku is None]
    matches = [outcome for outcome in outcomes if outcome.verdict == "match"]
    return Score(
        known=len(known),
        best_right=sum(outcome.sku == outcome.photo.sku for outcome in known),
        matched_right=sum(outcome.mark == "right" and outcome.verdict == "match" for outcome in known),
        strangers=len(strangers),
        strangers_told=sum(outcome.verdict == "unknown" for outcome in strangers),
        strangers_matched=sum(outcome.verdict == "match" for outcome in strangers),
        wrong_matches=sum(outcome.mark == "wrong" for outcome in matches),
        median_ms=statistics.median(outcome.milliseconds for outcome in outcomes),
    )
