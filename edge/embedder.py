"""From a picture to its embedding; the only door to LiteRT and TensorFlow Lite.

Think of it as the eye: a network file and a runtime that really runs it here. A runtime that can be imported
may still fail on its first network (`tflite-runtime` under numpy 2 does), so each is tried by running the one
that is to be run.
"""

import base64
import importlib
import importlib.metadata
import math
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import Incompatible, ModelBroken, RuntimeMissing
from edge.image import Picture

# Module and distribution, in the order in which they are tried: the last is 600 MB and imports in seconds.
_RUNTIMES = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
    ("tensorflow.lite.python.interpreter", "tensorflow"),
)
# What runtimes raise at a network that they cannot read, and at a numpy that they were not made for.
_FAILURES = (ImportError, OSError, AttributeError, RuntimeError, ValueError, TypeError, SystemError)
_EDGE_TPU_OPERATION = b"edgetpu-custom-op"
# relu6 of four numbers (tests/data/probe.tflite). A runtime that fails on a network, but runs this, is sound:
# it is the network that is broken.
_PROBE = base64.b64decode(
    "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAA1AAAAAMAAAABAAAACAAAAAQABAAEAAAAAQAAABAAAAAMABQAEAAMAAgA"
    "BAAMAAAAEAAAADwAAABAAAAARAAAAAEAAAAQAAAAAAAKAAwAAAAIAAQACgAAAAgAAAAMAAAAAQAAAAEAAAABAAAAAAAAAAEAAAABAAAA"
    "AQAAAAAAAAACAAAAOAAAAAQAAADm////AAAAAQQAAAACAAAAAQAAAAQAAAAAABYADAAIAAAAAAAAAAAAAAAAAAAABwAWAAAAAAAAAQQA"
    "AAACAAAAAQAAAAQAAAABAAAAEAAAAAwADAALAAAAAAAEAAwAAAAVAAAAAAAAFQ=="
)


class _Interpreter(Protocol):
    """The part of a runtime's interpreter that is used here; the three have it alike."""

    def allocate_tensors(self) -> None: ...
    def invoke(self) -> None: ...
    def get_input_details(self) -> list[dict[str, Any]]: ...
    def get_output_details(self) -> list[dict[str, Any]]: ...
    def tensor(self, tensor_index: int) -> Callable[[], NDArray[Any]]: ...


@dataclass(frozen=True, slots=True)
class Embedding:
    """What the network says of one picture.

    Attributes:
        vector: float32 (dimension,), of unit length; the dot product of two is their similarity.
        local: float32 (h, w, dimension), not normalized; its mean over the places points along `vector`.
    """

    vector: NDArray[np.float32]
    local: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Output:
    """One output tensor, and how its numbers become float32."""

    view: Callable[[], NDArray[Any]]
    scale: float
    zero_point: int

    def read(self) -> NDArray[np.float32]:
        """Copy the output without its batch axis: the runtime will write into its own memory again."""
        numbers: NDArray[np.float32] = self.view()[0].astype(np.float32)
        if self.scale:
            numbers -= self.zero_point
            numbers *= self.scale
        return numbers


