"""Everything that can be measured here, of every model that is named: the work behind `evaluate --all`.

What cannot be measured says why, and the rest goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from cloud.bundled import find_model
from cloud.catalog import Catalog
from cloud.embeddings import EmbeddingCache
from cloud.evaluation.bench import Progress, installed
from cloud.evaluation.cost import InvokeTimes, measure_invoke
from cloud.evaluation.domain import SecondDomain, measure_second_domain
from cloud.evaluation.exact import Drift
from cloud.evaluation.measure import ChosenPhotos, Evaluation, Round, choose_photos, evaluate
from cloud.evaluation.newcomers import Newcomers, left_out_of, measure_newcomers, unseen_by
from cloud.evaluation.reliability import (
    SETTING,
    AtSetting,
    Reliability,
    measure_reliability,
    measure_setting,
)
from cloud.evaluation.robust import Robustness, measure_robustness
from cloud.evaluation.suite import GROCERY, SECOND_DOMAIN, Suite
from cloud.workspace import Workspace
from edge.errors import BadModel, BadSetting, KeepRelease, NoRelease, StepBack
from edge.model import Model, Variant, open_model

Measured = TypeVar("Measured")

# What a part may fail at without taking the others with it: all of it lies in what was named.
_PART_FAILS: Final = (BadSetting, BadModel, NoRelease, StepBack, KeepRelease)


@dataclass(frozen=True, slots=True)
class Missing:
    """Stands where nothing could be measured, and says why in a sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class ModelScores:
    """What was measured with one model file, as a device runs it."""

    model: Model
    variant: Variant
    shop: Evaluation | Missing
    drift: Drift | Missing
    reliability: Reliability | Missing
    setting: AtSetting | Missing
    robust: Robustness | Missing
    second_domain: SecondDomain | Missing
    invoke: InvokeTimes | Missing


@dataclass(frozen=True, slots=True)
class WholeEvaluation:
    """What was measured, and by which model each figure is.

    Attributes:
        made: When, ISO 8601 in UTC.
        models: Each model once, that of the catalog's own rows first.
        second_domain_model: Name of the model that the second domain's figure is by.
        twin: Name of the model that never saw the newcomers, if there is one.
        newcomers: What was measured with it.
        suite: What was asked for.
    """

    made: str
    models: tuple[ModelScores, ...]
    second_domain_model: str
    twin: str | None
    newcomers: Newcomers | Missing
    suite: Suite

    @property
    def main(self) -> ModelScores:
        """The model that the catalog's own figures are by."""
        return self.models[0]

    @property
    def general(self) -> ModelScores:
        """The model that the second domain's figure is by."""
        return next(each for each in self.models if each.model.name == self.second_domain_model)


def evaluate_all(
    workspace: Workspace,
    suite: Suite,
    *,
    cache: EmbeddingCache,
    variant: str | None = None,
    progress: Progress | None = None,
) -> WholeEvaluation:
    """Measure all that the suite names on the workspace's test photos.

    Args:
        workspace: the catalog, and the default model where the suite names none.
        suite: models, twin and the other things to measure with.
        cache: embeddings from earlier runs.
        variant: the file to measure of every model; without it the first for the CPU.
        progress: told of each step.

    Raises:
        BadModel: a model of the suite is not there, or none is named and there is no default.
        RuntimeMissing: no TFLite runtime runs here.
        StorageUnusable: the cache, the catalog or the temporary folder cannot be used.
        NoSpace: the disk is full.
    """
    tell = progress or (lambda task, done, total: None)
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    work = _Work(workspace, catalog, suite, cache, variant, tell, _try(lambda: choose_photos(catalog, tell)))
    measured: dict[Path, ModelScores] = {}
    for role in (GROCERY, SECOND_DOMAIN):
        folder = find_model(suite.models.get(role), workspace)
        if folder not in measured:
            model = open_model(folder)
            if any(model.name == each.model.name for each in measured.values()):
                model = replace(model, name=f"{model.name} ({role})")
            measured[folder] = work.measure(model, suite.floats.get(role))
    models = tuple(measured.values())
    twin = _try(lambda: work.twin(models[0].model))
    return WholeEvaluation(
        made=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        models=models,
        second_domain_model=measured[folder].model.name,
        twin=None if isinstance(twin, Missing) else twin[0].name,
        newcomers=twin if isinstance(twin, Missing) else _try(lambda: work.newcomers(*twin)),
        suite=suite,
    )


