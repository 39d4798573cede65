"""Turns a trained network into a model folder: interpolated, converted, compared, calibrated, described."""

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud.calibration import Calibration, LabeledVectors, blend, calibrate
from cloud.training.averaging import interpolate
from cloud.training.card import write_card
from cloud.training.data import Examples, LabeledPhoto, Progress, load_pictures
from cloud.training.heads import begin_head, shorten_head, whiten_head
from cloud.training.loop import Trained
from cloud.training.neighbors import embed, nearest
from cloud.training.network import Network, build_network, pooled, save_network
from cloud.training.recipe import Recipe
from cloud.training.run import RunFolder
from converter.network_file import NetworkNote, read_note
from converter.parity import Parity, check_parity, compare
from converter.quantize import PRECISIONS, convert
from edge.decision import Decision
from edge.disk import storage_error, sync_folder, write_atomically
from edge.embedder import Embedder
from edge.model import Model, Variant, write_model
from edge.reference import embed_reference

Pictures = NDArray[np.uint8]
Vectors = NDArray[np.float32]
# The exact file first, because the others are measured against it; model.json has the one for the CPU first.
_FILES = (("float32", "float32.tflite"), ("cpu", "int8.tflite"), ("gpu", "float16.tflite"))
_FEW = 3  # references a product in a small catalog
_NAMED = 12  # digits of a photo's SHA-256, enough to know it by


@dataclass(frozen=True, slots=True)
class FinishedFile:
    """One file of a finished model, measured on validation photos.

    Attributes:
        variant: the file.
        parity: how far it strays from the float file; on fitted photos where there are no others.
        calibration: what its similarities mean.
        validation_top1: share of the photos whose nearest fitted photo is of their product.
        minus_float: the same less that of the float file, in points (hundredths).
        top1_agreement: share of the photos that it and the float file say the same product of.
    """

    variant: Variant
    parity: Parity
    calibration: Calibration
    validation_top1: float | None
    minus_float: float | None
    top1_agreement: float | None

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


@dataclass(frozen=True, slots=True)
class _Photos:
    """All pictures that finishing looks at, uint8 (n, S, S, 3), their product numbers and parts."""

    pictures: Pictures
    labels: NDArray[np.int32]
    fit: slice
    validation: slice
    packshots: slice

    def part(self, vectors: Vectors, which: slice) -> LabeledVectors:
        return LabeledVectors(vectors[which], self.labels[which])