class Embedder:
    """A network file, open in a runtime. For one thread at a time."""

    def __init__(
        self,
        interpreter: _Interpreter,
        distribution: str,
        *,
        path: Path,
        input_size: int,
        embedding: _Output,
        local: _Output,
    ) -> None:
        self._interpreter = interpreter
        self._distribution = distribution
        self._path = path
        self._input = interpreter.tensor(interpreter.get_input_details()[0]["index"])
        self._input_shape = (input_size, input_size, 3)
        self._embedding = embedding
        self._local = local

    @classmethod
    def open(cls, path: Path, *, dimension: int, input_size: int, threads: int = 1) -> "Embedder":
        """Open the network file at `path` in the first runtime that runs it, and run it once.

        The file is mapped: check its hash before, and never write into it.

        Raises:
            RuntimeMissing: no runtime is installed that runs here; each failure is listed.
            ModelBroken: not a TFLite file, one that no sound runtime can run, or one that answers with NaN.
            Incompatible: another input or other outputs than `uint8 [1, input_size, input_size, 3]` to
                `[1, dimension]` and `[1, h, w, dimension]`, or made for an Edge TPU.
        """
        _check_file(path)
        interpreter, distribution = _open_interpreter(path, threads)
        _check_input(path, interpreter, input_size)
        embedder = cls(
            interpreter,
            distribution,
            path=path,
            input_size=input_size,
            embedding=_find_output(path, interpreter, rank=2, dimension=dimension),
            local=_find_output(path, interpreter, rank=4, dimension=dimension),
        )
        embedder.invoke(np.full((input_size, input_size, 3), 128, np.uint8))
        embedder._length(embedder._embedding.read())
        return embedder

    @property
    def runtime(self) -> str:
        """The runtime's distribution and version, such as `ai-edge-litert 2.3.0`."""
        try:
            return f"{self._distribution} {importlib.metadata.version(self._distribution)}"
        except importlib.metadata.PackageNotFoundError:  # a vendor's build that was not installed by pip
            return self._distribution

    def embed(self, picture: Picture) -> Embedding:
        """Embed a picture that `edge.image.fit` brought to `uint8` (input_size, input_size, 3).

        Raises:
            Incompatible: a picture of another shape or dtype.
            ModelBroken: the network answered with zero or NaN, or not at all.
        """
        self.invoke(picture)
        vector, local = self._embedding.read(), self._local.read()
        length = self._length(vector)
        if length == 0.0:
            raise ModelBroken(f"model {self._path} answers with zeros: convert the network again")
        if not np.isfinite(local).all():
            raise ModelBroken(f"model {self._path} has NaN on its map: convert the network again")
        vector /= length
        return Embedding(vector, local)

    def invoke(self, picture: Picture) -> None:
        """Run the network on a picture and leave its answer unread: what no embedding can be faster than.

        Raises:
            Incompatible: a picture of another shape or dtype.
            ModelBroken: the runtime failed at it.
        """
        if picture.shape != self._input_shape or picture.dtype != np.uint8:
            raise Incompatible(
                f"the model takes uint8 {self._input_shape}, not {picture.dtype} {picture.shape}: "
                "bring the picture to its size with edge.image.fit"
            )
        # The view must not outlive this line: a runtime refuses to run while somebody holds its memory.
        self._input()[0] = picture
        try:
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise ModelBroken(f"model {self._path} cannot be run ({error}): convert it again") from error

    def _length(self, vector: NDArray[np.float32]) -> float:
        length = math.sqrt(np.dot(vector, vector))
        if not math.isfinite(length):
            raise ModelBroken(f"model {self._path} answers with NaN or infinity: convert the network again")
        return length


def open_runner(path: Path, *, threads: int = 1) -> Callable[[], None]:
    """Open any network file, made for embeddings or not, and return what runs it once: to be timed.

    Its inputs hold noise, its answers are left unread. For one thread at a time.

    Raises:
        RuntimeMissing: no runtime is installed that runs here; each failure is listed.
        ModelBroken: not a TFLite file, or one that no sound runtime can run.
        Incompatible: made for an Edge TPU.
    """
    _check_file(path)
    interpreter, _ = _open_interpreter(path, threads)
    rng = np.random.default_rng(7)
    for each in interpreter.get_input_details():
        noise = rng.integers(0, 128, each["shape"])
        interpreter.tensor(each["index"])()[:] = noise.astype(each["dtype"])
    return interpreter.invoke


def _check_file(path: Path) -> None:
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise ModelBroken(f"model {path} cannot be read ({reason}): sync again") from error
    if data[4:8] != b"TFL3":
        raise ModelBroken(f"model {path} is no TFLite file ({len(data)} bytes): sync or convert again")
    if _EDGE_TPU_OPERATION in data:
        raise Incompatible(
            f"model {path} is compiled for an Edge TPU, and this device answers on its CPU: "
            "choose the variant for the CPU"
        )