@dataclass(frozen=True, slots=True)
class _Work:
    """What all parts of the work share."""

    workspace: Workspace
    catalog: Catalog
    suite: Suite
    cache: EmbeddingCache
    variant: str | None
    progress: Progress
    photos: ChosenPhotos | Missing

    def measure(self, model: Model, exact: Path | None) -> ModelScores:
        """Measure one model by all that needs no other one."""
        variant = model.variant(self.variant)
        shop = _try(lambda: self.shop(model, exact))
        answered = shop if isinstance(shop, Evaluation) and shop.answers else None
        nobody = shop if isinstance(shop, Missing) else Missing("no test photo was answered")
        if answered is None:
            drift: Drift | Missing = nobody
            reliability: Reliability | Missing = nobody
            setting: AtSetting | Missing = nobody
            robust: Robustness | Missing = nobody
        else:
            drift = answered.drift or Missing(_no_float(model, exact))
            reliability = measure_reliability(answered.answers) or nobody
            setting = measure_setting(answered.answers, variant.decision) or Missing(
                f"the decision of {model.name} offers no rate of {SETTING:.1%} wrong matches: "
                "train or convert it again"
            )
            robust = _try(lambda: self.robust(model, variant, answered))
        return ModelScores(
            model=model,
            variant=variant,
            shop=shop,
            drift=drift,
            reliability=reliability,
            setting=setting,
            robust=robust,
            second_domain=_try(lambda: self.second_domain(model, variant)),
            invoke=_try(lambda: self.invoke(model, variant)),
        )

    def shop(self, model: Model, exact: Path | None) -> Evaluation:
        """Ask the model about the catalog's test photos."""
        there = exact if exact is not None and exact.is_file() else None
        return evaluate(
            self.catalog,
            model,
            cache=self.cache,
            variant=self.variant,
            exact=there,
            chosen=self.chosen(),
            progress=self.progress,
        )

    def robust(self, model: Model, variant: Variant, shop: Evaluation) -> Robustness:
        """Ask it about spoiled ones, in the same release."""
        products = self.catalog.products()
        round_of = Round(model, variant, products, self.catalog, self.cache, self.progress)
        content = round_of.embed(self.chosen().references, [])
        with installed(model, variant, content) as matcher:
            found = measure_robustness(
                matcher,
                model,
                variant,
                shop.answers,
                photos=self.catalog.photos,
                cache=self.cache,
                progress=self.progress,
                count=self.suite.robust_photos,
            )
        if found is None:
            raise BadSetting("no test photo could be spoiled: import some again")
        return found

    def second_domain(self, model: Model, variant: Variant) -> SecondDomain:
        """Ask it about other things."""
        folder = _named(self.suite.second_domain, "no folder of other things is named (--second-domain)")
        if not folder.is_dir():
            raise BadSetting(f"{folder} is not there: name a folder with train/KIND/ and test/KIND/")
        return measure_second_domain(model, variant, folder, cache=self.cache, progress=self.progress)

    def invoke(self, model: Model, variant: Variant) -> InvokeTimes:
        """Time it."""
        baseline = _named(self.suite.baseline, "no network to compare with is named ([cost] of a suite)")
        if not baseline.is_file():
            raise BadSetting(f"{baseline} is not there: name a network to compare with ([cost] of a suite)")
        return measure_invoke(model, variant, baseline, self.progress)

    def twin(self, main: Model) -> tuple[Model, tuple[str, ...]]:
        """Open the model that never saw some products, and name these; the main model may be one itself."""
        if self.suite.twin is None:
            new = unseen_by(main, (product.sku for product in self.catalog.products()))
            if not new:
                raise BadSetting(
                    f"no twin is named ([twin] of a suite), and {main.name} knows of no product here that it "
                    "was not trained on: train a twin with --leave-out"
                )
            return main, new
        twin = open_model(find_model(self.suite.twin, self.workspace))
        left_out = self.suite.leave_out or left_out_of(twin)
        if not left_out:
            raise BadSetting(
                f"{twin.name} does not say which products it never saw: train it with --leave-out, "
                "or name them ([twin] leave_out of a suite)"
            )
        return twin, left_out

    def newcomers(self, twin: Model, left_out: tuple[str, ...]) -> Newcomers:
        """Ask the twin about products that it never saw."""
        chosen = self.chosen()
        return measure_newcomers(
            self.catalog,
            twin,
            left_out,
            chosen.queries,
            chosen.references,
            cache=self.cache,
            progress=self.progress,
        )

    def chosen(self) -> ChosenPhotos:
        """Return the catalog's photos, or say why there are none."""
        if isinstance(self.photos, Missing):
            raise BadSetting(self.photos.reason)
        return self.photos


def _try(measure: Callable[[], Measured]) -> Measured | Missing:
    try:
        return measure()
    except _PART_FAILS as error:
        return Missing(str(error))


def _named(path: Path | None, otherwise: str) -> Path:
    if path is None:
        raise BadSetting(otherwise)
    return path


def _no_float(model: Model, exact: Path | None) -> str:
    if exact is not None:
        return f"{exact} is not there: name the float file of {model.name}"
    return f"there is no float file of {model.name} to compare with (--float, or [float] of a suite)"
