"""`shelfsight forget`: drop what this device was taught of a product."""

import json
from pathlib import Path

import click

from devices.commands.options import data_option, json_option


@click.command()
@click.argument("sku")
@json_option
@data_option
def command(sku: str, as_json: bool, data: Path | None) -> None:
    """Drop the photos of product SKU that this device was taught; what a release says of it stays.

    A product that was proposed already stays proposed: refuse it with `shelfsight-cloud proposals`.
    """
    from devices.config import load_settings
    from edge.local_products import LocalProducts

    gone = LocalProducts(load_settings(data).data).forget(sku)
    count = sum(len(each.photos) for each in gone)
    if as_json:
        click.echo(json.dumps({"sku": sku, "photos": count}, ensure_ascii=False))
    else:
        click.echo(f"forgot {sku} and {count} photo{'s' if count != 1 else ''} of it")
