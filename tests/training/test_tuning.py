"""A study finds the best recipe it tried, stops what is hopeless, and goes on when it was killed."""

import fcntl
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud.training.data import LabeledPhoto, choose_examples
from cloud.training.recipe import Recipe
from cloud.training.search_space import Choice, Range, SearchSpace, default_space
from edge.errors import BadSetting, StorageUnusable
from edge.image import encode_jpeg
from tests.training.conftest import TOY, ToyCatalog, draw_pack

SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "keep": [0.0, 0.5]}

# Tunes on the photos listed in a file; a program of its own, so that it can be killed.
TUNE = """
import json, sys
from pathlib import Path
from cloud.training.data import LabeledPhoto
from cloud.training.recipe import Recipe
from cloud.training.search_space import SearchSpace
from cloud.training.runtime import prepare
folder, photos = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
recipe, space = Recipe.read(Path(sys.argv[3])), SearchSpace.read(Path(sys.argv[3]))
machine = prepare(recipe.seed)
from cloud.training.tuning import tune
photos = [LabeledPhoto(Path(path), *rest) for path, *rest in photos]
tune(photos, recipe, space, trials=2, folder=folder, machine=machine, progress=lambda *_: None)
"""


def tuned(photos: object, folder: Path, trials: int = 2, recipe: Recipe = TOY, **space: Any) -> Any:
    """Tune in this process."""
    from cloud.training.runtime import prepare

    machine = prepare(recipe.seed)
    from cloud.training.tuning import tune

    searched = SearchSpace.from_record(space or SPACE)
    return tune(
        list(photos),  # type: ignore[call-overload]
        recipe,
        searched,
        trials=trials,
        folder=folder,
        machine=machine,
        progress=lambda *_: None,
    )


