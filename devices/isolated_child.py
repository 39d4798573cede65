"""The other side of `devices.isolated`: a process that runs one network by one delegate, and may die of it.

Started as `python -m devices.isolated_child JOB`, where JOB is JSON; it never prints.
"""

import contextlib
import gc
import json
import mmap
import os
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

from devices.isolated import DONE, EMBED, Layout
from devices.lifeline import die_with
from edge.chatter import without_chatter
from edge.delegates import Delegate
from edge.embedder import Embedder
from edge.errors import ShelfsightError


def main(job: dict[str, Any]) -> None:
    """Open the network, then take a turn for every byte from the parent, until it closes the pipe.

    Ends without the interpreter's own end, in which a vendor's library might still die.
    """
    die_with(job["lifeline"])
    # A core dump of an accelerator's memory takes seconds, in which the parent would wait.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(BrokenPipeError):
        try:
            embedder = _open(job)
        except ShelfsightError as error:
            _answer(job, {"error": error.code, "message": str(error)})
        else:
            _serve(job, embedder)
            with without_chatter():
                del embedder
                gc.collect()
    os._exit(0)


def _serve(job: dict[str, Any], embedder: Embedder) -> None:
    middle = np.full((job["input_size"], job["input_size"], 3), 128, np.uint8)
    try:
        local_shape = embedder.embed(middle).local.shape
    except ShelfsightError as error:
        _answer(job, {"error": error.code, "message": str(error)})
        return
    height, width, dimension = local_shape
    layout = Layout(job["input_size"], (height, width, dimension))
    os.ftruncate(job["memory"], layout.size)
    memory = mmap.mmap(job["memory"], layout.size)
    picture, vector, local = layout.picture(memory), layout.vector(memory), layout.local(memory)
    _answer(job, {"runtime": embedder.runtime, "delegate": embedder.delegate, "local_shape": local_shape})
    while turn := os.read(job["turns"], 1):
        try:
            if turn == EMBED:
                seen = embedder.embed(picture)
                vector[...], local[...] = seen.vector, seen.local
            else:
                embedder.invoke(picture)
        except ShelfsightError as error:
            _answer(job, {"error": error.code, "message": str(error)})
        else:
            os.write(job["answers"], DONE)


def _open(job: dict[str, Any]) -> Embedder:
    return Embedder.open(
        Path(job["path"]),
        dimension=job["dimension"],
        input_size=job["input_size"],
        threads=job["threads"],
        runtime=job["runtime"],
        delegate=Delegate(**job["delegate"]),
        library=job["library"],
    )


def _answer(job: dict[str, Any], said: dict[str, Any]) -> None:
    os.write(job["answers"], json.dumps(said).encode() + b"\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
