"""`edge.embedder`: real networks, whole and broken, in a real runtime."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge import embedder as module
from edge.delegates import PLAIN, XNNPACK, Delegate, find_delegate
from edge.embedder import Embedder, open_runner
from edge.errors import (
    BadSetting,
    DelegateFailed,
    DelegateMissing,
    Incompatible,
    ModelBroken,
    RuntimeMissing,
)
from edge.model import Model

DATA = Path(__file__).parents[1] / "data"


def noise(size: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (size, size, 3), dtype=np.uint8)


def open_variant(model: Model, name: str | None = None) -> Embedder:
    return Embedder.open(
        model.path(model.variant(name)), dimension=model.dimension, input_size=model.input_size
    )


EXTERNAL = find_delegate("external")


def open_by(model: Model, delegate: Delegate, library: Path | str = "", name: str | None = None) -> Embedder:
    return Embedder.open(
        model.path(model.variant(name)),
        dimension=model.dimension,
        input_size=model.input_size,
        delegate=delegate,
        library=str(library),
    )


def operations(embedder: Embedder) -> list[str]:
    """Name what the interpreter runs: `DELEGATE` stands for the operations that were taken from it."""
    interpreter = embedder._running.interpreter
    return [each["op_name"] for each in interpreter._get_ops_details()]


def run_python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("name", ["int8", "int8-out", "float32"])
def test_an_embedding_has_unit_length_and_points_along_the_mean_of_its_map(
    tiny_model: Model, name: str
) -> None:
    embedding = open_variant(tiny_model, name).embed(noise())
    assert embedding.vector.shape == (16,)
    assert embedding.local.shape == (4, 4, 16)
    assert embedding.vector.dtype == embedding.local.dtype == np.float32
    assert np.linalg.norm(embedding.vector) == pytest.approx(1.0)
    mean = embedding.local.mean(axis=(0, 1))
    assert embedding.vector @ mean / np.linalg.norm(mean) > 0.999


@pytest.mark.parametrize("name", ["int8", "int8-out"])
def test_a_quantized_file_sees_nearly_what_the_float_network_sees(tiny_model: Model, name: str) -> None:
    exact = open_variant(tiny_model, "float32").embed(noise()).vector
    assert open_variant(tiny_model, name).embed(noise()).vector @ exact > 0.98


def test_an_embedding_stays_as_it_was_when_the_next_picture_comes(tiny_model: Model) -> None:
    embedder = open_variant(tiny_model)
    first = embedder.embed(noise())
    vector, local = first.vector.copy(), first.local.copy()
    embedder.embed(255 - noise())
    np.testing.assert_array_equal(first.vector, vector)
    np.testing.assert_array_equal(first.local, local)
    np.testing.assert_array_equal(embedder.embed(noise()).vector, vector)


def test_the_runtime_says_its_name_and_version(tiny_model: Model) -> None:
    name, version = open_variant(tiny_model).runtime.split()
    assert name in {"ai-edge-litert", "tflite-runtime", "tensorflow"}
    assert version[0].isdigit()


@pytest.mark.parametrize("picture", [noise(31), noise().astype(np.float32), noise()[:, :, :1]])
def test_a_picture_that_was_not_fitted_is_refused(tiny_model: Model, picture: NDArray[np.uint8]) -> None:
    with pytest.raises(Incompatible, match=r"edge\.image\.fit"):
        open_variant(tiny_model).embed(picture)


@pytest.mark.parametrize(
    ("file", "error", "sentence"),
    [
        ("nan", ModelBroken, r"nan\.tflite answers with NaN"),
        ("input-48", Incompatible, r"takes uint8 \[1, 48, 48, 3\], not uint8 \[1, 32, 32, 3\]"),
        ("dimension-8", Incompatible, r"no output `embedding` \[1, 16\] among"),
        ("float-input", Incompatible, "takes float32"),
        (
            "tiny_edgetpu",
            Incompatible,
            r"compiled for an Edge TPU, .* an Edge TPU and its library libedgetpu",
        ),
        ("nowhere", ModelBroken, "cannot be read"),
    ],
)
def test_a_misfit_is_refused_when_it_is_opened(
    broken_models: Path, file: str, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        Embedder.open(broken_models / f"{file}.tflite", dimension=16, input_size=32)


def test_a_network_that_answers_with_zeros_is_broken(broken_models: Path) -> None:
    embedder = Embedder.open(broken_models / "zero.tflite", dimension=16, input_size=32)
    with pytest.raises(ModelBroken, match="zeros"):
        embedder.embed(noise())


@pytest.mark.parametrize(
    "garbage", [b"", b"TFL3", b"a text file that someone named int8.tflite", bytes(5000)]
)
def test_garbage_is_no_tflite_file(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "int8.tflite").write_bytes(garbage)
    with pytest.raises(ModelBroken, match="no TFLite file"):
        Embedder.open(tmp_path / "int8.tflite", dimension=16, input_size=32)


def test_a_network_cut_short_anywhere_is_broken_and_kills_nobody(tiny_model: Model, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from edge.embedder import Embedder\n"
        "from edge.errors import ModelBroken\n"
        "whole, cut = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])\n"
        "for length in [*range(0, 200, 7), *range(200, len(whole), 997), len(whole) - 1]:\n"
        "    cut.write_bytes(whole[:length])\n"
        "    try:\n"
        "        Embedder.open(cut, dimension=16, input_size=32)\n"
        "    except ModelBroken as error:\n"
        "        assert '\\n' not in str(error), error\n"
        "    else:\n"
        "        raise SystemExit(f'opened at {length} bytes')\n"
        "print('all refused')\n"
    )
    done = run_python(script, str(tiny_model.path(tiny_model.variant())), str(tmp_path / "cut.tflite"))
    assert (done.returncode, done.stdout) == (0, "all refused\n"), done.stderr


def test_without_any_runtime_each_one_tried_is_listed_with_its_cure(tiny_model: Model) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "for name in ('ai_edge_litert', 'tflite_runtime', 'tensorflow'):\n"
        "    sys.modules[name] = None\n"
        "from edge.embedder import Embedder\n"
        "from edge.errors import RuntimeMissing\n"
        "try:\n"
        "    Embedder.open(Path(sys.argv[1]), dimension=16, input_size=32)\n"
        "except RuntimeMissing as error:\n"
        "    print(error)\n"
    )
    done = run_python(script, str(tiny_model.path(tiny_model.variant())))
    for part in ("ai-edge-litert: ", "tflite-runtime: ", "tensorflow: ", "pip install ai-edge-litert"):
        assert part in done.stdout


def test_a_runtime_that_imports_and_then_fails_is_passed_over(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `subprocess` stands for a runtime whose module is there and whose interpreter is not.
    monkeypatch.setattr(module, "_RUNTIMES", (("subprocess", "broken-runtime"), *module._RUNTIMES))
    assert not open_variant(tiny_model).runtime.startswith("broken-runtime")
    monkeypatch.setattr(module, "_RUNTIMES", (("subprocess", "broken-runtime"),))
    with pytest.raises(RuntimeMissing, match=r"broken-runtime: .*Interpreter"):
        open_variant(tiny_model)


def test_any_network_can_be_run_to_be_timed_whatever_its_inputs_and_outputs_are(
    tiny_model: Model, broken_models: Path
) -> None:
    for path in (
        tiny_model.path(tiny_model.variant()),
        DATA / "probe.tflite",
        broken_models / "input-48.tflite",
    ):
        run = open_runner(path)
        run()
        run()
    with pytest.raises(Incompatible, match="Edge TPU"):
        open_runner(broken_models / "tiny_edgetpu.tflite")
    with pytest.raises(ModelBroken, match="cannot be read"):
        open_runner(broken_models / "nothing.tflite")


def test_the_probe_is_the_committed_file() -> None:
    assert (DATA / "probe.tflite").read_bytes() == module._PROBE


def test_nothing_is_printed_and_a_real_complaint_is_not_swallowed(tiny_model: Model) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from edge.chatter import without_chatter\n"
        "from edge.embedder import Embedder\n"
        "Embedder.open(Path(sys.argv[1]), dimension=16, input_size=32)\n"
        "with without_chatter():\n"
        "    os.write(2, b'INFO: a delegate\\nERROR: a real complaint\\n')\n"
    )
    done = run_python(script, str(tiny_model.path(tiny_model.variant())))
    assert (done.stdout, done.stderr) == ("", "ERROR: a real complaint\n")


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed")
def test_tensorflow_answers_in_silence_where_it_is_the_only_runtime(tiny_model: Model) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "sys.modules['ai_edge_litert'] = sys.modules['tflite_runtime'] = None\n"
        "from edge.embedder import Embedder\n"
        "embedder = Embedder.open(Path(sys.argv[1]), dimension=16, input_size=32)\n"
        "print(embedder.runtime.split()[0])\n"
    )
    done = run_python(script, str(tiny_model.path(tiny_model.variant())))
    assert (done.stdout, done.stderr) == ("tensorflow\n", "")


def test_a_service_without_a_standard_error_opens_a_model(tiny_model: Model) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from edge.embedder import Embedder\n"
        "os.close(2)\n"
        "Embedder.open(Path(sys.argv[1]), dimension=16, input_size=32)\n"
        "print('open')\n"
    )
    assert run_python(script, str(tiny_model.path(tiny_model.variant()))).stdout == "open\n"


def test_xnnpack_is_really_on_or_off_and_the_embedder_says_which(tiny_model: Model) -> None:
    usual, plain = open_by(tiny_model, XNNPACK), open_by(tiny_model, PLAIN)
    assert ("DELEGATE" in operations(usual)) == (usual.delegate == "xnnpack")
    assert "DELEGATE" not in operations(plain)
    assert plain.delegate == "none"
    assert usual.delegate == ("none" if usual.runtime.startswith("tflite-runtime") else "xnnpack")
    assert open_by(tiny_model, XNNPACK, name="float32").delegate == "xnnpack", "every runtime's takes floats"
    assert usual.embed(noise()).vector @ plain.embed(noise()).vector > 0.99


def test_only_the_runtime_that_is_named_is_tried(tiny_model: Model) -> None:
    path = tiny_model.path(tiny_model.variant())
    installed = open_variant(tiny_model).runtime.split()[0]
    assert Embedder.open(path, dimension=16, input_size=32, runtime=installed).runtime.startswith(installed)
    missing = "ai-edge-litert" if installed == "tflite-runtime" else "tflite-runtime"
    with pytest.raises(RuntimeMissing) as refusal:
        Embedder.open(path, dimension=16, input_size=32, runtime=missing)
    assert f"({missing}: " in str(refusal.value)
    assert f"{installed}: " not in str(refusal.value)
    with pytest.raises(BadSetting, match="ai-edge-litert, tflite-runtime, tensorflow"):
        Embedder.open(path, dimension=16, input_size=32, runtime="onnxruntime")


def test_a_foreign_delegate_answers_like_the_runtime(tiny_model: Model, foreign_delegate: Path) -> None:
    embedder = open_by(tiny_model, EXTERNAL, foreign_delegate)
    assert embedder.delegate == "external"
    assert "DELEGATE" in operations(embedder)
    assert embedder.embed(noise()).vector @ open_variant(tiny_model).embed(noise()).vector > 0.9999


@pytest.mark.parametrize(
    ("does", "sentence"),
    [
        ("refuses", r"cannot run model .*no device of this vendor is plugged in"),
        ("takes-nothing", "takes no operation of it, so that the CPU would do all"),
        ("fails", "failed to invoke"),
        ("says-nan", "answers with NaN or infinity by delegate external"),
    ],
)
def test_a_foreign_delegate_that_fails_is_not_the_networks_fault(
    tiny_model: Model, foreign_delegate: Path, monkeypatch: pytest.MonkeyPatch, does: str, sentence: str
) -> None:
    monkeypatch.setenv("FOREIGN_DELEGATE", does)
    with pytest.raises(DelegateFailed, match=sentence) as refusal:
        open_by(tiny_model, EXTERNAL, foreign_delegate)
    assert "\n" not in str(refusal.value)


def test_a_foreign_delegate_that_fails_in_use_says_so_of_the_very_picture(
    tiny_model: Model, foreign_delegate: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOREIGN_DELEGATE", "fails")
    monkeypatch.setenv("FOREIGN_DELEGATE_IF", str(tmp_path / "now"))
    embedder = open_by(tiny_model, EXTERNAL, foreign_delegate)
    embedder.embed(noise())
    (tmp_path / "now").touch()
    with pytest.raises(DelegateFailed, match="failed to invoke"):
        embedder.embed(noise())


def test_a_library_that_cannot_be_loaded_is_named_with_the_reason(
    tiny_model: Model, library_of_another_machine: Path, tmp_path: Path
) -> None:
    with pytest.raises(DelegateMissing, match=r"libsparc.so is made for sparc64, and this is "):
        open_by(tiny_model, EXTERNAL, library_of_another_machine)
    with pytest.raises(DelegateMissing, match=r"none.so is not there"):
        open_by(tiny_model, EXTERNAL, tmp_path / "none.so")
    with pytest.raises(DelegateMissing, match="external_library"):
        open_by(tiny_model, EXTERNAL)
    with pytest.raises(DelegateMissing, match=r"libno-such-vendor\.so of delegate gpu cannot be loaded"):
        open_by(tiny_model, find_delegate("gpu"), "libno-such-vendor.so")
    with pytest.raises(DelegateFailed, match="is no TFLite delegate"):
        open_by(tiny_model, EXTERNAL, "libc.so.6")


def test_a_file_for_an_edge_tpu_asks_for_its_library_where_it_is_to_run(broken_models: Path) -> None:
    with pytest.raises(DelegateMissing, match=r"libno-edgetpu.so.1"):
        Embedder.open(
            broken_models / "tiny_edgetpu.tflite",
            dimension=16,
            input_size=32,
            delegate=find_delegate("edgetpu"),
            library="libno-edgetpu.so.1",
        )


@pytest.mark.parametrize("name", ["int8", "int8-out", "float32"])
def test_a_compiled_model_answers_like_the_interpreter(tiny_model: Model, name: str) -> None:
    on_cpu = Delegate(
        "compiled-cpu", "cpu", compiled_model=True
    )  # what there is of its kind on every machine
    if not open_variant(tiny_model).runtime.startswith("ai-edge-litert"):
        with pytest.raises(DelegateMissing, match="run by ai-edge-litert alone"):
            open_by(tiny_model, on_cpu, name=name)
        return
    compiled, usual = open_by(tiny_model, on_cpu, name=name), open_by(tiny_model, XNNPACK, name=name)
    assert compiled.delegate == "compiled-cpu"
    for picture in (noise(), 255 - noise()):
        mine, its = compiled.embed(picture), usual.embed(picture)
        assert mine.vector @ its.vector > 0.9999
        np.testing.assert_allclose(mine.local, its.local, atol=0.05)
