"""Makes small whole releases out of drawn packs, with the device's own code and the tiny real model."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from edge.embedder import Embedder
from edge.image import decode, fit
from edge.matcher import Matcher, prepare_release_folder
from edge.model import Model, Variant
from edge.products import Product
from edge.recipe import IndexRecipe
from edge.release import FileEntry, Golden, Release
from edge.segments import Content, encode_base, encode_delta, quantize_rows


@dataclass(frozen=True)
class Made:
    """A release, its files by sha256, and what a later release needs to be a delta on it."""

    release: Release
    files: Mapping[str, bytes]
    content: Content

    @property
    def manifest(self) -> bytes:
        return self.release.to_bytes()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pack_photo(number: int, view: int = 0) -> bytes:
    """Photograph drawn pack `number` as a JPEG of 96 pixels; every `view` is a little different."""
    rng = np.random.default_rng(number)
    colors = rng.uniform(0, 255, (4, 3))
    pack = np.empty((96, 96, 3), np.float32)
    pack[:] = colors[0]
    pack[12:-12, 19:-19] = colors[1]
    for color in colors[2:]:
        top, left = rng.integers(12, 48, 2)
        height, width = rng.integers(16, 48, 2)
        pack[top : top + height, left : left + width] = color
    light = np.random.default_rng(1000 * number + view).uniform(0.9, 1.05)
    photo = BytesIO()
    Image.fromarray(np.clip(pack * light, 0, 255).astype(np.uint8)).save(photo, "JPEG", quality=90)
    return photo.getvalue()


def make_content(model: Model, packs: Mapping[str, int]) -> Content:
    """Embed two photos of each product; `packs` maps a sku to the number of its pack."""
    embedder = Embedder.open(
        model.path(model.variant("int8")), dimension=model.dimension, input_size=model.input_size
    )
    rows = {}
    for sku, number in packs.items():
        photos = [decode(pack_photo(number, view)) for view in (0, 1)]
        vectors = np.stack([embedder.embed(fit(photo, model.input_size)).vector for photo in photos])
        rows[sku] = quantize_rows(vectors, model.row_scale)
    products = {sku: Product(sku, title=f"Pack {number}") for sku, number in packs.items()}
    return Content(model.space, model.dimension, model.row_scale, products, rows)


def make_release(
    model: Model,
    version: int,
    packs: Mapping[str, int],
    *,
    before: Made | None = None,
    golden: bool = True,
    networks: Mapping[str, bytes] | None = None,
) -> Made:
    """Make release `version`; with `before`, its segments are those of `before` and a delta.

    `networks` are further network files, by the target of their variants, which are named like it.
    """
    content = make_content(model, packs)
    files: dict[str, bytes] = {}
    entries: list[FileEntry] = []

    def add(data: bytes, role: str) -> str:
        name = sha256(data)
        if name not in files:
            files[name] = data
            entries.append(FileEntry(name, len(data), role))
        return name

    variant = model.variant("int8")
    files_of = {"int8": model.path(variant).read_bytes(), **(networks or {})}
    variants = tuple(
        Variant(
            name=name,
            file=add(data, "model"),
            sha256=sha256(data),
            size=len(data),
            target="cpu" if name == "int8" else name,
            precision="int8",
            decision=variant.decision,
        )
        for name, data in files_of.items()
    )
    segments: tuple[str, ...] = ()
    if before is None:
        segments = (add(encode_base(content), "segment"),)
    else:
        for name in before.release.segments:
            add(before.files[name], "segment")
        delta = encode_delta(before.content, content)
        segments = (*before.release.segments, *((add(delta, "segment"),) if delta else ()))
    release = Release(
        version=version,
        created="2026-01-01T00:00:00Z",
        space=model.space,
        dimension=model.dimension,
        input_size=model.input_size,
        row_scale=model.row_scale,
        model=model.name,
        variants=variants,
        segments=segments,
        merged_sha256=sha256(encode_base(content)),
        recipe=IndexRecipe(trees=3, search_k=100),
        golden=(),
        files=tuple(entries),
    )
    if golden:
        release = _with_golden(release, files, add(pack_photo(next(iter(packs.values())), 7), "golden"))
        release = replace(release, files=tuple(entries))
    return Made(release, files, content)


def write_files(made: Made, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in made.files.items():
        (folder / name).write_bytes(data)


def _with_golden(release: Release, files: Mapping[str, bytes], photo: str) -> Release:
    with TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        (Path(folder) / "release.json").write_bytes(release.to_bytes())
        prepare_release_folder(Path(folder))
        answer = Matcher.open(Path(folder)).match_photo(files[photo])
    best = answer.candidates[0]
    sku = best.product.sku if answer.verdict == "match" else None
    return replace(release, golden=(Golden(photo, answer.verdict, sku, best.similarity),))
