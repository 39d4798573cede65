"""`shelfsight-cloud train`: fit an embedder to the catalog's photos, and make a model folder of it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cloud.commands.catalog import open_catalog
from cloud.commands.options import data_option, json_option, open_workspace, print_json
from cloud.training.data import LabeledPhoto, Progress
from cloud.training.recipe import BACKBONES, HEADS, Recipe
from cloud.workspace import Workspace
from edge.decision import Decision
from edge.disk import storage_error
from edge.errors import BadSetting
from edge.model import open_model

if TYPE_CHECKING:
    from cloud.training.file_measures import Finished
    from cloud.training.run import RunFolder


@click.command("train")
@click.option("--name", help="The run and its model (default: after the backbone).")
@click.option("--resume", metavar="RUN", help="Go on with a run, by its own recipe.")
@click.option("--recipe", "recipe_file", type=click.Path(path_type=Path), help="Begin from a TOML recipe.")
@click.option("--weights", metavar="imagenet|PATH|none", help="What the backbone begins from.")
@click.option("--backbone", type=click.Choice(BACKBONES), help="The network to stand on.")
@click.option("--input-size", type=int, help="Side of the input in pixels.")
@click.option("--dimension", type=int, help="Length of the embedding; with --resume, of the finished one.")
@click.option("--epochs", type=int, help="How often each photo is seen.")
@click.option("--batch", type=int, help="Photos a step.")
@click.option("--learning-rate", type=float, help="Highest learning rate of the schedule.")
@click.option("--keep", type=float, help="Share of the beginning weights to keep, 0 to 1.")
@click.option("--head", type=click.Choice(HEADS), help="Projection of the finished network.")
@click.option("--seed", type=int, help="Determines the run.")
@click.option("--leave-out", metavar="SKU,…|@FILE", help="Products neither fitted nor validated.")
@click.option("--as", "model_name", metavar="MODEL", help="Finish under another name (default: the run's).")
@click.option(
    "--calibrated-by",
    metavar="MODEL",
    help="Fit the validation photos too; take the decision of this model, which did without them.",
)
@click.option(
    "--tune", type=int, metavar="N", help="Look for a better recipe in N trainings; makes no model."
)
@data_option
@json_option
def command(
    *,
    name: str | None,
    resume: str | None,
    recipe_file: Path | None,
    leave_out: str | None,
    model_name: str | None,
    calibrated_by: str | None,
    tune: int | None,
    data: Path,
    as_json: bool,
    **changes: Any,
) -> None:
    """Train an embedder on the catalog's photos and make a model folder of it.

    What is not given has the recipe's value; all fields are in docs/models.md. A run that was killed goes on
    where it was, when the same command is given again. A run that is done is not trained again: --resume RUN
    --keep 0.5 --as MODEL makes another model of it. --tune N tries recipes near the given one, goes on where
    it was stopped, and writes the best to RUN.study/best.toml. Photos of the split `test` are never looked
    at.
    """
    workspace = open_workspace(data)
    given = {field: value for field, value in changes.items() if value is not None}
    if leave_out is not None:
        given["leave_out"] = _left_out(leave_out)
    recipe = _recipe(workspace, resume, recipe_file, given)
    if calibrated_by is not None and "validation" not in recipe.fit_splits:
        recipe = replace(recipe, fit_splits=(*recipe.fit_splits, "validation"))
    decisions = _decisions(workspace, recipe, calibrated_by)
    chosen_name = resume or name or f"{recipe.backbone.replace('_', '-')}-{recipe.input_size}"
    _check_name("--name", chosen_name)
    if tune is not None:
        _tune(workspace, recipe, recipe_file, chosen_name, tune, as_json=as_json)
        return
    model_name = model_name or chosen_name
    _check_name("--as", model_name)
    finished = _train(workspace, recipe, chosen_name, model_name, decisions)
    if finished is None:  # trained on another backend, which cannot convert
        more = ["--calibrated-by", calibrated_by] if calibrated_by else []
        _finish_on_tensorflow(
            workspace, recipe, chosen_name, model_name, [*more, *(["--json"] if as_json else [])]
        )
        return
    if as_json:
        print_json(
            {
                "name": model_name,
                "run": chosen_name,
                "space": finished.model.space,
                "model": str(workspace.models / model_name),
                "files": [done.to_record() for done in finished.files],
            }
        )
        return
    for done in finished.files:
        click.echo(
            f"{done.variant.file}: {done.variant.size} bytes, validation {done.validation_top1}, "
            f"mean cosine {done.parity.mean_cosine}"
        )
    click.echo(
        f"{workspace.models / model_name} is ready: `shelfsight-cloud publish` takes it to the devices."
    )


def _check_name(option: str, name: str) -> None:
    if Path(name).name != name or name.startswith("."):
        raise BadSetting(f"{option} {name!r} is not a folder's name: use letters, digits, - and _")


def _left_out(given: str) -> tuple[str, ...]:
    """Read SKUs from the option, or from the file that it names: separated by commas or line ends."""
    text = given
    if given.startswith("@"):
        try:
            text = Path(given[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadSetting(f"--leave-out {given} cannot be read ({error}): check the path") from error
    words = (word.strip() for word in text.replace("\n", ",").split(","))
    return tuple(dict.fromkeys(word for word in words if word))


def _recipe(
    workspace: Workspace, resume: str | None, recipe_file: Path | None, given: dict[str, Any]
) -> Recipe:
    """Choose the recipe that the options change: the run's own, a file's, or the default one."""
    if resume is not None:
        path = workspace.runs / resume / "recipe.toml"
        if not path.is_file():
            raise BadSetting(
                f"there is no run {resume!r} in {workspace.runs}: name one of those with --resume"
            )
        recipe = Recipe.read(path)
        if "dimension" in given:  # that of the training is settled
            given = {**given, "head_dimension": given["dimension"]}
            del given["dimension"]
    else:
        recipe = Recipe() if recipe_file is None else Recipe.read(recipe_file)
    return replace(recipe, **given)


def _decisions(
    workspace: Workspace, recipe: Recipe, calibrated_by: str | None
) -> Mapping[str, Decision] | None:
    """Return the decisions, by target, of the model that was made alike without the validation photos.

    How alike photos of one product are to a network is a matter of its recipe more than of one photo in ten;
    to a network that was fitted to them, the validation photos themselves say nothing.
    """
    if calibrated_by is None:
        if "validation" in recipe.fit_splits:
            raise BadSetting(
                "fit_splits names 'validation', and nothing is left to calibrate by: "
                "name with --calibrated-by a model that was made without those photos, or take it out"
            )
        return None
    model = open_model(workspace.models / calibrated_by)
    made = model.extra.get("recipe")
    alike = {name: value for name, value in recipe.shown().items() if name not in ("fit_splits", "seed")}
    for name, value in alike.items():
        theirs = made.get(name) if isinstance(made, Mapping) else None
        if theirs != value:
            raise BadSetting(
                f"{calibrated_by} was made with {name} = {theirs!r}, not {value!r}: "
                "a decision is worth something for a model of the same recipe alone"
            )
    if model.extra.get("fitted_validation"):
        raise BadSetting(
            f"{calibrated_by} was fitted to the validation photos itself: name a model that was not"
        )
    return {variant.target: variant.decision for variant in model.variants}


def _train(
    workspace: Workspace,
    recipe: Recipe,
    name: str,
    model_name: str,
    decisions: Mapping[str, Decision] | None,
) -> "Finished | None":
    """Train what is left to train and make the model; None on a backend that cannot convert it."""
    from cloud.training.data import choose_examples
    from cloud.training.run import RunFolder
    from cloud.training.runtime import prepare

    photos = _photos(workspace)
    examples = choose_examples(photos, recipe)
    machine = prepare(recipe.seed)
    from cloud.training.loop import train_network  # imports Keras, which is prepared now

    run = RunFolder(workspace.runs / name)
    into = run if model_name == name else run.finished_as(model_name)
    with _progress() as progress:
        trained = train_network(examples, _recipe_of(run, recipe, into), run, machine, progress)
        if machine.backend != "tensorflow":
            return None
        from cloud.training.finish import finish

        finished = finish(
            trained,
            examples,
            [photo for photo in photos if photo.kind == "packshot"],
            recipe=recipe,
            run=run,
            name=model_name,
            progress=progress,
            into=into,
            decisions=decisions,
        )
    _install(into.model, workspace.models / model_name)
    shutil.rmtree(run.pictures, ignore_errors=True)
    return finished


def _tune(
    workspace: Workspace, recipe: Recipe, recipe_file: Path | None, name: str, trials: int, *, as_json: bool
) -> None:
    """Run a study of recipes, and show what it found."""
    from cloud.training.search_space import SearchSpace

    space = SearchSpace.read(recipe_file)
    from cloud.training.runtime import prepare

    machine = prepare(recipe.seed)
    from cloud.training.tuning import tune  # imports Keras, which is prepared now

    with _progress() as progress:
        result = tune(
            _photos(workspace),
            recipe,
            space,
            trials=trials,
            folder=workspace.runs / f"{name}.study",
            machine=machine,
            progress=progress,
        )
    if as_json:
        print_json(result.to_record())
    else:
        click.echo(result.text())


def _recipe_of(run: "RunFolder", recipe: Recipe, into: "RunFolder") -> Recipe:
    """Return the run's own recipe where it is finished under another name, so that it stays as it is."""
    if into == run or not (run.folder / "recipe.toml").exists():
        return recipe
    own = run.recipe()
    recipe.check_same_training(own)
    return own


