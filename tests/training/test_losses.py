"""Every loss says what its paper says, and it can be learned from."""

import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from cloud.training import recipe as recipes
from cloud.training.losses import (
    ArcFace,
    CosineSoftmax,
    MultiSimilarity,
    ProductLoss,
    ProxyAnchor,
    SubCenterArcFace,
    SupervisedContrastive,
    make_losses,
)
from cloud.training.recipe import Recipe
from edge.errors import BadSetting
from tests.training.losses_on_jax import (
    ALL,
    DIMENSION,
    OF_PAIRS,
    PRODUCTS,
    WITH_CENTERS,
    some_batch,
    unit_rows,
)

pytestmark = pytest.mark.training


def value(loss: ProductLoss, embeddings: np.ndarray, labels: np.ndarray) -> float:
    return float(loss(ops.convert_to_tensor(embeddings), ops.convert_to_tensor(labels)))


def gradient(loss: ProductLoss, embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the loss's gradient by the embeddings, (n, D)."""
    vectors = tf.constant(embeddings)
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        result = loss(vectors, tf.constant(labels))
    return np.asarray(tape.gradient(result, vectors).numpy())


def cross_entropy(scores: np.ndarray, labels: np.ndarray, smoothing: float = 0.0) -> float:
    """Compute it row by row from the definition."""
    total = 0.0
    for row, label in zip(scores.astype(np.float64), labels, strict=True):
        shares = np.exp(row) / np.exp(row).sum()
        target = np.full(len(row), smoothing / len(row))
        target[label] += 1 - smoothing
        total -= float(target @ np.log(shares))
    return total / len(labels)


def test_cosine_softmax_is_the_smoothed_cross_entropy_of_scaled_cosines() -> None:
    embeddings, labels, centers = some_batch()
    loss = CosineSoftmax(PRODUCTS, scale=12.0, smoothing=0.2)
    loss.begin(centers)
    expected = cross_entropy(12 * embeddings @ centers, labels, 0.2)
    assert value(loss, embeddings, labels) == pytest.approx(expected, rel=1e-5)


def test_a_center_bias_is_added_to_the_cosines() -> None:
    embeddings, labels, centers = some_batch()
    loss = CosineSoftmax(PRODUCTS, scale=12.0, bias=True)
    loss.begin(centers)
    biases = np.linspace(-0.5, 0.5, PRODUCTS).astype(np.float32)
    loss.bias.assign(biases)
    scores = 12 * (embeddings @ centers + biases)
    assert value(loss, embeddings, labels) == pytest.approx(cross_entropy(scores, labels), rel=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(loss.logits(embeddings)), scores, rtol=1e-4, atol=1e-5)


def arcface_scores(cosines: np.ndarray, labels: np.ndarray, scale: float, margin: float) -> np.ndarray:
    scores = cosines.astype(np.float64)
    for row, label in enumerate(labels):
        angle = math.acos(np.clip(scores[row, label], -1, 1))
        beyond = scores[row, label] - margin * math.sin(margin)
        scores[row, label] = math.cos(angle + margin) if angle + margin < math.pi else beyond
    return scale * scores


@pytest.mark.parametrize("margin", [0.0, 0.3, 1.2])
def test_arcface_adds_the_margin_to_the_angle_of_the_right_product(margin: float) -> None:
    embeddings, labels, centers = some_batch(count=40)
    loss = ArcFace(PRODUCTS, scale=12.0, margin=margin)
    loss.begin(centers)
    expected = cross_entropy(arcface_scores(embeddings @ centers, labels, 12, margin), labels)
    assert value(loss, embeddings, labels) == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(
        ops.convert_to_numpy(loss.logits(embeddings)), 12 * embeddings @ centers, rtol=1e-4, atol=1e-4
    )


def test_arcface_never_costs_less_for_a_larger_angle() -> None:
    angles = np.linspace(0, math.pi, 181)
    embeddings = np.stack([np.cos(angles), np.sin(angles), np.zeros(181)], axis=1).astype(np.float32)
    loss = ArcFace(2, scale=8.0, margin=0.5)
    loss.begin(np.array([[1, 0], [0, 0], [0, 1]], np.float32))
    costs = [value(loss, row[None], np.zeros(1, np.int32)) for row in embeddings]
    assert np.all(np.diff(costs) > -1e-6)


def test_sub_center_arcface_counts_the_nearest_center_of_each_product() -> None:
    embeddings, labels, _ = some_batch(count=40)
    several = np.random.default_rng(1).normal(size=(3, DIMENSION, PRODUCTS))
    several /= np.linalg.norm(several, axis=1, keepdims=True)
    loss = SubCenterArcFace(PRODUCTS, sub_centers=3, scale=12.0, margin=0.3)
    loss.begin(several[0])
    loss.kernel.assign(np.concatenate(list(several), axis=1))
    nearest = np.max([embeddings @ centers for centers in several], axis=0)
    expected = cross_entropy(arcface_scores(nearest, labels, 12, 0.3), labels)
    assert value(loss, embeddings, labels) == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(
        ops.convert_to_numpy(loss.logits(embeddings)), 12 * nearest, rtol=1e-4, atol=1e-4
    )


def test_proxy_anchor_draws_the_own_photos_and_pushes_the_others() -> None:
    embeddings, labels, centers = some_batch()
    labels[labels == 4] = 3  # a product without photos in the batch pushes only
    scale, margin = 16.0, 0.2
    cosines = (embeddings @ centers).astype(np.float64)
    draws, pushes = [], []
    for product in range(PRODUCTS):
        own = labels == product
        if own.any():
            draws.append(math.log(1 + np.exp(-scale * (cosines[own, product] - margin)).sum()))
        pushes.append(math.log(1 + np.exp(scale * (cosines[~own, product] + margin)).sum()))
    loss = ProxyAnchor(PRODUCTS, scale=scale, margin=margin)
    loss.begin(centers)
    expected = np.mean(draws) + np.mean(pushes)
    assert value(loss, embeddings, labels) == pytest.approx(float(expected), rel=1e-5)


def test_multi_similarity_weighs_the_pairs_that_are_out_of_order() -> None:
    embeddings, labels, _ = some_batch(count=12)
    labels[0] = 99  # the only photo of its product: nothing to compare
    a, b, threshold, slack = 2.0, 50.0, 0.5, 0.1
    similarities = (embeddings @ embeddings.T).astype(np.float64)
    total, skipped = 0.0, 0
    for i in range(12):
        same = [j for j in range(12) if labels[j] == labels[i] and j != i]
        other = [j for j in range(12) if labels[j] != labels[i]]
        if not same:
            skipped += 1
            continue
        farthest, nearest = similarities[i, same].min(), similarities[i, other].max()
        positive = [s for s in similarities[i, same] if s < nearest + slack]
        negative = [s for s in similarities[i, other] if s > farthest - slack]
        total += math.log(1 + sum(math.exp(-a * (s - threshold)) for s in positive)) / a
        total += math.log(1 + sum(math.exp(b * (s - threshold)) for s in negative)) / b
    assert skipped
    assert value(MultiSimilarity(), embeddings, labels) == pytest.approx(total / 12, rel=1e-4)


def test_multi_similarity_learns_nothing_from_pairs_that_are_in_order() -> None:
    embeddings = np.array([[1, 0], [1, 0], [-1, 0], [-1, 0]], np.float32)
    assert value(MultiSimilarity(), embeddings, np.array([0, 0, 1, 1], np.int32)) == 0


def test_supervised_contrastive_finds_the_partners_among_all_other_photos() -> None:
    embeddings, labels, _ = some_batch(count=12)
    labels[0] = 99
    scores = (embeddings @ embeddings.T).astype(np.float64) / 0.2
    total = 0.0
    for i in range(12):
        others = [j for j in range(12) if j != i]
        same = [j for j in others if labels[j] == labels[i]]
        everyone = math.log(sum(math.exp(scores[i, j]) for j in others))
        total += sum(everyone - scores[i, j] for j in same) / max(1, len(same))
    loss = SupervisedContrastive(temperature=0.2)
    assert value(loss, embeddings, labels) == pytest.approx(total / 12, rel=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_a_gradient_agrees_with_a_small_step(name: str) -> None:
    embeddings, labels, centers = some_batch(3)
    loss = ALL[name]()
    loss.begin(centers)
    direction = np.random.default_rng(4).normal(size=embeddings.shape).astype(np.float32)
    step = 1e-3
    there, back = (value(loss, embeddings + sign * step * direction, labels) for sign in (1, -1))
    slope = float((gradient(loss, embeddings, labels) * direction).sum())
    assert slope == pytest.approx((there - back) / (2 * step), rel=0.02, abs=0.01)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 2, 3]])
