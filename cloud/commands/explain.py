"""`shelfsight-cloud explain`: show why a photo is answered as it is, beside the reference photos."""

import json
from pathlib import Path

import click

from cloud.bundled import find_model
from cloud.catalog import Catalog
from cloud.commands.options import data_option, json_option, open_workspace, print_json, progress_bar
from cloud.embeddings import EmbeddingCache
from cloud.explanation import draw_catalog_explanation, explain_photo
from edge.disk import write_atomically
from edge.explain_picture import encode_png
from edge.image import load_photo
from edge.model import open_model


@click.command("explain")
@click.argument("photo", type=click.Path(path_type=Path))
@click.option(
    "--model",
    type=click.Path(path_type=Path, file_okay=False),
    help="A model by its name or folder (default: your newest, else the bundled one).",
)
@click.option("--variant", help="The model file to ask, by its name (default: the first for the CPU).")
@click.option(
    "--out",
    metavar="OUT.png",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw photo, reference photos and maps; OUT.json has the numbers.",
)
@data_option
@json_option
def command(
    *, photo: Path, model: Path | None, variant: str | None, out: Path | None, data: Path, as_json: bool
) -> None:
    """Say why PHOTO is answered as it is: the answer, the runner-up, and what separates them.

    The photo is answered by the device's code from the catalog as it is now. Beside the photo the picture
    shows the reference photo that is most like it, each with a map of what in it speaks for the other; below
    them the same for the runner-up, and the map of what separates the two.
    """
    if out is not None and out.suffix.lower() != ".png":
        raise click.UsageError(f"--out writes a PNG picture: call it {out.with_suffix('.png')}.")
    workspace = open_workspace(data)
    opened = open_model(find_model(model, workspace))
    chosen = opened.variant(variant)
    with EmbeddingCache(workspace.cache) as cache, progress_bar("Embedding photos") as progress:
        explained = explain_photo(
            load_photo(photo),
            model=opened,
            variant=chosen,
            catalog=Catalog(workspace.sessions(), workspace.photo_storage()),
            cache=cache,
            progress=progress,
        )
    record = {
        "photo": str(photo),
        "model": opened.name,
        "variant": chosen.name,
        **explained.to_record(),
    }
    if out is not None:
        write_atomically(out, encode_png(draw_catalog_explanation(explained)))
        text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
        write_atomically(out.with_suffix(".json"), text.encode())
    if as_json:
        print_json(record)
        return
    explanation = explained.explanation
    click.echo(f"{photo}: {explanation.verdict} ({explanation.reason})")
    for line in explanation.words():
        click.echo(f"  {line}")
    for reference in explained.references:
        click.echo(f"  {reference.photo.sku}: {reference.photo.source}")
