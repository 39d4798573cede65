"""Rescales channels inside a network so that int8 can hold it, without changing what it computes.

A channel whose activations are small is read by large weights of the next layer. Those set the int8 scale of
all weights beside them, and these lose their last bits: on the bundled network, that alone turned the
embedding by 18 degrees. So a small channel is made larger, and the weights that read it smaller by as much:
cross-layer equalization (Nagel et al. 2019, arXiv:1906.04721). Channels that ReLU6 bounds may grow only
as far as the representative photos show room; those between linear layers, sums among them, grow freely.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Channels = NDArray[np.float32]

# A bounded channel grows to this share of its bound, so that ReLU6 does not cut photos that were not seen.
_ROOM = 0.5
_LARGEST_FACTOR = 100.0


@dataclass(frozen=True, slots=True)
class _Channels:
    """Channels that can be rescaled: who writes and who reads them, where they are seen, and their bound."""

    writers: tuple[Any, ...]
    readers: tuple[Any, ...]
    seen: tuple[Any, ...]
    bound: float | None


def equalize(keras: Any, model: Any, batches: Sequence[NDArray[np.float32]]) -> int:
    """Equalize the channels of a Keras model in place; return how many groups of channels were changed.

    Args:
        keras: the Keras package.
        model: a functional model; layers that this does not understand stay as they are.
        batches: normalized inputs float32 (n, S, S, 3), which show how large each channel gets.
    """
    groups = [*_bounded(keras, model), *_linear(keras, model)]
    if not groups:
        return 0
    for group, most in zip(groups, _largest(keras, model, groups, batches), strict=True):
        wanted = group.bound * _ROOM if group.bound else float(most.max())
        factors = np.clip(wanted / np.maximum(most, 1e-6), 1.0, _LARGEST_FACTOR).astype(np.float32)
        for writer in group.writers:
            _scale_written(keras, writer, factors)
        for reader in group.readers:
            _scale_read(reader, factors)
    return len(groups)


def _bounded(keras: Any, model: Any) -> list[_Channels]:
    """Find every writer -> ReLU -> reader."""
    found = []
    for layer in model.layers:
        if not isinstance(layer, keras.layers.ReLU) or layer.negative_slope or layer.threshold:
            continue
        writers, readers = _before(layer), _after(layer)
        alone = len(writers) == 1 and _writes(keras, writers[0]) and _after(writers[0]) == [layer]
        if alone and readers and all(_reads(keras, reader) for reader in readers):
            bound = None if layer.max_value is None else float(layer.max_value)
            found.append(_Channels(tuple(writers), tuple(readers), (layer.output,), bound))
    return found


def _linear(keras: Any, model: Any) -> list[_Channels]:
    """Find the groups of layers whose outputs are the same channels, because they are added to each other."""
    groups: dict[int, list[Any]] = {}
    for layer in model.layers:
        if not _writes(keras, layer) and not isinstance(layer, keras.layers.Add):
            continue
        members = [layer]
        for before in _before(layer) if isinstance(layer, keras.layers.Add) else []:
            members += groups.get(id(before), [before])
        for member in members:
            groups[id(member)] = members
    found = []
    for members in {id(group): group for group in groups.values()}.values():
        readers = [after for member in members for after in _after(member) if after not in members]
        writers = [member for member in members if not isinstance(member, keras.layers.Add)]
        if readers and all(_reads(keras, reader) for reader in readers):
            seen = tuple(member.output for member in members)
            given = any(output is tensor for output in model.outputs for tensor in seen)
            if not given and all(_writes(keras, writer) for writer in writers):
                found.append(_Channels(tuple(writers), tuple(dict.fromkeys(readers)), seen, None))
    return found


def _largest(
    keras: Any, model: Any, groups: Sequence[_Channels], batches: Sequence[NDArray[np.float32]]
) -> list[Channels]:
    """Return the largest absolute value of each channel of each group."""
    seer = keras.Model(model.inputs, [list(group.seen) for group in groups])
    largest = [np.zeros(group.seen[0].shape[-1], np.float32) for group in groups]
    for batch in batches:
        for number, outputs in enumerate(seer.predict_on_batch(batch)):
            for output in outputs:
                largest[number] = np.maximum(largest[number], np.abs(output).max(axis=(0, 1, 2)))
    return largest


def _before(layer: Any) -> list[Any]:
    return [tensor._keras_history.operation for node in layer._inbound_nodes for tensor in node.input_tensors]


def _after(layer: Any) -> list[Any]:
    return [node.operation for node in layer._outbound_nodes]


def _writes(keras: Any, layer: Any) -> bool:
    """Tell whether the last weights of a layer scale each of its channels alone."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return bool(layer.scale and layer.center)
    if isinstance(layer, keras.layers.DepthwiseConv2D) and layer.depth_multiplier != 1:
        return False
    kinds = keras.layers.Conv2D | keras.layers.DepthwiseConv2D
    return isinstance(layer, kinds) and layer.activation is keras.activations.linear


def _reads(keras: Any, layer: Any) -> bool:
    """Tell whether the weights of a layer can take a scale back from each channel that it reads."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return bool(layer.depth_multiplier == 1)
    return isinstance(layer, keras.layers.Conv2D) and bool(layer.groups == 1)


def _scale_written(keras: Any, layer: Any, factors: Channels) -> None:
    if isinstance(layer, keras.layers.BatchNormalization):
        gamma, beta, *rest = layer.get_weights()
        layer.set_weights([gamma * factors, beta * factors, *rest])
        return
    kernel, *bias = layer.get_weights()
    kernel = kernel * (factors[:, None] if isinstance(layer, keras.layers.DepthwiseConv2D) else factors)
    layer.set_weights([kernel, *(b * factors for b in bias)])


def _scale_read(layer: Any, factors: Channels) -> None:
    kernel, *bias = layer.get_weights()
    layer.set_weights([kernel / factors[:, None], *bias])