def _finish_on_tensorflow(
    workspace: Workspace, recipe: Recipe, name: str, model_name: str, more: list[str]
) -> None:
    """Finish a trained run in a process of its own, whose Keras stands on TensorFlow; end as it ends."""
    words = ["--data", str(workspace.data), "train", "--resume", name, "--as", model_name]
    words += ["--keep", str(recipe.keep), "--head", recipe.head]
    words += ["--dimension", str(recipe.finished_dimension), *more]
    done = subprocess.run(
        [sys.executable, "-m", "cloud.commands", *words],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        check=False,
    )
    click.get_current_context().exit(done.returncode)


def _photos(workspace: Workspace) -> list[LabeledPhoto]:
    catalog = open_catalog(workspace.data)
    categories = {product.sku: product.category for product in catalog.products()}
    return [
        LabeledPhoto(
            catalog.photos.path(photo.sha256), photo.sku, categories[photo.sku], photo.kind, photo.split
        )
        for photo in catalog.reference_photos()
    ]


def _install(model: Path, final: Path) -> None:
    """Copy a run's model folder to where `publish` and `evaluate` look for models."""
    draft = final.with_name(f".{final.name}.tmp")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(model, draft)
        shutil.rmtree(final, ignore_errors=True)
        draft.replace(final)
    except OSError as error:
        raise storage_error(error, final) from error


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show a progress bar a step on a terminal; one line a finished step elsewhere, for logs."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with Bars(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int, remark: str) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, remark=remark)
            bars.update(tasks[what], completed=done, total=total, remark=remark)
            if done == total and not console.is_terminal:
                click.echo(f"{what}: {total} done {remark}".rstrip(), err=True)

        yield tell