def test_a_gradient_is_finite_where_embeddings_are_identical_or_opposite(
    name: str, sign: int, labels: list[int]
) -> None:
    same = np.eye(DIMENSION, dtype=np.float32)[[0, 0, 0, 0]]
    embeddings = same * np.array([[1], [sign], [1], [sign]], np.float32)
    loss = ALL[name]()
    loss.begin(np.eye(DIMENSION, PRODUCTS, dtype=np.float32))  # the first center is the embeddings too
    numbers = np.array(labels, np.int32)
    assert np.isfinite(value(loss, embeddings, numbers))
    assert np.isfinite(gradient(loss, embeddings, numbers)).all()


@pytest.mark.parametrize("name", recipes.LOSSES)
def test_the_largest_scale_of_a_recipe_overflows_nowhere(name: str) -> None:
    embeddings, _, centers = some_batch(4)
    embeddings[:4] = centers.T[0]  # as near to one center as can be, rightly and wrongly
    labels = np.array([0, 1, 2, 0, 1, 2, 3, 4, 4], np.int32)
    ((_, _, loss),) = make_losses(Recipe(losses={name: 1.0}, softmax_scale=256.0), PRODUCTS)
    loss.begin(centers)
    assert 0 < value(loss, embeddings, labels) < 1000
    assert np.isfinite(gradient(loss, embeddings, labels)).all()