def finish(
    trained: Trained,
    examples: Examples,
    packshots: Sequence[LabeledPhoto],
    *,
    recipe: Recipe,
    run: RunFolder,
    name: str,
    progress: Progress,
    into: RunFolder | None = None,
    decisions: Mapping[str, Decision] | None = None,
) -> Finished:
    """Write `network.keras` and the model folder of a run; a model folder that is there is replaced.

    One training may be finished in several ways, with more or less of what it began with kept; the network
    of `trained` then stays as it was.

    Args:
        trained: the network after its last epoch.
        examples: the photos it was fitted to and validated on.
        packshots: catalog pictures of the same products, fitted to or not, to calibrate the decision with.
        recipe: `keep`, `head`, `head_dimension` and `calibration_photos` are used here.
        run: the run's folder.
        name: the model's name.
        progress: told of each step.
        into: where network and model are written, instead of `run`.
        decisions: of each file's target, from a model of the same recipe that was not fitted to the
            validation photos; without them each file is calibrated on those.

    Raises:
        BadNetwork: the network cannot be converted, or a file strays too far from it.
        RuntimeMissing: no TFLite runtime is installed to check the files with.
        SkipPhoto: a photo of the catalog that cannot be decoded.
        StorageUnusable, NoSpace: the folder cannot be written.
    """
    target_run = into or run
    draft = target_run.folder / ".model.tmp"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise storage_error(error, draft) from error
    photos = _load(examples, packshots, recipe, run, progress)
    save_network(_mixed(trained, recipe, photos, progress), recipe, target_run.folder)
    network_file = target_run.folder / "network.keras"
    note = read_note(network_file)

    chosen = _balanced(photos.labels[photos.fit], recipe.calibration_photos)
    typical = list(photos.pictures[chosen])
    files: list[FinishedFile] = []
    exact: Vectors | None = None
    for number, (target, file) in enumerate(_FILES):
        progress("converting and measuring", number, len(_FILES), file)
        write_atomically(draft / file, convert(network_file, typical, target))
        vectors = _embed(draft / file, photos, note, progress)
        exact = vectors if exact is None else exact
        calibration = (
            _calibrated(photos, vectors) if decisions is None else Calibration(decisions[target], queries=0)
        )
        variant = _variant(draft / file, target, calibration)
        files.append(_measure(variant, photos, vectors, exact, calibration))
    files.sort(key=lambda done: done.variant.target)  # cpu, float32, gpu
    model = Model(
        name=name,
        space=note.space,
        dimension=note.dimension,
        input_size=note.input_size,
        row_scale=_row_scale(vectors),
        variants=tuple(done.variant for done in files),
        folder=target_run.model,
        extra={
            "backbone": note.backbone,
            "recipe": recipe.shown(),
            "parity": _parity(files),
            "fitted_skus": sorted(examples.skus),
            "fitted_validation": _fitted_validation(examples),
        },
    )
    finished = Finished(model, tuple(files))
    write_model(model, draft)
    write_card(finished, examples, recipe, trained.metrics, draft / "README.md")
    _replace(draft, target_run.model)
    return finished


def _mixed(trained: Trained, recipe: Recipe, photos: _Photos, progress: Progress) -> Network:
    """Return a network with what the recipe keeps of the beginning one, and with the head that it wants."""
    mixed = build_network(recipe, weights="none")
    mixed.embedder.set_weights(
        interpolate(trained.begun, trained.network.embedder.get_weights(), recipe.kept)
    )
    if recipe.head == "learned" and recipe.finished_dimension == recipe.dimension:
        return mixed
    shaped = build_network(replace(recipe, dimension=recipe.finished_dimension), weights="none")
    shaped.backbone.set_weights(mixed.backbone.get_weights())
    pictures = photos.pictures[photos.fit]

    def tell(done: int) -> None:
        progress("features for the head", done, len(pictures), "")

    features = embed(pooled(shaped), pictures, tell)
    if recipe.head == "learned":
        shorten_head(mixed, shaped, features)
    elif recipe.head == "principal":
        begin_head(shaped, features, photos.labels[photos.fit])
    else:
        whiten_head(shaped, features, photos.labels[photos.fit])
    return shaped


def _fitted_validation(examples: Examples) -> list[str]:
    """Name the validation photos that the network was fitted to: no decision may be fitted to those again."""
    return sorted(photo.path.stem[:_NAMED] for photo in examples.fit if photo.split == "validation")


def _parity(files: Sequence[FinishedFile]) -> dict[str, object]:
    """Return how the int8 file compares to the float one, for `model.json`."""
    int8 = next(done for done in files if done.variant.target == "cpu")
    return {
        "int8_minus_float": int8.minus_float,
        "mean_cosine": int8.parity.mean_cosine,
        "top1_agreement": int8.top1_agreement,
    }


def _load(
    examples: Examples, packshots: Sequence[LabeledPhoto], recipe: Recipe, run: RunFolder, progress: Progress
) -> _Photos:
    known = frozenset(examples.skus)
    of_known = [photo for photo in packshots if photo.sku in known]
    photos = (*examples.fit, *examples.validation, *of_known)
    first, second = len(examples.fit), len(examples.fit) + len(examples.validation)
    return _Photos(
        pictures=load_pictures(photos, recipe.input_size, run.pictures, progress),
        labels=examples.labels(photos),
        fit=slice(0, first),
        validation=slice(first, second),
        packshots=slice(second, len(photos)),
    )


