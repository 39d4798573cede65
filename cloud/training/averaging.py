"""Averages of weights over the steps of a training, and between its beginning and its end."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras
import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value")


def read_values(variables: Sequence[Any]) -> list[NDArray[Any]]:
    """Copy the values of Keras variables."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assign_values(variables: Sequence[Any], values: Sequence[NDArray[Any]]) -> None:
    """Set as many Keras variables as there are values."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def with_averages(optimizer: Any, variables: Sequence[Any], read: Callable[[], Value]) -> Value:
    """Call `read` while trained variables hold their moving averages; afterwards they are as they were.

    The optimizer keeps the averages (Polyak and Juditsky 1992) as variables of its own, so that they are part
    of its state in a checkpoint. One without `use_ema` has none, and `read` sees the variables as they are.

    Args:
        optimizer: a Keras optimizer that was built with `variables`.
        variables: the variables it trains, in its order.
        read: what to do with the averages.
    """
    keeper = getattr(optimizer, "inner_optimizer", optimizer)  # what scales the loss has one inside
    if not keeper.use_ema:
        return read()
    trained = read_values(variables)
    keeper.finalize_variable_values(variables)
    try:
        return read()
    finally:
        assign_values(variables, trained)


def interpolate(
    begun: Sequence[NDArray[Any]], trained: Sequence[NDArray[Any]], keep: float
) -> list[NDArray[np.float32]]:
    """Mix two sets of weights: `keep * begun + (1 - keep) * trained` (Wortsman et al. 2022, WiSE-FT)."""
    return [
        (keep * old + (1 - keep) * new).astype(np.float32) for old, new in zip(begun, trained, strict=True)
    ]
