"""Answer many photos on all cores: each core has a process of its own, with the release opened in it.

Threads would share one interpreter, and of an answer a sixth is Python: two of them answer 1.6 times as many
photos, two processes nearly twice.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from devices.config import Settings
from devices.device import Device
from edge.delegates import find_delegate
from edge.errors import SkipPhoto
from edge.image import load_photo
from edge.matcher import Answer

FEWEST = 100
"""Photos from which processes of their own are worth the half second that they take to start."""

_AT_A_TIME = 16
_device: Device | None = None  # of a process that answers


def answer_photos(
    device: Device, paths: Sequence[Path], *, processes: int | None = None
) -> Iterator[tuple[Path, Answer | SkipPhoto]]:
    """Answer photos from the release of `device`, in their order, on so many cores (None: on all of them).

    A photo that cannot be answered gives its error instead. Answers that other processes gave are without
    their embedding. An accelerator cannot be shared: photos are then answered one after the other.

    Raises:
        NoRelease, RuntimeMissing, StepBack, KeepRelease, NextDelegate: as `Device.see` does.
    """
    count = _processes(device, len(paths)) if processes is None else processes
    if count < 2:
        for path in paths:
            yield path, _answer(device, path)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # A fresh interpreter: a fork would carry the runtime's threads along as they were, half asleep.
    pool = ProcessPoolExecutor(count, get_context("spawn"), _open, (device.settings,))
    with pool:
        yield from zip(paths, pool.map(_answer_apart, paths, chunksize=_AT_A_TIME), strict=True)


def _processes(device: Device, photos: int) -> int:
    if photos < FEWEST or find_delegate(device.matcher().embedder.delegate).isolated:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // device.settings.threads)


def _answer(device: Device, path: Path) -> Answer | SkipPhoto:
    try:
        return device.see(load_photo(path))
    except SkipPhoto as error:
        return error


def _open(settings: Settings) -> None:
    global _device  # noqa: PLW0603 - a process of the pool has nothing else that lasts
    _device = Device(settings, tells=False)


def _answer_apart(path: Path) -> Answer | SkipPhoto:
    assert _device is not None
    found = _answer(_device, path)
    return replace(found, embedding=None) if isinstance(found, Answer) else found
