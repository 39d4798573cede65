"""Writes the model card of a trained model: what it was made from, how, and how well it does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cloud.training.data import Examples
from cloud.training.file_measures import Finished
from cloud.training.recipe import Recipe
from converter.files import NOT_COMPILED
from edge.certificate import Certificate, FileCertificate
from edge.disk import write_atomically


def write_card(
    finished: Finished, examples: Examples, recipe: Recipe, metrics: Sequence[Mapping[str, Any]], path: Path
) -> None:
    """Write the card as Markdown; a person adds the licenses and what else only a person knows.

    Raises:
        StorageUnusable, NoSpace: `path` cannot be written.
    """
    model = finished.model
    rows = "".join(
        f"| {done.variant.file} | {done.variant.size:,} | {done.validation_top1} | {done.minus_float} | "
        f"{done.top1_agreement} | {done.parity.mean_cosine} | {done.variant.decision.match_confidence} | "
        f"{done.variant.decision.unknown_confidence} | {done.calibration.ece} |\n"
        for done in finished.files
    )
    certified = "".join(_certified(each) for each in finished.certificate.files)
    fields = "".join(f"| {name} | {_told(value)} |\n" for name, value in recipe.shown().items())
    calibrated = (
        "\nThe validation photos were trained on too; the thresholds are those of a model of the same recipe"
        "\nthat did without them, and whose card has its scores.\n"
        if "validation" in recipe.fit_splits
        else ""
    )
    left_out = f" {len(recipe.leave_out)} products were left out of both." if recipe.leave_out else ""
    text = f"""# {model.name}

An embedder for visual product search: a picture of {model.input_size} x {model.input_size} pixels in,
{model.dimension} numbers out, close to those of other photos of the same product. Embedding space
`{model.space}`.

## Data

{len(examples.fit)} photos of {len(examples.skus)} products were trained on; {len(examples.validation)} photos
that were not chose and calibrated.{left_out} Photos of the catalog's split `test` were not opened. The
license of the model follows that of the photos and of the beginning weights: fill it in before you give it
away.
{calibrated}
## Scores on the validation photos

Nearest neighbor among the photos trained on; points, same product and cosine against `float32.tflite`. An
answer is a match from that confidence and unknown under that one; the error is what the confidence is off by.
Where it takes photos of unknown products to say so, mixtures of two products stood for them.

| file | bytes | right product | points | same product | mean cosine | match from | unknown under | error |
|---|---|---|---|---|---|---|---|---|
{rows}
The last of {len(metrics)} epochs had a loss of {metrics[-1]["loss"] if metrics else None}. Test scores:
`shelfsight-cloud evaluate`.

## Parity certificate

Against the float network, on {len(finished.certificate.compared)} photos, each file by its own decision;
`certificate.json` beside this card has it by category, and the photos. Points are those of recall among the
photos trained on; other answers have another verdict or another product.

| file | run by | mean cosine | 99 of 100 over | same product first | points | other answers | ms p50, p99 |
|---|---|---|---|---|---|---|---|
{certified}
{_mapped(finished.certificate)}## Recipe

| field | value |
|---|---|
{fields}
## Known weaknesses

It was tuned to the products of one catalog and forgets some of what its beginning weights knew of other
things; a larger `keep` forgets less. The thresholds were calibrated on this catalog's photos: other cameras
and other light move them.
"""
    write_atomically(path, text.encode())


def _certified(each: FileCertificate) -> str:
    """Write a row of the certificate's table."""
    change = "" if each.recall_change is None else f"{each.recall_change:+.2f}"
    return (
        f"| {each.variant} | {each.runtime}, {each.delegate} "
        f"| {each.cosines.mean:.4f} | {each.cosines.p01:.4f} "
        f"| {each.top1_agreement:.1%} | {change} | {each.flipped:.1%} "
        f"| {each.latency_ms[0]:.1f}, {each.latency_ms[1]:.1f} |\n"
    )


def _mapped(certificate: Certificate) -> str:
    """Say what an Edge TPU runs of the file that is meant for it."""
    for each in certificate.files:
        if each.edge_tpu is not None:
            said = each.edge_tpu.compiler or f"the documented table ({NOT_COMPILED})"
            return (
                f"An Edge TPU runs {each.edge_tpu.mapped} of the {each.edge_tpu.operations} operations of "
                f"{each.variant}, by {said}.\n\n"
            )
    return ""


def _told(value: object) -> str:
    """Write a recipe's value for a table's cell."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {weight}" for name, weight in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
