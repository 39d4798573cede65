"""Ends a process together with the one that started it, even in the middle of foreign code."""

import fcntl
import os
import select
import signal


def die_with(lifeline: int) -> None:
    """Have the kernel kill this process when the other end of the pipe `lifeline` closes.

    Nothing is ever written to it. No thread could see to it: foreign code that hangs while it is loaded holds
    the interpreter's lock. And the kernel's death signal comes when the parent's thread ends that started the
    child, which is too early.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # it has closed already
        os._exit(0)
