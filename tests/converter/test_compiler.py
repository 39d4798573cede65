"""The vendor's compiler, played by a program that prints its logs, and every way in which it fails.

The real one is closed and not at hand; the logs are in the words of its version 16.
"""

import os
import sys
import time
from pathlib import Path

import pytest

from converter.compiler import compile_file, find_compiler, read_log
from converter.graph import read_graph
from edge.errors import BadNetwork
from tests.conftest import DATA
from tests.converter.conftest import compiled

SOURCE = (DATA / "tiny-int8" / "tiny-int8-out.tflite").read_bytes()
WHOLE = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 287 ms.

Input model: network.tflite
Input size: 26.77KiB
Output model: network_edgetpu.tflite
Output size: 92.38KiB
On-chip memory used for caching model parameters: 48.25KiB
On-chip memory remaining for caching model parameters: 7.70MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 6
Operation log: network_edgetpu.log

Operator                       Count      Status

QUANTIZE                       1          Mapped to Edge TPU
CONV_2D                        4          Mapped to Edge TPU
MEAN                           1          Mapped to Edge TPU
Compilation child process completed within timeout period.
Compilation succeeded!
"""
PARTLY = (
    WHOLE.replace(
        "model parameters: 0.00B\nNumber",
        "model parameters: 1.50MiB\nNumber",
    )
    .replace(
        "Operation log: network_edgetpu.log\n",
        "Operation log: network_edgetpu.log\n\n"
        "Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of "
        "the model will instead run on the CPU, which is slower.\n"
        "Number of operations that will run on Edge TPU: 4\nNumber of operations that will run on CPU: 2\n",
    )
    .replace(
        "CONV_2D                        4          Mapped to Edge TPU",
        "CONV_2D                        3          Mapped to Edge TPU\n"
        "CONV_2D                        1          More than one subgraph is not supported",
    )
    .replace(
        "MEAN                           1          Mapped to Edge TPU",
        "MEAN                           1          Operation is working on an unsupported data type",
    )
)
REFUSED = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.
ERROR: Didn't find op for builtin opcode 'CONV_2D' version '9'

Compilation failed: Model failed in Tflite interpreter. Please ensure model can be loaded/run.
Compilation child process completed within timeout period.
Compilation failed!
"""


def compiler(folder: Path, *, log: str = "", then: str = "", file: bytes | None = None) -> Path:
    """Write a program in the compiler's place that prints a log, writes a file and does something else."""
    folder.mkdir(exist_ok=True)
    (folder / "log.txt").write_text(log)
    if file is not None:
        (folder / "made.tflite").write_bytes(file)
    program = folder / "edgetpu_compiler"
    program.write_text(
        f"""#!{sys.executable}
import os, pathlib, subprocess, sys, time
here = pathlib.Path(__file__).parent
assert sys.argv[1:3] == ["-s", "-o"] and pathlib.Path(sys.argv[4]).read_bytes()[4:8] == b"TFL3"
sys.stdout.write((here / "log.txt").read_text())
sys.stdout.flush()
if (here / "made.tflite").exists():
    target = pathlib.Path(sys.argv[3]) / "network_edgetpu.tflite"
    target.write_bytes((here / "made.tflite").read_bytes())
{then}
"""
    )
    program.chmod(0o755)
    return program


def test_a_whole_network_is_compiled_and_its_log_read(tmp_path: Path) -> None:
    program = compiler(tmp_path / "bin", log=WHOLE, file=compiled(SOURCE))
    made = compile_file(SOURCE, "tiny", program)
    assert read_graph(made.file, "made").compiled_for_edge_tpu
    assert (made.mapping.operations, made.mapping.mapped, made.mapping.fallbacks) == (6, 6, ())
    assert made.mapping.compiler == "edgetpu_compiler 16.0.384591198"
    assert (made.mapping.parameter_bytes, made.mapping.on_chip) == (round(48.25 * 1024), True)


