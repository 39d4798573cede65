"""Rounds weights to their int8 grid so that the outputs of their layer change least.

The converter rounds each weight to the nearest step. What counts is the sum that the weights make of a
layer's real inputs, and there the error of one weight can be taken back by its neighbors: after each weight
is
    rounded,
those not yet rounded move to make up for it (Frantar et al. 2022, GPTQ, arXiv:2210.17323, after LeCun's
optimal brain surgeon). The weights are left on the grid that the converter will find, so its own rounding
changes nothing.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

_LEVELS = 127
_DAMPING = 0.01
_POSITIONS = 192  # places looked at in each picture, in each layer
_LONGEST = 2400  # inputs of one output; beyond that, the cost grows with its cube


def round_weights(keras: Any, tensorflow: Any, model: Any, batches: Sequence[NDArray[np.float32]]) -> int:
    """Round the kernels of a Keras model's convolutions in place; return how many were rounded.

    Args:
        keras: the Keras package.
        tensorflow: the TensorFlow package.
        model: a functional model.
        batches: normalized inputs float32 (n, S, S, 3) of real photos; some 64 suffice.
    """
    layers = [layer for layer in model.layers if _is_convolution(keras, layer)]
    if not layers:
        return 0
    seer = keras.Model(model.inputs, [layer.input for layer in layers])
    moments: list[Matrix | float] = [0.0 for _ in layers]
    draw = np.random.default_rng(0)
    for batch in batches:
        seen = seer.predict_on_batch(batch)
        for number, (layer, inputs) in enumerate(
            zip(layers, seen if len(layers) > 1 else [seen], strict=True)
        ):
            moments[number] = moments[number] + _moments(keras, tensorflow, layer, inputs, draw)
    for layer, moment in zip(layers, moments, strict=True):
        kernel, *bias = layer.get_weights()
        layer.set_weights([_rounded(keras, layer, kernel, np.asarray(moment)), *bias])
    return len(layers)


def round_rows(rows: Matrix, moments: Matrix) -> Matrix:
    """Round rows (r, n) to grids of 127 steps either way, by second moments (r or 1, n, n) of their inputs.

    The largest weight of a row makes its grid, so that one stays exactly what it is.
    """
    length = rows.shape[1]
    scale = np.abs(rows).max(axis=1) / _LEVELS
    scale[scale == 0] = 1
    largest = np.argmax(np.abs(rows), axis=1)
    diagonal = np.einsum("rii->ri", moments)
    damping = _DAMPING * diagonal.mean(axis=1) + 1e-12
    inverse = np.linalg.inv(moments + damping[:, None, None] * np.eye(length))
    upper = np.swapaxes(np.linalg.cholesky((inverse + np.swapaxes(inverse, 1, 2)) / 2), 1, 2)
    left = rows.copy()
    for place in range(length):
        steps = np.clip(np.round(left[:, place] / scale), -_LEVELS, _LEVELS)
        rounded = np.where(largest == place, rows[:, place], steps * scale)
        error = (left[:, place] - rounded) / upper[:, place, place]
        left[:, place] = rounded
        left[:, place + 1 :] -= error[:, None] * upper[:, place, place + 1 :]
    return left


def _is_convolution(keras: Any, layer: Any) -> bool:
    if not isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
        return False
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return bool(layer.depth_multiplier == 1)
    return bool(layer.groups == 1 and np.prod(layer.kernel.shape[:3]) <= _LONGEST)


def _moments(keras: Any, tensorflow: Any, layer: Any, inputs: Any, draw: np.random.Generator) -> Matrix:
    """Return the second moments of what an output sums up: (1, n, n); (C, n, n) for a depthwise layer."""
    height, width = layer.kernel_size
    patches = tensorflow.image.extract_patches(
        inputs,
        sizes=(1, height, width, 1),
        strides=(1, *layer.strides, 1),
        rates=(1, *layer.dilation_rate, 1),
        padding=layer.padding.upper(),
    ).numpy()
    channels = inputs.shape[-1]
    flat = patches.reshape(len(patches), -1, height * width, channels)
    chosen = draw.choice(flat.shape[1], min(_POSITIONS, flat.shape[1]), replace=False)
    flat = flat[:, chosen].reshape(-1, height * width, channels)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        by_channel = np.moveaxis(flat, 2, 0)
        return np.asarray(np.swapaxes(by_channel, 1, 2) @ by_channel, np.float64)
    whole = flat.reshape(len(flat), -1)
    return np.asarray(whole.T @ whole, np.float64)[np.newaxis]


def _rounded(keras: Any, layer: Any, kernel: Any, moments: Matrix) -> NDArray[np.float32]:
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        rows = np.moveaxis(kernel[..., 0], 2, 0).reshape(kernel.shape[2], -1)
        back = round_rows(rows.astype(np.float64), moments).reshape(kernel.shape[2], *kernel.shape[:2])
        return np.moveaxis(back, 0, 2)[..., np.newaxis].astype(np.float32)
    rows = kernel.reshape(-1, kernel.shape[3]).T
    return round_rows(rows.astype(np.float64), moments).T.reshape(kernel.shape).astype(np.float32)
