"""From a picture to its embedding; the only door to LiteRT and TensorFlow Lite.

Think of it as the eye: a network file, a runtime that really runs it here, and the delegate that takes its
operations. A runtime that can be imported may still fail on its first network (`tflite-runtime` under numpy 2
does), so each is tried by running the one that is to be run; and a delegate that takes nothing is told.
"""

import base64
import ctypes
import importlib
import importlib.metadata
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.chatter import without_chatter
from edge.compiled_model import CompiledInterpreter
from edge.delegates import PLAIN, XNNPACK, Delegate
from edge.elf import why_not_here
from edge.errors import (
    BadSetting,
    DelegateFailed,
    DelegateMissing,
    Incompatible,
    ModelBroken,
    RuntimeMissing,
    ShelfsightError,
)
from edge.image import Picture
from edge.wholeness import is_whole

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


class AnyEmbedder(Protocol):
    """What a matcher needs of whoever runs its network: here in the process, or in one of its own."""

    @property
    def runtime(self) -> str:
        """The runtime's distribution and version, such as `ai-edge-litert 2.3.0`."""

    @property
    def delegate(self) -> str:
        """The name of the delegate that really runs it, as in `edge.delegates`."""

    def embed(self, picture: Picture) -> Embedding:
        """Embed a picture of the network's own size."""

    def invoke(self, picture: Picture) -> None:
        """Run the network on a picture and leave its answer unread."""

    def close(self) -> None:
        """Let everything go that must not wait for the garbage collector."""


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
        running: "_Running",
        *,
        path: Path,
        input_size: int,
        embedding: _Output,
        local: _Output,
    ) -> None:
        interpreter = running.interpreter
        self._interpreter = interpreter
        self._running = running
        self._path = path
        self._input = interpreter.tensor(interpreter.get_input_details()[0]["index"])
        self._input_shape = (input_size, input_size, 3)
        self._embedding = embedding
        self._local = local

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        dimension: int,
        input_size: int,
        threads: int = 1,
        runtime: str | None = None,
        delegate: Delegate = XNNPACK,
        library: str = "",
    ) -> "Embedder":
        """Open the network file at `path` in the first runtime that runs it, and run it once.

        The file is mapped: check its hash before, and never write into it. `runtime` names the only one that
        is tried. A vendor's delegate is loaded from `library`, by its path or by a name that the loader
        finds; without it, from the one that `delegate` names. Whoever names one lets foreign code into this
        process, which may end it.

        Raises:
            RuntimeMissing: no runtime is installed that runs here; each failure is listed.
            BadSetting: there is no runtime of this name.
            ModelBroken: not a TFLite file, one that no sound runtime can run, or one that answers with NaN.
            Incompatible: another input or other outputs than `uint8 [1, input_size, input_size, 3]` to
                `[1, dimension]` and `[1, h, w, dimension]`, or made for an Edge TPU, and none is to run it.
            DelegateMissing: the delegate's library is not here, or was made for another processor.
            DelegateFailed: the delegate refuses the network, takes nothing of it, or answers with NaN.
        """
        _check_file(path, delegate)
        running = _open_interpreter(path, threads, _runtimes(runtime), delegate, library or delegate.library)
        _check_input(path, running.interpreter, input_size)
        embedder = cls(
            running,
            path=path,
            input_size=input_size,
            embedding=_find_output(path, running.interpreter, rank=2, dimension=dimension),
            local=_find_output(path, running.interpreter, rank=4, dimension=dimension),
        )
        embedder.invoke(np.full((input_size, input_size, 3), 128, np.uint8))
        embedder._length(embedder._embedding.read())
        return embedder

    @property
    def runtime(self) -> str:
        """The runtime's distribution and version, such as `ai-edge-litert 2.3.0`."""
        distribution = self._running.distribution
        try:
            return f"{distribution} {importlib.metadata.version(distribution)}"
        except importlib.metadata.PackageNotFoundError:  # a vendor's build that was not installed by pip
            return distribution

    @property
    def delegate(self) -> str:
        """The name of the delegate that really runs it: `none` where XNNPACK was asked for and took nothing.

        `tflite-runtime` has an XNNPACK that takes no int8 network.
        """
        return self._running.delegate.name

    def embed(self, picture: Picture) -> Embedding:
        """Embed a picture that `edge.image.fit` brought to `uint8` (input_size, input_size, 3).

        Raises:
            Incompatible: a picture of another shape or dtype.
            ModelBroken: the network answered with zero or NaN, or not at all.
            DelegateFailed: the same, where a vendor's delegate runs it.
        """
        self.invoke(picture)
        vector, local = self._embedding.read(), self._local.read()
        length = self._length(vector)
        if length == 0.0:
            raise self._broken("answers with zeros")
        if not np.isfinite(local).all():
            raise self._broken("has NaN on its map")
        vector /= length
        return Embedding(vector, local)

    def invoke(self, picture: Picture) -> None:
        """Run the network on a picture and leave its answer unread: what no embedding can be faster than.

        Raises:
            Incompatible: a picture of another shape or dtype.
            ModelBroken: the runtime failed at it.
            DelegateFailed: the same, where a vendor's delegate runs it.
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
            raise self._broken(f"cannot be run ({_in_a_line(error)})") from error

    def close(self) -> None:
        """Do nothing: an interpreter in this process goes with its last reference."""

    def _length(self, vector: NDArray[np.float32]) -> float:
        length = math.sqrt(np.dot(vector, vector))
        if not math.isfinite(length):
            raise self._broken("answers with NaN or infinity")
        return length

    def _broken(self, what: str) -> ShelfsightError:
        if self._running.delegate.isolated:
            name = self._running.delegate.name
            return DelegateFailed(f"model {self._path} {what} by delegate {name}: check its library")
        return ModelBroken(f"model {self._path} {what}: convert the network again")


def open_runner(path: Path, *, threads: int = 1) -> Callable[[], None]:
    """Open any network file, made for embeddings or not, and return what runs it once: to be timed.

    Its inputs hold noise, its answers are left unread. For one thread at a time.

    Raises:
        RuntimeMissing: no runtime is installed that runs here; each failure is listed.
        ModelBroken: not a TFLite file, or one that no sound runtime can run.
        Incompatible: made for an Edge TPU.
    """
    _check_file(path, XNNPACK)
    interpreter = _open_interpreter(path, threads, _RUNTIMES, XNNPACK, "").interpreter
    rng = np.random.default_rng(7)
    for each in interpreter.get_input_details():
        noise = rng.integers(0, 128, each["shape"])
        interpreter.tensor(each["index"])()[:] = noise.astype(each["dtype"])
    return interpreter.invoke


def try_runtime(name: str) -> str:
    """Run a network of four numbers in the runtime `name`, such as `ai-edge-litert`, and return its version.

    Raises:
        BadSetting: there is no runtime of this name.
        RuntimeMissing: it is not installed, or fails at its first network; a bad one may end the process.
    """
    ((module, distribution),) = _runtimes(name)
    try:
        _run_the_probe(module)
    except _FAILURES as error:
        raise RuntimeMissing(
            f"{distribution} runs no network ({_in_a_line(error)}): install it again"
        ) from error
    return importlib.metadata.version(distribution)


def _check_file(path: Path, delegate: Delegate) -> None:
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise ModelBroken(f"model {path} cannot be read ({reason}): sync again") from error
    if data[4:8] != b"TFL3":
        raise ModelBroken(f"model {path} is no TFLite file ({len(data)} bytes): sync or convert again")
    if not is_whole(data):
        raise ModelBroken(f"model {path} is cut short or spoiled ({len(data)} bytes): sync or convert again")
    if _EDGE_TPU_OPERATION in data and delegate.target != "edgetpu":
        raise Incompatible(
            f"model {path} is compiled for an Edge TPU, and {delegate.name} cannot run it: it takes an Edge "
            "TPU and its library libedgetpu.so.1; choose the variant for the CPU"
        )


@dataclass(frozen=True, slots=True)
class _Running:
    """An interpreter with a network in it, the runtime it is of, and the delegate that really runs it."""

    interpreter: _Interpreter
    distribution: str
    delegate: Delegate


def _runtimes(named: str | None) -> Sequence[tuple[str, str]]:
    found = [each for each in _RUNTIMES if named in (None, each[1])]
    if not found:
        known = ", ".join(distribution for _, distribution in _RUNTIMES)
        raise BadSetting(f"runtime {named!r} is not known: choose among {known}")
    return found


def _open_interpreter(
    path: Path, threads: int, runtimes: Sequence[tuple[str, str]], delegate: Delegate, library: str
) -> _Running:
    """Open the network in the first runtime that runs it, ready to run."""
    if delegate.library:
        _check_library(delegate, library)
    failures = []
    for module, distribution in runtimes:
        complaints: list[str] = []
        try:
            with without_chatter() as complaints:
                interpreter, runs_by = _start(module, path, threads, delegate, library)
        except _FAILURES as error:
            if not isinstance(error, ImportError) and _runs_the_probe(module):
                why = _in_a_line(error)
                if delegate.isolated:
                    why = "; ".join([*[line for line in complaints if line.startswith("ERROR")][:1], why])
                    raise DelegateFailed(
                        f"delegate {delegate.name} cannot run model {path} in {distribution} ({why}): check "
                        "that its device is there, and that its library fits the runtime"
                    ) from error
                raise ModelBroken(
                    f"model {path} cannot be opened by {distribution} ({why}): sync or convert it again"
                ) from error
            failures.append(f"{distribution}: {_in_a_line(error)}")
        else:
            return _Running(interpreter, distribution, runs_by)
    raise RuntimeMissing(
        f"no TFLite runtime runs here ({'; '.join(failures)}): install one with `pip install ai-edge-litert`"
    )


def _start(
    module: str, path: Path, threads: int, delegate: Delegate, library: str
) -> tuple[_Interpreter, Delegate]:
    """Start an interpreter and run it once; return it with the delegate that really runs it."""
    runtime = importlib.import_module(module)
    if delegate.compiled_model:
        return _start_compiled(runtime, path, threads, delegate), delegate
    options: dict[str, Any] = {}
    if delegate.library:
        options = {"experimental_delegates": [runtime.load_delegate(library)]}
    elif delegate == PLAIN:
        without_xnnpack = runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        options = {"experimental_op_resolver_type": without_xnnpack}
    interpreter: _Interpreter = runtime.Interpreter(model_path=str(path), num_threads=threads, **options)
    if delegate.library and not _is_delegated(interpreter):  # before XNNPACK takes what was left to it
        raise RuntimeError(f"{library} takes no operation of it, so that the CPU would do all")
    interpreter.allocate_tensors()
    interpreter.invoke()
    if delegate == XNNPACK and not _is_delegated(interpreter):
        delegate = PLAIN
    return interpreter, delegate


def _start_compiled(runtime: Any, path: Path, threads: int, delegate: Delegate) -> _Interpreter:
    if not runtime.__name__.startswith("ai_edge_litert."):
        raise DelegateMissing(
            f"delegate {delegate.name} is run by ai-edge-litert alone, and this is {runtime.__name__}: "
            "install that, or choose other delegates"
        )
    litert = importlib.import_module("ai_edge_litert.compiled_model")
    accelerator = litert.HardwareAccelerator[delegate.name.rpartition("-")[2].upper()]
    options = litert.Options(accelerator, cpu_options=litert.CpuOptions(num_threads=threads))
    model = litert.CompiledModel.from_file(str(path), options=options)
    # It tells shapes, but not how numbers are quantized; of an interpreter that is never run both are heard.
    interpreter = CompiledInterpreter(model, runtime.Interpreter(model_path=str(path)))
    interpreter.invoke()
    return interpreter


def _is_delegated(interpreter: _Interpreter) -> bool:
    """Tell whether a delegate has taken any operation; yes where the runtime does not say."""
    operations = getattr(interpreter, "_get_ops_details", None)
    return operations is None or any(each["op_name"] == "DELEGATE" for each in operations())


def _check_library(delegate: Delegate, library: str) -> None:
    """Load the library once before the runtime does, which cannot tell one that is missing from a bad one."""
    if not library or library == "external":
        raise DelegateMissing(
            f"delegate {delegate.name} has no library: name its file with the setting external_library"
        )
    try:
        loaded = ctypes.CDLL(library)
    except OSError as error:
        why = why_not_here(library) or _in_a_line(error)
        raise DelegateMissing(
            f"the library {library} of delegate {delegate.name} cannot be loaded ({why}): install the one "
            "for this machine, or choose other delegates"
        ) from error
    if not hasattr(loaded, "tflite_plugin_create_delegate"):
        raise DelegateFailed(
            f"the library {library} of delegate {delegate.name} is no TFLite delegate (it has no function "
            "tflite_plugin_create_delegate): name the right one"
        )


def _runs_the_probe(module: str) -> bool:
    try:
        _run_the_probe(module)
    except _FAILURES:
        return False
    return True


def _run_the_probe(module: str) -> None:
    with without_chatter():
        interpreter = importlib.import_module(module).Interpreter(model_content=_PROBE)
        interpreter.allocate_tensors()
        interpreter.invoke()


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
