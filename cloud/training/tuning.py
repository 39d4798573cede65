"""Searches for a better recipe: an Optuna study whose trials are trainings by the very loop.

The folder of a study:

    study.db       the trials so far (Optuna, SQLite)
    trials/NNNN/   the run folder of each trial; a stopped one is removed, a finished one loses its weights
    pictures/      decoded photos, shared by the trials until the study is done
    best.toml      the best recipe so far
    history.png    the way there

A study that was killed goes on, in the middle of the trial that it was killed in; and because a trial is
drawn from the seed, its number and the results so far alone, it goes on as if it had not been. A trial whose
validation is worse than the median of the earlier ones after the same epoch is stopped (median stopping rule,
D. Golovin et al. 2017); values are drawn by a tree-structured Parzen estimator (J. Bergstra et al. 2011).
"""

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud.training.data import LabeledPhoto, Progress
from cloud.training.loop import train_network
from cloud.training.recipe import Recipe
from cloud.training.run import RunFolder
from cloud.training.runtime import Machine
from cloud.training.search_space import Range, SearchSpace, default_space
from cloud.training.study_plot import draw_history
from cloud.training.study_result import StudyResult, TrialResult
from cloud.training.study_score import StudyPhotos, StudyScore, StudyScorer, choose_study_photos
from edge.disk import only_one, storage_error, write_atomically
from edge.errors import BadSetting, StorageUnusable

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, TrialState

_RANDOM_TRIALS = 8  # before values are drawn by what was learned
_UNSTOPPED_TRIALS = 4  # that come to their end before one may be stopped
_HEAVY = ("checkpoint.npz", "begun.npz", "pictures")  # what a finished trial has no more use for


def tune(
    photos: Sequence[LabeledPhoto],
    recipe: Recipe,
    space: SearchSpace | None,
    *,
    trials: int,
    folder: Path,
    machine: Machine,
    progress: Progress,
) -> StudyResult:
    """Run, or go on with, a study until it has so many trials; return what it found.

    Args:
        photos: the catalog's photos; those of split `test` and those that the recipe leaves out are not used.
        recipe: what to begin from; it is the first trial, as far as the space holds it.
        space: what to change; None is `default_space`.
        trials: how many, those of an earlier call counted.
        folder: where the study is kept.
        machine: what to train on.
        progress: told of each step.

    Raises:
        BadSetting: Optuna is not installed, no trial is asked for, the study was begun with another recipe,
            space or catalog, or the first trial cannot be trained.
        SkipPhoto: a photo of the catalog that cannot be decoded.
        StorageUnusable, NoSpace: the folder cannot be used, or another process is at work in it.
    """
    if trials < 1:
        raise BadSetting(f"--tune {trials} asks for no trial: ask for at least 1")
    chosen = space or default_space(recipe, {photo.category for photo in photos})
    chosen_photos = choose_study_photos(photos, recipe, chosen.unseen_share)
    with _opened(folder, recipe) as study:
        work = _Study(study, recipe, chosen, chosen_photos, folder, machine, progress)
        work.begin()
        while work.count() < trials:
            work.run_trial()
            work.write()
        work.write()  # a kill may have come between the last trial and its writing
        shutil.rmtree(folder / "pictures", ignore_errors=True)
        return work.result()


