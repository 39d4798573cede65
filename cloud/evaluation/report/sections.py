"""What the sections of the report show, made from what was measured; None where there is nothing to show."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from cloud.evaluation.corruptions import CORRUPTIONS, STRENGTHS
from cloud.evaluation.cost import InvokeTimes
from cloud.evaluation.domain import SecondDomain
from cloud.evaluation.exact import Drift
from cloud.evaluation.measure import Evaluation
from cloud.evaluation.newcomers import Newcomers
from cloud.evaluation.reliability import AtSetting, Reliability
from cloud.evaluation.report import charts
from cloud.evaluation.report.thumbs import Thumbs, thumbnail
from cloud.evaluation.robust import Robustness
from cloud.evaluation.scores import Answered
from cloud.evaluation.whole import ModelScores, WholeEvaluation
from cloud.photos import PhotoStorage
from edge.errors import SkipPhoto
from edge.image import Picture, decode_to_fit

_WORST: Final = 18
_SPOILED_SIZE: Final = 132

Titles = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WorstProduct:
    """A product that is told right least often: counts, and its picture."""

    title: str
    right: int
    photos: int
    picture: str | None


@dataclass(frozen=True, slots=True)
class ConfusionRow:
    """What was taken for what: titles, counts, and pictures of the product, some photos, and the answer."""

    title: str
    answered: str
    count: int
    photos: int
    picture: str | None
    examples: tuple[str | None, ...]
    answered_picture: str | None


@dataclass(frozen=True, slots=True)
class Spoiled:
    """One corruption: its chart, and a photo as it is and at each strength."""

    name: str
    like: str
    chart: Markup
    pictures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Knowing:
    """Whether a confidence is a probability, and what is answered at the setting."""

    ece: float
    ece_equal_count: float
    reliability: Markup
    trade_off: Markup
    setting: AtSetting | None


@dataclass(frozen=True, slots=True)
class Training:
    """What a training logged."""

    model: str
    epochs: int
    right: Markup
    loss: Markup


def confusion_rows(shop: Evaluation, titles: Titles, thumbs: Thumbs) -> list[ConfusionRow]:
    """Show the worst confusions with their photos."""
    return [
        ConfusionRow(
            title=titles.get(each.sku, each.sku),
            answered=titles.get(each.answered, each.answered),
            count=each.count,
            photos=each.photos,
            picture=thumbs.cover(each.sku),
            examples=tuple(thumbs.photo(photo.sha256) for photo in each.examples),
            answered_picture=thumbs.cover(each.answered),
        )
        for each in shop.confusions
    ]


def worst_products(shop: Evaluation, titles: Titles, thumbs: Thumbs) -> list[WorstProduct]:
    """Name the products that are told right least often, those told right always left out."""
    photos = Counter(answer.photo.sku for answer in shop.answers)
    right = Counter(answer.photo.sku for answer in shop.answers if answer.is_right)
    wrong = sorted(
        (sku for sku in photos if right[sku] < photos[sku]), key=lambda sku: right[sku] / photos[sku]
    )
    return [
        WorstProduct(titles.get(sku, sku), right[sku], photos[sku], thumbs.cover(sku, 48))
        for sku in wrong[:_WORST]
    ]


def knowing(whole: WholeEvaluation, shop: Evaluation) -> Knowing | None:
    """Show the calibration of the main model."""
    main, targets = whole.main, whole.suite.targets
    if not isinstance(main.reliability, Reliability):
        return None
    setting = main.setting if isinstance(main.setting, AtSetting) else None
    wrong, answered = targets.get("decision.wrong_at_setting"), targets.get("decision.answered")
    return Knowing(
        ece=main.reliability.ece,
        ece_equal_count=main.reliability.ece_equal_count,
        reliability=charts.reliability_chart(main.reliability),
        trade_off=charts.trade_off_chart(shop.answers, setting, wrong, answered),
        setting=setting,
    )


def newcomer_charts(whole: WholeEvaluation) -> list[tuple[str, Markup]]:
    """Show new products, enrolled and absent: captions and charts."""
    found = whole.newcomers
    if not isinstance(found, Newcomers):
        return []
    return [
        ("Enrolled by a few photos, the network untouched", charts.shots_chart(found, whole.suite.targets)),
        ("Absent from the references: who is accepted", charts.open_set_chart(found)),
        ("What the device goes by", charts.knownness_chart(found)),
    ]


def spoiled_rows(whole: WholeEvaluation, photos: PhotoStorage) -> list[Spoiled]:
    """Show each corruption: right answers by strength for each model, and what it does to a photo."""
    measured = [
        (each.model.name, each.robust) for each in whole.models if isinstance(each.robust, Robustness)
    ]
    main = whole.main
    if not measured or not isinstance(main.shop, Evaluation):
        return []
    example = _example(main.shop.answers, photos, main.model.input_size)
    return [
        Spoiled(
            name=name.replace("_", " "),
            like=corruption.like,
            chart=charts.spoiled_chart(name, measured),
            pictures=()
            if example is None
            else (
                thumbnail(example, _SPOILED_SIZE),
                *(thumbnail(corruption(example, strength, 7), _SPOILED_SIZE) for strength in STRENGTHS),
            ),
        )
        for name, corruption in CORRUPTIONS.items()
    ]


def domain_charts(whole: WholeEvaluation) -> list[tuple[ModelScores, Markup]]:
    """Show the second domain, the model that answers for it first."""
    ordered = sorted(whole.models, key=lambda each: each.model.name != whole.second_domain_model)
    return [
        (each, charts.domain_chart(each.second_domain, each.model.name))
        for each in ordered
        if isinstance(each.second_domain, SecondDomain)
    ]


def drift_chart(whole: WholeEvaluation) -> Markup | None:
    """Show how far int8 strays from float, where it was measured here."""
    drift = whole.main.drift
    return charts.drift_chart(drift) if isinstance(drift, Drift) and len(drift.cosines) else None


def invoke_times(whole: WholeEvaluation) -> list[tuple[str, InvokeTimes]]:
    """Show how long a run of each model takes."""
    return [(each.model.name, each.invoke) for each in whole.models if isinstance(each.invoke, InvokeTimes)]


def trainings(whole: WholeEvaluation, runs: Path) -> list[Training]:
    """Show how models and twin were trained, where the logs lie in the suite's `results` or in `runs`."""
    names = [each.model.name for each in whole.models] + ([whole.twin] if whole.twin else [])
    results = [whole.suite.folder / "results"] if whole.suite.folder is not None else []
    found = []
    for name in dict.fromkeys(names):
        logs = (folder / name / "metrics.jsonl" for folder in (*results, runs))
        metrics = next((lines for lines in map(_read_metrics, logs) if lines), None)
        if metrics:
            found.append(
                Training(
                    name, len(metrics), charts.training_chart(metrics, name), charts.loss_chart(metrics, name)
                )
            )
    return found


def _read_metrics(path: Path) -> Sequence[Mapping[str, Any]]:
    """Read the whole lines of a log that may still be written; a missing or spoiled log has none."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError):
        return []
    return [line for line in lines if isinstance(line, dict) and isinstance(line.get("epoch"), int)]


def _example(answers: Sequence[Answered], photos: PhotoStorage, size: int) -> Picture | None:
    """Choose a photo to spoil: one in the middle of those that were answered right."""
    right = [answer for answer in answers if answer.is_right] or list(answers)
    for answer in right[len(right) // 2 :]:
        try:
            return decode_to_fit(photos.read(answer.photo.sha256), size)
        except SkipPhoto:
            continue
    return None
