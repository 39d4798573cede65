"""Which model is taken where none is named."""

import os
import shutil
from pathlib import Path

import pytest

from cloud import bundled
from cloud.bundled import bundled_model, default_model
from cloud.workspace import Workspace
from edge.errors import BadModel
from edge.model import Model


def copy_model(model: Model, folder: Path, *, age_s: float) -> Path:
    shutil.copytree(model.folder, folder)
    made = (folder / "model.json").stat().st_mtime - age_s
    os.utime(folder / "model.json", (made, made))
    return folder


def test_the_newest_model_of_ones_own_goes_before_the_bundled_one(
    workspace: Workspace, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came_with_it = copy_model(tiny_model, tmp_path / "bundled" / "tiny", age_s=0)
    monkeypatch.setattr(bundled, "_BUNDLED", tmp_path / "bundled")
    assert default_model(workspace) == bundled_model() == came_with_it
    copy_model(tiny_model, workspace.models / "older", age_s=500)
    newer = copy_model(tiny_model, workspace.models / "newer", age_s=100)
    assert default_model(workspace) == newer


def test_without_any_model_the_option_is_named(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "_BUNDLED", tmp_path / "nothing")
    with pytest.raises(BadModel, match="--model"):
        default_model(workspace)
