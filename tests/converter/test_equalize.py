"""Equalizing keeps the function of a network and evens out its weights."""

from pathlib import Path

import numpy as np
import pytest

from converter.equalize import equalize
from tests.converter.conftest import pictures

pytestmark = pytest.mark.training


def test_a_network_computes_the_same_with_weights_of_like_size(network: Path) -> None:
    import keras

    model = keras.models.load_model(network)
    batch = np.stack(pictures(24)).astype(np.float32) / 127.5 - 1
    before = np.asarray(model(batch)["embedding"])
    spread_before = spread(model.get_layer("project").get_weights()[0])
    assert equalize(keras, model, [batch]) == 2
    np.testing.assert_allclose(np.asarray(model(batch)["embedding"]), before, rtol=1e-3, atol=1e-3)
    assert spread(model.get_layer("project").get_weights()[0]) < spread_before / 5


def test_a_network_without_such_layers_is_left_alone() -> None:
    import keras

    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(4, 1)(inputs))
    assert equalize(keras, model, [np.zeros((1, 8, 8, 3), np.float32)]) == 0


def spread(kernel: np.ndarray) -> float:
    """Tell how much larger the weights of one input are than those of another."""
    sizes = np.abs(kernel).max(axis=(0, 1, 3))
    return float(sizes.max() / sizes.min())