@pytest.mark.parametrize("name", WITH_CENTERS)
def test_the_loss_falls_as_an_embedding_moves_to_the_center_of_its_product(name: str) -> None:
    embeddings, labels, centers = some_batch(5)
    loss = WITH_CENTERS[name]()
    loss.begin(np.linalg.qr(centers)[0])  # apart from each other, so that no way leads past a wrong one
    centers = ops.convert_to_numpy(loss.kernel)[:, :PRODUCTS]
    costs = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        moved = embeddings.copy()
        moved[2] = (1 - share) * embeddings[2] + share * centers[:, labels[2]]
        costs.append(value(loss, unit_rows(moved), labels))
    assert np.all(np.diff(costs) < 0)


@pytest.mark.parametrize("name", OF_PAIRS)
def test_a_loss_of_pairs_falls_as_a_product_s_photos_move_together(name: str) -> None:
    embeddings, _, _ = some_batch(6, count=8)
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 3], np.int32)
    loss = OF_PAIRS[name]()
    costs = []
    for share in (0.0, 0.3, 0.6, 0.9):
        means = np.repeat(embeddings.reshape(4, 2, -1).mean(axis=1), 2, axis=0)
        costs.append(value(loss, unit_rows((1 - share) * embeddings + share * means), labels))
    assert np.all(np.diff(costs) < 0)


@pytest.mark.parametrize("name", WITH_CENTERS)
def test_a_loss_begins_with_the_directions_of_the_means(name: str) -> None:
    _, _, centers = some_batch()
    loss = WITH_CENTERS[name]()
    loss.begin(3 * centers)
    np.testing.assert_allclose(ops.convert_to_numpy(loss.kernel)[:, :PRODUCTS], centers, atol=1e-6)
    scores = ops.convert_to_numpy(loss.logits(ops.convert_to_tensor(centers.T)))
    assert (scores.argmax(axis=1) == np.arange(PRODUCTS)).all()


def test_sub_centers_begin_near_the_mean_but_apart() -> None:
    _, _, centers = some_batch()
    loss = SubCenterArcFace(PRODUCTS, sub_centers=3)
    loss.begin(centers)
    kernel = ops.convert_to_numpy(loss.kernel).reshape(DIMENSION, 3, PRODUCTS)
    to_mean = np.einsum("djk,dk->jk", kernel, centers)
    assert (to_mean > 0.8).all() and (to_mean[1:] < 0.9999).all()


@pytest.mark.parametrize("name", WITH_CENTERS)
def test_a_product_without_photos_begins_without_a_direction_and_does_no_harm(name: str) -> None:
    embeddings, labels, centers = some_batch()
    centers[:, 4] = 0
    labels[labels == 4] = 0
    loss = WITH_CENTERS[name]()
    loss.begin(centers)
    assert np.isfinite(value(loss, embeddings, labels))
    assert np.isfinite(gradient(loss, embeddings, labels)).all()


