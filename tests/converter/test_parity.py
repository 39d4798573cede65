"""How far one file strays from another."""

import numpy as np
import pytest

from converter.parity import check_parity, compare
from edge.errors import BadNetwork


def units(seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(50, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_equal_files_do_not_stray() -> None:
    parity = compare(units(0), units(0))
    assert parity.mean_cosine == pytest.approx(1) and parity.same_neighbor == 1 and parity.photos == 50


def test_a_file_of_another_network_is_refused() -> None:
    parity = compare(units(0), units(1))
    with pytest.raises(BadNetwork, match=r"int8.tflite strays"):
        check_parity(parity, "int8.tflite")


def test_nothing_cannot_be_compared() -> None:
    with pytest.raises(BadNetwork, match="no photos"):
        compare(units(0)[:0], units(0)[:0])
