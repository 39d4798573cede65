"""A catalog of four drawn products, and one small training of it that the tests share."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cloud.training.data import Examples, LabeledPhoto, choose_examples
from cloud.training.recipe import Recipe
from edge.image import encode_jpeg

TOY = Recipe(
    backbone="mobilenet_v3_small_minimalistic",
    weights="none",
    freeze_norms=False,
    input_size=64,
    picture_size=72,
    dimension=16,
    epochs=2,
    batch=8,
    learning_rate=1e-3,
    calibration_photos=24,
    seed=3,
)


@dataclass(frozen=True, slots=True)
class ToyCatalog:
    """Photos of four products: 8 to fit, 3 to validate and 2 to test of each, and a packshot."""

    photos: tuple[LabeledPhoto, ...]
    examples: Examples


def draw_pack(product: int, number: int) -> np.ndarray:
    """Draw product 0..3 as two colors and a stripe, moved and lit differently in each photo."""
    random = np.random.default_rng((product, number))
    colors = np.array([[(200, 40, 30), (240, 220, 90)], [(30, 60, 190), (230, 230, 240)]], np.uint8)
    back, stripe = colors[product // 2]
    picture = np.full((96, 80, 3), 128, np.uint8)
    top, left = random.integers(4, 20, 2)
    picture[top : top + 70, left : left + 52] = back
    if product % 2:
        picture[top + 20 : top + 45, left : left + 52] = stripe
    else:
        picture[top : top + 70, left + 15 : left + 35] = stripe
    noise = random.normal(random.uniform(-30, 30), 6, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def toy_catalog(tmp_path_factory: pytest.TempPathFactory) -> ToyCatalog:
    folder = tmp_path_factory.mktemp("photos")
    photos = []
    splits = ["train"] * 8 + ["validation"] * 3 + ["test"] * 2 + ["reference"]
    for product in range(4):
        for number, split in enumerate(splits):
            path = folder / f"{product}-{number:02}.jpg"
            path.write_bytes(encode_jpeg(draw_pack(product, number)))
            kind = "packshot" if split == "reference" else "in-store"
            photos.append(LabeledPhoto(path, f"pack-{product}", f"kind-{product // 2}", kind, split))
    return ToyCatalog(tuple(photos), choose_examples(photos, TOY))


@pytest.fixture(scope="session")
def toy_run(toy_catalog: ToyCatalog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Train the toy catalog once, without a break; give the run's folder."""
    from cloud.training.runtime import prepare

    machine = prepare(TOY.seed)
    from cloud.training.loop import train_network
    from cloud.training.run import RunFolder

    folder = tmp_path_factory.mktemp("run") / "whole"
    train_network(toy_catalog.examples, TOY, RunFolder(folder), machine, lambda *_: None)
    yield folder
