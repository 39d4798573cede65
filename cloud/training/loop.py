"""Trains a network on examples, epoch by epoch, so that a killed run goes on as if it had not been."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.training.averaging import assign_values, read_values, with_averages
from cloud.training.batches import BatchMaker, FittedPhotos, Prefetched
from cloud.training.contact_sheet import write_contact_sheet
from cloud.training.curves import draw_curves
from cloud.training.data import Examples, Progress, load_pictures
from cloud.training.distillation import Lessons, Memory, directions_of, load_teacher
from cloud.training.heads import begin_head
from cloud.training.neighbors import embed
from cloud.training.network import Network, build_network, pooled
from cloud.training.objective import Objective, Products, category_numbers, compile_objective
from cloud.training.recipe import Recipe
from cloud.training.run import Beginning, Checkpoint, RunFolder, Weights
from cloud.training.runtime import Machine
from cloud.training.validation import Validation
from edge.errors import BadSetting

# Told of an epoch's number, from 1, and of its validation_top1 (nan without one): whether to go on.
OnEpoch = Callable[[int, float], bool]


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network in float32, the weights that it began with, and the metrics of its epochs."""

    network: Network
    begun: Weights
    metrics: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Course:
    """What stays the same through all epochs of a training."""

    examples: Examples
    recipe: Recipe
    run: RunFolder
    machine: Machine
    progress: Progress
    begun: Beginning
    photos: FittedPhotos

    @property
    def products(self) -> Products:
        return Products(self.begun.means, category_numbers(self.examples.categories()))

    def batches(self, size: int, channels: int) -> BatchMaker:
        return BatchMaker(self.photos, self.recipe, size, channels, self.machine.replicas)


