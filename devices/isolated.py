"""A network that is run in a process of its own, because a vendor's library may take its process with it.

    embedder = IsolatedEmbedder.open(path, dimension=256, input_size=224, delegate=find_delegate("edgetpu"))

Think of it as a glove box: the pictures go in and the embeddings come out through memory that both processes
have, a pipe tells whose turn it is, and what happens inside stays inside. A child that dies closes the pipe,
one that hangs lets the time run out; either way the caller has `DelegateFailed` and goes on. The child dies
with its parent, even in the middle of foreign code (`devices.isolated_child`).
"""

import json
import mmap
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.delegates import Delegate
from edge.embedder import Embedding
from edge.errors import DelegateFailed, DelegateMissing, Incompatible
from edge.image import Picture

OPEN_S: Final = 20.0
"""How long a delegate may take to be loaded and to run for the first time: some compile the network then."""

RUN_S: Final = 1.0
"""How long every later run may take before the delegate counts as hung."""

EMBED: Final = b"e"
INVOKE: Final = b"i"
DONE: Final = b"+\n"

_LEAVE_S: Final = 2.0  # for an orderly end: an accelerator wants to be let go
_ALIGNED: Final = 64
_ROOT: Final = str(Path(__file__).parent.parent)


class DelegateLost(DelegateFailed):
    """Its process died or hung; one that was only refused may be asked again with another network."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie in the memory that parent and child have in common; shapes and offsets in bytes."""

    input_size: int
    local_shape: tuple[int, int, int]

    @property
    def size(self) -> int:
        """How large the memory is."""
        return self._local_at + 4 * int(np.prod(self.local_shape))

    def picture(self, memory: mmap.mmap) -> NDArray[np.uint8]:
        """Return the picture, uint8 (input_size, input_size, 3)."""
        shape = (self.input_size, self.input_size, 3)
        return np.frombuffer(memory, np.uint8, self.input_size**2 * 3).reshape(shape)

    def vector(self, memory: mmap.mmap) -> NDArray[np.float32]:
        """Return the vector, float32 (dimension,)."""
        return np.frombuffer(memory, np.float32, self.local_shape[2], self._vector_at)

    def local(self, memory: mmap.mmap) -> NDArray[np.float32]:
        """Return the map, float32 (h, w, dimension)."""
        count = int(np.prod(self.local_shape))
        return np.frombuffer(memory, np.float32, count, self._local_at).reshape(self.local_shape)

    @property
    def _vector_at(self) -> int:
        return _aligned(self.input_size**2 * 3)

    @property
    def _local_at(self) -> int:
        return self._vector_at + _aligned(4 * self.local_shape[2])


class IsolatedEmbedder:
    """A network file, open in another process. It has what `edge.embedder.AnyEmbedder` has.

    Two releases may share it while one takes over from the other: it embeds for one thread at a time, and the
    others wait. After a failure it is closed, and every further call fails at once.
    """

    def __init__(self, child: "_Child", told: dict[str, Any], input_size: int, run_s: float) -> None:
        self._child = child
        self._run_s = run_s
        self._turn = threading.Lock()
        layout = Layout(input_size, tuple(told["local_shape"]))
        memory = mmap.mmap(child.memory, layout.size)
        self._picture, self._vector = layout.picture(memory), layout.vector(memory)
        self._local = layout.local(memory)
        self.runtime: str = told["runtime"]
        self.delegate: str = told["delegate"]

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        dimension: int,
        input_size: int,
        delegate: Delegate,
        threads: int = 1,
        runtime: str | None = None,
        library: str = "",
        open_s: float | None = None,
        run_s: float | None = None,
    ) -> "IsolatedEmbedder":
        """Open the network file at `path` by `delegate` in a new process, and run it once there.

        The other arguments are those of `edge.embedder.Embedder.open`. `open_s` and `run_s` are how many
        seconds the opening and each run may take; None: `OPEN_S` and `RUN_S`.

        Raises:
            DelegateMissing: the delegate's library is not here, or was made for another processor.
            DelegateFailed: it refuses the network, or its process died or hung.
        """
        child = _Child(delegate.name)
        job = {
            "path": str(path.absolute()),
            "dimension": dimension,
            "input_size": input_size,
            "threads": threads,
            "runtime": runtime,
            "delegate": asdict(delegate),
            "library": library,
        }
        child.start(job)
        told = child.hear(OPEN_S if open_s is None else open_s, "when it was opened")
        return cls(child, told, input_size, RUN_S if run_s is None else run_s)

    def embed(self, picture: Picture) -> Embedding:
        """Embed a picture that `edge.image.fit` brought to `uint8` (input_size, input_size, 3).

        Raises:
            Incompatible: a picture of another shape or dtype.
            DelegateFailed: its process died, hung, or answered with nothing usable.
        """
        with self._turn:
            self._take_turn(EMBED, picture)
            return Embedding(self._vector.copy(), self._local.copy())

    def invoke(self, picture: Picture) -> None:
        """Run the network on a picture and leave its answer unread.

        Raises:
            Incompatible: a picture of another shape or dtype.
            DelegateFailed: its process died or hung.
        """
        with self._turn:
            self._take_turn(INVOKE, picture)

    def close(self) -> None:
        """End the child; called again, it does nothing."""
        self._child.end()

    @property
    def process_id(self) -> int:
        """The id of the child's process."""
        return self._child.process_id

    def _take_turn(self, turn: bytes, picture: Picture) -> None:
        if picture.shape != self._picture.shape or picture.dtype != np.uint8:
            raise Incompatible(
                f"the model takes uint8 {self._picture.shape}, not {picture.dtype} {picture.shape}: "
                "bring the picture to its size with edge.image.fit"
            )
        self._picture[...] = picture
        self._child.tell(turn)
        self._child.hear(self._run_s, "in use")


