"""Brings up TensorFlow for training: quiet, deterministic, on all the GPUs there are."""

import os
from collections.abc import Sequence
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
    gpus = tf.config.list_physical_devices("GPU")
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus
    ]
    strategy = tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    names = tuple(gpu.name for gpu in gpus) or ("CPU",)
    return Machine(names, precision(capabilities), strategy)


def precision(capabilities: Sequence[tuple[int, int]]) -> str:
    """Choose the Keras dtype policy for GPUs of these compute capabilities; none of them is a CPU.

    bfloat16 has the range of float32 and needs no loss scaling, which in mirrored replicas gave a loss that
    is no number; a lone GPU from before Ampere (8.0) has only float16.
    """
    if not capabilities:
        return "float32"
    modern = all(capability >= (8, 0) for capability in capabilities)
    return "mixed_bfloat16" if modern or len(capabilities) > 1 else "mixed_float16"
