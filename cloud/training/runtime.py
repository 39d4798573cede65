"""Brings up TensorFlow for training: quiet, deterministic, on all the GPUs there are."""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from edge.errors import BadSetting


@dataclass(frozen=True, slots=True)
class Machine:
    """What a training runs on. `strategy` is a `tf.distribute.Strategy`, `policy` a Keras dtype policy."""

    devices: tuple[str, ...]
    policy: str
    strategy: Any

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which the variables of the training are made."""
        scope: AbstractContextManager[Any] = self.strategy.scope()
        return scope


def prepare(seed: int) -> Machine:
    """Import TensorFlow, seed it, and choose: GPUs in mixed precision and mirrored, a CPU as it is.

    Raises:
        BadSetting: TensorFlow or Keras is not installed, or Keras was told to use another backend.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        import keras
        import tensorflow as tf
    except ImportError as error:
        raise BadSetting(
            f"training needs TensorFlow and Keras ({error}): pip install 'shelfsight[train]'"
        ) from error
    if keras.config.backend() != "tensorflow":
        raise BadSetting(
            f"Keras uses {keras.config.backend()!r} here: set KERAS_BACKEND=tensorflow in the environment"
        )
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    gpus = tuple(device.name for device in tf.config.list_physical_devices("GPU"))
    strategy = tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    return Machine(gpus or ("CPU",), "mixed_float16" if gpus else "float32", strategy)
