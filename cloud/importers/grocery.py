"""Reads the layout of the Grocery Store Dataset (Klasson, Zhang, Kjellström, WACV 2019).

`classes.csv` names fine and coarse classes and one iconic picture each; `train.txt`, `val.txt` and `test.txt`
hold rows `path, fine id, coarse id`: the authors' split, the only one that compares with published figures.
"""

import csv
from pathlib import Path

from cloud.catalog import Split
from cloud.importers.plan import ImportPlan, PlanBuilder, PlannedPhoto, title_of
from cloud.importers.text import read_text
from edge.errors import SkipRecord
from edge.products import Product

_SPLITS: dict[str, Split] = {"train.txt": "train", "val.txt": "validation", "test.txt": "test"}


def is_grocery(root: Path) -> bool:
    """Tell whether the folder has this layout."""
    return (root / "classes.csv").is_file() and (root / "train.txt").is_file()


def read_grocery(root: Path) -> ImportPlan:
    """List the fine classes as products, the iconic pictures as packshots, the photos with their split.

    Raises:
        StorageUnusable: one of the lists cannot be read.
    """
    builder = PlanBuilder(root)
    sku_of = _read_classes(root, builder)
    for name, split in _SPLITS.items():
        if (root / name).is_file():
            _read_split(root, name, split, sku_of, builder)
    return builder.build()


def _read_classes(root: Path, builder: PlanBuilder) -> dict[str, str]:
    sku_of: dict[str, str] = {}
    rows = csv.reader(read_text(root / "classes.csv").splitlines())
    next(rows, None)  # the header
    for number, row in enumerate(rows, start=2):
        source = f"{root.name}/classes.csv line {number}"
        if len(row) < 5:
            builder.refuse(source, f"{len(row)} fields where a class has at least 5")
            continue
        sku, class_id, coarse, _, iconic = (field.strip() for field in row[:5])
        try:
            builder.add_product(Product(sku, title_of(sku), title_of(coarse)), source)
        except SkipRecord as error:
            builder.refuse(source, str(error))
            continue
        sku_of[class_id] = sku
        path = root / iconic.lstrip("/")
        builder.add_photo(PlannedPhoto(sku, path, "packshot", "reference", builder.source(path)))
    return sku_of


def _read_split(root: Path, name: str, split: Split, sku_of: dict[str, str], builder: PlanBuilder) -> None:
    for number, line in enumerate(read_text(root / name).splitlines(), start=1):
        fields = [field.strip() for field in line.split(",")]
        if fields == [""]:
            continue
        sku = sku_of.get(fields[1]) if len(fields) > 1 else None
        if sku is None:
            builder.refuse(f"{root.name}/{name} line {number}", f"no class of classes.csv in {line!r}")
            continue
        path = root / fields[0]
        builder.add_photo(PlannedPhoto(sku, path, "in-store", split, builder.source(path)))
