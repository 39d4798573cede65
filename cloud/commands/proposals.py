"""`shelfsight-cloud proposals`: the products that devices propose."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloud.bundled import find_model
from cloud.catalog import Catalog
from cloud.commands.options import data_option, json_option, open_workspace, print_json, progress_bar
from cloud.embeddings import EmbeddingCache
from cloud.likeness import Alike, draw_proposals, find_alike
from cloud.proposals import STATES, Proposal, Proposals
from cloud.times import rfc3339
from edge.disk import write_atomically
from edge.explain_picture import encode_png
from edge.model import open_model

if TYPE_CHECKING:
    from cloud.workspace import Workspace

_PICTURE = click.option(
    "--picture",
    metavar="OUT.png",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the photos into this PNG.",
)


@click.group("proposals")
def command() -> None:
    """See the products that devices propose, and accept or refuse them."""


@command.command("list")
@click.option(
    "--state",
    type=click.Choice([*STATES, "all"]),
    default="waiting",
    show_default=True,
    help="Those in this state.",
)
@_PICTURE
@data_option
@json_option
def list_(state: str, picture: Path | None, data: Path, as_json: bool) -> None:
    """List what devices propose, oldest first."""
    proposals, catalog, _ = _open(data)
    found = proposals.all(None if state == "all" else state, catalog=catalog)
    _draw(picture, [(each, ()) for each in found], proposals, catalog)
    if as_json:
        print_json([_record(each) for each in found])
        return
    for each in found:
        click.echo(_line(each))
    if not found:
        click.echo("Nothing is proposed." if state == "waiting" else f"No proposal is {state}.")


@command.command("show")
@click.argument("proposal")
@click.option(
    "--model",
    type=click.Path(path_type=Path, file_okay=False),
    help="Ask this model what it looks like (default: your newest, else the bundled one).",
)
@_PICTURE
@data_option
@json_option
def show(*, proposal: str, model: Path | None, picture: Path | None, data: Path, as_json: bool) -> None:
    """Show PROPOSAL (the start of its id is enough), and which products of the catalog it looks like."""
    proposals, catalog, workspace = _open(data)
    found = proposals.get(proposal, catalog=catalog)
    opened = open_model(find_model(model, workspace))
    with EmbeddingCache(workspace.cache) as cache, progress_bar("Embedding photos") as progress:
        alike = find_alike(found, proposals, catalog, opened, cache, progress=progress)
    _draw(picture, [(found, alike)], proposals, catalog)
    if as_json:
        print_json({**_record(found), "alike": [each.to_record() for each in alike]})
        return
    click.echo(_line(found))
    click.echo(f"  id {found.id}, since {rfc3339(found.created)}, from {', '.join(found.devices)}")
    for each in alike:
        warned = ": devices would take one for the other" if each.verdict == "match" else ""
        click.echo(f"  like {each.sku} {each.title}  {each.similarity:.2f}{warned}")


@command.command("accept")
@click.argument("proposal")
@click.option("--sku", help="Take it in under this SKU, not the proposed one.")
@click.option("--into", metavar="SKU", help="Add its photos to this product of the catalog.")
@data_option
@json_option
def accept(*, proposal: str, sku: str | None, into: str | None, data: Path, as_json: bool) -> None:
    """Take PROPOSAL with its photos into the catalog; the next publish tells the devices.

    Where the catalog has its SKU or GTIN already, the photos are added to that product.
    """
    if sku is not None and into is not None:
        raise click.UsageError("--sku makes a product, --into takes one that is there: give one of the two.")
    proposals, catalog, _ = _open(data)
    done = proposals.accept(proposal, catalog, sku=sku, into=into)
    if as_json:
        print_json(_record(done))
        return
    count = f"{len(done.here)} of {len(done.photos)} photos"
    click.echo(f"{done.state}: {done.target} has {count}; `shelfsight-cloud publish` tells the devices")


@command.command("refuse")
@click.argument("proposal")
@data_option
@json_option
def refuse(proposal: str, data: Path, as_json: bool) -> None:
    """Refuse PROPOSAL and delete its photos; the devices forget it at their next visit."""
    done = _open(data)[0].refuse(proposal)
    if as_json:
        print_json(_record(done))
    else:
        click.echo(f"refused: {done.product.sku}; its devices forget it at their next visit")


def _open(data: Path) -> "tuple[Proposals, Catalog, Workspace]":
    workspace = open_workspace(data)
    sessions = workspace.sessions()
    catalog = Catalog(sessions, workspace.photo_storage())
    return Proposals(sessions, workspace.proposed_photo_storage()), catalog, workspace


def _draw(
    picture: Path | None,
    found: Sequence[tuple[Proposal, Sequence[Alike]]],
    proposals: Proposals,
    catalog: Catalog,
) -> None:
    if picture is not None:
        write_atomically(picture, encode_png(draw_proposals(found, proposals, catalog)))


def _record(each: Proposal) -> dict[str, object]:
    return {
        "id": each.id,
        **each.product.to_record(),
        "state": each.state,
        "target": each.target,
        "release": each.release,
        "created": rfc3339(each.created),
        "devices": list(each.devices),
        "photos": list(each.photos),
        "here": len(each.here),
        "known": each.known.sku if each.known else None,
        "look_alikes": list(each.look_alikes),
    }


def _line(each: Proposal) -> str:
    product = each.product
    words = [product.title, product.category, product.gtin or "", product.price or ""]
    words.append(f"{len(each.here)} of {len(each.photos)} photos here")
    words.append(f"the catalog has it as {each.known.sku}" if each.known and each.state == "waiting" else "")
    words.append(f"looks like {', '.join(each.look_alikes)}" if each.look_alikes else "")
    words.append(f"in release {each.release}" if each.release else "")
    return f"{each.id}  {each.state}  {product.sku}  {' · '.join(word for word in words if word)}"
