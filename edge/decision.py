"""What scores mean: how sure an answer is, and which answer is sure enough to be one.

The numbers are calibrated for one model file, and by a release for one shop (`cloud.calibration`); this
module applies them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from edge.errors import BadSetting
from edge.fields import Fields
from edge.scoring import ScoreRule

CATEGORY_TEMPERATURE = 0.1
"""How scores become shares of categories where a decision does not say (docs/decisions/0010)."""


@dataclass(frozen=True, slots=True)
class WrongRate:
    """Say what confidence a match needs so that at most `rate` (0..1) of the match answers are wrong."""

    rate: float
    match_confidence: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Say what scores mean: which answer is sure enough to be one, as calibrated for one model file.

    A product's score comes from the similarities of its reference photos by the rule `score`; its margin is
    how much better it scores than the best other candidate. The confidence of a candidate is the logistic
    function of `bias + similarity_weight * score + margin_weight * margin + joint_weight * score * margin`.
    Below a score of `unknown_similarity` or a confidence of `unknown_confidence` the best candidate counts as
    not in the catalog; `match_confidence` (0..1) is what it needs to be a match. `wrong_rates`, ascending,
    say what it needs so that no more than a share of the matches is wrong. `category_temperature` turns
    scores into shares of categories (`edge.categories`). `extra` holds unknown fields.
    """

    match_confidence: float
    unknown_similarity: float
    bias: float
    similarity_weight: float
    margin_weight: float
    joint_weight: float = 0.0
    unknown_confidence: float = 0.0
    score: ScoreRule = field(default_factory=ScoreRule)
    category_temperature: float = CATEGORY_TEMPERATURE
    wrong_rates: tuple[WrongRate, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether a reader of the first format gives the same answers."""
        return self.score.temperature <= 0 and self.joint_weight == 0 and self.unknown_confidence <= 0

    def confidences(self, scores: Sequence[float]) -> tuple[float, ...]:
        """Turn the scores of candidates, best first, into their confidences, 0..1.

        A lone candidate has no runner-up: what just does not score enough to be known takes its place.
        """
        if not scores:
            return ()
        runner_up = scores[1] if len(scores) > 1 else self.unknown_similarity
        return tuple(
            self._confidence(score, runner_up if place == 0 else scores[0])
            for place, score in enumerate(scores)
        )

    def verdict(self, score: float, confidence: float) -> str:
        """Judge the best candidate: `unknown` if score or confidence is too low, else `match` or `unsure`."""
        if score < self.unknown_similarity or confidence < self.unknown_confidence:
            return "unknown"
        return "match" if confidence >= self.match_confidence else "unsure"

    def match_confidence_for(self, rate: float) -> float:
        """Return the confidence that a match needs so that at most `rate` (0..1) of the matches are wrong.

        Between two rates that were calibrated it is the lower one's: nobody has measured what lies between.

        Raises:
            BadSetting: a rate below the lowest one that was calibrated.
        """
        held = [each for each in self.wrong_rates if each.rate <= rate]
        if not held:
            known = ", ".join(f"{each.rate:g}" for each in self.wrong_rates) or "none"
            raise BadSetting(
                f"a rate of wrong answers of {rate:g} was not calibrated for this model (it has: {known}): "
                "take a higher rate, or none"
            )
        return held[-1].match_confidence

    def _confidence(self, score: float, best_other: float) -> float:
        margin = score - best_other
        evidence = self.bias + self.similarity_weight * score
        evidence += (self.margin_weight + self.joint_weight * score) * margin
        # tanh does not overflow, as exp does at scores that a hand-written model.json may give
        return 0.5 + 0.5 * math.tanh(evidence / 2)


def read_decision(reader: Fields) -> Decision:
    """Take the fields of one decision; those that the first format did not have may be missing.

    Raises:
        ShelfsightError: of the kind that `reader` refuses with: a field missing or impossible.
    """
    present = frozenset(reader.rest())

    def number(name: str, default: float, **bounds: float) -> float:
        return reader.number(name, **bounds) if name in present else default

    score = _read_score(reader.inner("score")) if "score" in present else ScoreRule()
    # A score leaves the cosine's -1 to 1 by at most t * log(n).
    slack = 0.0 if score.temperature <= 0 else 20 * score.temperature
    return Decision(
        match_confidence=reader.number("match_confidence", least=0.0, most=1.0),
        unknown_similarity=reader.number("unknown_similarity", least=-1.0 - slack, most=1.0 + slack),
        bias=reader.number("bias"),
        similarity_weight=reader.number("similarity_weight"),
        margin_weight=reader.number("margin_weight"),
        joint_weight=number("joint_weight", 0.0),
        unknown_confidence=number("unknown_confidence", 0.0, least=0.0, most=1.0),
        score=score,
        category_temperature=number("category_temperature", CATEGORY_TEMPERATURE, above=0.0, most=10.0),
        wrong_rates=_read_wrong_rates(reader) if "wrong_rates" in present else (),
        extra=reader.rest(),
    )


def decision_record(decision: Decision) -> dict[str, object]:
    """Return the decision as the JSON object that `read_decision` reads; what says nothing is left out."""
    record: dict[str, object] = {
        **decision.extra,
        "match_confidence": decision.match_confidence,
        "unknown_similarity": decision.unknown_similarity,
        "bias": decision.bias,
        "similarity_weight": decision.similarity_weight,
        "margin_weight": decision.margin_weight,
    }
    if decision.joint_weight:
        record["joint_weight"] = decision.joint_weight
    if decision.unknown_confidence:
        record["unknown_confidence"] = decision.unknown_confidence
    if decision.score.temperature > 0:
        record["score"] = {
            "temperature": decision.score.temperature,
            "count_weight": decision.score.count_weight,
        }
    if decision.category_temperature != CATEGORY_TEMPERATURE:
        record["category_temperature"] = decision.category_temperature
    if decision.wrong_rates:
        record["wrong_rates"] = [
            {"rate": each.rate, "match_confidence": each.match_confidence} for each in decision.wrong_rates
        ]
    return record


def _read_score(reader: Fields) -> ScoreRule:
    return ScoreRule(
        temperature=reader.number("temperature", above=0.0, most=10.0),
        count_weight=reader.number("count_weight", least=0.0, most=1.0),
    )


def _read_wrong_rates(reader: Fields) -> tuple[WrongRate, ...]:
    rates = reader.each("wrong_rates", _read_wrong_rate)
    if not rates:
        raise reader.bad("wrong_rates", [], "left out where nothing is known")
    if any(before.rate >= after.rate for before, after in pairwise(rates)):
        raise reader.bad("wrong_rates", [each.rate for each in rates], "ascending by rate, each once")
    return rates


def _read_wrong_rate(reader: Fields) -> WrongRate:
    return WrongRate(
        rate=reader.number("rate", least=0.0, most=1.0),
        match_confidence=reader.number("match_confidence", least=0.0, most=1.0),
    )
