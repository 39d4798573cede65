"""Equalizing keeps the function of a network and evens out its weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.equalize import equalize
from tests.converter.conftest import pictures

pytestmark = pytest.mark.training


def test_a_network_computes_the_same_and_loses_less_in_int8(network: Path) -> None:
    import keras

    model = keras.models.load_model(network)
    batch = np.stack(pictures(24)).astype(np.float32) / 127.5 - 1
    wanted = np.array(model(batch)["embedding"])
    before = lost_by_rounding(model, batch, wanted)
    assert equalize(keras, model, [batch]) == 3
    np.testing.assert_allclose(np.asarray(model(batch)["embedding"]), wanted, rtol=1e-3, atol=1e-3)
    assert lost_by_rounding(model, batch, wanted) < before / 2


def test_a_network_without_such_layers_is_left_alone() -> None:
    import keras

    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(4, 1)(inputs))
    assert equalize(keras, model, [np.zeros((1, 8, 8, 3), np.float32)]) == 0


def lost_by_rounding(model: Any, batch: np.ndarray, wanted: np.ndarray) -> float:
    """Tell how far the embedding strays while the weights of `project` are rounded to int8."""
    layer = model.get_layer("project")
    (kernel,) = layer.get_weights()
    scale = np.abs(kernel).max(axis=(0, 1, 2)) / 127
    layer.set_weights([np.round(kernel / scale) * scale])
    strayed = float(np.linalg.norm(np.asarray(model(batch)["embedding"]) - wanted))
    layer.set_weights([kernel])
    return strayed
