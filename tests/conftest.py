"""What tests of every package share."""

import signal
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
