"""`shelfsight-cloud evaluate`: measure a model on the test photos, as devices would answer them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloud.bundled import find_model
from cloud.catalog import Catalog
from cloud.commands.options import data_option, json_option, open_workspace, print_json, progress_bars
from cloud.embeddings import EmbeddingCache
from cloud.evaluation import Evaluation, draw_confusions, evaluate
from cloud.workspace import Workspace
from edge.disk import write_atomically
from edge.model import open_model

if TYPE_CHECKING:
    from cloud.evaluation.suite import Suite
    from cloud.evaluation.whole import WholeEvaluation

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_MARKS = {"aim": "reaches the aim", "must": "reaches the must", "missed": "MISSED", None: ""}


@click.command("evaluate")
@click.option(
    "--model",
    type=_FOLDER,
    help="general, grocery, one of your own by its name, or a model folder "
    "(default: your newest, else the bundled one; with --all the suite's).",
)
@click.option("--variant", help="The model file to measure, by its name (default: the first for the CPU).")
@click.option(
    "--float", "exact", type=_FILE, help="The float .tflite to compare with (default: the model's own)."
)
@click.option("--second-domain", type=_FOLDER, help="A folder of other things: train/KIND/ and test/KIND/.")
@click.option("--all", "everything", is_flag=True, help="Measure everything that can be measured here.")
@click.option(
    "--suite",
    "suite_file",
    type=_FILE,
    help="What --all measures with: models, twin, second domain … (default: benchmarks/suite.toml).",
)
@click.option("--report", type=_FILE, help="Write one HTML file that shows it all; implies --all.")
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
    everything: bool,
    suite_file: Path | None,
    report: Path | None,
    picture: Path | None,
    out: Path | None,
    data: Path,
    as_json: bool,
) -> None:
    """Measure a model on the catalog's test photos, as a device would answer them.

    The references are the catalog's in-store photos, then its packshots alone. Test photos are never trained
    on and never searched in; one that a reference is a copy of is left out and counted.

    With --all also: products that the model never saw, absent and enrolled by a few photos; other things;
    spoiled photos; what int8 costs; whether a confidence is a probability; the cost on the device. What
    cannot be measured here is null, and `not_measured` says why.
    """
    workspace = open_workspace(data)
    if everything or report is not None or suite_file is not None:
        suite = _suite(suite_file, workspace, model, exact, second_domain)
        record, shop = _evaluate_all(workspace, suite, variant, report, show=not as_json)
    else:
        shop = _evaluate(workspace, model, variant, exact, second_domain)
        record = shop.to_record()
        if not as_json:
            _show(shop)
    if shop is not None and picture is not None:
        catalog = Catalog(workspace.sessions(), workspace.photo_storage())
        draw_confusions(catalog, shop.confusions, f"What {shop.model} takes for what", picture)
    if out is not None:
        write_atomically(out, (json.dumps(record, ensure_ascii=False, indent=2) + "\n").encode())
    if as_json:
        print_json(record)


def _evaluate(
    workspace: Workspace,
    model: Path | None,
    variant: str | None,
    exact: Path | None,
    second_domain: Path | None,
) -> Evaluation:
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    opened = open_model(find_model(model, workspace))
    with EmbeddingCache(workspace.cache) as cache, progress_bars() as progress:
        return evaluate(
            catalog,
            opened,
            cache=cache,
            variant=variant,
            exact=exact,
            second_domain=second_domain,
            progress=progress,
        )


def _evaluate_all(
    workspace: Workspace, suite: "Suite", variant: str | None, report: Path | None, *, show: bool
) -> tuple[dict[str, object], Evaluation | None]:
    """Measure everything, tell it, and return its record with what the shop's own photos gave."""
    from cloud.evaluation.figures import to_record
    from cloud.evaluation.whole import evaluate_all

    with EmbeddingCache(workspace.cache) as cache, progress_bars() as progress:
        whole = evaluate_all(workspace, suite, cache=cache, variant=variant, progress=progress)
        if report is not None:
            from cloud.evaluation.report import write_report

            write_report(workspace, whole, report, progress)
    if show:
        _show_all(whole)
    shop = whole.main.shop
    return to_record(whole), shop if isinstance(shop, Evaluation) else None


def _suite(
    file: Path | None,
    workspace: Workspace,
    model: Path | None,
    exact: Path | None,
    second_domain: Path | None,
) -> "Suite":
    """Read the suite that is meant, and let the flags say otherwise."""
    from cloud.evaluation.suite import DEFAULT_SUITE, GROCERY, SECOND_DOMAIN, Suite, read_suite

    path = file or (DEFAULT_SUITE if DEFAULT_SUITE.is_file() else None)
    suite = read_suite(path) if path is not None else Suite()
    if model is not None:
        named = find_model(model, workspace)
        # A float file that the suite names is of the suite's model: no other one is compared with it.
        floats = {
            role: file
            for role, file in suite.floats.items()
            if role in suite.models and find_model(suite.models[role], workspace) == named
        }
        suite = replace(suite, models={GROCERY: named, SECOND_DOMAIN: named}, floats=floats)
    if exact is not None:
        suite = replace(suite, floats={GROCERY: exact})
    if second_domain is not None:
        suite = replace(suite, second_domain=second_domain)
    return suite


def _show_all(whole: "WholeEvaluation") -> None:
    from cloud.evaluation.figures import figures, notes
    from cloud.evaluation.told import MEANS, written

    by_key = {figure.key: figure for figure in figures(whole)}
    for key, meaning in MEANS.items():
        figure = by_key[key]
        value = "not measured" if figure.value is None else written(key, figure.value)
        target = figure.target
        wanted = ""
        if target is not None:
            wanted = f"{'≤' if target.at_most else '≥'} {written(key, target.must)}"
            wanted += f", aim {written(key, target.aim)}"
        line = f"{key:<28}{value:>13}  {wanted:<20}  {_MARKS[figure.reached]:<16}"
        click.echo(f"{line}  {meaning}; {figure.model or 'no model'}")
    for key, note in notes(whole).items():
        click.echo(f"  {key}: {note}")
    # Many keys miss for one reason: it is told once.
    missing: dict[str, list[str]] = {}
    for key in MEANS:
        reason = by_key[key].reason
        if reason is not None:
            missing.setdefault(reason, []).append(key)
    for reason, keys in missing.items():
        click.echo(f"  not measured: {', '.join(keys)}: {reason}", err=True)


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
