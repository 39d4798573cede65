"""EfficientNet-Lite0: the EfficientNet-B0 that quantizes well, without squeeze-and-excite, with ReLU6.

After https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite (Liu, 2020): the blocks
of EfficientNet-B0 (Tan and Le, 2019), stem and head not scaled. Keras has B0 to B7 but not these.
"""

from typing import Any

import keras

# (expansion, filters, blocks, stride of the first, kernel), as in table 1 of Tan and Le.
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def build(size: int, classes: int | None) -> Any:
    """Build EfficientNet-Lite0 with random weights: a map (n, h, w, 1280), or logits (n, classes)."""
    inputs = keras.Input((size, size, 3))
    x = _convolve(inputs, 32, 3, 2, "stem")
    for stage, (expansion, filters, blocks, stride, kernel) in enumerate(_STAGES, start=1):
        for block in range(blocks):
            name = f"stage{stage}_block{block + 1}"
            x = _block(x, expansion, filters, stride=stride if block == 0 else 1, kernel=kernel, name=name)
    x = _convolve(x, 1280, 1, 1, "head")
    if classes is not None:
        x = keras.layers.Dense(classes, name="logits")(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x, name="efficientnet_lite0")


def _convolve(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    x = keras.layers.Conv2D(
        filters, kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    x = keras.layers.BatchNormalization(epsilon=1e-3, name=f"{name}_norm")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x)


def _block(x: Any, expansion: int, filters: int, *, stride: int, kernel: int, name: str) -> Any:
    """Expand, convolve each channel, project; added to the input where shapes allow."""
    begun = x
    if expansion != 1:
        x = _convolve(x, begun.shape[-1] * expansion, 1, 1, f"{name}_expand")
    x = keras.layers.DepthwiseConv2D(
        kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise"
    )(x)
    x = keras.layers.BatchNormalization(epsilon=1e-3, name=f"{name}_depthwise_norm")(x)
    x = keras.layers.ReLU(6.0, name=f"{name}_depthwise_relu")(x)
    x = keras.layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project")(x)
    x = keras.layers.BatchNormalization(epsilon=1e-3, name=f"{name}_project_norm")(x)
    if stride == 1 and begun.shape[-1] == filters:
        x = keras.layers.Add(name=f"{name}_add")([begun, x])
    return x
