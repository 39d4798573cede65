"""`shelfsight-cloud train`: fit an embedder to the catalog's photos, and make a model folder of it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cloud.commands.catalog import open_catalog
from cloud.commands.options import data_option, json_option, open_workspace, print_json
from cloud.training.data import LabeledPhoto, Progress
from cloud.training.recipe import BACKBONES, Recipe
from cloud.workspace import Workspace
from edge.disk import storage_error
from edge.errors import BadSetting

if TYPE_CHECKING:
    from cloud.training.finish import Finished


@click.command("train")
@click.option("--name", help="The run and its model (default: after the backbone).")
@click.option("--resume", metavar="RUN", help="Go on with a run, by its own recipe.")
@click.option("--recipe", "recipe_file", type=click.Path(path_type=Path), help="Begin from a TOML recipe.")
@click.option("--weights", metavar="imagenet|PATH|none", help="What the backbone begins from.")
@click.option("--backbone", type=click.Choice(BACKBONES), help="The network to stand on.")
@click.option("--input-size", type=int, help="Side of the input in pixels.")
@click.option("--dimension", type=int, help="Length of the embedding.")
@click.option("--epochs", type=int, help="How often each photo is seen.")
@click.option("--batch", type=int, help="Photos a step.")
@click.option("--learning-rate", type=float, help="Highest learning rate of the schedule.")
@click.option("--keep", type=float, help="Share of the beginning weights to keep, 0 to 1.")
@click.option("--seed", type=int, help="Determines the run.")
@data_option
@json_option
def command(
    *,
    name: str | None,
    resume: str | None,
    recipe_file: Path | None,
    data: Path,
    as_json: bool,
    **changes: Any,
) -> None:
    """Train an embedder on the catalog's photos and make a model folder of it.

    What is not given has the recipe's value; all fields are in docs/models.md. A run that was killed goes on
    where it was, when the same command is given again. Photos of the split `test` are never looked at.
    """
    workspace = open_workspace(data)
    given = {field: value for field, value in changes.items() if value is not None}
    recipe = _recipe(workspace, resume, recipe_file, given)
    chosen_name = resume or name or f"{recipe.backbone.replace('_', '-')}-{recipe.input_size}"
    if Path(chosen_name).name != chosen_name or chosen_name.startswith("."):
        raise BadSetting(f"--name {chosen_name!r} is not a folder's name: use letters, digits, - and _")
    finished = _train(workspace, recipe, chosen_name)
    if as_json:
        print_json(
            {
                "name": chosen_name,
                "space": finished.model.space,
                "model": str(workspace.models / chosen_name),
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
        f"{workspace.models / chosen_name} is ready: `shelfsight-cloud publish` takes it to the devices."
    )


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
    else:
        recipe = Recipe() if recipe_file is None else Recipe.read(recipe_file)
    return replace(recipe, **given)


def _train(workspace: Workspace, recipe: Recipe, name: str) -> "Finished":
    from cloud.training.runtime import prepare

    machine = prepare(recipe.seed)
    # These import TensorFlow, which is there now.
    from cloud.training.data import choose_examples
    from cloud.training.finish import finish
    from cloud.training.loop import train_network
    from cloud.training.run import RunFolder

    photos = _photos(workspace)
    examples = choose_examples(photos, recipe)
    packshots = [photo for photo in photos if photo.kind == "packshot"]
    run = RunFolder(workspace.runs / name)
    with _progress() as progress:
        trained = train_network(examples, recipe, run, machine, progress)
        finished = finish(trained, examples, packshots, recipe=recipe, run=run, name=name, progress=progress)
    _install(run.model, workspace.models / name)
    shutil.rmtree(run.pictures, ignore_errors=True)
    return finished


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
