"""Brings up Keras's backend for training: quiet, deterministic where it can be, on the accelerators.

TensorFlow is the default; JAX is taken where `KERAS_BACKEND=jax` is in the environment. What depends on the
backend is here and nowhere else in `cloud.training`.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from edge.errors import BadSetting

_BACKENDS = ("tensorflow", "jax")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a training runs on.

    Attributes:
        devices: their names.
        policy: a Keras dtype policy.
        strategy: a `tf.distribute.Strategy` that mirrors the network over several GPUs; None for one device.
        jit: whether XLA compiles a step; "auto" lets Keras choose.
        backend: what Keras stands on.
    """

    devices: tuple[str, ...]
    policy: str
    strategy: Any = None
    jit: bool | str = False
    backend: str = "tensorflow"

    @property
    def replicas(self) -> int:
        """Return how many copies of the network share a step."""
        return 1 if self.strategy is None else int(self.strategy.num_replicas_in_sync)

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which the variables of the training are made, and its steps run."""
        scope: AbstractContextManager[Any] = nullcontext() if self.strategy is None else self.strategy.scope()
        return scope

    def place(self, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Bring a batch to the accelerator: one part of equal shapes for each replica."""
        import keras

        if self.strategy is None:
            (whole,) = parts
            return {name: keras.ops.convert_to_tensor(array) for name, array in whole.items()}
        spread = self.strategy.experimental_distribute_values_from_function

        def of(name: str) -> Any:
            return spread(lambda context: parts[context.replica_id_in_sync_group][name])

        return {name: of(name) for name in parts[0]}

    def to_record(self) -> dict[str, object]:
        """Return what the run's `config.json` says of the machine."""
        import keras

        return {
            "backend": self.backend,
            "devices": list(self.devices),
            "policy": self.policy,
            "keras": keras.__version__,
            self.backend: metadata.version(self.backend),
            "python": platform.python_version(),
            "machine": platform.machine(),
        }


def prepare(seed: int) -> Machine:
    """Import Keras with its backend, seed it, and choose: GPUs in mixed precision, a CPU as it is.

    Raises:
        BadSetting: Keras or its backend is not installed, or it is one that training does not know.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    wanted = os.environ["KERAS_BACKEND"]
    if wanted not in _BACKENDS:
        raise BadSetting(f"Keras uses {wanted!r} here: set KERAS_BACKEND to {' or '.join(_BACKENDS)}")
    try:
        import keras
    except ImportError as error:
        raise BadSetting(
            f"training needs Keras and {wanted} ({error}): pip install 'shelfsight[train]'"
        ) from error
    backend = keras.config.backend()
    if backend != wanted:  # another part of this process was first
        raise BadSetting(f"Keras uses {backend!r} here already: train in a process of its own")
    keras.utils.set_random_seed(seed)
    return _with_jax() if backend == "jax" else _with_tensorflow()


def _with_tensorflow() -> Machine:
    """Choose from TensorFlow's devices; several GPUs are mirrored."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    policy = precision([each.get("compute_capability", (0, 0)) for each in details])
    names = tuple(gpu.name for gpu in gpus) or ("CPU",)
    if len(gpus) > 1:
        return Machine(names, policy, tf.distribute.MirroredStrategy())
    # On a CPU, XLA's convolutions are 16 times slower than oneDNN's.
    return Machine(names, policy, jit="auto" if gpus else False)


def _with_jax() -> Machine:
    """Choose JAX's first device; a step that is not compiled would take minutes."""
    import jax

    first = jax.devices()[0]
    if first.platform == "tpu":
        return Machine((str(first),), "mixed_bfloat16", jit=True, backend="jax")
    major, _, minor = str(getattr(first, "compute_capability", "0.0")).partition(".")
    capabilities = [(int(major), int(minor or 0))] if first.platform == "gpu" else []
    return Machine((str(first),), precision(capabilities), jit=True, backend="jax")


def precision(capabilities: Sequence[tuple[int, int]]) -> str:
    """Choose the Keras dtype policy for GPUs of these compute capabilities; none of them is a CPU.

    bfloat16 has the range of float32 and needs no loss scaling, which in mirrored replicas gave a loss that
    is no number; a lone GPU from before Ampere (8.0) has only float16.
    """
    if not capabilities:
        return "float32"
    modern = all(capability >= (8, 0) for capability in capabilities)
    return "mixed_bfloat16" if modern or len(capabilities) > 1 else "mixed_float16"
