"""`shelfsight-convert`: a trained network to checked `.tflite` files."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from converter.edgetpu import check_edge_tpu
from converter.graph import read_graph
from converter.network_file import read_note
from converter.parity import check_parity, compare, embed_all
from converter.quantize import TARGETS, convert
from edge.disk import storage_error, write_atomically
from edge.errors import BadNetwork, ShelfsightError, SkipPhoto
from edge.image import Picture, decode, fit, load_photo

FILE_NAMES = {
    "cpu": "int8.tflite",
    "gpu": "float16.tflite",
    "edgetpu": "edgetpu-int8.tflite",
    "float32": "float32.tflite",
}
_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_MOST_PHOTOS = 400


@click.command()
@click.argument("network", type=click.Path(path_type=Path))
@click.argument("photos", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--target",
    type=click.Choice((*TARGETS, "all")),
    default="all",
    show_default=True,
    help="What to convert for.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def main(network: Path, photos: Path, out: Path, target: str, as_json: bool) -> None:
    """Convert NETWORK (a network.keras with its network.json) into .tflite files in the folder OUT.

    PHOTOS is a folder of typical photos, in sub-folders or not; int8 files learn from up to 400 of them,
    spread evenly, and every file is compared with the float network on them. A photo that cannot be read is
    left out.
    """
    try:
        report = convert_all(network, photos, out, TARGETS if target == "all" else (target,))
    except ShelfsightError as error:
        click.echo(f"error: {error}", err=True)
        raise click.exceptions.Exit(1) from error
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    for line in report:
        click.echo(
            f"{line['file']}: {line['bytes']} bytes, mean cosine to float32 {line['mean_cosine']} "
            f"on {line['photos']} photos"
        )
        if "edge_tpu" in line:
            click.echo(f"  {_told(line['edge_tpu'])}")


def _told(edge_tpu: Any) -> str:
    """Say in a line what an Edge TPU would run of a file, from `EdgeTpuReport` as a record."""
    if edge_tpu["refused"]:
        return f"an Edge TPU runs nothing of it: {edge_tpu['refused']}"
    told = f"an Edge TPU would run {edge_tpu['mapped']} of its {edge_tpu['operations']} operations"
    first = next(iter(edge_tpu["fallbacks"]), None)
    return told if first is None else f"{told}; {first['operation']} goes to the CPU: {first['reason']}"


def convert_all(network: Path, photos: Path, out: Path, targets: tuple[str, ...]) -> list[dict[str, object]]:
    """Convert a network for some targets, write the files, and report on each.

    Raises:
        BadNetwork: the network or the photos cannot be used, or a file strays too far.
        RuntimeMissing: no TFLite runtime is installed to check the files with.
        StorageUnusable, NoSpace: `out` cannot be written.
    """
    note = read_note(network)
    pictures = read_pictures(photos, note.input_size)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, out) from error
    exact_path = out / ".exact.tflite"
    report: list[dict[str, object]] = []
    try:
        write_atomically(exact_path, convert(network, pictures, "float32"))
        exact = embed_all(exact_path, pictures, note)
        for target in targets:
            file = convert(network, pictures, target)
            path = out / FILE_NAMES[target]
            draft = out / f".draft-{FILE_NAMES[target]}"
            write_atomically(draft, file)
            parity = compare(exact, embed_all(draft, pictures, note))
            check_parity(parity, FILE_NAMES[target])
            draft.replace(path)
            edge_tpu = {"edge_tpu": asdict(check_edge_tpu(read_graph(file, path.name)))}
            report.append(
                {
                    "target": target,
                    "file": str(path),
                    "bytes": len(file),
                    "sha256": hashlib.sha256(file).hexdigest(),
                    "space": note.space,
                    **asdict(parity),
                    **(edge_tpu if target == "edgetpu" else {}),
                }
            )
    finally:
        for left in out.glob(".draft-*.tflite"):
            left.unlink()
        exact_path.unlink(missing_ok=True)
    return report


def read_pictures(folder: Path, size: int) -> list[Picture]:
    """Read up to 400 photos of a folder and its sub-folders, spread evenly, as pictures (size, size, 3).

    Raises:
        BadNetwork: there is not one photo that can be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())
    if len(paths) > _MOST_PHOTOS:
        paths = [paths[number * len(paths) // _MOST_PHOTOS] for number in range(_MOST_PHOTOS)]
    pictures = []
    for path in paths:
        try:
            pictures.append(fit(decode(load_photo(path), shrink_to=size), size))
        except SkipPhoto:
            continue
    if not pictures:
        raise BadNetwork(f"{folder} has no photo that can be read: name a folder of some 300 typical ones")
    return pictures
