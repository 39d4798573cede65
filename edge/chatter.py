"""Keeps what runtimes say of themselves off the standard error, and passes real complaints on."""

import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import IO

_lock = Lock()
# Information, as TFLite and TensorFlow's log mark it, and three lines that they put around their own.
_CHATTER = re.compile(
    rb"INFO: |I\d{4} |WARNING: All log messages before absl|WARNING: Logging before Init"
    rb"|To enable the following instr"
)


@contextmanager
def without_chatter() -> Iterator[list[str]]:
    """Keep a runtime's information and deprecation warnings off the standard error; the rest is passed on.

    Give the list that will hold the lines passed on, once the block has ended: what fails in C++ tells its
    cause there, and not in the exception. Runtimes write past Python's `sys.stderr`, hence the descriptor
    itself is turned aside.
    """
    complaints: list[str] = []
    with _lock, warnings.catch_warnings(), _open_scratch() as aside:
        warnings.simplefilter("ignore")
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            kept = os.dup(2)
        except OSError:  # a service without a standard error
            yield complaints
            return
        os.dup2(aside.fileno(), 2)
        try:
            yield complaints
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            aside.seek(0)
            told = [line for line in aside if not _CHATTER.match(line)]
            complaints.extend(line.decode(errors="replace").strip() for line in told)
            if told:
                os.write(2, b"".join(told))


def _open_scratch() -> IO[bytes]:
    """Open a file without a name: in memory where there is a choice, for a device's disk may be read-only."""
    in_memory: Callable[[str], int] | None = getattr(os, "memfd_create", None)
    return tempfile.TemporaryFile() if in_memory is None else os.fdopen(in_memory("shelfsight"), "w+b")
