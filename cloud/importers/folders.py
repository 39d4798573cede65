"""Reads a folder with one sub-folder per product, the layout that most people have.

The sub-folder's name is the SKU. A file or a folder inside it whose name begins with `packshot`, `iconic` or
`catalog` is a packshot; everything else was taken in a shop. When all sub-folders are called `train`, `val`,
`validation`, `test` or `reference`, the products lie one level further down and the photos have that split.
"""

from pathlib import Path

from cloud.catalog import Split
from cloud.importers.plan import ImportPlan, PlanBuilder, PlannedPhoto, is_photo_name, kind_of, title_of
from edge.disk import storage_error
from edge.errors import SkipRecord
from edge.products import Product

_SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
    "reference": "reference",
}


def read_folders(root: Path) -> ImportPlan:
    """List each sub-folder as a product and the pictures below it as its photos.

    Raises:
        StorageUnusable: `root` itself cannot be read; an unreadable sub-folder is refused in the plan.
    """
    builder = PlanBuilder(root.absolute())
    root = builder.root
    try:
        folders = _visible(root)
    except OSError as error:
        raise storage_error(error, root) from error
    splits = [_SPLIT_FOLDERS.get(folder.name.lower()) for folder in folders if folder.is_dir()]
    if splits and all(splits):
        for folder in folders:
            if folder.is_dir():
                _read_products(folder, _SPLIT_FOLDERS[folder.name.lower()], builder)
    else:
        _read_products(root, "reference", builder)
    return builder.build()


def _read_products(root: Path, split: Split, builder: PlanBuilder) -> None:
    for folder in _list(root, builder):
        if not folder.is_dir():
            builder.ignored += not is_photo_name(folder)
            if is_photo_name(folder):
                builder.refuse(builder.source(folder), "lies in no product's folder: move it into one")
            continue
        sku = folder.name.strip()
        try:
            builder.add_product(Product(sku, title_of(sku)), builder.source(folder))
        except SkipRecord as error:
            builder.refuse(builder.source(folder), str(error))
            continue
        _read_photos(folder, folder, sku, split, builder)


def _read_photos(folder: Path, product: Path, sku: str, split: Split, builder: PlanBuilder) -> None:
    for path in _list(folder, builder):
        if path.is_dir() and not path.is_symlink():
            _read_photos(path, product, sku, split, builder)
        elif is_photo_name(path):
            kind = kind_of(path.relative_to(product).parts)
            builder.add_photo(PlannedPhoto(sku, path, kind, split, builder.source(path)))
        else:
            builder.ignored += 1


def _list(folder: Path, builder: PlanBuilder) -> list[Path]:
    try:
        return _visible(folder)
    except OSError as error:
        builder.refuse(builder.source(folder), f"cannot be read ({error.strerror}): check its permissions")
        return []


def _visible(folder: Path) -> list[Path]:
    # Hidden files are the operating system's (.DS_Store), and Thumbs.db is Windows' own.
    found = (path for path in folder.iterdir() if not path.name.startswith(".") and path.name != "Thumbs.db")
    return sorted(found)
