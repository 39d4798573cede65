"""`shelfsight match`: say what is on photos."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devices.commands.options import data_option, json_option
from edge.errors import SkipPhoto
from edge.image import load_photo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devices.device import Device
    from edge.matcher import Answer


@click.command()
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO…", type=click.Path(path_type=Path))
@click.option("--top", type=click.IntRange(1, 100), help="Show so many candidates.  [default: 5]")
@click.option(
    "--explain",
    metavar="OUT.png",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw what in the photo speaks for the answer and what for the runner-up; OUT.json has the numbers "
    "(one photo only).",
)
@json_option
@data_option
def command(
    photos: tuple[Path, ...], top: int | None, explain: Path | None, as_json: bool, data: Path | None
) -> None:
    """Say what product is on each PHOTO, from the release on this device; no network is used.

    Each answer says its reason; where that is a fault of the photo, also what to do about it. A photo that
    cannot be read is said so, and the rest go on; the exit code is then 1. Nothing is recorded.
    """
    from devices.config import load_settings
    from devices.device import Device

    if explain is not None and len(photos) > 1:
        raise click.UsageError(f"--explain draws one photo, and {len(photos)} are given.")
    if explain is not None and explain.suffix.lower() != ".png":
        raise click.UsageError(f"--explain writes a PNG picture: call it {explain.with_suffix('.png')}.")
    device = Device(load_settings(data, flags={"top": top}), tells=False)
    device.matcher()  # with no release to answer from, say that once and not for every photo
    failed = 0
    for path, found in _answers(device, photos, explain):
        _tell(path, found, as_json)
        failed += isinstance(found, SkipPhoto)
    if failed:
        raise click.exceptions.Exit(1)


def _answers(
    device: "Device", photos: tuple[Path, ...], explain: Path | None
) -> "Iterator[tuple[Path, Answer | SkipPhoto]]":
    if explain is None:
        from devices.many import answer_photos

        yield from answer_photos(device, photos)
        return
    (path,) = photos
    try:
        yield path, _explain(device, load_photo(path), path, explain)
    except SkipPhoto as error:
        yield path, error


def _tell(path: Path, found: "Answer | SkipPhoto", as_json: bool) -> None:
    """Print an answer, or why there is none."""
    if isinstance(found, SkipPhoto):
        said = str(found) if str(path) in str(found) else f"{path}: {found}"
        if as_json:
            record = {"photo": str(path), "error": said, "code": found.code}
            click.echo(json.dumps(record, ensure_ascii=False))
        else:
            click.echo(f"error: {said}", err=True)
    elif as_json:
        click.echo(json.dumps({"photo": str(path), **found.to_record()}, ensure_ascii=False))
    else:
        _print(path, found)


def _print(path: Path, answer: "Answer") -> None:
    from devices.advice import advice_for

    click.echo(f"{path}: {answer.verdict} ({answer.reason}), {answer.timings.total_ms:.1f} ms")
    advice = advice_for(answer.reason)
    if advice is not None:
        click.echo(f"  {advice}")
    for candidate in answer.candidates:
        product = candidate.product
        price = f"  {product.price}" if product.price else ""
        sureness = f"{candidate.confidence:6.1%}  {candidate.similarity:+.3f}"
        click.echo(f"  {sureness}  {product.sku}  {product.title}{price}")


def _explain(device: "Device", photo: bytes, path: Path, out: Path) -> "Answer":
    """Answer a photo and write why; whoever asks for one candidate still gets the runner-up explained."""
    from dataclasses import replace

    from devices.explanation import write_explanation

    top = device.settings.top
    answer = device.see(photo, top=max(top, 2))
    write_explanation(device.matcher(), photo, answer, str(path), out)
    return replace(answer, candidates=answer.candidates[:top])