@dataclass(frozen=True, slots=True)
class _Study:
    """A study at work."""

    study: "optuna.Study"
    base: Recipe
    space: SearchSpace
    photos: StudyPhotos
    folder: Path
    machine: Machine
    progress: Progress

    def begin(self) -> None:
        """Check that the study is the one that was begun, and take up what a kill left.

        Raises:
            BadSetting: it was begun with another recipe, space or catalog.
        """
        from optuna.trial import TrialState

        identity = {
            "recipe": self.base.to_record(),
            "space": json.loads(json.dumps(self.space.to_record())),
            "catalog": self.photos.examples.digest(),
        }
        # A study whose first trial could not be trained has not begun.
        empty = not self._in(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        begun = {} if empty else self.study.user_attrs.get("identity", {})
        for name, value in identity.items():
            if begun.get(name, value) != value:
                raise BadSetting(
                    f"the study in {self.folder} was begun with another {name}: go on with that, "
                    "or begin one of another --name"
                )
        self.study.set_user_attr("identity", identity)
        for trial in self._in(TrialState.RUNNING):  # killed; it is drawn again, and goes on in its folder
            self.study.tell(trial.number, state=TrialState.FAIL)
        for trial in self._ended():
            self._tidy(trial)
        if not self.count() and not self._in(TrialState.WAITING):
            self.study.enqueue_trial(self.space.drawn_of(self.base))

    def count(self) -> int:
        """Count the trials that have ended."""
        return len(self._ended())

    def run_trial(self) -> None:
        """Draw a trial, train and measure it, and keep how it ended."""
        import optuna

        number = self.count()
        # Anew for each trial: so the draws do not depend on how often the study was killed.
        self.study.sampler = optuna.samplers.TPESampler(
            seed=(self.base.seed * 100_003 + number) % 2**32, n_startup_trials=_RANDOM_TRIALS
        )
        trial = self.study.ask({name: _distribution(each) for name, each in self.space.searched.items()})
        trial.set_user_attr("run", f"{number:04}")
        try:
            score = self._train(trial, f"{number:04}")
        except BadSetting as error:
            if number == 0:  # what the study begins from: nothing else would train either
                self._tidy(self.study.tell(trial, state=optuna.trial.TrialState.FAIL))
                raise
            trial.set_user_attr("reason", str(error))
            score = None
        if score is None:
            ended = self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            trial.set_user_attr("score", {"keep": score.keep, "seen": score.seen, "unseen": score.unseen})
            ended = self.study.tell(trial, score.value)
        self._tidy(ended)

    def write(self) -> None:
        """Write the best recipe and the history so far."""
        trials = self._results()
        draw_history(trials, self.folder / "history.png")
        if any(trial.score for trial in trials):
            result = self.result()
            told = f"# value {result.score.value:.4f}, the best of {len(trials)} trials\n"
            write_atomically(result.recipe_file, (told + result.best.to_toml()).encode())

    def result(self) -> StudyResult:
        """Return what was found so far; the first trial has a score, for without one it ends the study."""
        trials = self._results()
        best = max((trial for trial in trials if trial.score), key=lambda trial: trial.value)
        assert best.score is not None
        found = Recipe.from_record({**self.base.to_record(), **best.values, "keep": best.score.keep})
        return StudyResult(
            found, best.score, tuple(trials), self.folder / "best.toml", self.folder / "history.png"
        )

    def _train(self, trial: "optuna.Trial", name: str) -> StudyScore | None:
        """Train and measure a trial; None if it was stopped."""
        drawn = Recipe.from_record({**self.base.to_record(), **self.space.plain(trial.params)})
        recipe = replace(drawn, leave_out=(*drawn.leave_out, *self.photos.unseen_skus))
        run = RunFolder(self.folder / "trials" / name)
        self._share_pictures(run)
        _begin_anew(recipe.seed)
        told: set[int] = set()

        def goes_on(epoch: int, validation: float) -> bool:
            if epoch not in told and not math.isnan(validation):
                told.add(epoch)
                trial.report(validation, epoch - 1)
            return epoch == recipe.epochs or not trial.should_prune()

        def progress(what: str, done: int, total: int, remark: str) -> None:
            self.progress(f"trial {int(name)}: {what}", done, total, remark)

        for line in run.metrics(recipe.epochs):  # of a process that was killed
            top1 = line["validation_top1"]
            if not goes_on(line["epoch"], math.nan if top1 is None else top1):
                return None
        trained = train_network(self.photos.examples, recipe, run, self.machine, progress, on_epoch=goes_on)
        if len(trained.metrics) < recipe.epochs:
            return None
        scorer = StudyScorer(self.photos, recipe, run.pictures, progress)
        # Nothing is kept of random weights, whatever the space says.
        searched = self.space.keep if recipe.weights != "none" else ()
        scores = scorer.scores(trained, searched or (recipe.kept,))
        return max(scores, key=lambda score: score.value)

    def _ended(self) -> "list[FrozenTrial]":
        from optuna.trial import TrialState

        return self._in(TrialState.COMPLETE, TrialState.PRUNED)

    def _in(self, *states: "TrialState") -> "list[FrozenTrial]":
        return self.study.get_trials(deepcopy=False, states=states)

    def _results(self) -> list[TrialResult]:
        return [
            TrialResult(
                number=number,
                values=self.space.plain(trial.params),
                epochs=tuple(value for _, value in sorted(trial.intermediate_values.items())),
                score=StudyScore(**trial.user_attrs["score"]) if "score" in trial.user_attrs else None,
                reason=trial.user_attrs.get("reason", ""),
            )
            for number, trial in enumerate(self._ended())
        ]

    def _share_pictures(self, run: RunFolder) -> None:
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "pictures").mkdir(exist_ok=True)
            if not run.pictures.is_symlink():
                run.pictures.symlink_to(Path("..", "..", "pictures"))
        except OSError as error:
            raise storage_error(error, run.folder) from error

    def _tidy(self, trial: "FrozenTrial") -> None:
        """Remove the folder of a trial that was stopped, and the weights of one that was measured."""
        run = self.folder / "trials" / trial.user_attrs["run"]
        try:
            if "score" not in trial.user_attrs:
                shutil.rmtree(run, ignore_errors=True)
            for name in _HEAVY:
                (run / name).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, run) from error


def _begin_anew(seed: int) -> None:
    """Forget the networks of the trial before, and seed Keras: a trial does not depend on those before."""
    import keras

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)


def _distribution(allowed: Any) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(allowed, Range):
        return CategoricalDistribution(allowed.values)
    if allowed.whole:
        return IntDistribution(int(allowed.low), int(allowed.high), log=allowed.log)
    return FloatDistribution(allowed.low, allowed.high, log=allowed.log)


@contextmanager
def _opened(folder: Path, recipe: Recipe) -> "Iterator[optuna.Study]":
    """Open the study in a folder, for this process alone."""
    try:
        import optuna
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise BadSetting(f"tuning needs Optuna ({error}): pip install 'shelfsight[train]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder / "study.db"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error
    with only_one(folder / ".lock", f"another process is at work in {folder}"):
        try:
            storage = optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}")
            try:
                # Its first epochs say little of where a training will end.
                unstopped = max(1, recipe.epochs // 4)
                pruner = optuna.pruners.MedianPruner(_UNSTOPPED_TRIALS, n_warmup_steps=unstopped)
                yield optuna.create_study(
                    storage=storage,
                    pruner=pruner,
                    study_name="recipe",
                    direction="maximize",
                    load_if_exists=True,
                )
            finally:
                storage.remove_session()
                storage.engine.dispose()
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            reason = str(error).partition("\n")[0]
            raise StorageUnusable(
                f"the study {path} cannot be used ({reason}): free the disk, or delete it and begin anew"
            ) from error
