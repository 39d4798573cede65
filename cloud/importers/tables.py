"""Reads CSV and JSON Lines tables of products: `sku, gtin, title, category, price, photo…, places`.

Photos are in any column whose name begins with `photo` or `packshot` (several columns, or one with `;` or `|`
between the paths), or in repeated rows of one SKU; their paths are relative to the table. Columns `kind` and
`split` say what they are where names do not. `places` are the stores and regions in which a product is sold.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from cloud.catalog import KINDS, SPLITS, Kind, Split
from cloud.importers.plan import ImportPlan, PlanBuilder, PlannedPhoto, kind_of
from cloud.importers.text import read_text
from edge.errors import BadProduct, SkipRecord, StorageUnusable
from edge.products import Product

_CSV_SUFFIXES = frozenset({".csv", ".tsv"})
TABLE_SUFFIXES = _CSV_SUFFIXES | {".jsonl", ".ndjson"}
_LONGEST_FIELD = 1_000_000

Record = Mapping[str, object]
_Choice = TypeVar("_Choice", Kind, Split)


def read_table(path: Path) -> ImportPlan:
    """List the rows of a table as products and photos; a bad row is refused in the plan, the rest go on.

    Raises:
        StorageUnusable: the table cannot be read, or has no `sku` column.
    """
    builder = PlanBuilder(path.absolute())
    text = read_text(path)
    rows = _csv_rows(path, text) if path.suffix.lower() in _CSV_SUFFIXES else _json_rows(text)
    for number, record in rows:
        source = f"{path.name} line {number}"
        if isinstance(record, str):
            builder.refuse(source, record)
            continue
        try:
            _read_row(record, source, builder)
        except SkipRecord as error:
            builder.refuse(source, str(error))
    return builder.build()


def _read_row(record: Record, source: str, builder: PlanBuilder) -> None:
    product = Product.from_record(record)
    kind, split = _choice(record, "kind", KINDS), _choice(record, "split", SPLITS)
    photos = list(_photo_names(record))
    places = _place_names(record)
    builder.add_product(product, source)
    if places:
        builder.add_places(product.sku, places)
    for column, name in photos:
        if "://" in name:
            builder.refuse(f"{source} {name}", "is an address: download it and give its path")
            continue
        path = builder.root.parent / name
        by_name: Kind = "packshot" if column.startswith("packshot") else kind_of(Path(name).parts[-2:])
        photo = PlannedPhoto(product.sku, path, kind or by_name, split or "reference", builder.source(path))
        builder.add_photo(photo)


def _choice(record: Record, field: str, allowed: tuple[_Choice, ...]) -> _Choice | None:
    value = str(record.get(field) or "").strip().lower()
    if not value:
        return None
    for choice in allowed:
        if choice == value:
            return choice
    raise BadProduct(f"field {field!r} is {value!r}: write {' or '.join(allowed)}, or nothing")


def _photo_names(record: Record) -> Iterator[tuple[str, str]]:
    for column, value in record.items():
        if not column.startswith(("photo", "packshot")) or value is None:
            continue
        if isinstance(value, str):
            names = value.replace("|", ";").split(";")
        elif isinstance(value, list) and all(isinstance(name, str) for name in value):
            names = value
        else:
            raise BadProduct(f"field {column!r} is {value!r}: write a path or a list of paths")
        yield from ((column, name.strip()) for name in names if name.strip())


def _place_names(record: Record) -> list[str]:
    value = record.get("places") or ""
    names = value.replace("|", ";").split(";") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadProduct(
            f"field 'places' is {value!r}: write names of stores or regions, with ; between them"
        )
    return [name.strip() for name in names if name.strip()]


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, Record | str]]:
    header = text.splitlines()[0] if text else ""
    # Spreadsheets write the separator of their country; a header of ours holds no other one.
    delimiter = max(",;\t", key=header.count)
    csv.field_size_limit(_LONGEST_FIELD)
    rows = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    columns = [name.strip().lower() for name in next(rows, [])]
    if "sku" not in columns:
        raise StorageUnusable(f"{path} has no column `sku` in its first line: name the columns there")
    try:
        for row in rows:
            if not any(field.strip() for field in row):
                continue
            if len(row) > len(columns):
                yield rows.line_num, f"has {len(row)} fields where the first line names {len(columns)}"
                continue
            yield rows.line_num, _merge(columns, row)
    except csv.Error as error:
        yield rows.line_num, f"is not CSV ({error}); the rest of the table was not read"


def _merge(columns: list[str], row: list[str]) -> Record:
    # Several columns of one name (`photo, photo`) are all kept: their paths are joined.
    record: dict[str, object] = {}
    for column, value in zip(columns, row, strict=False):
        earlier = record.get(column)
        record[column] = (
            f"{earlier};{value}" if earlier and column.startswith(("photo", "packshot", "places")) else value
        )
    return record


def _json_rows(text: str) -> Iterator[tuple[int, Record | str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            yield number, f"is not JSON ({error})"
            continue
        if isinstance(record, dict):
            yield number, {str(name).lower(): value for name, value in record.items()}
        else:
            yield number, "is JSON but not an object"
