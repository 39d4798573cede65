"""When a rollout goes on, waits or is held: its plan and what was seen go in, a reasoned decision comes out.

Pure: no clock, no database. A stage is passed when enough of the devices that it reaches have run the release
for long enough and few enough failed; a fleet that has fewer devices than asked for needs those that it has.
One failure never decides. Failures beyond doubt (the lower bound of Wilson's interval) hold it at once.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, Literal, cast

from cloud.comparing import Comparison, wilson
from cloud.windows import Window
from edge.errors import BadSetting

Action = Literal["wait", "advance", "finish", "speak", "pause", "abort"]

CANARY: Final = "canary"
_ONE_SIDED: Final = 1.645  # standard deviations: p = 0.05 on one side
_FEWEST_FAILURES: Final = 2
_PATIENCE: Final = 4  # times the time of a stage, until a failure too few to judge by no longer holds it
_FEWEST_SHADOW_ANSWERS: Final = 50
_PERCENT = re.compile(r"\d{1,3}(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Rule:
    """What lets a stage pass.

    `min_devices` of the stage run the release for `min_seconds` (or all there are, if there are fewer), at
    most the share `max_failed` (0..1) failed; a device that falls silent for `silent_polls` polls, within as
    many polls after it was offered the release or took it, failed as well. `min_agreement` (0..1) is how
    often a release in shadow must answer with the same product before it speaks; None: a person decides.
    `on_failure` is what follows.
    """

    min_devices: int = 5
    min_seconds: float = 3600.0
    max_failed: float = 0.05
    silent_polls: int = 30
    min_agreement: float | None = None
    on_failure: Literal["pause", "abort"] = "pause"

    def __post_init__(self) -> None:
        shares = (self.max_failed, 0.0 if self.min_agreement is None else self.min_agreement)
        fits = self.min_devices >= 1 and self.min_seconds >= 0 and self.silent_polls >= 2
        if not fits or not all(0 <= share <= 1 for share in shares):
            raise BadSetting(
                "a stage needs at least one device and no less than no time, a device two silent polls, and "
                "shares lie between 0 and 100 percent"
            )


@dataclass(frozen=True, slots=True)
class Plan:
    """How a release is let out: stage after stage, each a share in percent; `CANARY` stands for 0.

    The devices of the `canary` stores are in every stage. `staged` says that stages follow each other by the
    rule; otherwise a person sets the share. `window` (`02:00-05:00`, by each store's clock) goes before the
    stores' own windows. `shadow`: it first answers beside the release in use, unseen.
    """

    stages: tuple[float, ...] = (100.0,)
    canary: tuple[str, ...] = ()
    staged: bool = False
    shadow: bool = False
    window: str = ""
    rule: Rule = Rule()

    @classmethod
    def parse(
        cls,
        stages: str = "",
        canary: Sequence[str] = (),
        *,
        percent: float = 100.0,
        shadow: bool = False,
        window: str = "",
        rule: Rule | None = None,
    ) -> "Plan":
        """Read `canary,5,25,100`; without stages the plan is to reach `percent` of the devices at once.

        Raises:
            BadSetting: shares that are none or do not grow, a canary without a store, a window that is none.
        """
        if not 0 <= percent <= 100:
            raise BadSetting(f"{percent:g} is not a percentage: give a number from 0 to 100")
        if window:
            Window.parse(window)
        plan = cls(canary=tuple(canary), shadow=shadow, window=window, rule=rule or Rule())
        if not stages:
            return replace(plan, stages=(float(percent),))
        words = [word.strip().rstrip("%").strip() for word in stages.split(",")]
        shares = tuple(_stage(word, stages) for word in words)
        growing = all(low < high for low, high in pairwise(shares))
        if not growing or not 0 < shares[-1] <= 100:
            raise BadSetting(f"the stages {stages!r} do not grow to at most 100: write canary,5,25,100")
        if shares[0] == 0 and not canary:
            raise BadSetting("a canary stage needs a store: name it with --canary STORE")
        return replace(plan, stages=shares, staged=True)

    @property
    def told(self) -> str:
        """Name the stages as people write them."""
        return ", ".join(stage_name(percent) for percent in self.stages)

    def to_record(self) -> dict[str, object]:
        """Write the plan as JSON."""
        rule = {name: getattr(self.rule, name) for name in Rule.__slots__}
        return {
            "stages": list(self.stages),
            "canary": list(self.canary),
            "staged": self.staged,
            "shadow": self.shadow,
            "window": self.window,
            "rule": rule,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Plan":
        """Read what `to_record` wrote; an empty record is the plan to reach everybody at once."""
        if not record:
            return cls()
        values = {**record, "stages": tuple(record["stages"]), "canary": tuple(record["canary"])}
        return cls(**{**values, "rule": Rule(**record["rule"])})


@dataclass(frozen=True, slots=True)
class ShadowCounts:
    """How often a release in shadow answered, and how often with the same product as the one in use."""

    answers: int = 0
    same_sku: int = 0
    same_verdict: int = 0
    unknown: int = 0
    unknown_before: int = 0
    ms: float = 0.0
    ms_before: float = 0.0

    @property
    def agreement(self) -> float:
        """The share of answers with the same product, 0 of none."""
        return self.same_sku / self.answers if self.answers else 0.0

    def to_record(self) -> dict[str, object]:
        """Write the counts, with times as means in milliseconds."""
        several = max(self.answers, 1)
        counts = {name: getattr(self, name) for name in self.__slots__}
        return counts | {
            "agreement": round(self.agreement, 4),
            "ms": round(self.ms / several, 2),
            "ms_before": round(self.ms_before / several, 2),
        }


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of a rollout.

    Of the whole rollout: devices it was `offered` to, those `running` it, `failed` and `silent`. Of its
    stage: `seconds` since it began; `reachable` devices that it is to reach and that came by lately; `ages`,
    for how many seconds each of its devices runs the release, longest first. `comparisons` are with the
    release before; `shadow` is None unless the release is in shadow.
    """

    seconds: float
    offered: int = 0
    running: int = 0
    failed: int = 0
    silent: int = 0
    reachable: int = 0
    ages: tuple[float, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    shadow: ShadowCounts | None = None

    @property
    def bad(self) -> int:
        """How many devices count as failures."""
        return self.failed + self.silent

    @property
    def tried(self) -> int:
        """How many devices say something about the release."""
        return self.running + self.bad

    def to_record(self) -> dict[str, object]:
        """Write what people look at."""
        counts = ("offered", "running", "failed", "silent", "reachable")
        return {
            **{name: getattr(self, name) for name in counts},
            "accuracy": [each.to_record() for each in self.comparisons],
            "shadow": self.shadow.to_record() if self.shadow else None,
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done, and why, in words for people."""

    action: Action
    reason: str


def decide(plan: Plan, stage: int, seen: Evidence) -> Decision:
    """Decide what becomes of a rollout in its stage number `stage` (from 0)."""
    trouble = _failing(plan.rule, seen) or _worse(seen)
    if trouble:
        return Decision(plan.rule.on_failure, trouble)
    if seen.shadow is not None:
        return _judge_shadow(plan.rule, seen.seconds, seen.shadow)
    if not plan.staged:
        whose = "everybody is offered it" if plan.stages[0] >= 100 else "a person decides about the share"
        return Decision("wait", f"{whose}; {_counts(seen)}")
    waiting = _unfinished(plan.rule, seen)
    if waiting:
        return Decision("wait", waiting)
    done = _passed(plan.rule, seen)
    if stage + 1 >= len(plan.stages):
        return Decision("finish", f"the last stage is passed: {done}")
    return Decision("advance", f"on to {stage_name(plan.stages[stage + 1])}: {done}")


def stage_name(percent: float) -> str:
    """Name a stage as people write it: `canary`, `25 %`."""
    return f"{percent:g} %" if percent else CANARY


def _failing(rule: Rule, seen: Evidence) -> str:
    """Say why the failures hold the rollout; "" if they do not."""
    if seen.bad < _FEWEST_FAILURES or seen.tried < _needed(rule, seen):
        return ""
    low, _ = wilson(seen.bad, seen.tried, _ONE_SIDED)
    beyond_doubt = low > rule.max_failed
    all_are_in = _clock(rule, seen) >= rule.min_seconds and seen.bad / seen.tried > rule.max_failed
    if not (beyond_doubt or all_are_in):
        return ""
    kinds = " and ".join(
        f"{count} {what}" for count, what in ((seen.failed, "failed"), (seen.silent, "fell silent")) if count
    )
    return f"{kinds} of {seen.tried} devices: {seen.bad / seen.tried:.0%}, at most {rule.max_failed:.0%} may"


def _worse(seen: Evidence) -> str:
    worse = [str(each) for each in seen.comparisons if each.verdict == "worse"]
    return f"it does worse than the release before: {'; '.join(worse)}" if worse else ""


def _judge_shadow(rule: Rule, seconds: float, counts: ShadowCounts) -> Decision:
    told = f"in shadow it gave the same product in {counts.agreement:.1%} of {counts.answers} answers"
    if rule.min_agreement is None:
        return Decision("wait", f"{told}; `rollout resume` lets it speak")
    least = f"{rule.min_agreement:.0%}"
    if counts.answers < _FEWEST_SHADOW_ANSWERS:
        return Decision("wait", f"{told}; {_FEWEST_SHADOW_ANSWERS} answers are needed to judge it")
    _, high = wilson(counts.same_sku, counts.answers, _ONE_SIDED)
    if high < rule.min_agreement:
        return Decision(rule.on_failure, f"{told}, and {least} are asked for")
    if counts.agreement < rule.min_agreement or seconds < rule.min_seconds:
        return Decision("wait", f"{told}; it speaks with {least} and after {_span(rule.min_seconds)}")
    return Decision("speak", f"{told}, {least} were asked for")


def _unfinished(rule: Rule, seen: Evidence) -> str:
    """Say what the stage still lacks; "" if nothing."""
    needed, running = _needed(rule, seen), len(seen.ages)
    judged = running + seen.bad
    if judged < needed:
        return f"{running} of the {needed} devices that are needed run it"
    if _clock(rule, seen) < rule.min_seconds:
        return f"{_counts(seen)}, {_span(_clock(rule, seen))} of {_span(rule.min_seconds)}"
    if seen.bad and seen.bad / seen.tried > rule.max_failed and _clock(rule, seen) < _patience(rule):
        return f"{_counts(seen)}: too few to judge by, so it waits until {_span(_patience(rule))} are over"
    return ""


def _passed(rule: Rule, seen: Evidence) -> str:
    if not seen.reachable and not seen.ages:
        return f"no device that came by lately falls into this share; {_counts(seen)}"
    return f"{_counts(seen)}, for {_span(_clock(rule, seen))}"


def _needed(rule: Rule, seen: Evidence) -> int:
    return min(rule.min_devices, seen.reachable)


def _clock(rule: Rule, seen: Evidence) -> float:
    """Return for how long the devices that are needed have run it; how long the stage lasts, if none is."""
    running = min(_needed(rule, seen), len(seen.ages))
    return min(seen.ages[running - 1], seen.seconds) if running else seen.seconds


def _patience(rule: Rule) -> float:
    return _PATIENCE * rule.min_seconds


def _counts(seen: Evidence) -> str:
    words = [f"{seen.running} run{'s' if seen.running == 1 else ''} it"]
    words += [f"{seen.failed} failed"] if seen.failed else []
    words += [f"{seen.silent} fell silent"] if seen.silent else []
    return ", ".join(words)


def _span(seconds: float) -> str:
    for length, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.3g} {name}"
    return f"{seconds:.0f} s"


def _stage(word: str, stages: str) -> float:
    if word == CANARY:
        return 0.0
    if not _PERCENT.fullmatch(word):
        raise BadSetting(f"{word[:20]!r} in the stages {stages[:60]!r} is no share: write canary,5,25,100")
    return float(word)


def as_action(value: str) -> Action:
    """Read an action that was kept."""
    return cast(Action, value)
