"""What a recipe accepts, and that it survives its file."""

from dataclasses import replace
from pathlib import Path

import pytest

from cloud.training.recipe import Recipe
from edge.errors import BadSetting


def test_a_recipe_survives_its_file(tmp_path: Path) -> None:
    recipe = Recipe(
        keep=0.25,
        fit_splits=("train",),
        weights='a "quoted" path',
        flip=False,
        seed=11,
        losses={"arcface": 1.0, "multi_similarity": 0.25},
        train_sizes=(160, 192),
        leave_out=("4001", "4011"),
    )
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
        ("losses = {arc_face = 1.0}", "losses 'arc_face' is not known"),
        ("losses = {}", "losses names none"),
        ('losses = {arcface = "much"}', "losses = "),
        ('train_sizes = ["192"]', "train_sizes = "),
        ("train_sizes = [8]", "train_sizes is 8"),
        ("leave_out = [4001]", "leave_out = "),
        ("products_per_batch = 8", "set both, or neither"),
        ("paste = 2", "paste is 2"),
        ("head_dimension = 512", "a learned head has at most the 256"),
        ('head = "own"', "head 'own' is not known"),
        ('lesson = "by heart"', "lesson 'by heart' is not known"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadSetting, match=told):
        Recipe.read(path)


def test_what_a_study_may_change_is_no_field_of_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("epochs = 3\n[tune]\nmargin = [0.1, 0.4]\n")
    assert Recipe.read(path) == Recipe(epochs=3)


def test_sizes_are_equal_stages_of_the_training() -> None:
    grown = Recipe(epochs=5, train_sizes=(128, 192))
    assert [grown.size_at(epoch) for epoch in range(5)] == [128, 128, 128, 192, 192]
    assert Recipe(epochs=1, train_sizes=(128, 192)).size_at(0) == 128
    assert Recipe(input_size=160).size_at(3) == 160


def test_a_shown_recipe_names_files_without_their_folders() -> None:
    shown = Recipe(weights="/home/me/b.h5", teachers=("/home/me/runs/big/network.keras",)).shown()
    assert (shown["weights"], shown["teachers"]) == ("b.h5", ["big/network.keras"])


def test_a_missing_recipe_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="cannot be read"):
        Recipe.read(tmp_path / "none.toml")


def test_random_weights_are_not_kept() -> None:
    assert Recipe(keep=0.5).kept == 0.5
    assert Recipe(keep=0.5, weights="none").kept == 0.0


def test_only_finishing_fields_may_change_in_a_run() -> None:
    begun = Recipe()
    replace(begun, keep=0.5, calibration_photos=10).check_same_training(begun)
    replace(begun, head="principal", head_dimension=512).check_same_training(begun)
    with pytest.raises(BadSetting, match="begun with epochs = 12, not 17"):
        replace(begun, epochs=17).check_same_training(begun)


RECIPES = sorted((Path(__file__).parents[2] / "benchmarks" / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_the_bundled_models_are_valid(path: Path) -> None:
    assert "test" not in Recipe.read(path).fit_splits
