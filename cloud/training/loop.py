"""Trains a network on examples, epoch by epoch, so that a killed run goes on as if it had not been."""

import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cloud.training.augment import random_views
from cloud.training.curves import draw_curves
from cloud.training.data import Examples, LabeledPhoto, Progress, load_pictures
from cloud.training.neighbors import embed, top1
from cloud.training.network import Network, begin_head, build_network
from cloud.training.recipe import Recipe
from cloud.training.run import Checkpoint, RunFolder
from cloud.training.runtime import Machine
from edge.errors import BadSetting

Pictures = NDArray[np.uint8]
# So many references a product are enough to see, after each epoch, how well neighbors are found.
_REFERENCES_PER_PRODUCT = 12


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network in float32 with the weights it began with, and the metrics of its epochs."""

    network: Network
    begun: list[NDArray[Any]]
    metrics: list[dict[str, Any]]


def train_network(
    examples: Examples, recipe: Recipe, run: RunFolder, machine: Machine, progress: Progress
) -> Trained:
    """Train, or go on with, the run in that folder until its last epoch.

    Raises:
        BadSetting: the run was begun with another recipe or catalog, the weights cannot be had, or the
            loss is not a number.
        SkipPhoto: a photo of the catalog that cannot be decoded.
        StorageUnusable, NoSpace: the folder cannot be written, or a file in it is damaged.
    """
    run.begin(recipe, _config(examples, machine))
    labels = examples.labels(examples.fit)
    begun = run.begun()
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(machine.policy)
        with machine.scope():
            network = build_network(recipe, len(examples.skus), "none" if begun else None)
            if begun is None:
                whole = load_pictures(examples.fit, recipe.input_size, run.pictures, progress)
                begin_head(network, _features(network, whole, progress), labels)
                begun = network.classifier.get_weights()
                run.save_begun(begun)
            network.classifier.set_weights(begun)
            metrics = _epochs(network, examples, recipe, run, progress)
    finally:
        keras.config.set_dtype_policy(before)
    finished = build_network(recipe, len(examples.skus), "none")
    finished.classifier.set_weights(network.classifier.get_weights())
    return Trained(finished, begun, metrics)


def pooled(network: Network) -> Any:
    """Return a model of the backbone's features, averaged over space: (n, C)."""
    features = keras.layers.GlobalAveragePooling2D(dtype="float32")(network.backbone.output)
    return keras.Model(network.backbone.input, features)


def embedding_of(network: Network) -> Any:
    """Return a model of the embedding alone: (n, D)."""
    return keras.Model(network.embedder.input, network.embedder.get_layer("embedding").output)


def _epochs(
    network: Network, examples: Examples, recipe: Recipe, run: RunFolder, progress: Progress
) -> list[dict[str, Any]]:
    """Compile, load the checkpoint if there is one, and run the epochs that are left."""
    labels = examples.labels(examples.fit)
    batch = min(recipe.batch, len(labels))
    steps = len(labels) // batch
    _compile(network.classifier, recipe, steps)
    done = _restore(network.classifier, run)
    metrics = run.metrics(done)
    if done == recipe.epochs:
        return metrics
    pictures = load_pictures(examples.fit, recipe.picture_size, run.pictures, progress)
    validate = _Validation(network, examples, recipe, run, progress)
    for epoch in range(done, recipe.epochs):
        began = time.monotonic()
        batches = _batches(pictures, labels, len(examples.skus), recipe, epoch)
        teller = _Teller(progress, f"epoch {epoch + 1} of {recipe.epochs}", steps)
        history = network.classifier.fit(
            batches, initial_epoch=epoch, epochs=epoch + 1, verbose=0, callbacks=[teller], shuffle=False
        ).history
        loss = float(history["loss"][0])
        if not np.isfinite(loss):
            raise BadSetting(f"the loss is {loss} in epoch {epoch + 1}: choose a smaller learning_rate")
        line = {
            "epoch": epoch + 1,
            "loss": round(loss, 5),
            "accuracy": round(float(history["accuracy"][0]), 5),
            "validation_top1": validate(),
            "seconds": round(time.monotonic() - began, 2),
        }
        metrics.append(line)
        _keep(network.classifier, metrics, run)
    return metrics


def _restore(classifier: Any, run: RunFolder) -> int:
    """Load the checkpoint, if there is one; return how many epochs are done."""
    checkpoint = run.checkpoint()
    if checkpoint is None:
        return 0
    classifier.set_weights(checkpoint.network)
    for variable, value in zip(classifier.optimizer.variables, checkpoint.optimizer, strict=True):
        variable.assign(value)
    return checkpoint.epoch


