"""Which model is taken by its name, and which where none is named."""

import os
import shutil
from pathlib import Path

import pytest

from cloud import bundled
from cloud.bundled import bundled_model, default_model, find_model
from cloud.workspace import Workspace
from edge.errors import BadModel
from edge.model import Model


def copy_model(model: Model, folder: Path, *, age_s: float) -> Path:
    shutil.copytree(model.folder, folder)
    made = (folder / "model.json").stat().st_mtime - age_s
    os.utime(folder / "model.json", (made, made))
    return folder


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty folder in the place of the one that bundled models lie in."""
    monkeypatch.setattr(bundled, "_BUNDLED", tmp_path / "bundled")
    return tmp_path / "bundled"


def test_the_newest_model_of_ones_own_goes_before_the_bundled_one(
    workspace: Workspace, tiny_model: Model, shelf: Path
) -> None:
    came_with_it = copy_model(tiny_model, shelf / "tiny", age_s=0)
    assert default_model(workspace) == bundled_model() == find_model(None, workspace) == came_with_it
    copy_model(tiny_model, workspace.models / "older", age_s=500)
    newer = copy_model(tiny_model, workspace.models / "newer", age_s=100)
    assert default_model(workspace) == find_model(None, workspace) == newer
    assert find_model(None) == came_with_it


def test_a_bundled_model_is_taken_by_its_name_and_general_is_the_default(
    workspace: Workspace, tiny_model: Model, shelf: Path
) -> None:
    general = copy_model(tiny_model, shelf / "general", age_s=500)
    grocery = copy_model(tiny_model, shelf / "grocery", age_s=0)
    assert bundled_model() == general
    assert find_model(Path("general"), workspace) == general
    assert find_model(Path("grocery"), workspace) == find_model(Path("grocery")) == grocery


def test_the_only_bundled_model_stands_in_for_both(tiny_model: Model, shelf: Path) -> None:
    only = copy_model(tiny_model, shelf / "first-trial", age_s=0)
    assert bundled_model("general") == bundled_model("grocery") == only
    copy_model(tiny_model, shelf / "second-trial", age_s=0)
    with pytest.raises(BadModel, match=r"no model named grocery .*first-trial, second-trial did"):
        bundled_model("grocery")


def test_a_name_may_be_a_model_of_ones_own_and_everything_else_is_a_path(
    workspace: Workspace, tiny_model: Model, shelf: Path, tmp_path: Path
) -> None:
    copy_model(tiny_model, shelf / "general", age_s=0)
    mine = copy_model(tiny_model, workspace.models / "mine", age_s=0)
    assert find_model(Path("mine"), workspace) == mine
    assert find_model(Path("mine")) == Path("mine")
    assert find_model(Path("other"), workspace) == Path("other")
    assert find_model(tmp_path / "general", workspace) == tmp_path / "general"


def test_without_any_model_the_option_is_named(workspace: Workspace, shelf: Path) -> None:
    for find in (lambda: default_model(workspace), bundled_model, lambda: find_model(Path("grocery"))):
        with pytest.raises(BadModel, match="--model"):
            find()
