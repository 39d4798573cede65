"""Heads that are computed: where a head begins, and what a finished network may have for a learned one.

A head is the 1x1 convolution from the backbone's C features to the D numbers of the embedding. Both the mean
over places and the convolution are linear, so pooled features of some photos are all it takes.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from cloud.training.network import Features, Network

_SHRINK: Final = 0.5
"""Share of the mean variance in the covariance within products: few photos would not settle all of it."""


def begin_head(network: Network, features: Features, labels: NDArray[np.int32]) -> Features:
    """Set the head to the principal axes of pooled features (n, C) of the photos to fit.

    The projection keeps as much as it can of the distances between features that the backbone brought along;
    so whatever of the beginning network is kept later (`Recipe.keep`) is a working embedder, and the first
    steps do not pull the backbone towards a random head.

    Returns:
        The mean direction of each product's embeddings, float32 (D, K), for a loss to begin its centers at.
    """
    axes = principal_axes(features, _dimension(network))
    _set(network, axes)
    return mean_directions(features @ axes, labels)


def whiten_head(network: Network, features: Features, labels: NDArray[np.int32]) -> None:
    """Set the head so that what varies within products counts little (`whitened_axes`)."""
    _set(network, whitened_axes(features, labels, _dimension(network)))


def shorten_head(longer: Network, shorter: Network, features: Features) -> None:
    """Set the head of `shorter` to the principal axes of what the head of `longer` makes of the features.

    What told products apart stays in the first axes: a head that learned a few dozen products fills few.

    Args:
        longer: has the head that was trained, of D dimensions.
        shorter: the same network with fewer dimensions; its projection is set.
        features: pooled features (n, C) of photos.
    """
    kernel, bias = longer.projection.get_weights()
    flat = kernel.reshape(kernel.shape[2:])
    embeddings = features @ flat + bias
    axes = principal_axes(_unit(embeddings), _dimension(shorter))
    _set(shorter, flat @ axes, bias @ axes)


def principal_axes(features: Features, dimension: int) -> Features:
    """Return the first principal axes of features (n, C) about zero, as columns: float32 (C, D).

    Where there are fewer photos or channels than dimensions, small random axes fill up.
    """
    channels = features.shape[1]
    _, _, axes = np.linalg.svd(features, full_matrices=channels < dimension)
    axes = axes[:dimension]
    if len(axes) < dimension:
        filling = np.random.default_rng(0).normal(0, 0.01 / channels**0.5, (dimension - len(axes), channels))
        axes = np.concatenate([axes, filling])
    return np.asarray(axes.T, np.float32)


def whitened_axes(features: Features, labels: NDArray[np.int32], dimension: int) -> Features:
    """Return axes in which photos of one product vary alike in every direction: float32 (C, D).

    Light, background and pose move the features of a product more along some directions than along others;
    those count less here, so that what is left of a distance is rather another product. Within-class
    covariance normalization (Hatch, Kajarekar, Stolcke 2006), with a covariance shrunk half-way to its mean
    variance (Ledoit, Wolf 2004), then the principal axes of what it makes of the features. It knows how
    things vary, not which things there are, and so serves products that it never saw.

    Args:
        features: pooled features (n, C) of photos.
        labels: int32 (n,), the product of each, 0..K-1, each at least once.
        dimension: D.
    """
    rows = features.astype(np.float64)
    counts = np.bincount(labels)[:, None]
    sums = np.zeros((len(counts), rows.shape[1]))
    np.add.at(sums, labels, rows)
    within = rows - (sums / counts)[labels]
    covariance = within.T @ within / len(rows)
    mean_variance = np.trace(covariance) / len(covariance)
    if mean_variance <= 0:  # one photo a product: nothing is known of how they vary
        return principal_axes(features, dimension)
    shrunk = (1 - _SHRINK) * covariance + _SHRINK * mean_variance * np.eye(len(covariance))
    values, vectors = np.linalg.eigh(shrunk)
    # Scaled so that a mean direction keeps its length: int8 ranges stay where they were.
    whitening = (vectors * np.sqrt(mean_variance / values)) @ vectors.T
    whitened = np.asarray(rows @ whitening, np.float32)
    return np.asarray(whitening @ principal_axes(_unit(whitened), dimension), np.float32)


def mean_directions(embeddings: Features, labels: NDArray[np.int32]) -> Features:
    """Return the mean direction of each product's embeddings: float32 (D, K) of unit columns.

    Args:
        embeddings: (n, D), of any length but 0.
        labels: int32 (n,), each of 0..K-1 at least once.
    """
    unit = _unit(embeddings)
    means = np.stack([unit[labels == label].sum(axis=0) for label in range(labels.max() + 1)], axis=1)
    return np.asarray(means / np.linalg.norm(means, axis=0, keepdims=True), np.float32)


def _unit(vectors: Features) -> Features:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _dimension(network: Network) -> int:
    return int(network.projection.kernel.shape[3])


def _set(network: Network, axes: Features, bias: Features | None = None) -> None:
    kernel, _ = network.projection.get_weights()
    offset = np.zeros(axes.shape[1]) if bias is None else bias
    network.projection.set_weights([axes.reshape(kernel.shape), offset])
