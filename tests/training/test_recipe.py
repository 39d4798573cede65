"""What a recipe accepts, and that it survives its file."""

from dataclasses import replace
from pathlib import Path

import pytest

from cloud.training.recipe import Recipe
from edge.errors import BadSetting


def test_a_recipe_survives_its_file(tmp_path: Path) -> None:
    recipe = Recipe(keep=0.25, fit_splits=("train",), weights='a "quoted" path', flip=False, seed=11)
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    assert Recipe.read(path) == recipe


def test_a_file_need_only_name_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("epochs = 3\nlearning_rate = 1\n", encoding="utf-8")
    assert Recipe.read(path) == Recipe(epochs=3, learning_rate=1.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epoch = 3", "no field 'epoch'"),
        ('epochs = "3"', "epochs = '3'"),
        ("epochs = true", "epochs = True"),
        ("epochs = 0", "epochs is 0"),
        ("keep = 1.5", "keep is 1.5"),
        ('backbone = "resnet"', "backbone 'resnet' is not known"),
        ('fit_splits = ["train", "test"]', "whose photos only measure"),
        ("epochs 3", "is not TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadSetting, match=told):
        Recipe.read(path)


def test_a_missing_recipe_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="cannot be read"):
        Recipe.read(tmp_path / "none.toml")


def test_random_weights_are_not_kept() -> None:
    assert Recipe(keep=0.5).kept == 0.5
    assert Recipe(keep=0.5, weights="none").kept == 0.0


def test_only_finishing_fields_may_change_in_a_run() -> None:
    begun = Recipe()
    replace(begun, keep=0.5, calibration_photos=10).check_same_training(begun)
    with pytest.raises(BadSetting, match="begun with epochs = 12, not 17"):
        replace(begun, epochs=17).check_same_training(begun)


def test_the_recipe_of_the_bundled_model_is_valid() -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "recipes" / "grocery-mobilenetv2-224.toml"
    assert Recipe.read(path).fit_splits == ("train",)