def test_what_goes_to_the_cpu_is_named_with_its_reason() -> None:
    mapping = read_log(PARTLY, "tiny")
    assert (mapping.operations, mapping.mapped) == (6, 4)
    assert mapping.fallbacks == (
        ("CONV_2D", "More than one subgraph is not supported"),
        ("MEAN", "Operation is working on an unsupported data type"),
    )
    assert not mapping.on_chip and mapping.parameter_bytes == round(48.25 * 1024) + 1536 * 1024


@pytest.mark.parametrize(
    ("log", "then", "told"),
    [
        (REFUSED, "sys.exit(1)", r"refuses tiny \(exit 1\): Compilation failed: Model failed in Tflite"),
        (REFUSED, "", "did not compile tiny: Compilation failed: Model failed in Tflite"),
        (
            "Invalid model: network.tflite\nModel not quantized\n",
            "sys.exit(1)",
            "exit 1.*Model not quantized",
        ),
        ("", "sys.exit(0)", "it printed nothing"),
        ("\x00\xfe what?\n", "", "did not compile tiny: .* what"),
        ("Internal compiler error. Aborting!\n", "os.abort()", "killed by SIGABRT.*Internal compiler error"),
        (WHOLE.replace("Total number of operations: 6\n", ""), "", "cannot be read"),
        (
            WHOLE.replace("CONV_2D                        4", "CONV_2D   3"),
            "",
            "has 6 operations and lists 5",
        ),
        (WHOLE[: WHOLE.index("Operator ")], "", "cannot be read"),
        (WHOLE, "", "wrote no file"),
    ],
)
def test_every_failure_is_one_sentence_with_the_end_of_the_log(
    log: str, then: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(BadNetwork, match=told):
        compile_file(SOURCE, "tiny", compiler(tmp_path / "bin", log=log, then=then))


def test_a_log_cut_anywhere_is_refused_or_says_the_same() -> None:
    whole = read_log(WHOLE, "tiny")
    for length in range(len(WHOLE)):
        try:
            mapping = read_log(WHOLE[:length], "tiny")
        except BadNetwork as error:
            assert "tiny" in str(error)
        else:
            assert (mapping.operations, mapping.on_chip) == (whole.operations, whole.on_chip)


@pytest.mark.parametrize(
    ("file", "told"),
    [
        (b"no network", "the compiled tiny is no TFLite file"),
        (SOURCE, "maps nothing of tiny"),
        (compiled((DATA / "tiny-int8" / "tiny-int8.tflite").read_bytes()), "another input or other outputs"),
    ],
)
def test_a_file_that_is_not_the_same_network_is_refused(file: bytes, told: str, tmp_path: Path) -> None:
    with pytest.raises(BadNetwork, match=told):
        compile_file(SOURCE, "tiny", compiler(tmp_path / "bin", log=WHOLE, file=file))


def test_one_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    then = (
        'child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])\n'
        '(here / "child").write_text(str(child.pid))\n'
        "time.sleep(60)"
    )
    program = compiler(tmp_path / "bin", log="Started a compilation timeout timer.\n", then=then)
    started = time.monotonic()
    with pytest.raises(BadNetwork, match=r"did not finish tiny within 2 s \(Started a compilation"):
        compile_file(SOURCE, "tiny", program, limit_s=2.0)
    assert time.monotonic() - started < 20
    child = int((tmp_path / "bin" / "child").read_text())
    for _ in range(100):
        if _ended(child):
            break
        time.sleep(0.05)
    assert _ended(child)


def _ended(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state == "Z"  # killed, and nobody has asked after it yet


def test_one_that_cannot_be_started_is_one_sentence(tmp_path: Path) -> None:
    program = tmp_path / "edgetpu_compiler"
    program.write_bytes(b"\x7fELF of another processor")
    program.chmod(0o755)
    with pytest.raises(BadNetwork, match="cannot be started"):
        compile_file(SOURCE, "tiny", program)


def test_the_compiler_is_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    assert find_compiler() is None
    program = compiler(tmp_path / "bin", log=WHOLE)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.defpath}")
    assert find_compiler() == program
