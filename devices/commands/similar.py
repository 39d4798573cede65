"""`shelfsight similar`: products that look like one."""

import json
from pathlib import Path

import click

from devices.commands.options import data_option, json_option


@click.command()
@click.argument("sku")
@click.option(
    "--top", type=click.IntRange(1, 100), default=5, show_default=True, help="Show so many products."
)
@json_option
@data_option
def command(sku: str, top: int, as_json: bool, data: Path | None) -> None:
    """List the products that look most like the product SKU, from the release on this device."""
    from devices.config import load_settings
    from devices.device import Device
    from edge.recommend import similar

    matcher = Device(load_settings(data), tells=False).matcher()
    hits = similar(matcher.stack, matcher.index, sku, top)
    products = matcher.stack.products
    if as_json:
        alike = [
            {"sku": hit.sku, "title": products[hit.sku].title, "similarity": round(hit.similarity, 4)}
            for hit in hits
        ]
        click.echo(json.dumps({"sku": sku, "similar": alike}, ensure_ascii=False))
        return
    for hit in hits:
        click.echo(f"{hit.similarity:+.3f}  {hit.sku}  {products[hit.sku].title}")
