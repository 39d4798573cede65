"""What is minimized: a batch of pictures goes in, the loss and its parts come out.

    pictures -> camera: views -> backbone -> mean: features -> projection: embeddings -> losses over products
                                                                                      -> loss over categories
                          views -> teachers, beginning backbone: lessons, memory ------^

All of it is one Keras model of `keras.ops`, so that it runs on the accelerator, on every backend.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from cloud.training.augment import ShopCamera
from cloud.training.distillation import Lessons, Memory
from cloud.training.losses import CosineSoftmax, ProductLoss, make_losses
from cloud.training.network import Network
from cloud.training.recipe import Recipe
from edge.errors import BadSetting

_NOT_OF_THE_CAMERA = ("labels", "left")


@dataclass(frozen=True, slots=True)
class Products:
    """The products that are learned: their directions at the beginning, and what categories they are of.

    Attributes:
        means: float32 (D, K), unit columns.
        categories: the category's number of each product, int32 (K,); negative where it has none.
    """

    means: NDArray[np.float32]
    categories: NDArray[np.int32]


class Objective(keras.Model):  # type: ignore[misc]  # Keras has no types
    """A network with the losses it learns by.

    It takes a batch: `pictures` uint8 (n, P, P, 3), `labels` int32 (n,), `left` float32 (n, C) where features
    are dropped out, and what `ShopCamera` wants. It gives scalars: `loss`, each part of it, and `accuracy`,
    the share of the views that are nearest to their product's center, where a loss has centers.

    Args:
        network: what is trained.
        products: what is told apart.
        recipe: names and weighs the losses.
        count: photos in a batch of this model, n.
        size: side S of the views in pixels.
        lessons: what is learned from teachers.
        memory: what is not to be forgotten.
        replicas: how many copies of this model share a step; their gradients are added up.

    Raises:
        BadSetting: there are no categories to learn, or no logits that teachers could teach.
    """

    def __init__(
        self,
        network: Network,
        products: Products,
        recipe: Recipe,
        *,
        count: int,
        size: int,
        lessons: Lessons | None = None,
        memory: Memory | None = None,
        replicas: int = 1,
    ) -> None:
        super().__init__(name="objective", dtype="float32")
        self.camera = ShopCamera(recipe, count, size)
        self.backbone, self.projection = network.backbone, network.projection
        self.pool = keras.layers.GlobalAveragePooling2D(dtype="float32")
        self.unit = keras.layers.UnitNormalization(dtype="float32")
        self.losses_over_products: list[ProductLoss] = []
        self.parts: list[tuple[str, float]] = []
        for name, weight, loss in make_losses(recipe, products.means.shape[1]):
            self.losses_over_products.append(loss)
            self.parts.append((name, weight))
        self.over_categories = self._category_loss(recipe, products)
        self.categories = products.categories
        self.lessons, self.memory = lessons, memory
        self.weights_of = {
            "category": recipe.category_weight,
            "lessons": recipe.teacher_weight,
            "memory": recipe.remember,
        }
        self.replicas = replicas
        self._begin(products, recipe.dimension, size)
        self._network = network.embedder

    @property
    def learned(self) -> list[Any]:
        """Return all variables that the training changes, the embedder's first, in a fixed order."""
        heads: list[Any] = [*self.losses_over_products, self.over_categories]
        found = list(self._network.weights)
        found += [variable for head in heads if head is not None for variable in head.weights]
        for part in (self.lessons, self.memory):
            found += [] if part is None else part.learned
        return found

    def call(self, batch: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Return the loss, its parts and the accuracy of a batch, float32 scalars."""
        labels = batch["labels"]
        views = self.camera({key: batch[key] for key in batch if key not in _NOT_OF_THE_CAMERA})
        features = self.pool(self.backbone(views, training=training))
        if "left" in batch:
            features = features * batch["left"]
        embeddings = self.unit(self.projection(features[:, None, None, :])[:, 0, 0])
        told = {
            name: (weight, loss(embeddings, labels))
            for (name, weight), loss in zip(self.parts, self.losses_over_products, strict=True)
        }
        logits = self._logits(embeddings)
        if self.over_categories is not None:
            of_labels = ops.take(ops.convert_to_tensor(self.categories), labels)
            told["category"] = (self.weights_of["category"], self.over_categories(embeddings, of_labels))
        if self.lessons is not None:
            told["lessons"] = (self.weights_of["lessons"], self.lessons(views, embeddings, logits))
        if self.memory is not None:
            told["memory"] = (self.weights_of["memory"], self.memory(views, embeddings))
        result = {name: value for name, (_, value) in told.items()}
        result["loss"] = sum(weight * value for weight, value in told.values())
        if logits is not None:
            right = ops.equal(ops.cast(ops.argmax(logits, axis=1), "int32"), labels)
            result["accuracy"] = ops.mean(ops.cast(right, "float32"))
        return result

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return what is minimized: this replica's share of the loss."""
        return y_pred["loss"] / self.replicas

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Return what `call` returned; the loop over the epoch averages."""
        return dict(y_pred)

    def _logits(self, embeddings: Any) -> Any | None:
        """Return the logits (n, K) of the first loss that has centers."""
        for loss in self.losses_over_products:
            logits = loss.logits(embeddings)
            if logits is not None:
                return logits
        return None

    def _category_loss(self, recipe: Recipe, products: Products) -> CosineSoftmax | None:
        if not recipe.category_weight:
            return None
        count = len(np.unique(products.categories))
        if count < 2 or products.categories.min() < 0:
            raise BadSetting(
                "category_weight wants products of at least 2 categories and none without one: "
                "complete the catalog, or set it to 0"
            )
        scale, smoothing = recipe.softmax_scale, recipe.label_smoothing
        return CosineSoftmax(count, scale=scale, smoothing=smoothing, name="category")

    def _begin(self, products: Products, dimension: int, size: int) -> None:
        """Make all weights, and begin the centers at the means."""
        nothing, labels = np.zeros((2, dimension), np.float32), np.zeros(2, np.int32)
        for loss in self.losses_over_products:
            loss(nothing, labels)
            loss.begin(products.means)
        if self.lessons is not None and self.lessons.lesson == "logits" and self._logits(nothing) is None:
            raise BadSetting("lesson is 'logits', and no loss has any: choose another, or cosine_softmax")
        if self.over_categories is not None:
            self.over_categories(nothing, labels)
            self.over_categories.begin(_means_of(products.means, products.categories))
        if self.lessons is not None:
            self.lessons.build((None, size, size, 3), (None, dimension))
            self.lessons.built = True
        if self.memory is not None:
            self.memory.build((None, size, size, 3), (None, dimension))
            self.memory.built = True
        # All weights are there; Keras would otherwise run the model once more to make them.
        for layer in (self, self.camera, self.pool, self.unit):
            layer.built = True


def compile_objective(
    objective: Objective, recipe: Recipe, steps: int, *, policy: str, jit: bool | str
) -> None:
    """Give the model its optimizer: AdamW (Loshchilov and Hutter 2019) with warm-up and a cosine schedule.

    Args:
        objective: is compiled in place.
        recipe: names the rates.
        steps: how many an epoch has.
        policy: the Keras dtype policy of the backbone; `mixed_float16` wants its loss scaled.
        jit: whether XLA compiles the step; "auto" lets Keras choose.
    """
    warmup = min(round(recipe.warmup_epochs * steps), recipe.epochs * steps - 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 100 if warmup else recipe.learning_rate,
        decay_steps=recipe.epochs * steps - warmup,
        warmup_target=recipe.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    averaged = {"use_ema": True, "ema_momentum": recipe.ema} if recipe.ema else {}
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay, **averaged)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    objective.compile(optimizer=optimizer, jit_compile=jit)
    objective.optimizer.build(objective.trainable_variables)


def category_numbers(categories: Sequence[str]) -> NDArray[np.int32]:
    """Number categories from 0 in the order of their names: int32 (n,); -1 where the name is empty."""
    names = {name: number for number, name in enumerate(sorted(set(categories) - {""}))}
    return np.array([names.get(name, -1) for name in categories], np.int32)


def _means_of(means: NDArray[np.float32], categories: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the mean of the means of each category's products, (D, number of categories)."""
    return np.stack([means[:, categories == each].mean(axis=1) for each in np.unique(categories)], axis=1)
