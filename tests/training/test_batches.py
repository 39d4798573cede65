"""Batches are made beside the training, and it is told how long it waited for them."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from cloud.training.recipe import Recipe

pytestmark = pytest.mark.training
RECIPE = replace(
    Recipe(), batch=6, input_size=32, picture_size=40, dropout=0.25, packshots_per_batch=2, seed=5
)


def make(parts: int = 1):  # type: ignore[no-untyped-def]  # what it returns is imported with Keras
    from cloud.training.batches import BatchMaker, FittedPhotos

    pictures = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((40, 40, 3), np.uint8)
    labels = (np.arange(20) % 5).astype(np.int32)
    photos = FittedPhotos(pictures, labels, labels % 2, np.arange(20) >= 15)
    return BatchMaker(photos, RECIPE, 32, 64, parts)


def test_batches_follow_from_seed_and_step() -> None:
    means = np.eye(5, dtype=np.float32)
    first, again, other = (list(make().epoch(epoch, means)) for epoch in (1, 1, 2))
    assert len(first) == make().shape().steps == 5
    for (one,), (same,), (different,) in zip(first, again, other, strict=True):
        for name, array in one.items():
            np.testing.assert_array_equal(array, same[name])
        assert not np.array_equal(one["box"], different["box"])
        np.testing.assert_array_equal(one["pictures"][:, 0, 0, 0] % 5, one["labels"])


def test_a_batch_is_divided_among_replicas_without_loss() -> None:
    means = np.eye(5, dtype=np.float32)
    for (whole,), halves in zip(make().epoch(0, means), make(2).epoch(0, means), strict=True):
        assert [len(half["labels"]) for half in halves] == [3, 3]
        np.testing.assert_array_equal(np.concatenate([half["labels"] for half in halves]), whole["labels"])
        assert not np.array_equal(halves[0]["box"], halves[1]["box"])


def test_dropped_features_leave_the_mean_as_it_was() -> None:
    left = np.concatenate([parts[0]["left"] for parts in make().epoch(0, np.eye(5, dtype=np.float32))])
    assert left.shape == (30, 64)
    assert set(np.unique(left)) == {0, np.float32(1 / 0.75)}
    assert abs(left.mean() - 1) < 0.05


def test_waiting_is_measured_and_the_order_kept() -> None:
    from cloud.training.batches import Prefetched

    def slow() -> Iterator[int]:
        for number in range(4):
            time.sleep(0.05)
            yield number

    with Prefetched(slow()) as prefetched:
        assert list(prefetched) == [0, 1, 2, 3]
    assert 0.15 < prefetched.waited < 5


def test_an_error_of_the_thread_reaches_the_training() -> None:
    from cloud.training.batches import Prefetched

    def broken() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    with Prefetched(broken()) as prefetched, pytest.raises(OSError, match="the disk is gone"):
        list(prefetched)


def test_the_thread_ends_with_a_training_that_stops_early() -> None:
    from cloud.training.batches import Prefetched

    with Prefetched(iter(range(1000))) as prefetched:
        assert next(iter(prefetched)) == 0
    assert not any(thread.name == "batches" for thread in threading.enumerate())
