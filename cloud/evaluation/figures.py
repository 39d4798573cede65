"""The figures of a whole evaluation by their keys: one list behind the JSON, the table and the report."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final, TypeVar

from cloud.evaluation.corruptions import CORRUPTIONS, STRENGTHS
from cloud.evaluation.exact import Drift
from cloud.evaluation.measure import Evaluation
from cloud.evaluation.newcomers import SHOTS, Newcomers
from cloud.evaluation.reliability import BINS, AtSetting, Reliability
from cloud.evaluation.robust import Robustness
from cloud.evaluation.scores import Scores
from cloud.evaluation.suite import GROCERY, SECOND_DOMAIN, Target
from cloud.evaluation.whole import Missing, ModelScores, WholeEvaluation

_Part = TypeVar("_Part")
_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, by which model it is, and what it was to reach; without a value there is a reason."""

    key: str
    value: float | None
    model: str | None
    target: Target | None = None
    reason: str | None = None

    @property
    def reached(self) -> str | None:
        """`aim`, `must` or `missed`; None without a target or a value."""
        return self.target.judge(self.value) if self.target and self.value is not None else None


def figures(whole: WholeEvaluation) -> list[Figure]:
    """List the figures that answer for the whole, each by the model that has its role."""
    found = []
    for key in (*_OF_MODEL, *_OF_TWIN):
        target = whole.suite.targets.get(key)
        if key in _OF_TWIN:
            found.append(_figure(key, _value(whole.newcomers, _OF_TWIN[key]), whole.twin, target))
        else:
            owner = whole.general if key.startswith(SECOND_DOMAIN) else whole.main
            found.append(_figure(key, _OF_MODEL[key](owner), owner.model.name, target))
    return found


def model_figures(scores: ModelScores) -> list[Figure]:
    """List the figures of one model that need no twin."""
    return [_figure(key, get(scores), scores.model.name) for key, get in _OF_MODEL.items()]


def to_record(whole: WholeEvaluation) -> dict[str, object]:
    """Return the JSON object that `evaluate --all --json` prints."""
    listed = figures(whole)
    return {
        **_nested(listed),
        "models": {
            **dict.fromkeys((GROCERY, "robust", "decision", "cost"), whole.main.model.name),
            SECOND_DOMAIN: whole.second_domain_model,
            **dict.fromkeys(("unseen", "unknown"), whole.twin),
        },
        "by_model": {each.model.name: _nested(model_figures(each)) for each in whole.models},
        "targets": {
            each.key: {
                "at_most" if each.target.at_most else "at_least": each.target.must,
                "aim": each.target.aim,
                "reached": each.reached,
            }
            for each in listed
            if each.target is not None
        },
        "not_measured": {each.key: each.reason for each in listed if each.reason is not None},
        "notes": notes(whole),
        "made": whole.made,
    }


def notes(whole: WholeEvaluation) -> dict[str, str]:
    """Say of figures what they are made of, where the key alone does not say it."""
    told: dict[str, str] = {}
    main = whole.main
    if isinstance(main.shop, Evaluation):
        told["grocery"] = (
            f"{main.shop.photos} test photos against {main.shop.references} references of "
            f"{main.shop.products} products; {main.shop.left_out} left out as copies"
        )
    if isinstance(main.drift, Drift) and main.drift.recorded:
        told["grocery.int8_minus_float"] = "recorded in model.json when the model was made"
    if isinstance(whole.newcomers, Newcomers):
        some = whole.newcomers
        told["unseen"] = (
            f"{len(some.left_out)} products that {whole.twin} was not trained on, {some.photos} test photos, "
            f"among {some.products} products; mean of {len(some.shots[0].draws)} draws"
        )
        told["unknown"] = (
            "the same products absent from the references, by what the device goes by; it answers "
            f"{some.told_unknown:.1%} of their photos unknown, and {some.known_lost:.1%} of the others'"
        )
    if isinstance(main.robust, Robustness):
        told["robust"] = f"{main.robust.photos} of {main.robust.of} test photos, spoiled 24 times each"
    if isinstance(main.reliability, Reliability):
        told["decision.ece"] = (
            f"{BINS} bins of equal width; by bins of equal count {main.reliability.ece_equal_count:.4f}"
        )
    return told


def _figure(key: str, value: float | Missing, model: str | None, target: Target | None = None) -> Figure:
    if isinstance(value, Missing):
        return Figure(key, None, model, target, value.reason)
    return Figure(key, value, model, target)