@pytest.fixture(scope="module")
def study(toy_catalog: ToyCatalog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """Run a study of two trials on the toy catalog, without a break; give its result and its folder."""
    folder = tmp_path_factory.mktemp("study") / "whole"
    yield tuned(toy_catalog.photos, folder), folder


@pytest.mark.training
def test_the_first_trial_is_the_recipe_itself_and_the_best_of_all_is_told_as_a_recipe_file(
    study: tuple[Any, Path],
) -> None:
    result, folder = study
    assert [trial.state for trial in result.trials] == ["complete", "complete"]
    assert result.trials[0].values == {"learning_rate": TOY.learning_rate}
    assert result.trials[1].values["learning_rate"] != TOY.learning_rate
    best = max(result.trials, key=lambda trial: trial.value)
    assert result.score == best.score
    assert result.best == replace(TOY, **best.values, keep=best.score.keep)
    assert Recipe.read(folder / "best.toml") == result.best
    assert result.best.to_toml() in result.text()
    assert (folder / "history.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads(json.dumps(result.to_record()))
    assert told["value"] == pytest.approx(best.value, abs=1e-4)
    assert [len(trial["epochs"]) for trial in told["trials"]] == [2, 2]


@pytest.mark.training
def test_a_finished_trial_keeps_its_metrics_and_neither_weights_nor_pictures(study: tuple[Any, Path]) -> None:
    _, folder = study
    kept = {path.name for path in (folder / "trials" / "0001").iterdir()}
    assert {"recipe.toml", "metrics.jsonl", "curves.png"} <= kept
    assert kept.isdisjoint({"checkpoint.npz", "begun.npz", "pictures"})
    assert not (folder / "pictures").exists()


@pytest.mark.training
def test_a_study_that_has_its_trials_runs_none_and_one_that_wants_more_keeps_those_it_has(
    study: tuple[Any, Path], toy_catalog: ToyCatalog
) -> None:
    result, folder = study
    before = (folder / "trials" / "0001" / "metrics.jsonl").stat().st_mtime_ns
    again = tuned(toy_catalog.photos, folder)
    assert again == result
    assert (folder / "trials" / "0001" / "metrics.jsonl").stat().st_mtime_ns == before


def open_study(folder: Path) -> Any:
    """Open the study that `tune` keeps in a folder, or make an empty one."""
    import optuna

    folder.mkdir(exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}")
    return optuna.create_study(
        storage=storage, study_name="recipe", direction="maximize", load_if_exists=True
    )


def begin_study(folder: Path, photos: object, recipe: Recipe, space: SearchSpace) -> Any:
    """Begin a study without any trial, as `tune` would."""
    begun = open_study(folder)
    examples = choose_examples(list(photos), recipe)  # type: ignore[call-overload]
    stored = json.loads(json.dumps(space.to_record()))
    begun.set_user_attr(
        "identity", {"recipe": recipe.to_record(), "space": stored, "catalog": examples.digest()}
    )
    return begun


def add_four_trials(study: Any, recipe: Recipe, space: SearchSpace, epochs: list[float]) -> None:
    """Add four finished trials with these validations after their epochs."""
    from optuna.trial import create_trial

    from cloud.training.tuning import _distribution

    for number in range(4):
        study.add_trial(
            create_trial(
                params=space.drawn_of(recipe),
                distributions={name: _distribution(each) for name, each in space.searched.items()},
                value=epochs[-1],
                intermediate_values=dict(enumerate(epochs)),
                user_attrs={
                    "run": f"{number:04}",
                    "score": {"keep": 0.0, "seen": epochs[-1], "unseen": None},
                },
            )
        )


@pytest.mark.training
def test_a_study_killed_in_a_trial_ends_as_if_it_had_not_been(
    study: tuple[Any, Path], toy_catalog: ToyCatalog, tmp_path: Path
) -> None:
    listed, recipe, folder = tmp_path / "photos.json", tmp_path / "recipe.toml", tmp_path / "killed"
    listed.write_text(
        json.dumps([[str(p.path), p.sku, p.category, p.kind, p.split] for p in toy_catalog.photos])
    )
    whole, whole_folder = study
    first = open_study(whole_folder).trials[0]
    space = SearchSpace.from_record(SPACE)
    begin_study(folder, toy_catalog.photos, TOY, space).add_trial(first)  # it need not be trained again
    table = "[tune]\nlearning_rate = { low = 1e-4, high = 1e-2, log = true }\nkeep = [0.0, 0.5]\n"
    recipe.write_text(TOY.to_toml() + table)
    command = [sys.executable, "-c", TUNE, str(folder), str(listed), str(recipe)]
    program = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 280
        while not (folder / "trials" / "0001" / "checkpoint.npz").exists():
            assert time.monotonic() < deadline and program.poll() is None
            time.sleep(0.005)
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait()
    resumed = tuned(toy_catalog.photos, folder)
    assert resumed.trials == whole.trials
    assert resumed.best == whole.best


@pytest.mark.training
def test_a_trial_worse_than_the_median_of_the_earlier_ones_is_stopped_and_cleaned_up(
    toy_catalog: ToyCatalog, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    space = SearchSpace.from_record(SPACE)
    recipe = replace(TOY, epochs=3)
    begun = begin_study(folder, toy_catalog.photos, recipe, space)
    add_four_trials(begun, recipe, space, [1.01, 1.01, 1.01])
    result = tuned(toy_catalog.photos, folder, trials=5, recipe=recipe)
    last = result.trials[-1]
    assert (last.state, len(last.epochs), last.score) == ("pruned", 2, None)
    assert not (folder / "trials" / "0004").exists()
    assert "trial 4: stopped after epoch 2 (learning_rate " in result.text()
    assert result.score.seen == 1.01


@pytest.mark.training
def test_a_recipe_that_is_refused_ends_its_trial_and_not_the_study(
    toy_catalog: ToyCatalog, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    searched = {"teachers": [[], [str(tmp_path / "nowhere.keras")]]}
    space = SearchSpace.from_record(searched)
    begun = begin_study(folder, toy_catalog.photos, TOY, space)
    add_four_trials(begun, TOY, space, [0.5, 0.6])
    assert isinstance(space.searched["teachers"], Choice)
    begun.enqueue_trial({"teachers": space.searched["teachers"].values[1]})
    result = tuned(toy_catalog.photos, folder, trials=5, **searched)
    assert result.trials[-1].state == "refused"
    assert "nowhere.keras" in result.trials[-1].reason
    assert "nowhere.keras" in result.text()


@pytest.mark.training
def test_a_first_trial_that_cannot_be_trained_is_an_error_and_leaves_nothing_in_the_way(
    toy_catalog: ToyCatalog, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    with pytest.raises(BadSetting, match="weights"):
        tuned(toy_catalog.photos, folder, recipe=replace(TOY, weights=str(tmp_path / "none.h5")))
    assert list((folder / "trials").iterdir()) == []
    with pytest.raises(BadSetting, match=r"none\.h5"):  # and not that the study was begun with another recipe
        tuned(toy_catalog.photos, folder, recipe=replace(TOY, weights=str(tmp_path / "none.h5"), seed=9))


@pytest.mark.training
def test_a_study_is_not_continued_with_another_recipe_space_or_catalog(
    study: tuple[Any, Path], toy_catalog: ToyCatalog
) -> None:
    _, folder = study
    with pytest.raises(BadSetting, match="another recipe"):
        tuned(toy_catalog.photos, folder, recipe=replace(TOY, epochs=3))
    with pytest.raises(BadSetting, match="another space"):
        tuned(toy_catalog.photos, folder, learning_rate=[1e-3, 2e-3])
    with pytest.raises(BadSetting, match="another catalog"):
        tuned(toy_catalog.photos[1:], folder)


@pytest.mark.training
def test_a_folder_in_use_or_damaged_is_one_sentence(toy_catalog: ToyCatalog, tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(StorageUnusable, match="another process is at work"):
            tuned(toy_catalog.photos, tmp_path)
    (tmp_path / "study.db").write_bytes(b"no database at all, but long enough to look like one" * 40)
    with pytest.raises(StorageUnusable, match="cannot be used"):
        tuned(toy_catalog.photos, tmp_path)
    with pytest.raises(BadSetting, match="--tune 0"):
        tuned(toy_catalog.photos, tmp_path, trials=0)


def many_products(folder: Path, products: int = 15) -> list[LabeledPhoto]:
    """List photos of many products: 4 to fit, 2 to validate, 1 to test and a packshot of each."""
    splits = ("train", "train", "train", "train", "validation", "validation", "test", "reference")
    return [
        LabeledPhoto(
            folder / f"{product:02}-{number}.jpg",
            f"p{product:02}",
            "",
            "packshot" if split == "reference" else "in-store",
            split,
        )
        for product in range(products)
        for number, split in enumerate(splits)
    ]


def test_a_share_of_the_products_is_kept_from_all_trainings_and_test_photos_from_everything() -> None:
    from cloud.training.study_score import choose_study_photos

    photos = many_products(Path("photos"))
    recipe = replace(TOY, leave_out=("p03",))
    chosen = choose_study_photos(photos, recipe, 0.2)
    assert len(chosen.unseen_skus) == 3 and "p03" not in chosen.unseen_skus
    assert set(chosen.examples.skus) == {p.sku for p in photos} - {"p03", *chosen.unseen_skus}
    used = (*chosen.examples.fit, *chosen.examples.validation, *chosen.unseen)
    assert all(photo.split != "test" and photo.sku != "p03" for photo in used)
    assert all(photo.kind == "in-store" for photo in chosen.unseen)
    assert choose_study_photos(photos[::-1], recipe, 0.2) == chosen


@pytest.mark.parametrize(("products", "share"), [(11, 0.2), (15, 0.0)])
def test_a_small_catalog_and_a_share_of_nothing_lend_no_product(products: int, share: float) -> None:
    from cloud.training.study_score import choose_study_photos

    assert choose_study_photos(many_products(Path("photos"), products), TOY, share).unseen == ()


@pytest.mark.training
def test_the_score_counts_what_is_found_of_seen_and_of_newly_enrolled_products(tmp_path: Path) -> None:
    from cloud.training.runtime import prepare

    prepare(TOY.seed)
    from cloud.training.loop import Trained
    from cloud.training.network import build_network
    from cloud.training.study_score import StudyScorer, choose_study_photos

    photos = many_products(tmp_path)
    for photo in photos:
        product, number = map(int, photo.path.stem.split("-"))
        gray = np.full((64, 64, 3), 15 * product + number, np.uint8)  # told apart by their light alone
        photo.path.write_bytes(encode_jpeg(gray if product < 12 else draw_pack(product % 4, number)))
    network = build_network(TOY, weights="none")
    own = network.embedder.get_weights()
    zeros = [np.zeros_like(weight) for weight in own]
    chosen = choose_study_photos(photos, TOY, 0.2)
    scorer = StudyScorer(chosen, TOY, tmp_path / "pictures", lambda *_: None)
    plain, nothing = scorer.scores(Trained(network, zeros, []), (0.0, 1.0))
    assert plain.seen is not None and plain.unseen is not None and nothing.seen is not None
    assert plain.value == pytest.approx((plain.seen + plain.unseen) / 2)
    assert plain.seen > 2 * nothing.seen  # weights of nothing but zeros find the first product for all
    assert nothing.seen == pytest.approx(1 / len(chosen.examples.skus), abs=1e-4)
    for before, after in zip(own, network.embedder.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.training
def test_a_principal_head_is_measured_as_the_finish_would_make_it(tmp_path: Path) -> None:
    from cloud.training.runtime import prepare

    prepare(TOY.seed)
    from cloud.training.data import load_pictures
    from cloud.training.heads import begin_head
    from cloud.training.loop import Trained
    from cloud.training.neighbors import embed
    from cloud.training.network import build_network, pooled
    from cloud.training.study_score import StudyScorer, choose_study_photos

    photos = many_products(tmp_path)
    for photo in photos:
        product, number = map(int, photo.path.stem.split("-"))
        photo.path.write_bytes(encode_jpeg(draw_pack(product % 4, 100 * product + number)))
    chosen = choose_study_photos(photos, TOY, 0.2)
    fitted, silent = chosen.examples.fit, lambda *_: None
    network = build_network(TOY, weights="none")
    principal = StudyScorer(chosen, replace(TOY, head="principal"), tmp_path / "pictures", silent)
    measured = principal.scores(Trained(network, network.embedder.get_weights(), []), (0.0,))
    pictures = load_pictures(fitted, TOY.input_size, tmp_path / "pictures", silent)
    begin_head(network, embed(pooled(network), pictures), chosen.examples.labels(fitted))
    learned = StudyScorer(chosen, TOY, tmp_path / "pictures", silent)
    assert learned.scores(Trained(network, network.embedder.get_weights(), []), (0.0,)) == measured


def test_a_table_in_the_recipe_file_says_what_is_searched(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        "epochs = 4\n[tune]\nlearning_rate = { low = 1e-5, high = 1, log = true }\n"
        "sub_centers = { low = 1, high = 4 }\nkeep = [0, 0.5]\nunseen_share = 0.1\n"
        "losses = [{ cosine_softmax = 1 }, { arcface = 1, proxy_anchor = 0.5 }]\nflip = [true, false]\n"
    )
    assert Recipe.read(path).epochs == 4
    space = SearchSpace.read(path)
    assert space is not None
    assert space.searched == {
        "learning_rate": Range(1e-5, 1.0, log=True),
        "sub_centers": Range(1, 4, whole=True),
        "losses": Choice(('{"cosine_softmax": 1.0}', '{"arcface": 1.0, "proxy_anchor": 0.5}')),
        "flip": Choice(("true", "false")),
    }
    assert (space.keep, space.unseen_share) == ((0.0, 0.5), 0.1)
    drawn = space.drawn_of(Recipe())
    assert drawn == {
        "learning_rate": Recipe().learning_rate,
        "sub_centers": 3,
        "losses": '{"cosine_softmax": 1.0}',
        "flip": "true",
    }
    assert Recipe.from_record({**Recipe().to_record(), **space.plain(drawn)}) == Recipe()


def test_without_a_table_the_default_space_leaves_out_what_would_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("epochs = 4\n")
    assert SearchSpace.read(path) is None and SearchSpace.read(None) is None
    plain = default_space(Recipe(), ["fruit"])
    assert {"hard_share", "category_weight"}.isdisjoint(plain.searched)
    rich = default_space(Recipe(products_per_batch=8, photos_per_product=4), ["fruit", "juice"])
    assert {"learning_rate", "losses", "dropout", "hard_share", "category_weight"} <= rich.searched.keys()
    assert rich.keep and not default_space(Recipe(weights="none"), ["fruit"]).keep
    assert "category_weight" not in default_space(Recipe(), ["fruit", "juice", ""]).searched
    assert rich.drawn_of(Recipe()).keys() == rich.searched.keys()


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("tune = 3", "is no table"),
        ("[tune]", "names nothing to search"),
        ("[tune]\nlearning = [1]", "tune.learning cannot be searched"),
        ("[tune]\nleave_out = [[]]", "tune.leave_out cannot be searched"),
        ("[tune]\nlearning_rate = 3", "give a range"),
        ("[tune]\nlearning_rate = []", "give a range"),
        ("[tune]\nlearning_rate = { low = 1 }", "give a range"),
        ("[tune]\nlearning_rate = { low = 1, high = 0.5 }", "low below high"),
        ("[tune]\nlearning_rate = { low = 0, high = 0.5, log = true }", "both above 0"),
        ("[tune]\nlearning_rate = { low = 0, high = 50 }", "learning_rate is 50"),
        ("[tune]\nlearning_rate = ['x']", "learning_rate = 'x'"),
        ("[tune]\nbackbone = { low = 'mobilenet_v2', high = 'vgg16' }", "low below high"),
        ("[tune]\nflip = { low = false, high = true }", "low below high"),
        ("[tune]\nkeep = 0.5", "tune.keep is 0.5"),
        ("[tune]\nkeep = [2.0]", "keep is 2.0"),
        ("[tune]\nkeep = [0.5]\nunseen_share = 0.9", "from 0 to 0.5"),
        ("[tune]\nkeep = [0.5]\nunseen_share = true", "from 0 to 0.5"),
        ("[tune", "is not TOML"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_with_a_cure(
    tmp_path: Path, table: str, told: str
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(table)
    with pytest.raises(BadSetting, match=told.replace(".", r"\.")):
        SearchSpace.read(path)
    with pytest.raises(BadSetting, match="cannot be read"):
        SearchSpace.read(tmp_path / "nowhere.toml")
