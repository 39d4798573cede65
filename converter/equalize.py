"""Rescales channels inside a network so that int8 can hold it, without changing what it computes.

A channel whose activations are small is read by large weights of the next layer. Those set the int8 scale of
all the weights that share it, and the others lose their last bits: on the bundled network, that alone turned
the embedding by 18 degrees. So the small channel is made larger, up to what its ReLU6 lets through, and the
weights that read it smaller by as much: cross-layer equalization (Nagel et al. 2019, arXiv:1906.04721), here
for
    ReLU6,
whose bound is why a channel may only grow, and only as far as the representative photos show room.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Channels = NDArray[np.float32]

# A channel grows to this share of its bound, so that photos which were not looked at are not cut by ReLU6.
_ROOM = 0.5
_LARGEST_FACTOR = 100.0


@dataclass(frozen=True, slots=True)
class _Pair:
    """A layer that writes channels, the ReLU that bounds them, and the only layer that reads them."""

    writer: Any
    relu: Any
    reader: Any


def equalize(keras: Any, model: Any, batches: Sequence[NDArray[np.float32]]) -> int:
    """Equalize the channels of a Keras model in place; return how many pairs of layers were changed.

    Args:
        keras: the Keras package.
        model: a functional model whose layers are `Conv2D`, `DepthwiseConv2D`, `BatchNormalization`, `ReLU`,
            …; pairs that this does not understand stay as they are.
        batches: normalized inputs float32 (n, S, S, 3), which show how large each channel gets.
    """
    pairs = _pairs(keras, model)
    if not pairs:
        return 0
    seer = keras.Model(model.inputs, [pair.relu.output for pair in pairs])
    largest = [np.zeros(pair.relu.output.shape[-1], np.float32) for pair in pairs]
    for batch in batches:
        outputs = seer.predict_on_batch(batch)
        for number, output in enumerate(outputs if len(pairs) > 1 else [outputs]):
            largest[number] = np.maximum(largest[number], np.asarray(output).max(axis=(0, 1, 2)))
    for pair, most in zip(pairs, largest, strict=True):
        bound = pair.relu.max_value
        wanted = (float(bound) if bound else float(most.max())) * _ROOM
        factors = np.clip(wanted / np.maximum(most, 1e-6), 1.0, _LARGEST_FACTOR).astype(np.float32)
        _scale_written(keras, pair.writer, factors)
        _scale_read(pair.reader, factors)
    return len(pairs)


def _pairs(keras: Any, model: Any) -> list[_Pair]:
    """Find every writer -> ReLU -> reader, in the order of the layers."""
    found = []
    for layer in model.layers:
        if not isinstance(layer, keras.layers.ReLU) or layer.negative_slope or layer.threshold:
            continue
        writer, reader = _only(_before(layer)), _only(_after(layer))
        if not isinstance(reader, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            continue
        linear = keras.layers.BatchNormalization | keras.layers.Conv2D | keras.layers.DepthwiseConv2D
        if isinstance(writer, linear) and _only(_after(writer)) is layer:
            found.append(_Pair(writer, layer, reader))
    return found


def _before(layer: Any) -> list[Any]:
    return [tensor._keras_history.operation for node in layer._inbound_nodes for tensor in node.input_tensors]


def _after(layer: Any) -> list[Any]:
    return [node.operation for node in layer._outbound_nodes]


def _only(layers: list[Any]) -> Any | None:
    return layers[0] if len(layers) == 1 else None


def _scale_written(keras: Any, layer: Any, factors: Channels) -> None:
    if isinstance(layer, keras.layers.BatchNormalization):
        weights = layer.get_weights()
        scaled = int(layer.scale) + int(layer.center)  # gamma and beta come first
        layer.set_weights([w * factors for w in weights[:scaled]] + weights[scaled:])
        return
    kernel, *bias = layer.get_weights()
    kernel = kernel * (factors[:, None] if isinstance(layer, keras.layers.DepthwiseConv2D) else factors)
    layer.set_weights([kernel, *(b * factors for b in bias)])


def _scale_read(layer: Any, factors: Channels) -> None:
    kernel, *bias = layer.get_weights()
    layer.set_weights([kernel / factors[:, None], *bias])
