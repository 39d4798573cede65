"""Lets a network learn from others that see the same views: from teachers, and from what it was itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from cloud.training.backbones import INPUT_OFFSET, INPUT_SCALE
from cloud.training.heads import mean_directions
from cloud.training.network import Network, pooled
from converter.network_file import NetworkNote, read_note
from edge.errors import BadNetwork, BadSetting

# How sharply a view's likeness to the others of its batch is turned into shares.
_RELATION_SCALE = 10.0


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained embedder (n, S, S, 3) -> unit vectors (n, D), and what was noted beside it."""

    embedder: Any
    note: NetworkNote


def load_teacher(path: Path) -> Teacher:
    """Load a `network.keras` that lies beside its `network.json`, to be asked and never changed.

    Raises:
        BadSetting: it cannot be read, or takes pictures that are normalized in another way.
    """
    try:
        note = read_note(path)
        embedder = keras.models.load_model(path, compile=False)
    except (BadNetwork, OSError, ValueError) as error:
        raise BadSetting(f"teacher {path} cannot be read ({error}): name a network.keras of a run") from error
    if (note.input_scale, note.input_offset) != (INPUT_SCALE, INPUT_OFFSET):
        raise BadSetting(
            f"teacher {path} takes pictures normalized in another way: train it with this program"
        )
    embedding = embedder.get_layer("embedding").output
    unit = keras.layers.UnitNormalization(dtype="float32")(embedding)
    asked = keras.Model(embedder.input, unit)
    asked.trainable = False
    return Teacher(asked, note)


def cosine_distance(one: Any, other: Any) -> Any:
    """Return 1 - the mean cosine of vectors (n, D) and others, a float32 scalar."""
    return 1.0 - ops.mean(
        ops.sum(ops.normalize(one, axis=1, order=2) * ops.normalize(other, axis=1, order=2), axis=1)
    )


def divergence(target: Any, scores: Any) -> Any:
    """Return the mean divergence of softmax(scores) (n, K) from target shares (n, K); 0 where they agree."""
    gap = ops.log(ops.maximum(target, 1e-9)) - ops.log_softmax(scores, axis=1)
    return ops.mean(ops.sum(target * gap, axis=1))


class Lessons(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """What is learned from teachers, as a loss; several teachers are averaged.

    `relations`: how alike the views of a batch are to each other, as shares of a softmax over the others
    (relational knowledge distillation, Park et al. 2019; with the shares of Passalis and Tefas 2018). The
    lengths of the embeddings may differ.
    `cosine`: the teacher's embedding itself, through a learned linear map (FitNets, Romero et al. 2015).
    `logits`: how alike a view is to each product, as shares of a softmax (Hinton et al. 2015), by the
    teacher's own mean direction of each product.

    Args:
        teachers: at least one.
        lesson: one of the above.
        scale: of the softmax over products, for `logits`.
        directions: each teacher's directions of the products, float32 (D, K), for `logits`.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        lesson: str,
        scale: float,
        directions: Sequence[NDArray[np.float32]] = (),
    ) -> None:
        super().__init__(name="lessons", dtype="float32")
        self.embedders = [teacher.embedder for teacher in teachers]
        self.sizes = [teacher.note.input_size for teacher in teachers]
        self.lesson = lesson
        self.scale = scale
        self.directions = [np.asarray(each, np.float32) for each in directions]
        self.maps = [
            keras.layers.Dense(
                teacher.note.dimension, use_bias=False, dtype="float32", name=f"to_teacher_{i}"
            )
            for i, teacher in enumerate(teachers if lesson == "cosine" else ())
        ]

    def build(self, views_shape: Any, embeddings_shape: Any, logits_shape: Any = None) -> None:
        """Make the linear maps, where the lesson has them."""
        for each in self.maps:
            each.build(embeddings_shape)

    @property
    def learned(self) -> list[Any]:
        """Return the variables of the linear maps."""
        return [variable for each in self.maps for variable in each.weights]

    def call(self, views: Any, embeddings: Any, logits: Any = None) -> Any:
        """Return the loss, a float32 scalar.

        Args:
            views: float32 (n, S, S, 3), -1..1.
            embeddings: float32 (n, D) of unit length.
            logits: float32 (n, K) of the network, for `logits`.
        """
        taught = [
            ops.stop_gradient(embedder(_sized(views, size), training=False))
            for embedder, size in zip(self.embedders, self.sizes, strict=True)
        ]
        if self.lesson == "cosine":
            pairs = zip(self.maps, taught, strict=True)
            return sum(cosine_distance(to(embeddings), each) for to, each in pairs) / len(taught)
        if self.lesson == "logits":
            pairs = zip(taught, self.directions, strict=True)
            shares = [ops.softmax(self.scale * ops.matmul(each, of), axis=1) for each, of in pairs]
            return divergence(sum(shares) / len(shares), logits)
        shares = [ops.softmax(_relations(each), axis=1) for each in taught]
        return divergence(sum(shares) / len(shares), _relations(embeddings))


class Memory(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Keeps the beginning backbone's features readable from the embedding (feature distillation).

    What it saw in a view is to follow from the embedding by a learned linear map; so the embedding does not
    lose what tells apart things that are not in the catalog (after Li and Hoiem, "Learning without
    forgetting", 2016, and Romero et al. 2015).

    Args:
        begun: a network with the weights the training begins with, at the size of the views; it is frozen.
    """

    def __init__(self, begun: Network) -> None:
        super().__init__(name="memory", dtype="float32")
        self.features = pooled(begun)
        self.features.trainable = False
        self.to_features = keras.layers.Dense(begun.channels, dtype="float32", name="to_features")
        # The projection's rows are orthogonal at the beginning, so its transpose leads back.
        self._begin = begun.projection.get_weights()[0][0, 0].T

    def build(self, views_shape: Any, embeddings_shape: Any) -> None:
        """Make the linear map, which begins as the way back through the projection."""
        self.to_features.build(embeddings_shape)
        self.to_features.kernel.assign(self._begin)

    @property
    def learned(self) -> list[Any]:
        """Return the variables of the linear map."""
        return list(self.to_features.weights)

    def call(self, views: Any, embeddings: Any) -> Any:
        """Return 1 - the mean cosine of the features told from the embeddings and the true ones, a scalar."""
        seen = ops.stop_gradient(self.features(views, training=False))
        return cosine_distance(self.to_features(embeddings), seen)


def directions_of(
    teacher: Teacher, pictures: NDArray[np.uint8], labels: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Return a teacher's mean direction of each product, float32 (D, K), by pictures (n, S, S, 3)."""
    from cloud.training.neighbors import embed

    return mean_directions(embed(teacher.embedder, pictures), labels)


def _sized(views: Any, size: int) -> Any:
    return (
        views if views.shape[1] == size else ops.image.resize(views, (size, size), interpolation="bilinear")
    )


def _relations(unit: Any) -> Any:
    """Return how alike each view is to the others of its batch, (n, n), for a softmax without itself."""
    alike = ops.matmul(unit, ops.transpose(unit)) * _RELATION_SCALE
    return alike - 1e9 * ops.eye(ops.shape(unit)[0], dtype="float32")
