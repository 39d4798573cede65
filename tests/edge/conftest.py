"""What the tests of `edge` share: drawn packs, and a small release of them as it lies on a device."""

from pathlib import Path

import pytest

from edge.model import Model
from tests.edge.drawn_release import Picture, ReleaseMaker, draw_pack, photograph


@pytest.fixture
def packs() -> dict[str, Picture]:
    """Give ten packs by sku."""
    return {f"pack-{seed}": draw_pack(seed) for seed in range(10)}


@pytest.fixture
def release_maker(tiny_model: Model) -> ReleaseMaker:
    """Give what writes releases of drawn packs with the tiny model."""
    return ReleaseMaker(tiny_model)


@pytest.fixture
def release_folder(release_maker: ReleaseMaker, packs: dict[str, Picture], tmp_path: Path) -> Path:
    """Give an installed release of the ten packs, with two golden photos."""
    golden = [photograph(packs["pack-3"], 1), photograph(packs["pack-7"], 2)]
    return release_maker.write(tmp_path / "release", packs, golden)
