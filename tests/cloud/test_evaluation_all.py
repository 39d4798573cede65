"""`evaluate --all`: everything that can be measured of a drawn shop, and why the rest cannot."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cloud.catalog import Catalog
from cloud.commands import main
from cloud.embeddings import EmbeddingCache
from cloud.evaluation.figures import figures, to_record
from cloud.evaluation.newcomers import DRAWS, SHOTS, Newcomers, measure_newcomers, unseen_by
from cloud.evaluation.suite import Suite, Target, read_suite
from cloud.evaluation.told import MEANS
from cloud.evaluation.whole import WholeEvaluation, evaluate_all
from cloud.workspace import Workspace
from edge.errors import BadModel, BadSetting, StorageUnusable
from edge.model import Model, open_model
from edge.products import Product
from tests.cloud.drawn_shop import LEFT_OUT, copy_model, draw_pack, fill, photograph, write_suite

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Give a data folder with ten drawn packs."""
    workspace = Workspace.create(tmp_path_factory.mktemp("shop") / "data")
    fill(Catalog(workspace.sessions(), workspace.photo_storage()))
    return workspace


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a suite that names everything."""
    return write_suite(tmp_path_factory.mktemp("bench")).parent


@pytest.fixture(scope="module")
def whole(shop: Workspace, bench: Path) -> WholeEvaluation:
    with EmbeddingCache(shop.cache) as cache:
        return evaluate_all(shop, read_suite(bench / "suite.toml"), cache=cache)


@pytest.fixture(scope="module")
def record(whole: WholeEvaluation) -> dict[str, Any]:
    return to_record(whole)


def look_up(record: dict[str, Any], key: str) -> Any:
    for name in key.split("."):
        record = record[name]
    return record


def test_every_key_that_was_promised_has_a_figure(record: dict[str, Any]) -> None:
    values = {key: look_up(record, key) for key in MEANS}
    assert not record["not_measured"]
    assert all(isinstance(value, int | float) for value in values.values()), values
    shares = [value for key, value in values.items() if not key.startswith(("cost.", "grocery.int8_m"))]
    assert all(0 <= value <= 1.2 for value in shares)
    assert values["cost.bytes"] == open_model(ROOT / "tests" / "data" / "tiny-int8").variants[0].size
    assert json.loads(json.dumps(record)) == record


def test_each_figure_says_which_model_it_is_by(whole: WholeEvaluation, record: dict[str, Any]) -> None:
    by_key = {figure.key: figure.model for figure in figures(whole)}
    assert (by_key["second_domain.top1"], by_key["unknown.auroc"]) == ("wide", "the-twin")
    assert record["models"] == {
        "grocery": "ours",
        "robust": "ours",
        "decision": "ours",
        "cost": "ours",
        "second_domain": "wide",
        "unseen": "the-twin",
        "unknown": "the-twin",
    }
    assert set(record["by_model"]) == {"ours", "wide"}
    assert record["by_model"]["wide"]["second_domain"] == record["second_domain"]
    assert record["by_model"]["ours"]["grocery"] == record["grocery"]


def test_targets_are_judged(record: dict[str, Any]) -> None:
    assert record["targets"] == {
        "grocery.fine_top1": {"at_least": 0.1, "aim": 1.1, "reached": "must"},
        "cost.bytes": {"at_most": 4_000_000, "aim": 3_000_000, "reached": "aim"},
    }
    at_most = Target(must=0.01, aim=0.005, at_most=True)
    assert [at_most.judge(value) for value in (0.005, 0.006, 0.011)] == ["aim", "must", "missed"]


def test_newcomers_are_asked_of_a_catalog_without_them_and_then_enrolled(whole: WholeEvaluation) -> None:
    found = whole.newcomers
    assert isinstance(found, Newcomers)
    assert found.left_out == LEFT_OUT
    assert (found.photos, found.products, len(found.known)) == (6, 10, 14)
    assert all(sku not in LEFT_OUT for answer in found.answers for sku in answer.skus)
    assert [each.photos_each for each in found.shots] == list(SHOTS)
    assert all(len(each.draws) == DRAWS for each in found.shots)
    # With three photos each in the catalog, 3, 5 and 10 enroll the same ones, in any order.
    three, five, ten = found.shots[1:]
    assert set(three.draws) == set(five.draws) == set(ten.draws) == {three.top1}
    assert three.top1 >= 0.5


def test_more_photos_enroll_a_newcomer_better_than_one_that_was_taken_of_something_else(
    tmp_path: Path, bench: Path
) -> None:
    workspace = Workspace.create(tmp_path / "data")
    catalog = fill(Catalog(workspace.sessions(), workspace.photo_storage()))
    catalog.put_product(Product("newcomer"))
    for shot, split in enumerate(("train", "test", "test")):
        photo = photograph(draw_pack(42), 4200 + shot)
        catalog.add_photo("newcomer", photo, "in-store", split, f"{shot}.jpg")
    for shot in range(2):
        photo = photograph(draw_pack(50 + shot), 5000 + shot)
        catalog.add_photo("newcomer", photo, "in-store", "train", f"something-else-{shot}.jpg")
    twin = open_model(bench / "twin")
    with EmbeddingCache(workspace.cache) as cache:
        found = measure_newcomers(
            catalog,
            twin,
            ["newcomer"],
            catalog.test_photos(),
            catalog.reference_photos(kinds=["in-store"]),
            cache=cache,
            progress=lambda task, done, total: None,
        )
    one, three = found.shots[:2]
    assert set(one.draws) == {0.0, 1.0}  # some draws are unlucky
    assert set(three.draws) == {1.0}


def test_spoiled_photos_are_told_right_less_often(record: dict[str, Any]) -> None:
    robust = record["robust"]
    assert robust["ratio"] == pytest.approx(robust["corrupted"] / robust["clean"], abs=1e-3)
    assert robust["ratio"] < 1
    shares = [robust[name][str(strength)] for name in ("noise", "dark", "jpeg") for strength in (1, 3, 5)]
    assert len(shares) == 9 and all(0 <= share <= 1 for share in shares)
    assert record["notes"]["robust"] == "10 of 20 test photos, spoiled 24 times each"


def test_a_second_run_gives_the_same_figures_without_embedding_anything(
    shop: Workspace, bench: Path, record: dict[str, Any]
) -> None:
    told: list[str] = []
    with EmbeddingCache(shop.cache) as cache:
        again = evaluate_all(
            shop,
            read_suite(bench / "suite.toml"),
            cache=cache,
            progress=lambda task, done, total: told.append(task),
        )
    for part in ("grocery", "unseen", "unknown", "robust", "second_domain", "decision"):
        assert to_record(again)[part] == record[part]
    assert not [task for task in told if task.startswith("Embedding")]


def test_a_shop_that_names_nothing_still_gets_what_can_be_measured(
    shop: Workspace, tiny_model: Model, tmp_path: Path
) -> None:
    suite = Suite(models={"grocery": tiny_model.folder, "second_domain": tiny_model.folder})
    with EmbeddingCache(tmp_path / "cache") as cache:
        found = to_record(evaluate_all(shop, suite, cache=cache))
    missing = found["not_measured"]
    assert isinstance(missing, dict)
    assert set(missing) & set(MEANS) == {
        *(f"unseen.shots.{count}" for count in SHOTS),
        "unknown.auroc",
        "unknown.ccr_at_5fpr",
        "unknown.far_at_95tar",
        "second_domain.top1",
        "decision.wrong_at_setting",
        "decision.answered",
        "cost.invoke_ratio",
    }
    assert "--leave-out" in missing["unknown.auroc"]
    assert "[cost]" in missing["cost.invoke_ratio"]
    assert look_up(found, "unseen.shots.1") is None


def test_a_catalog_without_test_photos_says_so_and_the_rest_goes_on(bench: Path, tmp_path: Path) -> None:
    empty = Workspace.create(tmp_path / "data")
    with EmbeddingCache(empty.cache) as cache:
        found = to_record(evaluate_all(empty, read_suite(bench / "suite.toml"), cache=cache))
    missing = found["not_measured"]
    assert isinstance(missing, dict)
    assert missing["grocery.fine_top1"].startswith("the catalog has no test photos")
    assert missing["unseen.shots.1"] == missing["decision.ece"] == missing["grocery.fine_top1"]
    assert look_up(found, "second_domain.top1") is not None
    assert look_up(found, "cost.invoke_ratio") > 0


def test_what_a_suite_names_and_is_not_there_is_told_by_its_path(
    shop: Workspace, bench: Path, tmp_path: Path
) -> None:
    suite = replace(
        read_suite(bench / "suite.toml"),
        twin=tmp_path / "no-twin",
        second_domain=tmp_path / "no-clothes",
        baseline=tmp_path / "no.tflite",
    )
    with EmbeddingCache(shop.cache) as cache:
        by_key = {figure.key: figure for figure in figures(evaluate_all(shop, suite, cache=cache))}
        with pytest.raises(BadModel, match="no-model"):
            evaluate_all(shop, replace(suite, models={"grocery": tmp_path / "no-model"}), cache=cache)
    for key, name in (
        ("unknown.auroc", "no-twin"),
        ("second_domain.top1", "no-clothes"),
        ("cost.invoke_ratio", "no.tflite"),
    ):
        assert by_key[key].value is None
        assert name in (by_key[key].reason or "")


def test_newcomers_that_the_catalog_does_not_have_are_told(shop: Workspace, bench: Path) -> None:
    with EmbeddingCache(shop.cache) as cache:
        suite = replace(read_suite(bench / "suite.toml"), leave_out=("of another shop",))
        by_key = {figure.key: figure for figure in figures(evaluate_all(shop, suite, cache=cache))}
        assert "the-twin was not trained on (1 are named)" in (by_key["unknown.auroc"].reason or "")


def test_a_model_that_never_saw_a_shop_is_its_own_twin(tiny_model: Model) -> None:
    fitted = replace(tiny_model, extra={"fitted_skus": ["of another shop"]})
    skus = [f"pack-{number}" for number in range(10)]
    assert unseen_by(fitted, skus) == ("pack-0", "pack-4", "pack-8")
    assert unseen_by(replace(tiny_model, extra={"fitted_skus": skus[:8]}), skus) == ("pack-8", "pack-9")
    assert unseen_by(replace(tiny_model, extra={"fitted_skus": skus}), skus) == ()
    assert unseen_by(tiny_model, skus) == ()


def test_a_new_shop_needs_no_twin(shop: Workspace, tiny_model: Model, tmp_path: Path) -> None:
    copy_model(tiny_model, tmp_path / "general", "general", fitted_skus=["of another shop"])
    suite = Suite(models=dict.fromkeys(("grocery", "second_domain"), tmp_path / "general"))
    with EmbeddingCache(shop.cache) as cache:
        whole = evaluate_all(shop, suite, cache=cache)
    assert whole.twin == "general"
    assert isinstance(whole.newcomers, Newcomers)
    assert whole.newcomers.left_out == ("pack-0", "pack-4", "pack-8")


def test_a_suite_is_read_relative_to_itself_and_a_bundled_name_stays_a_name(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "suite.toml"
    path.parent.mkdir()
    path.write_text(
        '[models]\ngrocery = "grocery"\nsecond_domain = "../general"\n[float]\ngrocery = "nets/f.tflite"\n'
        '[twin]\nmodel = "twin"\nleave_out = ["a", "b"]\n[robust]\nphotos = 0\n'
    )
    suite = read_suite(path)
    assert suite.models == {"grocery": Path("grocery"), "second_domain": path.parent / "../general"}
    assert suite.floats == {"grocery": path.parent / "nets" / "f.tflite"}
    assert (suite.twin, suite.leave_out, suite.robust_photos) == (path.parent / "twin", ("a", "b"), 0)
    assert (suite.second_domain, suite.baseline, suite.targets) == (None, None, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[modles]\n", "has 'modles', which no suite has"),
        ('[models]\ngrocer = "a"\n', "models has 'grocer', which"),
        ('[targets]\n"a" = { at_least = 1 }\n', "no field 'aim'"),
        ('[targets]\n"a" = { at_least = 1, at_most = 2, aim = 3 }\n', "has 'at_least', which"),
        ("[robust]\nphotos = -1\n", "photos must be a whole number"),
        ("[models\n", "is not TOML"),
    ],
)
def test_a_suite_with_a_typo_is_refused_by_name(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(text)
    with pytest.raises(BadSetting) as refused:
        read_suite(path)
    assert said in str(refused.value)
    with pytest.raises(StorageUnusable, match="--suite"):
        read_suite(tmp_path / "nothing.toml")


def test_the_suite_of_the_repository_names_only_figures_that_there_are() -> None:
    suite = read_suite(ROOT / "benchmarks" / "suite.toml")
    assert set(suite.targets) <= set(MEANS)
    assert len(suite.targets) == 18
    assert suite.models == {"grocery": Path("grocery"), "second_domain": Path("general")}


def test_the_command_prints_a_table_of_what_was_reached(shop: Workspace, bench: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.json"
    command = ["evaluate", "--data", str(shop.data), "--suite", str(bench / "suite.toml"), "--out", str(out)]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    fine = next(line for line in result.stdout.splitlines() if line.startswith("grocery.fine_top1"))
    assert "≥ 0.100, aim 1.100" in fine and "reaches the must" in fine and fine.endswith("ours")
    assert json.loads(out.read_text())["models"]["grocery"] == "ours"


def test_a_named_model_is_measured_alone_in_every_role(
    shop: Workspace, bench: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", "--data", str(shop.data), "--all", "--json", "--model", str(tiny_model.folder)]
    result = CliRunner().invoke(main, [*command, "--second-domain", str(bench / "clothes")])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert list(record["by_model"]) == [tiny_model.name]
    assert record["second_domain"]["top1"] is not None
    assert record["targets"] == {}


def test_a_suite_in_the_folder_is_taken_without_being_named(
    shop: Workspace, bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "benchmarks").symlink_to(bench)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["evaluate", "--data", str(shop.data), "--all", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["models"]["second_domain"] == "wide"
