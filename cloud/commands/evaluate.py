"""`shelfsight-cloud evaluate`: measure a model on the test photos, as devices would answer them."""

import json
from pathlib import Path

import click

from cloud.bundled import default_model
from cloud.catalog import Catalog
from cloud.commands.options import data_option, json_option, open_workspace, print_json, progress_bars
from cloud.embeddings import EmbeddingCache
from cloud.evaluation import Evaluation, draw_confusions, evaluate
from edge.disk import write_atomically
from edge.model import open_model

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command("evaluate")
@click.option("--model", type=_FOLDER, help="A model folder (default: your newest, else the bundled one).")
@click.option("--variant", help="The model file to measure, by its name (default: the first for the CPU).")
@click.option(
    "--float", "exact", type=_FILE, help="The float .tflite to compare with (default: the model's own)."
)
@click.option("--second-domain", type=_FOLDER, help="A folder of other things: train/KIND/ and test/KIND/.")
@click.option("--picture", type=_FILE, help="Draw the worst confusions into this PNG.")
@click.option("--out", type=_FILE, help="Also write the JSON here.")
@data_option
@json_option
def command(
    *,
    model: Path | None,
    variant: str | None,
    exact: Path | None,
    second_domain: Path | None,
    picture: Path | None,
    out: Path | None,
    data: Path,
    as_json: bool,
) -> None:
    """Measure a model on the catalog's test photos, as a device would answer them.

    The references are the catalog's in-store photos, then its packshots alone. Test photos are never trained
    on and never searched in; one that a reference is a copy of is left out and counted.
    """
    workspace = open_workspace(data)
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    opened = open_model(model or default_model(workspace))
    with EmbeddingCache(workspace.cache) as cache, progress_bars() as progress:
        evaluation = evaluate(
            catalog,
            opened,
            cache=cache,
            variant=variant,
            exact=exact,
            second_domain=second_domain,
            progress=progress,
        )
    record = evaluation.to_record()
    if picture is not None:
        title = f"What {evaluation.model} takes for what"
        draw_confusions(catalog, evaluation.confusions, title, picture)
    if out is not None:
        write_atomically(out, (json.dumps(record, ensure_ascii=False, indent=2) + "\n").encode())
    if as_json:
        print_json(record)
    else:
        _show(evaluation)


def _show(evaluation: Evaluation) -> None:
    scores, drift, verdicts = evaluation.scores, evaluation.drift, evaluation.verdicts
    rows = [
        ("right product first", scores and scores.fine_top1),
        ("right category first", scores and scores.coarse_top1),
        ("right product among five", scores and scores.fine_top5),
        ("right product from packshots alone", evaluation.packshot_fine_top1),
        ("answered as a match", verdicts and verdicts.match),
        ("  of which right", verdicts and verdicts.match_is_right),
        ("answered unsure", verdicts and verdicts.unsure),
        ("answered unknown", verdicts and verdicts.unknown),
        ("unknown products answered unknown", evaluation.strangers_unknown),
        ("right kind in the second domain", evaluation.second_domain_top1),
        ("int8 minus float, right product", drift and drift.int8_minus_float),
        ("mean cosine of int8 and float", drift and drift.mean_cosine),
        ("milliseconds a photo, median", evaluation.ms_per_photo_p50),
    ]
    click.echo(
        f"{evaluation.model} ({evaluation.variant}): {evaluation.photos} test photos against "
        f"{evaluation.references} references of {evaluation.products} products"
    )
    for name, value in rows:
        if value is not None:
            click.echo(f"  {name:<36}{value:8.4f}")
    if evaluation.left_out:
        click.echo(f"  {evaluation.left_out} photos left out: the same photo is for testing and a reference")
    for photo in evaluation.unread:
        click.echo(f"  not read: {photo.source}: {photo.reason}", err=True)
    for confusion in evaluation.confusions[:5]:
        share = f"{confusion.count} of {confusion.photos}"
        click.echo(f"  {confusion.sku} taken for {confusion.answered}: {share}")
