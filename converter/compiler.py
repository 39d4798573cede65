"""Has the vendor's compiler make a file for an Edge TPU, where that compiler is installed, and reads its log.

    uncompiled int8 file -> edgetpu_compiler, in a folder of its own -> compiled file, and what it maps

It is closed, made for x86-64 Linux alone, and no part of Shelfsight. Without it `converter.edgetpu` says what
the documented table allows, the file stays uncompiled, and no Edge TPU runs it until somebody compiles it.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from converter.graph import Tensor, read_graph
from edge.certificate import EdgeTpuMapping
from edge.errors import BadNetwork

COMPILER: Final = "edgetpu_compiler"
_LONGEST_S: Final = 600.0  # its own limit is 180 seconds a network, and it may start again in smaller steps
_MAPPED: Final = "Mapped to Edge TPU"
_VERSION: Final = re.compile(r"^Edge TPU Compiler version (\S+)", re.MULTILINE)
_DONE: Final = re.compile(r"^Model compiled successfully", re.MULTILINE)
_OPERATIONS: Final = re.compile(r"^Total number of operations: (\d+)", re.MULTILINE)
_SIZE: Final = r"([\d.]+)(B|KiB|MiB|GiB)"
_ON_CHIP: Final = re.compile(rf"^On-chip memory used for caching model parameters: {_SIZE}", re.MULTILINE)
_OFF_CHIP: Final = re.compile(
    rf"^Off-chip memory used for streaming uncached model parameters: {_SIZE}", re.MULTILINE
)
_TABLE: Final = re.compile(r"^Operator\s+Count\s+Status\s*$", re.MULTILINE)
_ROW: Final = re.compile(r"^([A-Z][A-Z0-9_]*)\s+(\d+)\s+(\S.*?)\s*$", re.MULTILINE)
_EMPTY_WORDS: Final = ("Compilation child process", "Compilation failed!")
_UNITS: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A file that an Edge TPU runs, and what of it the compiler says that it maps."""

    file: bytes
    mapping: EdgeTpuMapping


def find_compiler() -> Path | None:
    """Return the vendor's compiler where it is on the PATH."""
    found = shutil.which(COMPILER)
    return Path(found) if found else None


def compile_file(data: bytes, name: str, compiler: Path, *, limit_s: float = _LONGEST_S) -> Compiled:
    """Compile an int8 file for an Edge TPU.

    Args:
        data: the uncompiled file.
        name: what to call it.
        compiler: the vendor's program.
        limit_s: seconds after which it is killed, with all that it started.

    Raises:
        BadNetwork: it refuses the file, dies, takes too long, says nothing that can be read, maps nothing, or
            writes a file with another input or other outputs; the last line of its log is told.
    """
    with TemporaryDirectory(prefix="shelfsight-edgetpu-") as scratch:
        source = Path(scratch) / "network.tflite"
        source.write_bytes(data)
        log = _run([str(compiler), "-s", "-o", scratch, str(source)], name, limit_s)
        mapping = read_log(log, name)
        try:
            file = (Path(scratch) / "network_edgetpu.tflite").read_bytes()
        except OSError as error:
            raise BadNetwork(
                f"{COMPILER} says that it compiled {name}, and wrote no file ({_last(log)}): install it again"
            ) from error
    _check_compiled(file, data, name)
    return Compiled(file, mapping)


def read_log(log: str, name: str) -> EdgeTpuMapping:
    """Read what the compiler printed (versions 2 to 16, with `-s`) about the file `name`.

    Raises:
        BadNetwork: it did not compile the file, or its log cannot be read.
    """
    version, operations = _VERSION.search(log), _OPERATIONS.search(log)
    on_chip, off_chip = _bytes(_ON_CHIP, log), _bytes(_OFF_CHIP, log)
    table = _TABLE.search(log)
    if not _DONE.search(log):
        raise BadNetwork(f"{COMPILER} did not compile {name}: {_last(log)}")
    if version is None or operations is None or table is None or on_chip is None or off_chip is None:
        raise BadNetwork(
            f"the log of {COMPILER} about {name} cannot be read ({_last(log)}): take version 16.0"
        )
    rows = [(row[1], int(row[2]), row[3]) for row in _ROW.finditer(log, table.end())]
    counted = sum(count for _, count, _ in rows)
    if counted != int(operations[1]):
        raise BadNetwork(
            f"the log of {COMPILER} about {name} has {operations[1]} operations and lists {counted}: "
            "take version 16.0"
        )
    left = tuple((operation, status) for operation, count, status in rows for _ in range(count))
    fallbacks = tuple(each for each in left if each[1] != _MAPPED)
    return EdgeTpuMapping(
        operations=counted,
        mapped=counted - len(fallbacks),
        fallbacks=fallbacks,
        parameter_bytes=on_chip + off_chip,
        on_chip=off_chip == 0,
        compiler=f"{COMPILER} {version[1]}",
    )


def _run(command: Sequence[str], name: str, limit_s: float) -> str:
    """Run the compiler in a group of processes of its own; return all that it printed."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise BadNetwork(f"{command[0]} cannot be started ({error.strerror}): install it again") from error
    with process:
        try:
            log, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired as error:
            _kill_group(process)
            log, _ = process.communicate()
            raise BadNetwork(
                f"{COMPILER} did not finish {name} within {limit_s:g} s ({_last(log)}): give it a smaller one"
            ) from error
        except BaseException:  # Ctrl-C among them: nothing that was started here goes on
            _kill_group(process)
            raise
    if process.returncode < 0:
        raise BadNetwork(
            f"{COMPILER} was killed by {_signal(-process.returncode)} at {name} ({_last(log)}): try again"
        )
    if process.returncode:
        raise BadNetwork(f"{COMPILER} refuses {name} (exit {process.returncode}): {_last(log)}")
    return log


def _kill_group(process: "subprocess.Popen[str]") -> None:
    """Kill the compiler with its child, which does the work."""
    with suppress(ProcessLookupError):  # it ended meanwhile
        os.killpg(process.pid, signal.SIGKILL)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last(log: str) -> str:
    """Return the last line of a log that says something: some end with how the child process fared."""
    lines = [line.strip() for line in log.splitlines()]
    lines = [line for line in lines if line and not line.startswith(_EMPTY_WORDS)]
    return lines[-1][:200] if lines else "it printed nothing"


def _bytes(pattern: re.Pattern[str], log: str) -> int | None:
    found = pattern.search(log)
    return round(float(found[1]) * _UNITS[found[2]]) if found else None


def _check_compiled(file: bytes, source: bytes, name: str) -> None:
    compiled, before = read_graph(file, f"the compiled {name}"), read_graph(source, name)
    if not compiled.compiled_for_edge_tpu:
        raise BadNetwork(f"{COMPILER} maps nothing of {name}: an Edge TPU would run no operation of it")
    if [_told(each) for each in (*before.inputs, *before.outputs)] != [
        _told(each) for each in (*compiled.inputs, *compiled.outputs)
    ]:
        raise BadNetwork(f"{COMPILER} gives {name} another input or other outputs: take version 16.0")


def _told(tensor: Tensor) -> tuple[object, ...]:
    return (tensor.dtype, tensor.shape, tensor.scales, tensor.zero_points)
