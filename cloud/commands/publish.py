"""`shelfsight-cloud publish`: make, sign and offer a release of the catalog as it is now."""

from pathlib import Path
from typing import Any

import click

from cloud.bundled import find_model
from cloud.commands.options import data_option, json_option, open_workspace, print_json, progress_bar
from cloud.commands.plan_options import plan_of, plan_options
from cloud.publishing import Publication, publish, publish_content_of
from cloud.shipping import EVERY_TARGET, TARGETS, LeftOut, ShippedFile
from edge.certificate import DEFAULT_TOLERANCE
from edge.model import open_model


@click.command("publish")
@click.option(
    "--model",
    "model_folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="general, grocery, one of your own by name, or a folder (default: your newest, else general).",
)
@click.option(
    "--target",
    "targets",
    type=click.Choice([*TARGETS, EVERY_TARGET]),
    multiple=True,
    help="Which of the model's files to ship, may be given again; that for the CPU always is (default: all, "
    "which is all but float32).",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 100),
    default=DEFAULT_TOLERANCE,
    show_default=True,
    help="How many points of recall a file may have lost against the float network.",
)
@click.option(
    "--keys",
    "offline_keys",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="SHELFSIGHT_KEYS",
    help="The folder with the offline key targets.pem, when it is not in the data folder.",
)
@click.option(
    "--wrong-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="How many of the answers given as match may be wrong, such as 0.005 (default: what the model says).",
)
@click.option(
    "--content-of",
    type=click.IntRange(min=1),
    metavar="VERSION",
    help="Publish what this earlier release said, under a new number; the catalog is not looked at.",
)
@plan_options
@data_option
@json_option
def command(
    *,
    model_folder: Path | None,
    targets: tuple[str, ...],
    tolerance: float,
    offline_keys: Path | None,
    wrong_rate: float | None,
    content_of: int | None,
    data: Path,
    as_json: bool,
    **rollout: Any,
) -> None:
    """Publish the catalog: embed its photos, make a release, sign it, and offer it to devices.

    Photos that were embedded before are not embedded again, and where nothing has changed no release is made.
    It can be stopped at any time and run again: devices have the old release until the new one is signed.

    It is offered to everybody at once, to --percent of the devices, or in --stages that follow each other by
    themselves while all is well, beginning with the --canary stores: see `rollout start --help`.

    With --wrong-rate, answers that are less sure than that allows are given as "unsure", with a short list.
    """
    workspace, plan = open_workspace(data), plan_of(rollout)
    if content_of is not None:
        if model_folder or targets or wrong_rate is not None:
            raise click.UsageError("--content-of brings its own model and decisions: leave out theirs")
        publication = publish_content_of(workspace, content_of, offline_keys=offline_keys, plan=plan)
        _show(publication, as_json)
        return
    model = open_model(find_model(model_folder, workspace))
    with progress_bar("Embedding photos") as progress:
        publication = publish(
            workspace,
            model,
            targets=targets,
            tolerance=tolerance,
            offline_keys=offline_keys,
            plan=plan,
            wrong_rate=wrong_rate,
            progress=progress,
        )
    _show(publication, as_json)


def _show(publication: Publication, as_json: bool) -> None:
    if as_json:
        print_json(_record(publication))
    else:
        _tell(publication)


def _record(publication: Publication) -> dict[str, object]:
    release = publication.release
    return {
        "version": release.version,
        "changed": publication.changed,
        "model": release.model,
        "products": release.products,
        "rows": release.rows,
        "files": release.files,
        "size": release.size,
        "new_bytes": release.new_bytes if publication.changed else 0,
        "embedded": publication.embedded,
        "reused": publication.reused,
        "calibration_photos": publication.calibration_photos,
        "match_confidence": publication.match_confidence,
        "assortments": [
            {
                "assortment": each.assortment,
                "version": each.version,
                "products": each.products,
                "rows": each.rows,
                "size": each.size,
                "new_bytes": each.new_bytes if publication.changed else 0,
            }
            for each in publication.releases
        ],
        "empty": list(publication.empty),
        "variants": [_file_record(file) for file in publication.files],
        "left_out": [
            {"name": each.variant.name, "target": each.variant.target, "reason": each.reason}
            for each in publication.left_out
        ],
        "refused": [
            {"sku": photo.sku, "sha256": photo.sha256, "reason": photo.reason}
            for photo in publication.refused
        ],
    }


def _file_record(file: ShippedFile) -> dict[str, object]:
    return {
        "name": file.variant.name,
        "target": file.variant.target,
        "precision": file.variant.precision,
        "sha256": file.variant.sha256,
        "size": file.variant.size,
        "recall_change": file.recall_change,
        "flipped": file.flipped,
    }


def _tell(publication: Publication) -> None:
    for each in publication.left_out:
        click.echo(_tell_left_out(each), err=True)
    for photo in publication.refused:
        click.echo(f"left out a photo of {photo.sku}: {photo.reason}", err=True)
    for name in filter(None, publication.empty):
        click.echo(f"store {name} sells nothing that has a photo: it got no release", err=True)
    release = publication.release
    if not publication.changed:
        click.echo(f"Nothing changed since release {release.version}: no new release.")
        return
    for made in publication.releases:
        of_store = f" for store {made.assortment}" if made.assortment else ""
        click.echo(
            f"Release {made.version}{of_store}: {made.products} products, {made.rows} vectors, "
            f"model {made.model}, {made.files} files."
        )
    for file in publication.files:
        click.echo(_tell_file(file))
    if publication.calibration_photos:
        click.echo(f"Its decision is fitted to {publication.calibration_photos} validation photos.")
    click.echo(f"An answer is given as a match from {publication.match_confidence:.1%} sure.")
    click.echo(
        f"A new device that answers on its CPU fetches {release.size:,} bytes, one that is up to date "
        f"{release.new_bytes:,}."
    )


def _tell_file(file: ShippedFile) -> str:
    change = (
        "recall not measured" if file.recall_change is None else f"recall {file.recall_change:+.2f} points"
    )
    return (
        f"  {file.variant.name} ({file.variant.target}): {file.variant.size:,} bytes, {change}, "
        f"{file.flipped:.1%} of the decisions flipped"
    )


def _tell_left_out(each: LeftOut) -> str:
    return f"left out file {each.variant.name} of target {each.variant.target}: {each.reason}"
