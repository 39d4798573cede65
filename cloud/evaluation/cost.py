"""What a model costs a device: its bytes, and the time of one run of its network beside a known one's."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cloud.evaluation.bench import Progress
from edge.embedder import open_runner
from edge.model import Model, Variant

_WARM_UP: Final = 20
_ROUNDS: Final = 400
_UNDISTURBED: Final = 10  # percent of the runs that nothing else got in the way of, even on a busy machine


@dataclass(frozen=True, slots=True)
class InvokeTimes:
    """Milliseconds of an undisturbed run of each of two networks, one thread, taken in turn."""

    model_ms: float
    baseline_ms: float
    baseline: str

    @property
    def ratio(self) -> float:
        """How many times the baseline's time the model takes."""
        return self.model_ms / self.baseline_ms


def measure_invoke(model: Model, variant: Variant, baseline: Path, progress: Progress) -> InvokeTimes:
    """Time the model's network beside another one, run by run, so that both have the same machine.

    What counts is the time that one run in ten stays below: what else the machine does only ever adds.

    Raises:
        ModelBroken: one of the files does not load.
        Incompatible: one is made for an Edge TPU.
        RuntimeMissing: no TFLite runtime runs here.
    """
    runs = (open_runner(model.path(variant)), open_runner(baseline))
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(_WARM_UP + _ROUNDS):
        # Each time the other first: neither gets the warmer caches.
        for which in (0, 1) if number % 2 else (1, 0):
            times[which].append(_milliseconds(runs[which]))
        progress("Timing the network", number + 1, _WARM_UP + _ROUNDS)
    model_ms, baseline_ms = (float(np.percentile(each[_WARM_UP:], _UNDISTURBED)) for each in times)
    return InvokeTimes(model_ms, baseline_ms, baseline.name)


def _milliseconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - began)
