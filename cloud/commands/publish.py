"""`shelfsight-cloud publish`: make, sign and offer a release of the catalog as it is now."""

from pathlib import Path

import click

from cloud.bundled import default_model
from cloud.commands.options import data_option, json_option, open_workspace, print_json, progress_bar
from cloud.publishing import Publication, publish
from edge.model import open_model


@click.command("publish")
@click.option(
    "--model",
    "model_folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The model folder (default: the newest of your own, else the one that comes with Shelfsight).",
)
@click.option(
    "--keys",
    "offline_keys",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="SHELFSIGHT_KEYS",
    help="The folder with the offline key targets.pem, when it is not in the data folder.",
)
@click.option(
    "--percent",
    type=click.FloatRange(0, 100),
    default=100.0,
    show_default=True,
    help="The share of the devices that are offered the release.",
)
@data_option
@json_option
def command(
    *, model_folder: Path | None, offline_keys: Path | None, percent: float, data: Path, as_json: bool
) -> None:
    """Publish the catalog: embed its photos, make a release, sign it, and offer it to devices.

    Photos that were embedded before are not embedded again, and where nothing has changed no release is made.
    It can be stopped at any time and run again: devices have the old release until the new one is signed.
    """
    workspace = open_workspace(data)
    model = open_model(model_folder or default_model(workspace))
    with progress_bar("Embedding photos") as progress:
        publication = publish(workspace, model, offline_keys=offline_keys, percent=percent, progress=progress)
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
        "refused": [
            {"sku": photo.sku, "sha256": photo.sha256, "reason": photo.reason}
            for photo in publication.refused
        ],
    }


def _tell(publication: Publication) -> None:
    for photo in publication.refused:
        click.echo(f"left out a photo of {photo.sku}: {photo.reason}", err=True)
    release = publication.release
    if not publication.changed:
        click.echo(f"Nothing changed since release {release.version}: no new release.")
        return
    click.echo(
        f"Release {release.version}: {release.products} products, {release.rows} vectors, "
        f"model {release.model}, {release.files} files."
    )
    if publication.calibration_photos:
        click.echo(f"Its decision is fitted to {publication.calibration_photos} validation photos.")
    click.echo(f"A new device fetches {release.size:,} bytes, one that is up to date {release.new_bytes:,}.")
