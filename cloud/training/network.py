"""The embedder: a backbone and a projection to the embedding's length.

    photo -> backbone (n, h, w, C) -> 1x1 convolution: local (n, h, w, D) -> mean: embedding (n, D)

The mean and the convolution are linear, so `embedding` is also the projection of the pooled features: the
head can begin at, or be fitted to, features that were computed once.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cloud.training.backbones import INPUT_OFFSET, INPUT_SCALE, build_backbone, layer_is_norm
from cloud.training.recipe import Recipe
from edge.disk import storage_error, write_atomically

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Network:
    """The parts of one network; they share their weights.

    Attributes:
        backbone: Keras model, normalized input to feature map.
        embedder: Keras model, normalized input to `embedding` and `local`.
    """

    backbone: Any
    embedder: Any

    @property
    def projection(self) -> Any:
        """Return the layer that makes `local`."""
        return self.embedder.get_layer("local")

    @property
    def channels(self) -> int:
        """Return the number of the backbone's features, C."""
        return int(self.projection.kernel.shape[2])


def build_network(
    recipe: Recipe, *, size: int | None = None, weights: str | None = None, policy: str = "float32"
) -> Network:
    """Build the network of a recipe.

    Args:
        recipe: names backbone, weights and dimension.
        size: side of the input in pixels, instead of the recipe's; the weights are the same for all sizes.
        weights: instead of the recipe's.
        policy: the Keras dtype policy of the backbone; the head is float32.

    Raises:
        BadSetting: the weights cannot be had, or are not of this backbone.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        backbone = build_backbone(recipe.backbone, size or recipe.input_size, weights or recipe.weights)
    finally:
        keras.config.set_dtype_policy(before)
    _freeze(backbone, recipe)
    local = keras.layers.Conv2D(recipe.dimension, 1, name="local", dtype="float32")(backbone.output)
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding", dtype="float32")(local)
    outputs = {"embedding": embedding, "local": local}
    return Network(backbone, keras.Model(backbone.input, outputs, name="embedder"))


def pooled(network: Network) -> Any:
    """Return a model of the backbone's features, averaged over space: (n, C)."""
    features = keras.layers.GlobalAveragePooling2D(dtype="float32")(network.backbone.output)
    return keras.Model(network.backbone.input, features)


def embedding_of(network: Network) -> Any:
    """Return a model of the embedding alone: (n, D)."""
    return keras.Model(network.embedder.input, network.embedder.get_layer("embedding").output)


def normalize_pictures(pictures: NDArray[np.uint8]) -> Features:
    """Turn raw pictures into what the network takes, float32 of the same shape, -1..1."""
    return pictures.astype(np.float32) * np.float32(INPUT_SCALE) + np.float32(INPUT_OFFSET)


def embedding_space(network: Network, recipe: Recipe) -> str:
    """Name the embedding space, 16 hex digits: equal weights have equal names, whatever their file."""
    shape = f"{recipe.backbone} {recipe.input_size} {recipe.finished_dimension}"
    digest = hashlib.sha256(shape.encode())
    for weights in network.embedder.get_weights():
        digest.update(np.ascontiguousarray(weights, np.float32).tobytes())
    return digest.hexdigest()[:16]


def save_network(network: Network, recipe: Recipe, folder: Path) -> str:
    """Write `network.keras` and `network.json` into the folder; return the embedding space.

    Raises:
        StorageUnusable, NoSpace: the folder cannot be written.
    """
    path = folder / "network.keras"
    draft = folder / ".network.tmp.keras"
    try:
        network.embedder.save(draft)
        draft.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error
    space = embedding_space(network, recipe)
    record = {
        "backbone": recipe.backbone,
        "dimension": recipe.finished_dimension,
        "format": 1,
        "input_offset": INPUT_OFFSET,
        "input_scale": INPUT_SCALE,
        "input_size": recipe.input_size,
        "space": space,
    }
    write_atomically(folder / "network.json", (json.dumps(record, indent=1) + "\n").encode())
    return space


def _freeze(backbone: Any, recipe: Recipe) -> None:
    layers = _all_layers(backbone)
    frozen = round(len(layers) * recipe.frozen_layers)
    norms = recipe.freeze_norms and recipe.weights != "none"
    for number, layer in enumerate(layers):
        if number < frozen or (norms and layer_is_norm(layer)):
            layer.trainable = False


def _all_layers(model: Any) -> list[Any]:
    """Return the layers of a model, those of the models in it included, lowest first."""
    found: list[Any] = []
    for layer in model.layers:
        found += _all_layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found
