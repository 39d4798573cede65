"""Measures the files of a trained network on its photos: how they stray, what their similarities mean.

References are embedded once, by the file for the CPU, as in a release, and once by the float file, which the
others are measured against; every file embeds the photos that are asked about.
"""

import hashlib
import os
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud.calibration import Calibration, LabeledVectors, blend, calibrate
from cloud.training.data import Examples, LabeledPhoto, Progress, load_pictures
from cloud.training.neighbors import nearest
from cloud.training.recipe import Recipe
from cloud.training.run import RunFolder
from converter.answers import Question
from converter.certify import FileRun, certificate_of, latency
from converter.files import WrittenFile
from converter.network_file import NetworkNote
from converter.parity import Parity, check_parity, compare
from edge.certificate import Certificate
from edge.decision import Decision
from edge.embedder import Embedder
from edge.model import Model, Variant
from edge.reference import embed_reference

Pictures = NDArray[np.uint8]
Vectors = NDArray[np.float32]
Places = NDArray[np.intp]
_FEW = 3  # references a product in a small catalog
_COMPARED = 300  # fitted photos, where there are no others to compare files on
_NAMED = 12  # digits of a photo's SHA-256, enough to know it by


@dataclass(frozen=True, slots=True)
class Photos:
    """All photos that finishing looks at: pictures uint8 (n, S, S, 3), product numbers, what they are for.

    Attributes:
        pictures, labels: of the fitted photos, the packshots and the validation photos, in this order.
        names, categories: of each, the beginning of its SHA-256 and its category.
        fit, packshots, validation: where those lie.
        representative: places of the photos that int8 files learn their ranges from.
        compared: places of the photos that files are compared on: those of `validation`, or fitted ones that
            are not representative where there are none.
    """

    pictures: Pictures = field(repr=False)
    labels: NDArray[np.int32]
    names: tuple[str, ...]
    categories: tuple[str, ...]
    fit: slice
    packshots: slice
    validation: slice
    representative: Places
    compared: Places

    @property
    def is_validated(self) -> bool:
        """Whether there are photos that the network was not fitted to."""
        return len(self.labels[self.validation]) > 0

    def representative_names(self) -> dict[str, list[str]]:
        """Name the representative photos by category."""
        found: dict[str, list[str]] = {}
        for place in self.representative.tolist():
            found.setdefault(self.categories[place], []).append(self.names[place])
        return {category: sorted(names) for category, names in found.items()}