def train_network(
    examples: Examples,
    recipe: Recipe,
    run: RunFolder,
    machine: Machine,
    progress: Progress,
    *,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Train, or go on with, the run in that folder until its last epoch.

    Args:
        examples: the photos to fit and to validate.
        recipe: how.
        run: where; what it has already is not done again.
        machine: what on.
        progress: told of each step.
        on_epoch: told of each epoch that is done here, once it is kept; False ends the training there.

    Raises:
        BadSetting: the run was begun with another recipe or catalog, the weights or a teacher cannot be had,
            or the loss is not a number.
        SkipPhoto: a photo of the catalog that cannot be decoded.
        StorageUnusable, NoSpace: the folder cannot be written, or a file in it is damaged.
    """
    run.begin(recipe, _config(examples, machine))
    begun = run.begun() or _begin(examples, recipe, run, progress)
    checkpoint = run.checkpoint()
    if checkpoint is None or checkpoint.epoch < recipe.epochs:
        photos = _fitted(examples, recipe, run, progress)
        course = _Course(examples, recipe, run, machine, progress, begun, photos)
        checkpoint = _epochs(course, checkpoint, on_epoch or (lambda *_: True))
    network = build_network(recipe, weights="none")
    network.embedder.set_weights(checkpoint.network)
    return Trained(network, begun.network, run.metrics(checkpoint.epoch))


def _begin(examples: Examples, recipe: Recipe, run: RunFolder, progress: Progress) -> Beginning:
    """Build the network that the training begins with, its head fitted to the features of the photos."""
    network = build_network(recipe)
    pictures = load_pictures(examples.fit, recipe.input_size, run.pictures, progress)
    features = embed(
        pooled(network), pictures, lambda done: progress("beginning features", done, len(pictures), "")
    )
    means = begin_head(network, features, examples.labels(examples.fit))
    begun = Beginning(network.embedder.get_weights(), means)
    run.save_begun(begun)
    return begun


def _fitted(examples: Examples, recipe: Recipe, run: RunFolder, progress: Progress) -> FittedPhotos:
    labels = examples.labels(examples.fit)
    return FittedPhotos(
        pictures=load_pictures(examples.fit, recipe.picture_size, run.pictures, progress),
        labels=labels,
        categories=category_numbers(examples.categories())[labels],
        is_packshot=np.array([photo.kind == "packshot" for photo in examples.fit]),
    )


def _epochs(course: _Course, done: Checkpoint | None, on_epoch: OnEpoch) -> Checkpoint:
    """Run the epochs that are left; return the state after the last of them."""
    recipe, run = course.recipe, course.run
    metrics = run.metrics(done.epoch if done else 0)
    if done is None:
        write_contact_sheet(
            course.photos.pictures, course.photos.is_packshot, recipe, run.folder / "views.png"
        )
    validate = Validation(course.examples, recipe, run, course.progress)
    stage: _Stage | None = None
    for epoch in range(done.epoch if done else 0, recipe.epochs):
        if stage is None or stage.size != recipe.size_at(epoch):
            stage = _Stage(course, recipe.size_at(epoch), done)
        began = time.monotonic()
        tell = _Teller(course.progress, f"epoch {epoch + 1} of {recipe.epochs}", stage.steps)
        prototypes = done.prototypes if done else course.begun.means
        line: dict[str, Any] = {"epoch": epoch + 1, **stage.run_epoch(epoch, prototypes, tell)}
        network = stage.averaged()
        line["validation_top1"], found = validate(network)
        line["seconds"] = round(time.monotonic() - began, 2)
        metrics.append(line)
        run.save_metrics(metrics)
        draw_curves(metrics, run.folder / "curves.png")
        # The checkpoint, written last, alone makes the epoch count.
        done = Checkpoint(epoch + 1, network, *stage.state(), prototypes if found is None else found)
        run.save_checkpoint(done)
        tell.of_epoch(line)
        top1 = line["validation_top1"]
        if not on_epoch(epoch + 1, math.nan if top1 is None else top1):
            break
    assert done is not None  # a recipe has at least one epoch
    return done


class _Stage:
    """A training at one size of the pictures; its state moves on from one size to the next."""

    def __init__(self, course: _Course, size: int, done: Checkpoint | None) -> None:
        recipe, machine = course.recipe, course.machine
        self.size = size
        self._machine = machine
        with machine.scope():
            self._network = build_network(recipe, size=size, weights="none", policy=machine.policy)
            self._network.embedder.set_weights(course.begun.network)
            self._batches = course.batches(size, self._network.channels)
            shape = self._batches.shape()
            self.steps, self._count = shape.steps, shape.batch
            self._objective = Objective(
                self._network,
                course.products,
                recipe,
                count=shape.batch // machine.replicas,
                size=size,
                lessons=_lessons(course),
                memory=_memory(course, size),
                replicas=machine.replicas,
            )
            compile_objective(self._objective, recipe, self.steps, policy=machine.policy, jit=machine.jit)
            if done is not None:
                assign_values(self._objective.learned, done.learned)
                assign_values(self._objective.optimizer.variables, done.optimizer)

    def run_epoch(
        self, epoch: int, prototypes: NDArray[np.float32], tell: "_Teller"
    ) -> dict[str, float | None]:
        """Train one epoch; return the means of what the steps told, and how fast they were.

        Raises:
            BadSetting: the loss is not a number.
        """
        told: list[dict[str, float]] = []
        batches = (self._machine.place(parts) for parts in self._batches.epoch(epoch, prototypes))
        with self._machine.scope(), Prefetched(batches) as prefetched:
            for batch in prefetched:
                told.append(self._objective.train_on_batch(batch, return_dict=True))
                if len(told) == 1:  # the first step is traced and compiled
                    began, waited = time.monotonic(), prefetched.waited
                tell.of_step(len(told), told[-1]["loss"])
        seconds = max(time.monotonic() - began, 1e-9)
        means = {name: float(np.mean([line[name] for line in told])) for name in told[0]}
        if not math.isfinite(means["loss"]):
            raise BadSetting(
                f"the loss is {means['loss']} in epoch {epoch + 1}: choose a smaller learning_rate"
            )
        return {
            **{name: round(value, 5) for name, value in means.items()},
            "accuracy": round(means["accuracy"], 5) if "accuracy" in means else None,
            "images_per_second": round((len(told) - 1) * self._count / seconds, 1),
            "waiting": round((prefetched.waited - waited) / seconds, 4),
        }

    def averaged(self) -> Weights:
        """Return the network's weights: their averages, where the recipe wants those."""
        trained = self._objective.trainable_variables
        with self._machine.scope():
            weights: Weights = with_averages(
                self._objective.optimizer, trained, self._network.embedder.get_weights
            )
        return weights

    def state(self) -> tuple[Weights, Weights]:
        """Return all variables that the training changes, and those of the optimizer."""
        return read_values(self._objective.learned), read_values(self._objective.optimizer.variables)


def _lessons(course: _Course) -> Lessons | None:
    """Load the teachers, if there are any; for `logits` they look at the fitted photos first."""
    recipe, examples = course.recipe, course.examples
    if not recipe.teachers or not recipe.teacher_weight:
        return None
    teachers = [load_teacher(Path(path)) for path in recipe.teachers]
    if recipe.lesson != "logits":
        return Lessons(teachers, recipe.lesson, recipe.softmax_scale)
    labels = examples.labels(examples.fit)
    directions = []
    for teacher in teachers:
        size = teacher.note.input_size
        pictures = load_pictures(examples.fit, size, course.run.pictures, course.progress)
        directions.append(directions_of(teacher, pictures, labels))
    return Lessons(teachers, recipe.lesson, recipe.softmax_scale, directions)


def _memory(course: _Course, size: int) -> Memory | None:
    """Build the backbone that the training began with, if something is to be remembered of it."""
    if not course.recipe.remember:
        return None
    begun = build_network(course.recipe, size=size, weights="none", policy=course.machine.policy)
    begun.embedder.set_weights(course.begun.network)
    return Memory(begun)


class _Teller:
    """Tells the caller's progress bar of the steps of an epoch, and at its end what came of it."""

    def __init__(self, progress: Progress, what: str, steps: int) -> None:
        self._progress, self._what, self._steps = progress, what, steps

    def of_step(self, step: int, loss: float) -> None:
        """Tell of a step; the last one is told with the epoch."""
        if step < self._steps:
            self._progress(self._what, step, self._steps, f"loss {loss:.3f}")

    def of_epoch(self, line: dict[str, Any]) -> None:
        """Tell of the end of the epoch."""
        top1 = line["validation_top1"]
        remark = (
            f"loss {line['loss']:.3f}, validation {'not measured' if top1 is None else f'{top1:.3f}'}, "
            f"{line['images_per_second']:.0f} images/s, {line['waiting']:.1%} waiting for data"
        )
        self._progress(self._what, self._steps, self._steps, remark)


def _config(examples: Examples, machine: Machine) -> dict[str, object]:
    return {
        "catalog": examples.digest(),
        "products": len(examples.skus),
        "photos_fit": len(examples.fit),
        "photos_validation": len(examples.validation),
        **machine.to_record(),
    }
