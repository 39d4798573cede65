"""Rounding that looks at what weights are multiplied by."""

from pathlib import Path

import numpy as np
import pytest

from converter.rounding import round_rows, round_weights
from tests.converter.conftest import pictures


def correlated(count: int, length: int) -> np.ndarray:
    draw = np.random.default_rng(1)
    return draw.normal(size=(count, 4)) @ draw.normal(size=(4, length)) + 0.1 * draw.normal(
        size=(count, length)
    )


def test_rounded_rows_lie_on_the_grid_of_their_largest_weight() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 20))
    inputs = correlated(500, 20)
    rounded = round_rows(rows, (inputs.T @ inputs)[np.newaxis])
    scale = np.abs(rows).max(axis=1, keepdims=True) / 127
    np.testing.assert_allclose(rounded / scale, np.round(rounded / scale), atol=1e-9)
    np.testing.assert_allclose(np.abs(rounded).max(axis=1), np.abs(rows).max(axis=1))


def test_outputs_stray_less_than_with_the_nearest_steps() -> None:
    rows = np.random.default_rng(0).normal(size=(16, 40))
    inputs, fresh = np.split(correlated(1200, 40), [800])
    rounded = round_rows(rows, (inputs.T @ inputs)[np.newaxis])
    scale = np.abs(rows).max(axis=1, keepdims=True) / 127
    nearest = np.round(rows / scale) * scale
    strays = np.mean((fresh @ (rounded - rows).T) ** 2)
    assert strays < 0.5 * np.mean((fresh @ (nearest - rows).T) ** 2)


def test_rows_of_zeros_stay_zeros() -> None:
    assert not round_rows(np.zeros((2, 5)), np.eye(5)[np.newaxis]).any()


@pytest.mark.training
def test_every_convolution_of_a_network_is_rounded(network: Path) -> None:
    import keras
    import tensorflow as tf

    model = keras.models.load_model(network)
    batch = np.stack(pictures(8)).astype(np.float32) / 127.5 - 1
    before = np.asarray(model(batch)["embedding"])
    assert round_weights(keras, tf, model, [batch]) == 4
    kernel = model.get_layer("project").get_weights()[0][0, 0]
    scale = np.abs(kernel).max(axis=0) / 127
    np.testing.assert_allclose(kernel / scale, np.round(kernel / scale), atol=1e-3)
    after = np.asarray(model(batch)["embedding"])
    assert np.linalg.norm(after - before) < 0.1 * np.linalg.norm(before)
