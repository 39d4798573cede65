"""Drawn packs, and small real releases of them, as they lie on a device; for the tests of every package."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.disk import write_atomically
from edge.embedder import Embedder
from edge.image import encode_jpeg, fit
from edge.matcher import Matcher, prepare_release_folder
from edge.model import Model
from edge.products import Product
from edge.recipe import IndexRecipe
from edge.release import FileEntry, Golden, Release
from edge.segments import Content, encode_base, quantize_rows

Picture = NDArray[np.uint8]


def draw_pack(seed: int, size: int = 64) -> Picture:
    """Draw a pack: a body with two blocks of other colors on a white ground; every seed another product."""
    rng = np.random.default_rng(seed)
    colors = rng.integers(0, 256, (3, 3))
    pack = np.full((size, size, 3), 255, np.uint8)
    pack[size // 8 : -size // 8, size // 5 : -size // 5] = colors[0]
    for color in colors[1:]:
        top, left = rng.integers(size // 8, size // 2, 2)
        pack[top : top + size // 3, left : left + size // 3] = color
    return pack


def photograph(pack: Picture, seed: int = 0) -> bytes:
    """Take a photo of a pack: a little darker, with noise, as JPEG bytes."""
    rng = np.random.default_rng(seed)
    seen = pack * 0.92 + rng.normal(0, 4, pack.shape)
    return encode_jpeg(np.clip(seen, 0, 255).astype(np.uint8))


@dataclass(frozen=True)
class ReleaseMaker:
    """Writes releases of drawn packs into folders, as an installation would have them."""

    model: Model

    def embed(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """Embed pictures with the model's own int8 file: (n, D)."""
        embedder = Embedder.open(
            self.model.path(self.model.variant()),
            dimension=self.model.dimension,
            input_size=self.model.input_size,
        )
        return np.array([embedder.embed(fit(picture, self.model.input_size)).vector for picture in pictures])

    def content(self, packs: Mapping[str, Picture], category: str = "") -> Content:
        """Make the catalog with one reference photo a product."""
        scale = self.model.row_scale
        rows = dict(zip(packs, self.embed(list(packs.values())), strict=True)) if packs else {}
        return Content(
            space=self.model.space,
            dimension=self.model.dimension,
            scale=scale,
            products={sku: Product(sku=sku, title=sku.title(), category=category) for sku in packs},
            rows={sku: quantize_rows(vector[np.newaxis], scale) for sku, vector in rows.items()},
        )

    def write(
        self, folder: Path, packs: Mapping[str, Picture], golden: Sequence[bytes] = (), *, category: str = ""
    ) -> Path:
        """Write a release of the packs into `folder`; golden photos are answered by itself."""
        base = encode_base(self.content(packs, category))
        variants = [variant for variant in self.model.variants if variant.target == "cpu"]
        files = [(self.model.path(variant).read_bytes(), "model") for variant in variants]
        files += [(base, "segment"), *((photo, "golden") for photo in golden)]
        named = [(hashlib.sha256(data).hexdigest(), data, role) for data, role in files]
        segment = hashlib.sha256(base).hexdigest()
        release = Release(
            version=1,
            created="2026-11-23T10:10:00Z",
            space=self.model.space,
            dimension=self.model.dimension,
            input_size=self.model.input_size,
            row_scale=self.model.row_scale,
            model=self.model.name,
            variants=tuple(replace(variant, file=variant.sha256) for variant in variants),
            segments=(segment,),
            merged_sha256=segment,
            recipe=IndexRecipe(),
            golden=(),
            files=tuple(FileEntry(sha256, len(data), role) for sha256, data, role in named),
        )
        folder.mkdir(parents=True, exist_ok=True)
        for sha256, data, _ in named:
            write_atomically(folder / sha256, data)
        write_atomically(folder / "release.json", release.to_bytes())
        prepare_release_folder(folder)
        if golden:
            matcher = Matcher.open(folder)
            answered = tuple(answer_as_golden(matcher, photo) for photo in golden)
            write_atomically(folder / "release.json", replace(release, golden=answered).to_bytes())
        return folder


def answer_as_golden(matcher: Matcher, photo: bytes) -> Golden:
    """Write down how a matcher answers a photo."""
    answer = matcher.match_photo(photo)
    best = answer.candidates[0]
    sku = best.product.sku if answer.verdict == "match" else None
    return Golden(hashlib.sha256(photo).hexdigest(), answer.verdict, sku, best.similarity)