class _Child:
    """The process, and the pipes to it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.memory = -1
        self.process_id = -1

    def start(self, job: dict[str, Any]) -> None:
        """Start the process, and hand it the work and its ends of everything.

        Raises:
            DelegateMissing: this is no Linux.
            DelegateFailed: the system refuses another process.
        """
        if sys.platform != "linux":
            raise DelegateMissing(
                f"delegate {self._name} runs in a process of its own, which takes Linux: choose another one"
            )
        self.memory = os.memfd_create("shelfsight", os.MFD_CLOEXEC)
        turns, self._turns = os.pipe()
        self._answers, answers = os.pipe()
        lifeline, kept = (
            os.pipe()
        )  # nothing is ever written: it closes when this process ends, however it ends
        theirs = {"turns": turns, "answers": answers, "lifeline": lifeline, "memory": self.memory}
        path = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "devices.isolated_child", json.dumps({**job, **theirs})],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=tuple(theirs.values()),
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is for the parent, which ends the child
            )
        except OSError as error:
            _close([turns, self._turns, self._answers, answers, lifeline, kept, self.memory])
            reason = (error.strerror or "no reason").lower()
            raise DelegateFailed(f"no process for delegate {self._name} can be started ({reason})") from error
        _close([turns, answers, lifeline])
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)
        self.process_id = process.pid
        # Whether it is closed, forgotten, or the program ends.
        ours = [self._answers, self.memory, kept]
        self._process = process
        self._finalizer = weakref.finalize(self, _end, process, self._turns, ours)

    def tell(self, turn: bytes) -> None:
        """Tell the child what to do.

        Raises:
            DelegateFailed: it is not there any more.
        """
        if not self._finalizer.alive:
            raise DelegateFailed(f"delegate {self._name} is closed: open it again")
        try:
            os.write(self._turns, turn)
        except BrokenPipeError:
            raise self._lost("in use") from None

    def hear(self, patience_s: float, when: str) -> dict[str, Any]:
        """Wait for the child's answer and return it.

        Raises:
            DelegateMissing, DelegateFailed: so the child says; or it died, or gave no answer in `patience_s`.
        """
        try:
            heard = self._wait(time.monotonic() + patience_s)
        except BaseException:  # an answer that comes later must not be taken for that to the next picture
            self._process.kill()
            self.end()
            raise
        if heard is None:
            self._process.kill()
            self.end()
            raise DelegateLost(
                f"delegate {self._name} hung {when} (no answer in {patience_s:g} s): check its library and "
                "device"
            )
        if not heard:
            raise self._lost(when)
        if heard == DONE:
            return {}
        said: dict[str, Any] = json.loads(heard)
        if "error" in said:
            self.end()
            kind = DelegateMissing if said["error"] == DelegateMissing.code else DelegateFailed
            raise kind(said["message"])
        return said

    def _wait(self, deadline: float) -> bytes | None:
        """Return the line that the child writes; empty: it is dead, None: it has not written in time."""
        heard = b""
        while not heard.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not self._poll.poll(left * 1000):
                return None
            more = os.read(self._answers, 65_536)
            if not more:
                return b""
            heard += more
        return heard

    def end(self) -> None:
        """End the process in good order, or by force when it does not go; called again, it does nothing."""
        self._finalizer()

    def _lost(self, when: str) -> DelegateLost:
        """Say how the child died."""
        self.end()
        code = self._process.returncode
        how = f"of {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return DelegateLost(f"delegate {self._name} died {how} {when}: check its library and device")


def _end(process: subprocess.Popen[bytes], told_by: int, descriptors: Sequence[int]) -> None:
    os.close(told_by)  # it hears this, and goes
    try:
        process.wait(_LEAVE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _close(descriptors)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