def _keep(classifier: Any, metrics: list[dict[str, Any]], run: RunFolder) -> None:
    """Write metrics and curves, then the checkpoint, which alone makes the epoch count."""
    run.save_metrics(metrics)
    draw_curves(metrics, run.folder / "curves.png")
    optimizer = [variable.numpy() for variable in classifier.optimizer.variables]
    run.save_checkpoint(Checkpoint(metrics[-1]["epoch"], classifier.get_weights(), optimizer))


def _compile(classifier: Any, recipe: Recipe, steps: int) -> None:
    warmup = min(round(recipe.warmup_epochs * steps), recipe.epochs * steps - 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 100 if warmup else recipe.learning_rate,
        decay_steps=recipe.epochs * steps - warmup,
        warmup_target=recipe.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    classifier.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
        jit_compile=False,  # on a CPU, XLA's convolutions are 16 times slower than oneDNN's
    )
    classifier.optimizer.build(classifier.trainable_variables)


def _batches(pictures: Pictures, labels: NDArray[np.int32], products: int, recipe: Recipe, epoch: int) -> Any:
    """Make the batches of one epoch; order and views follow from (seed, epoch) alone."""
    count = len(labels)
    batch = min(recipe.batch, count)
    steps = count // batch
    order = np.random.default_rng((recipe.seed, epoch)).permutation(count)

    def raw() -> Iterator[tuple[Pictures, NDArray[np.int32], NDArray[np.int32]]]:
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            yield pictures[chosen], labels[chosen], np.array([recipe.seed, epoch * steps + step], np.int32)

    def prepare(raw_pictures: Any, raw_labels: Any, seed: Any) -> tuple[Any, Any]:
        return random_views(raw_pictures, seed, recipe), tf.one_hot(raw_labels, products)

    side = recipe.picture_size
    signature = (
        tf.TensorSpec((batch, side, side, 3), tf.uint8),
        tf.TensorSpec((batch,), tf.int32),
        tf.TensorSpec((2,), tf.int32),
    )
    dataset = tf.data.Dataset.from_generator(raw, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    return dataset.map(prepare, num_parallel_calls=2).prefetch(2)


class _Validation:
    """Finds the validation photos' nearest neighbors among some of the fitted photos."""

    def __init__(
        self, network: Network, examples: Examples, recipe: Recipe, run: RunFolder, progress: Progress
    ) -> None:
        references = _some_of_each(examples.fit)
        photos = (*references, *examples.validation)
        self._labels = examples.labels(photos)
        self._count = len(references)
        self._model = embedding_of(network)
        self._pictures = (
            load_pictures(photos, recipe.input_size, run.pictures, progress) if examples.validation else None
        )

    def __call__(self) -> float | None:
        """Return the share found right, or None without validation photos."""
        if self._pictures is None:
            return None
        vectors = embed(self._model, self._pictures)
        references, queries = slice(None, self._count), slice(self._count, None)
        share = top1(vectors[queries], self._labels[queries], vectors[references], self._labels[references])
        return round(share, 5)


class _Teller(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Tells the caller's progress bar of each step."""

    def __init__(self, progress: Progress, what: str, steps: int) -> None:
        super().__init__()
        self._progress, self._what, self._steps = progress, what, steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Tell of a step and the loss so far."""
        self._progress(self._what, batch + 1, self._steps, f"loss {logs['loss']:.3f}" if logs else "")


def _features(network: Network, pictures: Pictures, progress: Progress) -> NDArray[np.float32]:
    return embed(
        pooled(network), pictures, lambda done: progress("beginning features", done, len(pictures), "")
    )


def _some_of_each(photos: Sequence[LabeledPhoto]) -> list[LabeledPhoto]:
    counts: dict[str, int] = {}
    chosen = []
    for photo in photos:
        counts[photo.sku] = counts.get(photo.sku, 0) + 1
        if counts[photo.sku] <= _REFERENCES_PER_PRODUCT:
            chosen.append(photo)
    return chosen


def _config(examples: Examples, machine: Machine) -> dict[str, object]:
    return {
        "catalog": examples.digest(),
        "products": len(examples.skus),
        "photos_fit": len(examples.fit),
        "photos_validation": len(examples.validation),
        "devices": list(machine.devices),
        "policy": machine.policy,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