def _open_interpreter(path: Path, threads: int) -> tuple[_Interpreter, str]:
    """Return the first runtime's interpreter that opens the network, ready to run, and its distribution."""
    failures = []
    for module, distribution in _RUNTIMES:
        try:
            with _without_chatter():
                make: Callable[..., _Interpreter] = importlib.import_module(module).Interpreter
                interpreter = make(model_path=str(path), num_threads=threads)
                interpreter.allocate_tensors()
                interpreter.invoke()
        except _FAILURES as error:
            if not isinstance(error, ImportError) and _runs_the_probe(module):
                raise ModelBroken(
                    f"model {path} cannot be opened by {distribution} ({_in_a_line(error)}): "
                    "sync or convert it again"
                ) from error
            failures.append(f"{distribution}: {_in_a_line(error)}")
        else:
            return interpreter, distribution
    raise RuntimeMissing(
        f"no TFLite runtime runs here ({'; '.join(failures)}): install one with `pip install ai-edge-litert`"
    )


def _runs_the_probe(module: str) -> bool:
    try:
        with _without_chatter():
            interpreter = importlib.import_module(module).Interpreter(model_content=_PROBE)
            interpreter.allocate_tensors()
            interpreter.invoke()
    except _FAILURES:
        return False
    return True


def _in_a_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _check_input(path: Path, interpreter: _Interpreter, input_size: int) -> None:
    details = interpreter.get_input_details()
    wanted = [1, input_size, input_size, 3]
    found = [(list(map(int, each["shape"])), np.dtype(each["dtype"])) for each in details]
    if found != [(wanted, np.dtype(np.uint8))]:
        told = ", ".join(f"{dtype} {shape}" for shape, dtype in found)
        raise Incompatible(f"model {path} takes {told}, not uint8 {wanted}: convert the network so")


def _find_output(path: Path, interpreter: _Interpreter, *, rank: int, dimension: int) -> _Output:
    """Find an output by its shape: names do not survive conversion, and their order changes with it."""
    details: Sequence[dict[str, Any]] = interpreter.get_output_details()
    for each in details:
        shape = list(map(int, each["shape"]))
        if len(shape) == rank and shape[0] == 1 and shape[-1] == dimension:
            dtype = np.dtype(each["dtype"])
            if dtype not in (np.float32, np.uint8, np.int8):
                raise Incompatible(
                    f"model {path} answers in {dtype}, not float32, uint8 or int8: convert it so"
                )
            scale, zero_point = each["quantization"] if dtype != np.float32 else (0.0, 0)
            return _Output(interpreter.tensor(each["index"]), float(scale), int(zero_point))
    shapes = ", ".join(str(list(map(int, each["shape"]))) for each in details)
    name, wanted = ("embedding", [1, dimension]) if rank == 2 else ("local", f"[1, h, w, {dimension}]")
    raise Incompatible(
        f"model {path} has no output `{name}` {wanted} among {shapes}: convert the right network"
    )


_chatter_lock = Lock()
# Information, as TFLite and TensorFlow's log mark it, and two lines that TensorFlow puts around its own.
_CHATTER = re.compile(rb"INFO: |I\d{4} |WARNING: All log messages before absl|To enable the following instr")


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep a runtime's information and deprecation warnings off the standard error; the rest is passed on.

    Runtimes write from C++, past Python's `sys.stderr`, hence the descriptor itself is turned aside.
    """
    with _chatter_lock, warnings.catch_warnings(), _open_scratch() as aside:
        warnings.simplefilter("ignore")
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            kept = os.dup(2)
        except OSError:  # a service without a standard error
            yield
            return
        os.dup2(aside.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            aside.seek(0)
            told = b"".join(line for line in aside if not _CHATTER.match(line))
            if told:
                os.write(2, told)


def _open_scratch() -> IO[bytes]:
    """Open a file without a name: in memory where there is a choice, for a device's disk may be read-only."""
    in_memory: Callable[[str], int] | None = getattr(os, "memfd_create", None)
    return tempfile.TemporaryFile() if in_memory is None else os.fdopen(in_memory("shelfsight"), "w+b")
