"""Makes a large shop in seconds: products with photos that nobody took, their embeddings in the cache.

Publishing reads a photo only where the cache has no embedding of it, so everything after the network is the
real thing at full size. Some products have real photos, drawn, because golden photos have to be answered.
"""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sqlalchemy import insert

from cloud import signing
from cloud.catalog import Catalog, PhotoRow
from cloud.database import transaction
from cloud.embeddings import EmbeddingCache
from cloud.times import now
from cloud.workspace import Workspace
from edge.image import encode_jpeg
from edge.model import Model
from edge.products import Product

_DRAWN = 48  # products with real photos
_ALIKE = 0.84  # cosine of two photos of a product, as a trained network has them
_BLOCK = 5_000


def make_workspace(data: Path) -> Workspace:
    """Make a data folder with keys and an empty signed repository, as `init` does."""
    workspace = Workspace.create(data)
    signing.create_repository(workspace.metadata, workspace.keys)
    return workspace


def fill(workspace: Workspace, model: Model, products: int, photos: int, *, seed: int = 5) -> None:
    """Put `products` with so many `photos` each into the catalog, and their embeddings into the cache."""
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    step = max(1, products // _DRAWN)
    drawn = set(range(0, products, step))
    names = [f"P{number:06}" for number in range(products)]
    catalog.put_products(_product(name) for name in names)
    for number in sorted(drawn):
        add_photos(catalog, names[number], number, photos)
    add_embedded(
        workspace, model, [names[each] for each in range(products) if each not in drawn], photos, seed
    )


def add_embedded(workspace: Workspace, model: Model, skus: list[str], photos: int, seed: int) -> None:
    """Give products photos that are only known by their embeddings, and add those that are not there yet."""
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    catalog.put_products(_product(sku) for sku in skus)
    rng = np.random.default_rng(seed)
    variant = model.variant()
    with EmbeddingCache(workspace.cache) as cache:
        for start in range(0, len(skus), _BLOCK):
            block = skus[start : start + _BLOCK]
            vectors = _embeddings(rng, len(block), photos, model.dimension)
            named = {
                (sku, shot): hashlib.sha256(f"{seed} {sku} {shot}".encode()).hexdigest()
                for sku in block
                for shot in range(photos)
            }
            by_photo = dict(zip(named.values(), vectors, strict=True))
            cache.keep(variant.sha256, "reference", by_photo)
            rows = [
                {
                    "sku": sku,
                    "sha256": sha256,
                    "kind": "in-store",
                    "split": "reference",
                    "source": f"{sku}/{shot}.jpg",
                    "added": now(),
                }
                for (sku, shot), sha256 in named.items()
            ]
            with transaction(workspace.sessions()) as session:
                session.execute(insert(PhotoRow), rows)


def add_photos(catalog: Catalog, sku: str, number: int, photos: int) -> None:
    """Give a product real photos of a pack of its own."""
    for shot in range(photos):
        catalog.add_photo(sku, draw_photo(number, shot), "in-store", "reference", f"{sku}/{shot}.jpg")


def draw_photo(number: int, shot: int) -> bytes:
    """Draw a pack of shapes, as JPEG, unlike the others to a network; another `shot` is another light."""
    rng = np.random.default_rng(number)
    pack = Image.new("RGB", (256, 256), _color(rng))
    draw = ImageDraw.Draw(pack)
    for kind in rng.integers(0, 4, 14).tolist():
        x, y = rng.integers(0, 220, 2).tolist()
        wide, high = rng.integers(15, 140, 2).tolist()
        box, color = (x, y, x + wide, y + high), _color(rng)
        if kind == 0:
            draw.ellipse(box, fill=color)
        elif kind == 1:
            draw.rectangle(box, fill=color)
        elif kind == 2:
            draw.polygon([(x, y), (x + wide, y), tuple(rng.integers(0, 256, 2).tolist())], fill=color)
        else:
            for step in range(0, wide, 9):
                draw.line((x + step, y, x + step, y + high), fill=color, width=4)
    light = np.random.default_rng((number, shot))
    picture = np.asarray(pack) * light.uniform(0.85, 1.1) + light.normal(0, 4, (256, 256, 3))
    return encode_jpeg(np.clip(picture, 0, 255).astype(np.uint8))


def _color(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 255, 3).tolist()
    return red, green, blue


def _product(sku: str) -> Product:
    number = int(hashlib.sha256(sku.encode()).hexdigest()[:8], 16)
    return Product(
        sku, f"Brand {number % 997} article {sku} 500 g", f"group-{number % 60}", price=f"{number % 40}.99"
    )


def _embeddings(rng: np.random.Generator, products: int, photos: int, dimension: int) -> NDArray[np.float32]:
    """Draw unit vectors (products * photos, D): alike in a product, somewhat alike in a group of products."""
    groups = rng.normal(size=(60, dimension))
    own = rng.normal(size=(products, dimension)) + 0.8 * groups[rng.integers(0, 60, products)]
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    noise = rng.normal(size=(products, photos, dimension)) / np.sqrt(dimension)
    vectors = np.sqrt(_ALIKE) * own[:, np.newaxis] + np.sqrt(1 - _ALIKE) * noise
    flat: NDArray[np.float64] = vectors.reshape(-1, dimension)
    unit: NDArray[np.float32] = (flat / np.linalg.norm(flat, axis=1, keepdims=True)).astype(np.float32)
    return unit
