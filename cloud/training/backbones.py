"""The convolutional networks that an embedder may stand on, all taking the same input.

Every backbone takes float32 (n, S, S, 3) with values raw / 127.5 - 1, whatever its authors used: where that
was something else, a fixed first layer turns one into the other. So one pair of scale and offset serves every
network, and the quantization of a uint8 input can stand for it.
"""

import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cloud.training import efficientnet_lite
from edge.errors import BadSetting

INPUT_SCALE = 1 / 127.5
INPUT_OFFSET = -1.0
# Means of ImageNet in blue, green, red, which ResNet50 and VGG16 subtract (Simonyan and Zisserman, 2014).
_CAFFE_MEANS = (103.939, 116.779, 123.68)


def build_backbone(name: str, size: int, weights: str) -> Any:
    """Build the named backbone as a Keras model (n, S, S, 3) -> (n, h, w, C) with the weights it begins from.

    Args:
        name: one of `recipe.BACKBONES`.
        size: S in pixels.
        weights: `imagenet` (downloaded by Keras), `none` (random), or the path of a Keras weights file of
            this backbone, with or without its classifier.

    Raises:
        BadSetting: the weights cannot be had, or are not of this backbone.
    """
    model = _begin(name, size, weights)
    return _after_caffe_input(model, size) if name in ("resnet50", "vgg16") else model


def layer_is_norm(layer: Any) -> bool:
    """Tell whether a layer normalizes by statistics of its batch."""
    return isinstance(layer, keras.layers.BatchNormalization)


def _begin(name: str, size: int, weights: str) -> Any:
    """Build the backbone as its authors' input has it, with its weights."""
    if weights in ("imagenet", "none"):
        return _make(name, size, None if weights == "none" else weights, classes=None)
    path = Path(weights)
    if not path.is_file():
        raise BadSetting(
            f"--weights {weights} is not a file: name a Keras weights file, `imagenet` or `none`"
        )
    for classes in (1001, 1000, None):
        model = _make(name, size, None, classes)
        try:
            # Keras only warns of a file that has no weights for some of the layers.
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                model.load_weights(path)
        except (ValueError, KeyError, OSError, AttributeError, UserWarning):
            continue
        return model if classes is None else keras.Model(model.inputs, _last_map(model), name=name)
    raise BadSetting(f"--weights {weights} are not weights of {name}: name those of this backbone")


def _make(name: str, size: int, weights: str | None, classes: int | None) -> Any:
    """Build one; with `classes`, the whole classifier, as weights files with a top need."""
    settings: dict[str, Any] = {"weights": weights, "include_top": classes is not None}
    settings["input_shape"] = (size, size, 3)
    if classes is not None:
        settings |= {"classes": classes, "classifier_activation": None}
    if name.startswith("mobilenet_v3"):
        settings |= {"minimalistic": True, "include_preprocessing": False}
    if name == "efficientnet_lite0":
        if weights is not None:
            raise BadSetting(
                "Keras has no ImageNet weights for efficientnet_lite0: give --weights PATH or none"
            )
        return efficientnet_lite.build(size, classes)
    try:
        with redirect_stdout(sys.stderr):  # where Keras tells that it downloads
            return _MAKERS[name](**settings)
    except Exception as error:  # Keras raises a bare one for a failed download
        raise BadSetting(
            f"the backbone {name} cannot be made ({error}): give --weights PATH or none"
        ) from error


def _last_map(model: Any) -> Any:
    """Return the last feature map of a classifier: the last output of four axes before its pooling."""
    for layer in reversed(model.layers):
        if len(layer.output.shape) == 4 and min(layer.output.shape[1:3]) > 1:
            return layer.output
    raise BadSetting(f"the backbone {model.name} has no feature map: choose a larger input_size")


def _after_caffe_input(model: Any, size: int) -> Any:
    """Put a fixed 1x1 convolution before a network that wants blue, green, red minus their means."""
    inputs = keras.Input((size, size, 3))
    to_caffe = keras.layers.Conv2D(3, 1, trainable=False, name="to_caffe_input")
    outputs = model(to_caffe(inputs))
    kernel = np.zeros((1, 1, 3, 3), np.float32)
    kernel[0, 0, (2, 1, 0), (0, 1, 2)] = 1 / INPUT_SCALE
    bias = -INPUT_OFFSET / INPUT_SCALE - np.array(_CAFFE_MEANS, np.float32)
    to_caffe.set_weights([kernel, bias])
    return keras.Model(inputs, outputs, name=model.name)


_MAKERS = {
    "mobilenet_v2": keras.applications.MobileNetV2,
    "mobilenet_v3_large_minimalistic": keras.applications.MobileNetV3Large,
    "mobilenet_v3_small_minimalistic": keras.applications.MobileNetV3Small,
    "resnet50": keras.applications.ResNet50,
    "vgg16": keras.applications.VGG16,
    "inception_v3": keras.applications.InceptionV3,
}
