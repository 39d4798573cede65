"""`shelfsight-cloud catalog`: bring products and photos in, take them out, look them over."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloud.bundled import find_model
from cloud.catalog import KINDS, Catalog, Kind
from cloud.commands.options import (
    data_option,
    json_option,
    open_workspace,
    print_json,
    progress_bar,
    progress_bars,
)
from cloud.embeddings import EmbeddingCache
from cloud.importers import ImportPlan, ImportReport, PlannedPhoto, import_plan, read_plan
from cloud.inspection import doubt_findings, inspect_catalog, sort_findings
from cloud.outlier_sheet import draw_doubts
from cloud.outliers import NOT_COMPARED, Doubts, doubt_labels
from edge.errors import BadModel, Incompatible, ModelBroken, RuntimeMissing
from edge.model import open_model
from edge.products import Product

if TYPE_CHECKING:
    from cloud.workspace import Workspace


@click.group("catalog")
def command() -> None:
    """Import, add, remove, list and check products and their photos."""


@command.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@data_option
@json_option
def import_(path: Path, data: Path, as_json: bool) -> None:
    """Import a folder or a table of products and photos.

    PATH is a folder with one sub-folder per product, a folder in the layout of the Grocery Store Dataset, or
    a CSV or JSON Lines table (sku, gtin, title, category, price, photo…, places). Importing again changes
    nothing, and an import that was stopped goes on where it was. What cannot be imported is listed with its
    reason.
    """
    catalog = open_catalog(data)
    plan = read_plan(path)
    with progress_bar("Importing photos") as progress:
        report = import_plan(catalog, plan, progress)
    _show(report, as_json)


@command.command("add")
@click.argument("sku")
@click.argument("photos", nargs=-1, type=click.Path(path_type=Path))
@click.option("--title", default="", help="What people call it.")
@click.option("--category", default="", help="The group it belongs to.")
@click.option("--gtin", default=None, help="The number under its bar code.")
@click.option("--price", default=None, help="A decimal number, like 2.49.")
@click.option(
    "--place",
    "places",
    multiple=True,
    help="A store or region in which it is sold, may be given again (default: where it is sold now; a new "
    "product everywhere).",
)
@click.option(
    "--kind", type=click.Choice(KINDS), default="in-store", show_default=True, help="What photos show."
)
@data_option
@json_option
def add(
    *,
    sku: str,
    photos: tuple[Path, ...],
    title: str,
    category: str,
    gtin: str | None,
    price: str | None,
    places: tuple[str, ...],
    kind: Kind,
    data: Path,
    as_json: bool,
) -> None:
    """Add product SKU, or replace what is known of it, and add PHOTOS to it."""
    catalog = open_catalog(data)
    record = {"sku": sku, "title": title, "category": category, "gtin": gtin, "price": price}
    product = Product.from_record(record)
    planned = tuple(PlannedPhoto(product.sku, path, kind, "reference", path.as_posix()) for path in photos)
    sold = {product.sku: places} if places else {}
    report = import_plan(catalog, ImportPlan((product,), planned, (), places=sold))
    _show(report, as_json)


@command.command("remove")
@click.argument("sku")
@data_option
def remove(sku: str, data: Path) -> None:
    """Take product SKU and its photos out of the catalog; devices forget it with the next release."""
    open_catalog(data).remove(sku)
    click.echo(f"Removed {sku}; `shelfsight-cloud publish` tells the devices.")


@command.command("list")
@data_option
@json_option
def list_(data: Path, as_json: bool) -> None:
    """List the products with the number of their photos."""
    catalog = open_catalog(data)
    counts = catalog.photo_counts()
    products = catalog.products()
    if as_json:
        print_json([{**product.to_record(), "photos": counts.get(product.sku, 0)} for product in products])
        return
    for product in products:
        words = (product.title, product.category, product.gtin or "", product.price or "")
        details = " · ".join(word for word in words if word)
        click.echo(f"{product.sku}  {counts.get(product.sku, 0)} photos  {details}".rstrip())
    click.echo(f"{len(products)} products, {sum(counts.values())} photos")


@command.command("check")
@click.option(
    "--model",
    "model_folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Compare labels with this model: general, grocery, one of your own by name, or a folder.",
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw photos that look filed wrongly, beside what speaks against their label, into this PNG.",
)
@data_option
@json_option
def check(*, model_folder: Path | None, picture: Path | None, data: Path, as_json: bool) -> None:
    """Look over products and photos, and list what a person should mend.

    Copies of photos across products and splits, dark and small photos, products without any; and photos that
    look like another product than the one they are filed under, as the model sees them. Nothing is changed.
    """
    workspace = open_workspace(data)
    catalog = open_catalog(data)
    with progress_bars() as tell:
        findings = inspect_catalog(catalog, lambda done, total: tell("Looking at photos", done, total))
        doubts = _doubts(workspace, catalog, model_folder, tell)
    findings = sort_findings([*findings, *doubt_findings(doubts.found)])
    if picture is not None:
        draw_doubts(catalog, doubts.found, picture)
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    for finding in findings:
        click.echo(f"{finding.sku}: {' '.join((finding.source, finding.reason)).strip()}")
    click.echo(f"{len(findings)} things to look at" if findings else "Nothing to mend")


def _doubts(
    workspace: "Workspace",
    catalog: Catalog,
    model_folder: Path | None,
    tell: Callable[[str, int, int], None],
) -> Doubts:
    """Compare labels; where no model was asked for and none runs here, say so and go on without."""
    try:
        model = open_model(find_model(model_folder, workspace))
        with EmbeddingCache(workspace.cache) as cache:
            return doubt_labels(
                catalog, model, cache, lambda done, total: tell("Comparing labels", done, total)
            )
    except (BadModel, ModelBroken, Incompatible, RuntimeMissing) as error:
        if model_folder is not None:
            raise
        click.echo(f"Labels were not compared, for want of a model: {error}", err=True)
        return NOT_COMPARED


def open_catalog(data: Path) -> Catalog:
    """Open the catalog of a data folder.

    Raises:
        StorageUnusable: the folder was never initialized, or its database cannot be opened.
    """
    workspace = open_workspace(data)
    return Catalog(workspace.sessions(), workspace.photo_storage())


def _show(report: ImportReport, as_json: bool) -> None:
    if as_json:
        refused = [{"source": refusal.source, "reason": refusal.reason} for refusal in report.refused]
        counts = {"products": report.products, "photos": report.photos, "unchanged": report.unchanged}
        print_json({**counts, "ignored": report.ignored, "refused": refused})
    else:
        for refusal in report.refused:
            click.echo(f"refused {refusal.source}: {refusal.reason}", err=True)
        click.echo(
            f"{report.products} products new or changed, {report.photos} photos new, "
            f"{report.unchanged} already there, {len(report.refused)} refused, "
            f"{report.ignored} files that are no photos"
        )
    if report.nothing:
        raise click.exceptions.Exit(1)
