"""`shelfsight-convert`: a trained network to checked `.tflite` files, and the certificate of what they do."""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import click

from converter.certify import Progress, certify
from converter.files import NOT_COMPILED, WrittenFile, write_files
from converter.folder_photos import read_photos
from converter.graph import read_graph
from converter.metadata import read_metadata
from converter.network_file import NetworkNote, read_note
from converter.quantize import TARGETS
from edge.certificate import CERTIFICATE_FILE, Certificate, FileCertificate
from edge.decision import Decision
from edge.disk import storage_error, write_atomically
from edge.errors import NotCertified, ShelfsightError
from edge.model import Model

# Nothing is calibrated here: every photo counts as answered, so what flips is the product that is named.
_UNDECIDED: Final = Decision(
    match_confidence=0.0, unknown_similarity=-1.0, bias=0.0, similarity_weight=0.0, margin_weight=0.0
)
_WORST: Final = 5


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

    PHOTOS is a folder of typical photos: its sub-folders are their categories, and folders in those are
    products. int8 files learn from up to 400 photos, equally many of each category, and every file is
    compared with the float network on up to 400 others; certificate.json in OUT says how far each strays. A
    photo that cannot be read is left out.
    """
    try:
        with _progress_bars() as progress:
            targets = TARGETS if target == "all" else (target,)
            certificate, files = convert_all(network, photos, out, targets, progress)
    except ShelfsightError as error:
        click.echo(f"error: {error}", err=True)
        raise click.exceptions.Exit(1) from error
    if as_json:
        click.echo(json.dumps(_record(certificate, files), indent=2, ensure_ascii=False))
        return
    for measured, file in zip(certificate.files, files, strict=True):
        for line in _told(measured, file):
            click.echo(line)
    click.echo(f"compared on {len(certificate.compared)} photos: {out / CERTIFICATE_FILE}")
    for measured, file in zip(certificate.files, files, strict=True):
        try:
            certificate.check(file.path.name, measured.sha256)
        except NotCertified as error:
            click.echo(f"warning: publish refuses it as it is: {error}", err=True)


def convert_all(
    network: Path, photos: Path, out: Path, targets: Sequence[str], progress: Progress
) -> tuple[Certificate, list[WrittenFile]]:
    """Convert a network for some targets, and write the files and their certificate, all of them or none.

    Raises:
        BadNetwork: the network or the photos cannot be used, or a file strays too far.
        RuntimeMissing: no TFLite runtime is installed to check the files with.
        StorageUnusable, NoSpace: `out` cannot be written.
    """
    note = read_note(network)
    read = read_photos(photos, note.input_size, progress)
    was_there = out.is_dir()
    draft = out / ".draft"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        # The exact one too where nobody asked for it: the others are measured against it.
        wanted = [*targets, *(["float32"] if "float32" not in targets else [])]
        written = []
        for file in write_files(network, [each.picture for each in read.representative], wanted, draft):
            written.append(file)
            progress("converting", len(written), len(wanted))
        certificate = certify(
            _model(network, note, written, draft),
            read.compared,
            read.representative,
            representative=read.representative_names,
            stand_ins={file.path.stem: file.stand_in for file in written if file.stand_in},
            edge_tpu={file.path.stem: file.edge_tpu for file in written if file.edge_tpu},
            progress=progress,
        )
        asked = tuple(each for each in certificate.files if each.target in targets)
        certificate = replace(certificate, files=asked)
        kept = [file for file in written if file.target in targets]
        for path in (path for file in kept for path in (file.path, file.stand_in) if path):
            path.replace(out / path.name)
        write_atomically(out / CERTIFICATE_FILE, certificate.to_bytes())
        return certificate, [replace(file, path=out / file.path.name) for file in kept]
    except OSError as error:
        raise storage_error(error, out) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if not was_there and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def _model(network: Path, note: NetworkNote, written: Sequence[WrittenFile], folder: Path) -> Model:
    return Model(
        name=network.resolve().parent.name,
        space=note.space,
        dimension=note.dimension,
        input_size=note.input_size,
        row_scale=1 / 127,
        variants=tuple(file.variant(_UNDECIDED) for file in written),
        folder=folder,
    )


def _record(certificate: Certificate, files: Sequence[WrittenFile]) -> dict[str, object]:
    """Return the certificate as JSON, and of each file its path and its metadata."""
    record: dict[str, object] = json.loads(certificate.to_bytes())
    measured = record["files"]
    assert isinstance(measured, list)
    for each, file in zip(measured, files, strict=True):
        told = read_metadata(read_graph(file.path.read_bytes(), file.path.name), file.path.name)
        each |= {"file": str(file.path), "metadata": asdict(told) if told else None}
    return record


def _told(measured: FileCertificate, file: WrittenFile) -> Iterator[str]:
    """Say what was measured of a file in a few lines."""
    cosines, (p50, p99) = measured.cosines, measured.latency_ms
    labeled = (
        f"recall {measured.recall:.3f} ({measured.recall_change:+.2f} points)"
        if measured.recall is not None
        else "no photo labeled"
    )
    yield (
        f"{file.path.name}: {measured.size:,} bytes, cosine to float32 {cosines.mean:.4f} (least "
        f"{cosines.least:.3f}), same product first {measured.top1_agreement:.1%}, {labeled}, {p50:.1f} ms "
        f"(p99 {p99:.1f})"
    )
    if measured.suffered:
        worst = ", ".join(f"{one.category} {one.change:+.1f}" for one in measured.suffered[:_WORST])
        yield f"  categories that lost most, in points: {worst}"
    if measured.edge_tpu is not None:
        mapping = measured.edge_tpu
        said = f"says {mapping.compiler}" if mapping.compiler else "by the documented table"
        yield f"  an Edge TPU runs {mapping.mapped} of its {mapping.operations} operations, {said}"
        for operation, reason in mapping.fallbacks[:1]:
            yield f"  {operation} goes to the CPU: {reason}"
        if mapping.compiler is None:
            yield f"  {NOT_COMPILED}"


@contextmanager
def _progress_bars() -> Iterator[Progress]:
    """Show a progress bar a step on standard error where that is a terminal; yields what is told of each."""
    if not sys.stderr.isatty():
        yield lambda what, done, of: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    known: dict[str, TaskID] = {}
    with Bars(*columns, console=Console(file=sys.stderr)) as bars:

        def tell(what: str, done: int, of: int) -> None:
            if what not in known:
                known[what] = bars.add_task(what, total=of)
            bars.update(known[what], completed=done, total=of)

        yield tell
