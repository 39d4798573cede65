"""`shelfsight-cloud store`: the shops, and what is sold in each."""

from pathlib import Path

import click

from cloud.commands.options import data_option, json_option, open_workspace, print_json
from cloud.stores import Store, Stores


@click.group("store")
def command() -> None:
    """Add, remove and list stores, and say what is sold in which.

    The devices of a store get what is sold there. What nobody has stocked anywhere is sold everywhere.
    """


@command.command("add")
@click.argument("name")
@click.option("--region", help="The region that it belongs to.")
@click.option(
    "--with-region/--without-region",
    "takes_region",
    default=True,
    help="Whether it sells what is stocked in its region (default: it does).",
)
@click.option("--timezone", default="UTC", show_default=True, help="Its time zone, such as Europe/Berlin.")
@click.option("--window", default="", help="The hours in which its devices may be changed: 02:00-05:00.")
@data_option
@json_option
def add(
    *,
    name: str,
    region: str | None,
    takes_region: bool,
    timezone: str,
    window: str,
    data: Path,
    as_json: bool,
) -> None:
    """Add store NAME (small letters, digits, hyphens), or change what is known of it."""
    store = Store(name, region, takes_region, timezone, window)
    is_new = _stores(data).put(store)
    if as_json:
        print_json({**store.to_record(), "new": is_new})
    else:
        click.echo(f"{'Added' if is_new else 'Changed'} store {name}.")


@command.command("remove")
@click.argument("name")
@data_option
def remove(name: str, data: Path) -> None:
    """Forget store NAME, once no device belongs to it; what is sold there alone is then sold nowhere."""
    _stores(data).remove(name)
    click.echo(f"Removed store {name}.")


@command.command("list")
@data_option
@json_option
def list_(data: Path, as_json: bool) -> None:
    """List the stores."""
    stores = _stores(data).all()
    if as_json:
        print_json([store.to_record() for store in stores])
        return
    for store in stores:
        takes = "and its products" if store.takes_region else "without its products"
        words = (f"region {store.region} {takes}" if store.region else "", store.timezone, store.window)
        click.echo("  ".join((store.name, *filter(None, words))))
    if not stores:
        click.echo("There is no store: every device gets the whole catalog.")


@command.command("stock")
@click.argument("place", metavar="STORE")
@click.argument("skus", nargs=-1, required=True, metavar="SKU...")
@data_option
@json_option
def stock(place: str, skus: tuple[str, ...], data: Path, as_json: bool) -> None:
    """Sell products in STORE, which is a store or a region.

    A product that was sold everywhere is from now on sold there alone.
    """
    _tell(_stores(data).stock(place, skus), as_json)


@command.command("unstock")
@click.argument("place", metavar="STORE")
@click.argument("skus", nargs=-1, required=True, metavar="SKU...")
@click.option("--everywhere", is_flag=True, help="Sell everywhere what has no other place.")
@data_option
@json_option
def unstock(*, place: str, skus: tuple[str, ...], everywhere: bool, data: Path, as_json: bool) -> None:
    """Sell products in STORE, which is a store or a region, no more."""
    _tell(_stores(data).unstock(place, skus, everywhere=everywhere), as_json)


def _stores(data: Path) -> Stores:
    return Stores(open_workspace(data).sessions())


def _tell(changed: int, as_json: bool) -> None:
    if as_json:
        print_json({"changed": changed})
    else:
        click.echo(f"{changed} products changed; `shelfsight-cloud publish` tells the devices.")
