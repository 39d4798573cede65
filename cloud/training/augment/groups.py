"""Chooses which views of a batch an effect works on, and puts what it did back among the others.

An effect on a share of the views works on a group of a fixed size, not on all of them under a mask: so it
costs its share, and the shapes of a batch never change. Every array of parameters has one row a view; an
effect reads the first rows of its own, as many as its group has, and `..._order` names the view that each row
is of.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

Parameters = dict[str, NDArray[Any]]


def group_size(share: float, count: int) -> int:
    """Return how many of `count` views an effect on that share of them works on; at least one, unless 0."""
    return min(count, max(1, round(share * count))) if share > 0 else 0


def draw_order(rng: np.random.Generator, count: int) -> NDArray[np.int32]:
    """Draw which view each row is of: int32 (n,), each view once."""
    return rng.permutation(count).astype(np.int32)


def on_group(views: Any, order: Any, size: int, change: Callable[[Any], Any]) -> Any:
    """Return `views` (n, ...) with the first `size` views that `order` names replaced by `change` of them."""
    return put_back(views, order, change(ops.take(views, order[:size], axis=0)))


def put_back(views: Any, order: Any, changed: Any) -> Any:
    """Return `views` (n, ...) with `changed` (k, ...) in the places of the first k views that `order` names.

    They are gathered, not scattered: TensorFlow, told to be deterministic, scatters on the host alone.
    """
    count = views.shape[0]
    row = ops.argsort(order)
    source = ops.where(row < changed.shape[0], count + row, ops.arange(count, dtype="int32"))
    return ops.take(ops.concatenate([views, ops.cast(changed, views.dtype)], axis=0), source, axis=0)
