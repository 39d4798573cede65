"""Certify a trained model anew, without converting its network again: its files, in every runtime at hand.

    python benchmarks/certify_model.py DATA RUN MODEL OUT

DATA is a `--data` folder, RUN the run that MODEL was finished from (DATA/runs/grocery), MODEL a folder with
files that were calibrated and measured, and OUT the folder that is written. The files keep their networks
and their decisions: metadata is added to each, the file for an Edge TPU is made of the one for the CPU, and
the certificate is measured on the photos of the split `test`, which nothing was fitted to or is tuned on.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cloud.catalog import Catalog
from cloud.training.data import LabeledPhoto, choose_examples
from cloud.training.recipe import Recipe
from cloud.workspace import Workspace
from converter.certify import LabeledPicture, Way, certify
from converter.eight_bits import answer_in_uint8
from converter.files import WrittenFile, write_for_edge_tpu
from converter.metadata import describe
from converter.network_file import NetworkNote, read_note
from edge.certificate import CERTIFICATE_FILE
from edge.delegates import PLAIN, XNNPACK
from edge.disk import write_atomically
from edge.embedder import Embedder
from edge.errors import RuntimeMissing
from edge.image import decode, fit, load_photo
from edge.model import Model, Variant, open_model, write_model

# Those that are installed are measured. The slow kernels of the runtimes, without XNNPACK, are what a device
# falls back to; tflite-runtime has no other ones for int8.
WAYS = (
    Way("ai-edge-litert", XNNPACK),
    Way("ai-edge-litert", PLAIN),
    Way("tflite-runtime", XNNPACK),
    Way("tensorflow", XNNPACK),
)
LICENSE = "Apache-2.0"
NAMED = 12  # digits of a photo's SHA-256, enough to know it by
PHOTOS_FROM = "the catalog's split test: nothing was fitted to these photos, and nothing is tuned on them"


def certify_model(data: Path, run: Path, folder: Path, out: Path) -> None:
    """Write the model folder `out`."""
    model = open_model(folder)
    out.mkdir(parents=True, exist_ok=True)
    network = next(path for path in run.rglob("network.keras") if read_note(path).space == model.space)
    edge_tpu, variants = _write_files(model, replace(read_note(network), license=LICENSE), out)
    described = replace(model, variants=variants, folder=out)
    write_model(described, out)

    photos = _photos(Workspace.open(data))
    recipe = Recipe.read(run / "recipe.toml")
    fitted = choose_examples(photos, recipe).fit
    asked = [photo for photo in photos if photo.split == "test" and photo.kind == "in-store"]
    certificate = certify(
        described,
        _pictures(asked, model.input_size),
        _pictures(fitted, model.input_size),
        representative=_learned_from(fitted, recipe.calibration_photos),
        ways=_ways(described),
        stand_ins={edge_tpu.path.stem: edge_tpu.stand_in} if edge_tpu.stand_in else {},
        edge_tpu={edge_tpu.path.stem: edge_tpu.edge_tpu} if edge_tpu.edge_tpu else {},
        progress=_tell,
    )
    certificate = replace(certificate, extra={"photos_from": PHOTOS_FROM})
    write_atomically(out / CERTIFICATE_FILE, certificate.to_bytes())


def _write_files(model: Model, note: NetworkNote, out: Path) -> tuple[WrittenFile, tuple[Variant, ...]]:
    """Write the described files, and that for an Edge TPU, which judges like the one that it is made of."""
    variants = []
    for variant in model.variants:
        if variant.target != "edgetpu":
            file = describe(model.path(variant).read_bytes(), variant.file, note)
            write_atomically(out / variant.file, file)
            written = WrittenFile(variant.target, out / variant.file)
            variants.append(written.variant(variant.decision))
    cpu = model.variant("int8")
    plain = describe(answer_in_uint8(model.path(cpu).read_bytes(), cpu.file), cpu.file, note)
    edge_tpu = write_for_edge_tpu(plain, note, out)
    variants.append(edge_tpu.variant(cpu.decision))
    return edge_tpu, tuple(sorted(variants, key=lambda variant: variant.target))


def _ways(model: Model) -> list[Way]:
    """Return the ways that there are here."""
    found = []
    path = model.path(model.variant())
    for way in WAYS:
        with suppress(RuntimeMissing):
            size, dimension = model.input_size, model.dimension
            Embedder.open(path, dimension=dimension, input_size=size, runtime=way.runtime)
            found.append(way)
    return found


def _photos(workspace: Workspace) -> list[LabeledPhoto]:
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    categories = {product.sku: product.category for product in catalog.products()}
    return [
        LabeledPhoto(
            catalog.photos.path(photo.sha256), photo.sku, categories[photo.sku], photo.kind, photo.split
        )
        for photo in catalog.reference_photos() + catalog.test_photos()
    ]


def _pictures(photos: Sequence[LabeledPhoto], size: int) -> list[LabeledPicture]:
    return [
        LabeledPicture(
            fit(decode(load_photo(photo.path), shrink_to=size), size),
            photo.path.stem[:NAMED],
            photo.category,
            photo.sku,
        )
        for photo in photos
    ]


def _learned_from(fitted: Sequence[LabeledPhoto], count: int) -> dict[str, list[str]]:
    """Name the photos, by category, that the int8 files of these models learned their ranges from.

    They were balanced over products when those files were made.
    """
    seen: Counter[str] = Counter()
    ranked = []
    for place, photo in enumerate(fitted):
        ranked.append((seen[photo.sku], place, photo))
        seen[photo.sku] += 1
    named: dict[str, list[str]] = {}
    for _, _, photo in sorted(ranked, key=lambda each: each[:2])[:count]:
        named.setdefault(photo.category, []).append(photo.path.stem[:NAMED])
    return {category: sorted(names) for category, names in named.items()}


def _tell(what: str, done: int, of: int) -> None:
    if done == of or done % 100 == 0:
        print(f"{what}: {done} of {of}", file=sys.stderr)


if __name__ == "__main__":
    certify_model(*(Path(argument) for argument in sys.argv[1:5]))
