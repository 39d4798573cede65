"""`shelfsight add`: teach this device a product."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devices.commands.options import data_option, json_option

if TYPE_CHECKING:
    from devices.device import Device
    from devices.learning import Learned


@click.command()
@click.argument("sku")
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--title", default="", help="What people call it.")
@click.option("--category", default="", help="The group it belongs to.")
@click.option("--gtin", default=None, help="The number under its bar code.")
@click.option("--price", default=None, help="A decimal number, like 2.49.")
@click.option("--anyway", is_flag=True, help="Add it whatever speaks against it.")
@click.option(
    "--propose/--keep",
    "propose",
    default=None,
    help="Propose it to the cloud with its photos, or keep both here.  [default: propose of the settings]",
)
@click.option(
    "--explain",
    metavar="OUT.png",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the photos that are too close to another product beside what they are taken for.",
)
@json_option
@data_option
def command(
    *,
    sku: str,
    photos: tuple[Path, ...],
    title: str,
    category: str,
    gtin: str | None,
    price: str | None,
    anyway: bool,
    propose: bool | None,
    explain: Path | None,
    as_json: bool,
    data: Path | None,
) -> None:
    """Teach this device product SKU from PHOTOS; it is answered at once, and no network is needed.

    What speaks against it is said first, such as another product that looks like it: then nothing is added,
    and the exit code is 1, unless --anyway is given. The next release that has the product takes it over.
    """
    from devices.config import load_settings
    from devices.device import Device
    from devices.learning import learn
    from edge.image import load_photo
    from edge.products import Product

    if explain is not None and explain.suffix.lower() != ".png":
        raise click.UsageError(f"--explain writes a PNG picture: call it {explain.with_suffix('.png')}.")
    device = Device(load_settings(data), tells=False)
    product = Product.from_record(
        {"sku": sku, "title": title, "category": category, "gtin": gtin, "price": price}
    )
    loaded = [(str(path), load_photo(path)) for path in photos]
    learned = learn(device, product, loaded, anyway=anyway, propose=propose)
    if explain is not None:
        _explain(device, learned, dict(loaded), explain)
    if as_json:
        click.echo(json.dumps(learned.to_record(), ensure_ascii=False))
    else:
        _tell(learned)
    if not learned.added:
        raise click.exceptions.Exit(1)


def _tell(learned: "Learned") -> None:
    for concern in learned.concerns:
        click.echo(f"warning: {concern.sentence}", err=True)
    product = learned.product
    if not learned.added:
        click.echo(
            f"error: {product.sku} was not added: take other photos, or add it with --anyway", err=True
        )
        return
    goes = "proposed to the cloud" if learned.state == "proposed" else "kept on this device"
    count = f"{learned.photos} photo{'s' if learned.photos != 1 else ''}"
    click.echo(f"{product.sku} is known here from {count} ({learned.ms:.0f} ms), {goes}")


def _explain(device: "Device", learned: "Learned", photos: dict[str, bytes], out: Path) -> None:
    from devices.explanation import write_look_alikes

    if not write_look_alikes(device, learned.concerns, photos, out):
        click.echo("nothing to explain: no photo is too close to another product", err=True)
