"""Writes the sample shop to disk: a catalog table with packshots, and photos whose truth is known."""

import csv
import io
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloud.sample.designs import Design, catalog_designs, held_out_designs
from cloud.sample.photos import VIEWS, in_store_photo, packshot, random_for
from edge.disk import storage_error, write_atomically

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ShopPhoto:
    """A photo taken in the sample shop: `sku` is the product on it, None when that is not in the catalog."""

    path: Path
    sku: str | None


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A product that joins the catalog later: its packshots, and a photo of it in the shop."""

    design: Design
    packshots: tuple[Path, ...]
    photo: Path


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample shop on disk: `table` is for `catalog import`; the newcomer's photo is one of `photos`.

    `labeled` are other photos of products in the catalog, as staff would take and name some to begin with.
    """

    table: Path
    products: int
    packshots: int
    photos: tuple[ShopPhoto, ...]
    labeled: tuple[ShopPhoto, ...]
    newcomer: Newcomer


@dataclass(frozen=True, slots=True)
class _Drawing:
    path: Path
    design: Design
    view: str | None  # None for a photo in the shop
    others: tuple[Design, ...]
    seed: int


def write_sample(
    folder: Path,
    *,
    products: int = 80,
    photos: int = 40,
    labeled: int = 40,
    seed: int = 7,
    workers: int = 1,
    progress: Progress | None = None,
) -> Sample:
    """Draw a shop of up to 80 `products` and `photos` in it, a fifth of them of products it does not list.

    There are `labeled` further photos, all of products that it lists.

    The same arguments give the same bytes, whatever the number of `workers` (processes).

    Raises:
        StorageUnusable: the folder cannot be written.
        NoSpace: the disk is full.
    """
    designs, strangers = catalog_designs()[:products], held_out_designs()
    newcomer = strangers[0]
    drawings = [
        _Drawing(folder / "packshots" / design.sku / f"{view}.jpg", design, view, designs, seed)
        for design in (*designs, newcomer)
        for view, _, _ in VIEWS
    ]
    subjects = _subjects(designs, strangers, photos, seed)
    taken = _photos(folder / "photos", "", subjects, designs)
    # The name decides how a photo is taken: one of another name is another photo of the same product.
    staff = _photos(
        folder / "labeled", "staff-", _known_subjects(designs, labeled, random_for(seed, "labeled")), designs
    )
    for photo, design in (*taken, *staff):
        drawings.append(_Drawing(photo.path, design, None, designs[::2], seed))
    try:
        for parent in sorted({drawing.path.parent for drawing in drawings}):
            parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error
    _draw_all(drawings, workers, progress or (lambda done, total: None))
    labeled_photos = tuple(photo for photo, _ in staff)
    table = folder / "catalog.csv"
    write_atomically(table, _table(folder, designs, labeled_photos).encode())
    return Sample(
        table=table,
        products=len(designs),
        packshots=len(designs) * len(VIEWS),
        photos=tuple(photo for photo, _ in taken),
        labeled=labeled_photos,
        newcomer=Newcomer(
            design=newcomer,
            packshots=tuple(folder / "packshots" / newcomer.sku / f"{view}.jpg" for view, _, _ in VIEWS),
            photo=folder / "photos" / f"{subjects.index(newcomer) + 1:02d}.jpg",
        ),
    )


def _subjects(designs: Sequence[Design], strangers: Sequence[Design], photos: int, seed: int) -> list[Design]:
    """Choose what is photographed: mostly different products of the catalog, mixed with strangers to it."""
    rng = random_for(seed, "subjects")
    unknown = min(len(strangers), max(1, photos // 5))
    chosen = [*_known_subjects(designs, max(1, photos - unknown), rng), *strangers[:unknown]]
    return [chosen[int(place)] for place in rng.permutation(len(chosen))]


def _known_subjects(designs: Sequence[Design], count: int, rng: np.random.Generator) -> list[Design]:
    """Choose products at random, each once before any a second time."""
    order = [int(place) for _ in range(count // len(designs) + 1) for place in rng.permutation(len(designs))]
    return [designs[place] for place in order[:count]]


def _photos(
    folder: Path, prefix: str, subjects: Sequence[Design], designs: Sequence[Design]
) -> list[tuple[ShopPhoto, Design]]:
    """Number photos of the subjects, with what is true of them."""
    return [
        (ShopPhoto(folder / f"{prefix}{number:02d}.jpg", design.sku if design in designs else None), design)
        for number, design in enumerate(subjects, 1)
    ]


def _draw_all(drawings: Sequence[_Drawing], workers: int, progress: Progress) -> None:
    if workers <= 1:
        for done, drawing in enumerate(drawings, 1):
            _draw(drawing)
            progress(done, len(drawings))
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the caller's threads half-alive
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts) as pool:
        # Chunks of whole products, so that a product's artwork is printed in one process only.
        for done, _ in enumerate(pool.map(_draw, drawings, chunksize=len(VIEWS)), 1):
            progress(done, len(drawings))


def _leave_interrupts() -> None:
    """Let Ctrl-C be the caller's business: it ends the workers without a traceback from each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _draw(drawing: _Drawing) -> None:
    if drawing.view is not None:
        photo = packshot(drawing.design, drawing.view, seed=drawing.seed)
    else:
        photo = in_store_photo(
            drawing.design,
            drawing.others,
            f"{drawing.path.parent.name}/{drawing.path.stem}",
            seed=drawing.seed,
        )
    try:
        drawing.path.write_bytes(photo)
    except OSError as error:
        raise storage_error(error, drawing.path) from error


def _table(folder: Path, designs: Sequence[Design], labeled: Sequence[ShopPhoto]) -> str:
    """Write the catalog as CSV: a line a product with its packshots, and a line a labeled photo."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    packshots = [f"packshot_{view}" for view, _, _ in VIEWS]
    writer.writerow(["sku", "gtin", "title", "category", "price", *packshots, "photo", "kind", "split"])
    products = {
        design.sku: (design.sku, design.gtin, design.title, design.brand.category, design.price)
        for design in designs
    }
    for sku, fields in products.items():
        writer.writerow([*fields, *(f"packshots/{sku}/{view}.jpg" for view, _, _ in VIEWS), "", "", ""])
    for photo in labeled:
        place = photo.path.relative_to(folder).as_posix()
        writer.writerow([*products[photo.sku or ""], *("" for _ in VIEWS), place, "in-store", "validation"])
    return out.getvalue()