def _embed(path: Path, photos: _Photos, note: NetworkNote, progress: Progress) -> Vectors:
    """Embed validation photos as a device embeds what it is asked, and all others as references."""
    threads = os.cpu_count() or 1
    embedder = Embedder.open(path, dimension=note.dimension, input_size=note.input_size, threads=threads)
    count = len(photos.pictures)
    vectors = np.empty((count, note.dimension), np.float32)
    for number, picture in enumerate(photos.pictures):
        asked = photos.validation.start <= number < photos.validation.stop
        vectors[number] = embedder.embed(picture).vector if asked else embed_reference(embedder, picture)
        progress(f"embedding with {path.name}", number + 1, count, "")
    return vectors


def _calibrated(photos: _Photos, vectors: Vectors) -> Calibration:
    """Calibrate one file's decision on the validation photos, in several kinds of catalog."""
    fitted, queries = photos.part(vectors, photos.fit), photos.part(vectors, photos.validation)
    catalogs = [fitted, _some(fitted), photos.part(vectors, photos.packshots)]
    # Not by products that the recipe leaves out: those are kept to measure with, as nobody has seen them.
    return calibrate(queries, catalogs, blend(queries))


def _variant(path: Path, target: str, calibration: Calibration) -> Variant:
    data = path.read_bytes()
    return Variant(
        name=path.stem,
        file=path.name,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        target=target,
        precision=PRECISIONS[target],
        decision=calibration.decision,
    )


def _measure(
    variant: Variant, photos: _Photos, vectors: Vectors, exact: Vectors, calibration: Calibration
) -> FinishedFile:
    """Compare one file to the float one; on fitted photos only where there are no others to compare."""
    unseen = photos.validation if photos.validation.stop > photos.validation.start else photos.fit
    parity = compare(exact[unseen], vectors[unseen])
    check_parity(parity, variant.file)
    fitted, queries = photos.part(vectors, photos.fit), photos.part(vectors, photos.validation)
    if not len(queries.labels):
        return FinishedFile(variant, parity, calibration, None, None, None)
    found = fitted.labels[nearest(queries.vectors, fitted.vectors)]
    by_exact = fitted.labels[nearest(exact[photos.validation], exact[photos.fit])]
    right, exact_right = (float(np.mean(each == queries.labels)) for each in (found, by_exact))
    return FinishedFile(
        variant,
        parity,
        calibration,
        validation_top1=round(right, 4),
        minus_float=round(100 * (right - exact_right), 2),
        top1_agreement=round(float(np.mean(found == by_exact)), 4),
    )


def _some(references: LabeledVectors) -> LabeledVectors:
    """Return the first few references of each product: what a shop has that did not photograph everything."""
    rank = _rank(references.labels)
    return LabeledVectors(references.vectors[rank < _FEW], references.labels[rank < _FEW])


def _balanced(labels: NDArray[np.int32], count: int) -> NDArray[np.intp]:
    """Choose `count` of the photos, as many of each product as can be."""
    return np.argsort(_rank(labels), kind="stable")[:count]


def _rank(labels: NDArray[np.int32]) -> NDArray[np.intp]:
    """Number the photos of each product from 0."""
    seen: dict[int, int] = {}
    ranks = []
    for label in labels.tolist():
        ranks.append(seen.get(label, 0))
        seen[label] = ranks[-1] + 1
    return np.array(ranks, np.intp)


def _row_scale(vectors: Vectors) -> float:
    """Choose one step of the int8 rows, so that components a tenth larger than any seen here still fit."""
    return round(min(1.0, 1.1 * float(np.abs(vectors).max())) / 127, 8)


def _replace(draft: Path, final: Path) -> None:
    """Put a finished folder in the place of an older one; a kill leaves none or a whole one."""
    try:
        shutil.rmtree(final, ignore_errors=True)
        sync_folder(draft)
        draft.replace(final)
        sync_folder(final.parent)
    except OSError as error:
        raise storage_error(error, final) from error
