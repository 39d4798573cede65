"""The shop that a simulation plays in: a copy of the user's own, or a small drawn one; never the original."""

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cloud import signing
from cloud.catalog import Catalog, ReferencePhoto
from cloud.importers import import_plan, read_plan
from cloud.sample.write import write_sample
from cloud.workspace import Workspace
from edge.disk import storage_error
from edge.errors import NoRelease, ShelfsightError
from edge.products import Product

_DRAWN_PRODUCTS = 24


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A product that is taken out of the copied catalog, to be added again when the wave is to begin."""

    product: Product
    photos: tuple[tuple[ReferencePhoto, bytes], ...]


def copy_workspace(data: Path, folder: Path) -> Workspace:
    """Copy a data folder: databases are backed up as they stand, other files get a second name.

    Those are replaced whole and never written in place: what happens in the copy leaves the original alone.

    Raises:
        StorageUnusable, NoSpace: it cannot be read or copied.
    """

    def copy(source: str, target: str) -> None:
        if source.endswith((".db-wal", ".db-shm")):
            return
        if source.endswith(".db"):
            _back_up(Path(source), Path(target))
            return
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)

    try:
        shutil.copytree(data, folder, copy_function=copy, ignore=shutil.ignore_patterns("runs", "simulation"))
    except (OSError, shutil.Error, sqlite3.Error) as error:
        reason = error if isinstance(error, OSError) else OSError(str(error))
        raise storage_error(reason, data) from error
    return Workspace.create(folder)


def draw_workspace(folder: Path, seed: int) -> Workspace:
    """Draw a small shop and import it into a new data folder with keys of its own.

    Raises:
        StorageUnusable, NoSpace: it cannot be written.
    """
    sample = write_sample(
        folder / "shop", products=_DRAWN_PRODUCTS, photos=5, labeled=0, seed=seed, workers=os.cpu_count() or 1
    )
    workspace = Workspace.create(folder / "cloud")
    signing.create_repository(workspace.metadata, workspace.keys)
    import_plan(catalog_of(workspace), read_plan(sample.table), lambda done, total: None)
    return workspace


def catalog_of(workspace: Workspace) -> Catalog:
    """Open the catalog of a data folder."""
    return Catalog(workspace.sessions(), workspace.photo_storage())


def hold_back(catalog: Catalog) -> HeldBack:
    """Take the product out of the catalog that comes last of those with one to ten photos.

    Raises:
        NoRelease: no product could be taken and leave another one.
        StorageUnusable: the database refused.
    """
    photos: dict[str, list[ReferencePhoto]] = {}
    for photo in catalog.reference_photos():
        photos.setdefault(photo.sku, []).append(photo)
    products = {product.sku: product for product in catalog.products() if product.sku in photos}
    taken = max((sku for sku in products if len(photos[sku]) <= 10), default=None)
    if taken is None or len(products) < 2:
        raise NoRelease("a simulation adds a product and needs two with photos: import some products first")
    held = HeldBack(products[taken], tuple((each, _read(catalog, each)) for each in photos[taken]))
    catalog.remove(taken)
    return held


def add_again(catalog: Catalog, held: HeldBack) -> None:
    """Add what was held back: the product of this morning.

    Raises:
        StorageUnusable, NoSpace: the database or the disk refused.
    """
    catalog.put_product(held.product)
    for photo, data in held.photos:
        catalog.add_photo(photo.sku, data, photo.kind, photo.split, photo.source)


def _read(catalog: Catalog, photo: ReferencePhoto) -> bytes:
    try:
        return catalog.photos.read(photo.sha256)
    except ShelfsightError as error:
        raise NoRelease(f"a photo of {photo.sku} cannot be read, so it cannot be added: {error}") from error


def _back_up(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as here, closing(sqlite3.connect(target)) as there:
        here.backup(there)