@dataclass(frozen=True, slots=True)
class FinishedFile:
    """One file of a finished model, measured on validation photos.

    Attributes:
        variant: the file.
        run: its vectors, and how fast it is.
        parity: how far it strays from the float file; on fitted photos where there are no others.
        calibration: what its similarities mean.
        validation_top1: share of the photos whose nearest fitted photo is of their product.
        minus_float: the same less that of the float file, in points (hundredths).
        top1_agreement: share of the photos that it and the float file say the same product of.
    """

    variant: Variant
    run: FileRun
    parity: Parity
    calibration: Calibration
    validation_top1: float | None = None
    minus_float: float | None = None
    top1_agreement: float | None = None

    def to_record(self) -> dict[str, object]:
        """Return the measurements as plain values."""
        calibration = {key: value for key, value in asdict(self.calibration).items() if key != "decision"}
        return {
            "file": self.variant.file,
            "size": self.variant.size,
            "validation_top1": self.validation_top1,
            "minus_float": self.minus_float,
            "top1_agreement": self.top1_agreement,
            "parity": asdict(self.parity),
            "calibration": calibration,
        }


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished model and what was measured of each of its files."""

    model: Model
    files: tuple[FinishedFile, ...]
    certificate: Certificate


def load_photos(
    examples: Examples, packshots: Sequence[LabeledPhoto], recipe: Recipe, run: RunFolder, progress: Progress
) -> Photos:
    """Decode the photos, and choose those that files learn from and those that they are compared on.

    Raises:
        SkipPhoto: a photo that cannot be decoded.
        StorageUnusable, NoSpace: the run's folder cannot be written.
    """
    known = frozenset(examples.skus)
    of_known = [photo for photo in packshots if photo.sku in known]
    photos = (*examples.fit, *of_known, *examples.validation)
    fitted, catalog = len(examples.fit), len(examples.fit) + len(of_known)
    labels = examples.labels(photos)
    of_product = examples.categories()
    categories = tuple(of_product[label] for label in labels.tolist())
    order = balanced(categories[:fitted], labels[:fitted].tolist())
    return Photos(
        pictures=load_pictures(photos, recipe.input_size, run.pictures, progress),
        labels=labels,
        names=tuple(photo.path.stem[:_NAMED] for photo in photos),
        categories=categories,
        fit=slice(0, fitted),
        packshots=slice(fitted, catalog),
        validation=slice(catalog, len(photos)),
        representative=order[: recipe.calibration_photos],
        compared=_compared(order, recipe.calibration_photos, range(catalog, len(photos))),
    )


def balanced(categories: Sequence[str], labels: Sequence[int]) -> Places:
    """Order photos so that the first of them, however many, are balanced over categories and products."""
    in_product = _ranks(labels)
    by_product = sorted(range(len(labels)), key=lambda place: (in_product[place], place))
    in_category = _ranks([categories[place] for place in by_product])
    return np.array(by_product, np.intp)[np.argsort(in_category, kind="stable")]


def _compared(order: Places, learned: int, validation: range) -> Places:
    """Choose the photos that files are compared on, out of all of them in a balanced order."""
    if len(validation):
        return np.arange(validation.start, validation.stop)
    others = order[learned : learned + _COMPARED]
    return np.sort(others if len(others) >= min(_COMPARED, learned) else order[:_COMPARED])


def measure_file(
    written: WrittenFile,
    photos: Photos,
    note: NetworkNote,
    before: Sequence[FinishedFile],
    *,
    decision: Decision | None,
    progress: Progress,
) -> FinishedFile:
    """Run a file over the photos, calibrate it, and compare it with the float one.

    Args:
        written: the file.
        photos: what it is run over.
        note: what is known of its network.
        before: the files that were measured before, the float one first and that for the CPU second.
        decision: that of the file, where it needs no calibration.
        progress: told of each photo.

    Raises:
        BadNetwork: the file strays too far.
        RuntimeMissing: no TFLite runtime is installed.
    """
    path = written.stand_in or written.path
    embedder = _open(path, note, os.cpu_count() or 1)
    asked = _told(photos.compared.tolist(), f"photos with {path.name}", progress)
    queries = np.stack([embedder.embed(photos.pictures[place]).vector for place in asked])
    if written.target in ("float32", "cpu"):
        places = _told(range(photos.packshots.stop), f"references with {path.name}", progress)
        references = np.stack([embed_reference(embedder, photos.pictures[place]) for place in places])
    else:
        references = before[1].run.references
    calibration = (
        _calibrated(photos, queries, references) if decision is None else Calibration(decision, queries=0)
    )
    variant = written.variant(calibration.decision)
    timed = _open(path, note, 1)
    run = FileRun(
        variant=variant,
        queries=queries,
        references=references,
        runtime=timed.runtime,
        delegate=timed.delegate,
        latency_ms=latency(timed, [photos.pictures[place] for place in photos.compared.tolist()]),
        measured_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        edge_tpu=written.edge_tpu,
    )
    return _compare(run, (before[0].run if before else run), photos, calibration)


def certify_files(model: str, space: str, files: Sequence[FinishedFile], photos: Photos) -> Certificate:
    """Write the certificate of the files, from vectors that are there already.

    Raises:
        BadNetwork: a file strays so far that it is another network.
    """
    compared = photos.compared
    question = Question(
        products=photos.labels[compared],
        categories=tuple(photos.categories[place] for place in compared.tolist()),
        references=photos.labels[photos.fit],
        own=np.where(compared < photos.fit.stop, compared, -1),
    )
    runs = [_searching(file.run, photos.fit) for file in files]
    return certificate_of(
        model,
        space,
        runs,
        question,
        representative=photos.representative_names(),
        compared=[photos.names[place] for place in compared.tolist()],
    )


def _searching(run: FileRun, fit: slice) -> FileRun:
    return replace(run, references=run.references[fit])


def _open(path: Path, note: NetworkNote, threads: int) -> Embedder:
    return Embedder.open(path, dimension=note.dimension, input_size=note.input_size, threads=threads)


def _told(places: Iterable[int], what: str, progress: Progress) -> Iterator[int]:
    """Give the places one after the other, and tell how far it is."""
    known = list(places)
    for number, place in enumerate(known):
        yield place
        progress(what, number + 1, len(known), "")


def _calibrated(photos: Photos, queries: Vectors, references: Vectors) -> Calibration:
    """Calibrate one file's decision on the validation photos, in several kinds of catalog."""
    asked = LabeledVectors(queries, photos.labels[photos.compared])
    if not photos.is_validated:
        asked = LabeledVectors(queries[:0], asked.labels[:0])
    fitted, packshots = (
        LabeledVectors(references[part], photos.labels[part]) for part in (photos.fit, photos.packshots)
    )
    # Not by products that the recipe leaves out: those are kept to measure with, as nobody has seen them.
    return calibrate(asked, [fitted, _some(fitted), packshots], blend(asked))


def _compare(run: FileRun, exact: FileRun, photos: Photos, calibration: Calibration) -> FinishedFile:
    """Compare one file to the float one; on fitted photos only where there are no others to compare."""
    parity = compare(exact.queries, run.queries)
    check_parity(parity, run.variant.file)
    if not photos.is_validated:
        return FinishedFile(run.variant, run, parity, calibration)
    labels, of_fitted = photos.labels[photos.compared], photos.labels[photos.fit]
    found, by_exact = (of_fitted[nearest(each.queries, each.references[photos.fit])] for each in (run, exact))
    right, exact_right = (float(np.mean(each == labels)) for each in (found, by_exact))
    return FinishedFile(
        run.variant,
        run,
        parity,
        calibration,
        validation_top1=round(right, 4),
        minus_float=round(100 * (right - exact_right), 2),
        top1_agreement=round(float(np.mean(found == by_exact)), 4),
    )


def _some(references: LabeledVectors) -> LabeledVectors:
    """Return the first few references of each product: what a shop has that did not photograph everything."""
    few = np.array(_ranks(references.labels.tolist())) < _FEW
    return LabeledVectors(references.vectors[few], references.labels[few])


def _ranks(groups: Sequence[Hashable]) -> list[int]:
    """Number the members of each group from 0."""
    seen: dict[Hashable, int] = {}
    ranks = []
    for group in groups:
        ranks.append(seen.get(group, 0))
        seen[group] = ranks[-1] + 1
    return ranks
