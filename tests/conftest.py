"""What tests of every package share."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from edge.model import Model, open_model

# A runner started in the background ignores Ctrl-C, and every process that it starts inherits that: the
# tests of how a server or a demo is stopped would wait forever.
signal.signal(signal.SIGINT, signal.default_int_handler)

DATA = Path(__file__).parent / "data"


@pytest.fixture
def tiny_model() -> Model:
    """Give a small real TFLite model: 32 pixels, 16 components, variants int8, int8-out and float32.

    `tests/data/make_tiny_model.py` made it; colored packs that it has never seen are told apart.
    """
    return open_model(DATA / "tiny-int8")


@pytest.fixture
def several_model() -> Model:
    """Give the same network with a file for every target, out of order: the CPU's comes last.

    `edgetpu` is compiled, as far as a reader can tell, and `edgetpu-int8` is what it was compiled from.
    """
    return open_model(DATA / "tiny-several")


@pytest.fixture
def broken_models() -> Path:
    """Give the folder of TFLite files that are no good: nan, zero, input-48, dimension-8, float-input, …"""
    return DATA / "broken-models"


@pytest.fixture(scope="session")
def foreign_delegate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a TFLite delegate library as a vendor brings one; what it does, the environment says.

    See `tests/data/delegates/foreign_delegate.c`.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("delegates") / "libforeign_delegate.so"
    source = DATA / "delegates" / "foreign_delegate.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


@pytest.fixture
def library_of_another_machine(tmp_path: Path) -> Path:
    """Give a library that no machine of today loads: its header says that it is for a SPARC of 64 bits."""
    library = tmp_path / "libsparc.so"
    header = bytearray(64)
    header[:7] = b"\x7fELF\x02\x01\x01"  # 64 bits, little endian, version 1
    header[16:20] = (3).to_bytes(2, "little") + (43).to_bytes(2, "little")  # a shared object, for a SPARC V9
    library.write_bytes(header)
    return library