def _nested(listed: Iterable[Figure]) -> dict[str, object]:
    """Put values where the dots of their keys say: `unseen.shots.1` → {"unseen": {"shots": {"1": …}}}."""
    record: dict[str, object] = {}
    for figure in listed:
        *above, last = figure.key.split(".")
        place = record
        for name in above:
            inner = place.setdefault(name, {})
            assert isinstance(inner, dict)  # no key is the beginning of another one
            place = inner
        place[last] = None if figure.value is None else _plain(figure.value)
    return record


def _plain(value: float) -> float:
    return int(value) if value == int(value) and abs(value) > 1 else round(value, _DIGITS)


def _value(part: _Part | Missing, get: Callable[[_Part], float | None]) -> float | Missing:
    if isinstance(part, Missing):
        return part
    value = get(part)
    return Missing("there is nothing here to measure it with") if value is None else value


def _shop(get: Callable[[Evaluation], float | None]) -> Callable[[ModelScores], float | Missing]:
    return lambda scores: _value(scores.shop, get)


def _scores(get: Callable[[Scores], float]) -> Callable[[ModelScores], float | Missing]:
    return _shop(lambda shop: get(shop.scores) if shop.scores else None)


def _drift(get: Callable[[Drift], float | Missing]) -> Callable[[ModelScores], float | Missing]:
    return lambda scores: scores.drift if isinstance(scores.drift, Missing) else get(scores.drift)


def _agreement(drift: Drift) -> float | Missing:
    if drift.int8_agreement is None:
        return Missing("model.json does not record it: name the float file (--float, or [float] of a suite)")
    return drift.int8_agreement


def _setting(get: Callable[[AtSetting], float | None]) -> Callable[[ModelScores], float | Missing]:
    return lambda scores: _value(scores.setting, get)


def _robust(get: Callable[[Robustness], float | None]) -> Callable[[ModelScores], float | Missing]:
    return lambda scores: _value(scores.robust, get)


def _spoiled(name: str, strength: int) -> Callable[[ModelScores], float | Missing]:
    return _robust(lambda robust: robust.spoiled[name][strength])


def _enrolled(place: int) -> Callable[[Newcomers], float]:
    return lambda newcomers: newcomers.shots[place].top1


_SPOILINGS: Final = tuple(product(CORRUPTIONS, STRENGTHS))
_OF_MODEL: Final[Mapping[str, Callable[[ModelScores], float | Missing]]] = {
    "grocery.fine_top1": _scores(lambda scores: scores.fine_top1),
    "grocery.coarse_top1": _scores(lambda scores: scores.coarse_top1),
    "grocery.fine_top5": _scores(lambda scores: scores.fine_top5),
    "grocery.packshot_fine_top1": _shop(lambda shop: shop.packshot_fine_top1),
    "grocery.int8_minus_float": _drift(lambda drift: round(100 * drift.int8_minus_float, 2)),
    "grocery.int8_agreement": _drift(_agreement),
    "grocery.mean_cosine": _drift(lambda drift: drift.mean_cosine),
    "second_domain.top1": lambda scores: _value(scores.second_domain, lambda domain: domain.top1),
    "robust.ratio": _robust(lambda robust: robust.ratio),
    "robust.clean": _robust(lambda robust: robust.clean),
    "robust.corrupted": _robust(lambda robust: robust.corrupted),
    **{
        f"robust.{name}.{strength}": _spoiled(name, strength)
        for name in CORRUPTIONS
        for strength in STRENGTHS
    },
    "decision.wrong_at_setting": _setting(lambda setting: setting.wrong),
    "decision.setting": _setting(lambda setting: setting.match_confidence),
    "decision.answered": _setting(lambda setting: setting.answered),
    "decision.ece": lambda scores: _value(scores.reliability, lambda found: found.ece),
    "cost.bytes": lambda scores: scores.variant.size,
    "cost.invoke_ratio": lambda scores: _value(scores.invoke, lambda times: times.ratio),
}

_OF_TWIN: Final[Mapping[str, Callable[[Newcomers], float]]] = {
    **{f"unseen.shots.{count}": _enrolled(place) for place, count in enumerate(SHOTS)},
    "unknown.auroc": lambda newcomers: newcomers.unknown.auroc,
    "unknown.ccr_at_5fpr": lambda newcomers: newcomers.unknown.ccr_at_5fpr,
    "unknown.far_at_95tar": lambda newcomers: newcomers.unknown.far_at_95tar,
}
