"""`edge.wholeness`: a network file that was cut is seen to be, before a runtime dies of it."""

from pathlib import Path

import pytest

from edge.wholeness import is_whole

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize("path", sorted(DATA.rglob("*.tflite")), ids=lambda path: path.stem)
def test_every_real_network_is_whole(path: Path) -> None:
    assert is_whole(path.read_bytes())


def test_one_that_is_cut_anywhere_is_not() -> None:
    network = (DATA / "tiny-int8" / "tiny-int8.tflite").read_bytes()
    assert [length for length in range(len(network)) if is_whole(network[:length])] == []


def test_one_that_points_outside_is_not() -> None:
    network = bytearray((DATA / "tiny-int8" / "tiny-int8.tflite").read_bytes())
    root = int.from_bytes(network[:4], "little")
    network[:4] = (len(network) - 4).to_bytes(4, "little")
    assert not is_whole(bytes(network))
    network[:4] = root.to_bytes(4, "little")
    network[root : root + 4] = (root + 1).to_bytes(4, "little", signed=True)
    assert not is_whole(bytes(network)), "its table of fields would lie before the file"
