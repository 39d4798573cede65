"""Turns a trained network into a model folder: interpolated, converted, measured, calibrated, described."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cloud.training.averaging import interpolate
from cloud.training.card import write_card
from cloud.training.data import Examples, LabeledPhoto, Progress
from cloud.training.file_measures import (
    Finished,
    FinishedFile,
    Photos,
    certify_files,
    load_photos,
    measure_file,
)
from cloud.training.heads import begin_head, shorten_head, whiten_head
from cloud.training.loop import Trained
from cloud.training.neighbors import embed
from cloud.training.network import Network, build_network, pooled, save_network
from cloud.training.recipe import Recipe
from cloud.training.run import RunFolder
from converter.files import write_files
from converter.network_file import read_note
from edge.certificate import CERTIFICATE_FILE
from edge.decision import Decision
from edge.disk import storage_error, sync_folder, write_atomically
from edge.model import Model, write_model

# The exact file first, because the others are measured against it, and that for the CPU second, because it
# embeds the references for the others; model.json has the one for the CPU first.
_TARGETS: Final = ("float32", "cpu", "gpu", "edgetpu")
_NAMED = 12  # digits of a photo's SHA-256, enough to know it by


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
    photos = load_photos(examples, packshots, recipe, run, progress)
    save_network(_mixed(trained, recipe, photos, progress), recipe, target_run.folder)
    network_file = target_run.folder / "network.keras"
    note = read_note(network_file)

    typical = list(photos.pictures[photos.representative])
    files: list[FinishedFile] = []
    for written in write_files(network_file, typical, _TARGETS, draft):
        decision = None if decisions is None else _decision(decisions, written.target)
        files.append(measure_file(written, photos, note, files, decision=decision, progress=progress))
        progress("converting and measuring", len(files), len(_TARGETS), written.path.name)
    row_scale = _row_scale(files[1].run.references)
    files.sort(key=lambda done: done.variant.target)  # cpu, edgetpu, float32, gpu
    model = Model(
        name=name,
        space=note.space,
        dimension=note.dimension,
        input_size=note.input_size,
        row_scale=row_scale,
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
    finished = Finished(model, tuple(files), certify_files(name, note.space, files, photos))
    write_model(model, draft)
    write_atomically(draft / CERTIFICATE_FILE, finished.certificate.to_bytes())
    write_card(finished, examples, recipe, trained.metrics, draft / "README.md")
    _replace(draft, target_run.model)
    return finished


def _decision(decisions: Mapping[str, Decision], target: str) -> Decision:
    """Return the decision of a target; that for an Edge TPU is the CPU's where an older model has none."""
    return decisions["cpu"] if target == "edgetpu" and target not in decisions else decisions[target]


def _mixed(trained: Trained, recipe: Recipe, photos: Photos, progress: Progress) -> Network:
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


def _row_scale(vectors: NDArray[np.float32]) -> float:
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
