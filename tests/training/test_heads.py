"""How a head begins, and that the parts of a network agree."""

import numpy as np
import pytest

from tests.training.conftest import TOY

pytestmark = pytest.mark.training


def test_a_head_begins_with_the_distances_of_the_features() -> None:
    from cloud.training.heads import begin_head
    from cloud.training.network import build_network

    network = build_network(TOY)
    channels = network.channels
    labels = np.arange(30, dtype=np.int32) % 3
    draw = np.random.default_rng(0)
    features = (draw.normal(size=(3, channels))[labels] + 0.1 * draw.normal(size=(30, channels))).astype("f4")
    means = begin_head(network, features, labels)
    kernel, bias = network.projection.get_weights()
    embedded = features @ kernel[0, 0] + bias
    before, after = features @ features.T, embedded @ embedded.T
    np.testing.assert_allclose(after, before, rtol=0.05, atol=0.05 * before.max())
    assert np.all(np.argmax(embedded @ means, axis=1) == labels)
    np.testing.assert_allclose(np.linalg.norm(means, axis=0), 1, rtol=1e-5)


def test_a_network_of_fewer_channels_than_dimensions_is_filled_up() -> None:
    from cloud.training.heads import begin_head
    from cloud.training.network import build_network

    network = build_network(TOY)
    channels = network.channels
    features = np.random.default_rng(5).normal(size=(4, channels)).astype("f4")
    begin_head(network, features, np.array([0, 0, 1, 1], np.int32))
    assert np.all(np.isfinite(network.projection.get_weights()[0]))
    assert np.linalg.matrix_rank(network.projection.get_weights()[0][0, 0]) == TOY.dimension


def test_a_shortened_head_keeps_what_tells_products_apart() -> None:
    from dataclasses import replace

    from cloud.training.heads import shorten_head
    from cloud.training.network import build_network

    longer, shorter = build_network(TOY), build_network(replace(TOY, dimension=8))
    draw = np.random.default_rng(1)
    labels = np.arange(60) % 3
    features = draw.normal(size=(3, longer.channels))[labels] + 0.1 * draw.normal(size=(60, longer.channels))
    kernel, bias = longer.projection.get_weights()
    longer.projection.set_weights([kernel, draw.normal(size=bias.shape)])
    shorten_head(longer, shorter, features.astype("f4"))

    def similarities(network: object) -> np.ndarray:
        weights, offset = network.projection.get_weights()  # type: ignore[attr-defined]
        embedded = features @ weights[0, 0] + offset
        embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
        return np.asarray(embedded @ embedded.T)

    # Three products span three of the eight axes: what is lost is noise of the photos.
    np.testing.assert_allclose(similarities(shorter), similarities(longer), atol=0.05)


def test_a_whitened_head_tells_products_apart_that_it_never_saw() -> None:
    from cloud.training.heads import principal_axes, whitened_axes

    # Everything varies with the light, along the same three of 24 directions in every product.
    draw = np.random.default_rng(2)
    products = draw.normal(size=(30, 24))
    light = draw.normal(size=(3, 24))

    def photos(of: np.ndarray) -> np.ndarray:
        shone = draw.normal(size=(len(of), 3)) @ light
        return (products[of] + shone + 0.2 * draw.normal(size=(len(of), 24))).astype("f4")

    def found(axes: np.ndarray) -> float:
        new = np.repeat(np.arange(20, 30), 8)
        asked, references = photos(new) @ axes, photos(np.arange(20, 30)) @ axes
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
        references /= np.linalg.norm(references, axis=1, keepdims=True)
        return float(np.mean(np.argmax(asked @ references.T, axis=1) + 20 == new))

    labels = np.repeat(np.arange(20), 12).astype("i4")
    fitted = photos(labels)
    assert found(whitened_axes(fitted, labels, 16)) > found(principal_axes(fitted, 16)) + 0.2


def test_where_nothing_is_known_of_how_photos_vary_whitening_is_the_principal_axes() -> None:
    from cloud.training.heads import principal_axes, whitened_axes

    features = np.random.default_rng(3).normal(size=(6, 10)).astype("f4")
    labels = np.arange(6, dtype=np.int32)
    np.testing.assert_array_equal(whitened_axes(features, labels, 4), principal_axes(features, 4))


def test_a_whitened_head_is_laid_into_the_network() -> None:
    from cloud.training.heads import whiten_head, whitened_axes
    from cloud.training.network import build_network

    network = build_network(TOY)
    draw = np.random.default_rng(6)
    labels = np.arange(40, dtype=np.int32) % 4
    features = draw.normal(size=(40, network.channels)).astype("f4")
    whiten_head(network, features, labels)
    kernel, bias = network.projection.get_weights()
    np.testing.assert_allclose(kernel[0, 0], whitened_axes(features, labels, TOY.dimension), rtol=1e-5)
    assert not bias.any()
