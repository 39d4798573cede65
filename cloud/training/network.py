"""The embedder: a backbone, a projection to the embedding's length, and, while it learns, a cosine softmax.

    photo -> backbone (n, h, w, C) -> 1x1 convolution: local (n, h, w, D) -> mean: embedding (n, D)
                                                                -> cosine softmax: logits (n, K)

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
        classifier: Keras model, normalized input to logits over products.
    """

    backbone: Any
    embedder: Any
    classifier: Any

    @property
    def projection(self) -> Any:
        """Return the layer that makes `local`."""
        return self.embedder.get_layer("local")

    @property
    def prototypes(self) -> Any:
        """Return the layer that holds a unit vector per product, kernel (D, K)."""
        return self.classifier.get_layer("prototypes")


def build_network(recipe: Recipe, products: int, weights: str | None = None) -> Network:
    """Build the network of a recipe for that many products; `weights` instead of the recipe's where given.

    Raises:
        BadSetting: the weights cannot be had, or are not of this backbone.
    """
    size = recipe.input_size
    backbone = build_backbone(recipe.backbone, size, recipe.weights if weights is None else weights)
    _freeze(backbone, recipe)
    local = keras.layers.Conv2D(recipe.dimension, 1, name="local", dtype="float32")(backbone.output)
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding", dtype="float32")(local)
    outputs = {"embedding": embedding, "local": local}
    embedder = keras.Model(backbone.input, outputs, name="embedder")

    unit = keras.layers.UnitNormalization(name="unit", dtype="float32")(embedding)
    prototypes = keras.layers.Dense(
        products,
        use_bias=False,
        kernel_constraint=keras.constraints.UnitNorm(axis=0),
        name="prototypes",
        dtype="float32",
    )
    logits = keras.layers.Rescaling(recipe.softmax_scale, dtype="float32")(prototypes(unit))
    return Network(backbone, embedder, keras.Model(backbone.input, logits, name="classifier"))


def begin_head(network: Network, features: Features, labels: NDArray[np.int32]) -> None:
    """Set the head from pooled features (n, C) of the photos to fit: principal axes, and each product's mean.

    The projection keeps as much as it can of the distances between features that the backbone brought along;
    so whatever of the beginning network is kept later (`Recipe.keep`) is a working embedder, and the first
    steps do not pull the backbone towards a random head.
    """
    kernel, _ = network.projection.get_weights()
    channels, dimension = kernel.shape[2:]
    _, _, axes = np.linalg.svd(features, full_matrices=channels < dimension)
    axes = axes[:dimension]
    if len(axes) < dimension:  # fewer photos or channels than dimensions: small random axes fill up
        filling = np.random.default_rng(0).normal(0, 0.01 / channels**0.5, (dimension - len(axes), channels))
        axes = np.concatenate([axes, filling])
    network.projection.set_weights([axes.T.reshape(kernel.shape), np.zeros(dimension)])
    embedded = features @ axes.T
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    count = network.prototypes.kernel.shape[1]
    means = np.stack([embedded[labels == label].sum(axis=0) for label in range(count)], axis=1)
    network.prototypes.set_weights([means / np.linalg.norm(means, axis=0, keepdims=True)])


def normalize_pictures(pictures: NDArray[np.uint8]) -> Features:
    """Turn raw pictures into what the network takes, float32 of the same shape, -1..1."""
    return pictures.astype(np.float32) * np.float32(INPUT_SCALE) + np.float32(INPUT_OFFSET)


def interpolate(
    begun: list[NDArray[Any]], trained: list[NDArray[Any]], keep: float
) -> list[NDArray[np.float32]]:
    """Mix two sets of weights: `keep * begun + (1 - keep) * trained` (Wortsman et al. 2022, WiSE-FT)."""
    return [
        (keep * old + (1 - keep) * new).astype(np.float32) for old, new in zip(begun, trained, strict=True)
    ]


def embedding_space(network: Network, recipe: Recipe) -> str:
    """Name the embedding space, 16 hex digits: equal weights have equal names, whatever their file."""
    digest = hashlib.sha256(f"{recipe.backbone} {recipe.input_size} {recipe.dimension}".encode())
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
        "dimension": recipe.dimension,
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