@pytest.mark.parametrize("name", OF_PAIRS)
def test_a_loss_of_pairs_has_no_centers(name: str) -> None:
    embeddings, _, centers = some_batch()
    loss = OF_PAIRS[name]()
    loss.begin(centers)
    assert loss.weights == []
    assert loss.logits(embeddings) is None


@pytest.mark.parametrize("name", ALL)
def test_a_loss_computes_in_float32_under_mixed_precision(name: str) -> None:
    embeddings, labels, centers = some_batch()
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        loss = ALL[name]()
        loss.begin(centers)
        result = loss(ops.cast(embeddings, "bfloat16"), ops.convert_to_tensor(labels))
    finally:
        keras.config.set_dtype_policy(before)
    assert keras.backend.standardize_dtype(result.dtype) == "float32"


@pytest.mark.parametrize("name", WITH_CENTERS)
def test_an_optimizer_s_steps_lower_the_loss_and_leave_the_centers_at_unit_length(name: str) -> None:
    embeddings, labels, centers = some_batch(7)
    inputs = keras.Input((DIMENSION,)), keras.Input((), dtype="int32")
    loss = WITH_CENTERS[name]()
    model = keras.Model(inputs, loss(*inputs))
    loss.begin(centers)
    before = value(loss, embeddings, labels)
    model.compile(keras.optimizers.AdamW(0.05), loss=lambda _, cost: ops.mean(cost), jit_compile=False)
    for _ in range(5):
        model.train_on_batch((embeddings, labels), np.zeros(len(labels), np.float32))
    assert value(loss, embeddings, labels) < before
    lengths = np.linalg.norm(ops.convert_to_numpy(loss.kernel), axis=0)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_a_recipe_s_losses_are_made_with_its_settings_and_weights() -> None:
    recipe = Recipe(
        losses={"arcface": 1.0, "supervised_contrastive": 0.5, "proxy_anchor": 0.0},
        softmax_scale=20.0,
        margin=0.25,
        label_smoothing=0.05,
        center_bias=True,
    )
    (arcface, one, first), (contrastive, half, second) = make_losses(recipe, PRODUCTS)
    assert (arcface, one, contrastive, half) == ("arcface", 1.0, "supervised_contrastive", 0.5)
    assert isinstance(first, ArcFace) and isinstance(second, SupervisedContrastive)
    assert (first.scale, first.margin, first.smoothing, first.has_bias) == (20.0, 0.25, 0.05, True)
    assert second.temperature == pytest.approx(1 / 20)


def test_every_loss_that_a_recipe_may_name_is_made_and_learns() -> None:
    embeddings, labels, centers = some_batch()
    recipe = Recipe(losses=dict.fromkeys(recipes.LOSSES, 1.0))
    made = make_losses(recipe, PRODUCTS)
    assert [name for name, _, _ in made] == list(recipes.LOSSES)
    for _, _, loss in made:
        loss.begin(centers)
        assert np.abs(gradient(loss, embeddings, labels)).max() > 1e-4


def test_an_unknown_loss_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(BadSetting, match=r"'triplet'.*proxy_anchor"):
        make_losses(Recipe(losses={"triplet": 1.0}), PRODUCTS)


@pytest.mark.parametrize("name", OF_PAIRS)
def test_a_loss_of_pairs_is_refused_where_no_batch_has_a_pair(name: str) -> None:
    recipe = Recipe(losses={name: 1.0}, products_per_batch=8, photos_per_product=1)
    with pytest.raises(BadSetting, match=f"{name}.*at least 2"):
        make_losses(recipe, PRODUCTS)


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_tensorflow_and_jax_agree_on_every_loss_and_its_gradient(tmp_path: Path) -> None:
    embeddings, labels, centers = some_batch(8)
    theirs = tmp_path / "jax.npz"
    program = Path(__file__).with_name("losses_on_jax.py")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, program, theirs], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with np.load(theirs) as found:
        for name, make in ALL.items():
            loss = make()
            loss.begin(centers)
            assert value(loss, embeddings, labels) == pytest.approx(float(found[name]), rel=1e-4)
            slopes = gradient(loss, embeddings, labels)
            np.testing.assert_allclose(slopes, found[f"{name} gradient"], rtol=1e-3, atol=1e-5)
