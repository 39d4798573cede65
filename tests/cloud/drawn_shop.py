"""A small drawn shop to measure models on: packs, photos of them, a catalog of ten, and a whole suite."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloud.catalog import Catalog
from edge.model import Model, WrongRate, open_model, write_model
from edge.products import Product
from tests.conftest import DATA

Pack = NDArray[np.float32]
SIZE = 64
LEFT_OUT = ("pack-2", "pack-5", "pack-8")


def draw_pack(seed: int) -> Pack:
    """Draw a pack: a ground, a body, two blocks of other colors on it; float32 (64, 64, 3), 0..255."""
    rng = np.random.default_rng(seed)
    colors = rng.uniform(0, 255, (4, 3))
    pack = np.empty((SIZE, SIZE, 3), np.float32)
    pack[:] = colors[0]
    pack[SIZE // 8 : -SIZE // 8, SIZE // 5 : -SIZE // 5] = colors[1]
    for color in colors[2:]:
        top, left = rng.integers(SIZE // 8, SIZE // 2, 2)
        height, width = rng.integers(SIZE // 6, SIZE // 2, 2)
        pack[top : top + height, left : left + width] = color
    return pack


def photograph(pack: Pack, seed: int) -> bytes:
    """See a pack in other light, a little moved, with noise; JPEG bytes."""
    rng = np.random.default_rng(seed)
    moved = np.roll(pack, rng.integers(-5, 6, 2), axis=(0, 1))
    lit = moved * rng.uniform(0.75, 1.1) * rng.uniform(0.95, 1.05, 3) + rng.normal(0, 6, pack.shape)
    return encode(Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8)))


def encode(image: Image.Image, quality: int = 92) -> bytes:
    """Encode an image as JPEG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def fill(catalog: Catalog) -> Catalog:
    """Put in ten packs of two categories: three photos to know each by, a packshot, and two photos to ask."""
    for number in range(10):
        sku, pack = f"pack-{number}", draw_pack(number)
        catalog.put_product(Product(sku, f"Pack {number}", "even" if number % 2 == 0 else "odd"))
        packshot = encode(Image.fromarray(pack.astype(np.uint8)))
        catalog.add_photo(sku, packshot, "packshot", "reference", f"{sku}/packshot.jpg")
        for shot in range(5):
            photo = photograph(pack, 100 * number + shot)
            catalog.add_photo(sku, photo, "in-store", "train" if shot < 3 else "test", f"{sku}/{shot}.jpg")
    return catalog


def copy_model(model: Model, folder: Path, name: str, **extra: object) -> Path:
    """Copy a model under another name, with a decision that offers a rate of wrong answers."""
    folder.mkdir(parents=True)
    for variant in model.variants:
        shutil.copyfile(model.path(variant), folder / variant.file)
    rates = (WrongRate(0.005, 0.9), WrongRate(0.02, 0.6))
    variants = tuple(
        replace(each, decision=replace(each.decision, wrong_rates=rates)) for each in model.variants
    )
    write_model(
        replace(model, name=name, variants=variants, folder=folder, extra={**model.extra, **extra}), folder
    )
    return folder


def write_suite(folder: Path) -> Path:
    """Write a suite that names everything: two models, a twin, other things, a training, targets."""
    tiny = open_model(DATA / "tiny-int8")
    copy_model(tiny, folder / "ours", "ours")
    copy_model(tiny, folder / "wide", "wide")
    copy_model(tiny, folder / "twin", "the-twin", recipe={"leave_out": list(LEFT_OUT)})
    for kind in range(3):
        for split, shots in (("train", 3), ("test", 2)):
            place = folder / "clothes" / split / f"kind-{kind}"
            place.mkdir(parents=True)
            for shot in range(shots):
                (place / f"{shot}.jpg").write_bytes(
                    photograph(draw_pack(70 + kind), 90 * kind + 7 * shots + shot)
                )
    (folder / "results" / "ours").mkdir(parents=True)
    lines = [{"epoch": n, "loss": 2.0 / n, "accuracy": 0.5, "validation_top1": 0.4} for n in (1, 2)]
    (folder / "results" / "ours" / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    (folder / "suite.toml").write_text(
        '[models]\ngrocery = "ours"\nsecond_domain = "wide"\n[twin]\nmodel = "twin"\n'
        '[second_domain]\nfolder = "clothes"\n[cost]\nbaseline = "ours/tiny-float32.tflite"\n'
        "[robust]\nphotos = 10\n[targets]\n"
        '"grocery.fine_top1" = { at_least = 0.1, aim = 1.1, before = 0.3 }\n'
        '"cost.bytes" = { at_most = 4_000_000, aim = 3_000_000 }\n'
    )
    return folder / "suite.toml"
