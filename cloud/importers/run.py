"""Carries an import out, each photo in a transaction of its own: a killed import is simply run again."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cloud.catalog import Catalog
from cloud.importers.folders import read_folders
from cloud.importers.grocery import is_grocery, read_grocery
from cloud.importers.plan import ImportPlan, PlannedPhoto, Refusal
from cloud.importers.tables import TABLE_SUFFIXES, read_table
from cloud.stores import Stores
from edge.disk import storage_error
from edge.errors import SkipPhoto, SkipRecord, StorageUnusable
from edge.image import load_photo

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        products: How many are new or changed.
        photos: How many are new.
        unchanged: Photos that their product had already.
        refused: What was not imported, and why.
        ignored: How many files are no photos by their names.
        nothing: Whether nothing at all could be imported: no product, or none of the photos.
    """

    products: int
    photos: int
    unchanged: int
    refused: tuple[Refusal, ...]
    ignored: int
    nothing: bool


def import_folder(catalog: Catalog, path: Path, progress: Progress | None = None) -> ImportReport:
    """Import a folder or table in any layout that `read_plan` knows; running it again changes nothing.

    `progress` is told how many photos are done, and of how many.

    Raises:
        StorageUnusable: the path cannot be read, or the catalog cannot be written.
        NoSpace: the disk is full; what was imported so far stays, and the import can be run again.
    """
    return import_plan(catalog, read_plan(path), progress)


def read_plan(path: Path) -> ImportPlan:
    """Tell the layout of a path and list what is in it.

    Known are the Grocery Store Dataset's layout (`classes.csv`, `train.txt` …), a folder with one sub-folder
    per product (with or without `train` and `test` folders above), and CSV or JSON Lines tables.

    Raises:
        StorageUnusable: the path is not there, may not be read, or is neither folder nor table.
    """
    try:
        is_folder, is_there = path.is_dir(), path.exists()
        if is_folder:
            return read_grocery(path) if is_grocery(path) else read_folders(path)
    except OSError as error:
        raise storage_error(error, path) from error
    if not is_there:
        raise StorageUnusable(f"{path} is not there: name a folder of photos or a CSV or JSON Lines table")
    if path.suffix.lower() in TABLE_SUFFIXES:
        return read_table(path)
    raise StorageUnusable(
        f"{path} is neither a folder nor a table ({', '.join(sorted(TABLE_SUFFIXES))}): "
        "name the folder that holds one sub-folder per product"
    )


def import_plan(catalog: Catalog, plan: ImportPlan, progress: Progress | None = None) -> ImportReport:
    """Carry out a plan, photo by photo; a bad photo is refused and the rest go on.

    So is a product that is to be sold in a place that nobody has added: misspelled, it would be sold nowhere.

    Raises:
        StorageUnusable: the catalog cannot be written.
        NoSpace: the disk is full.
    """
    tell = progress or (lambda done, total: None)
    plan = _without_unknown_places(plan, Stores(catalog.sessions))
    changed = catalog.put_products(plan.products)
    # Before the photos, and so before anything can be published of a product that is not sold everywhere.
    changed = max(changed, Stores(catalog.sessions).set_places(plan.places))
    refused = list(plan.refused)
    added = unchanged = 0
    tell(0, len(plan.photos))
    for done, planned in enumerate(plan.photos, start=1):
        try:
            if _keep(catalog, planned):
                added += 1
            else:
                unchanged += 1
        except (SkipPhoto, SkipRecord) as error:
            refused.append(Refusal(planned.source, str(error)))
        tell(done, len(plan.photos))
    nothing = not plan.products or (bool(plan.photos) and not (added or unchanged))
    return ImportReport(changed, added, unchanged, tuple(refused), plan.ignored, nothing)


def _without_unknown_places(plan: ImportPlan, stores: Stores) -> ImportPlan:
    known = stores.known_places() if plan.places else frozenset()
    unknown = {
        sku: [name for name in names if name not in known]
        for sku, names in plan.places.items()
        if not known.issuperset(names)
    }
    if not unknown:
        return plan
    reason = "is neither a store nor a region: add it with `shelfsight-cloud store add`"
    refused = [Refusal(sku, f"{', '.join(names)} {reason}") for sku, names in unknown.items()]
    return replace(
        plan,
        products=tuple(each for each in plan.products if each.sku not in unknown),
        photos=tuple(each for each in plan.photos if each.sku not in unknown),
        refused=(*plan.refused, *refused),
        places={sku: names for sku, names in plan.places.items() if sku not in unknown},
    )


def _keep(catalog: Catalog, planned: PlannedPhoto) -> bool:
    photo = load_photo(planned.path)
    return catalog.add_photo(planned.sku, photo, planned.kind, planned.split, planned.source)
