"""`shelfsight-cloud init` and `catalog`, as people type them."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cloud.commands import main
from cloud.workspace import Workspace


def photo(seed: int, side: int = 128) -> bytes:
    """Draw a photo of sharp blocks that no other seed gives."""
    cells = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(cells).resize((side, side), Image.Resampling.NEAREST).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return Workspace.create(tmp_path / "shop").data


@pytest.fixture
def wares(tmp_path: Path) -> Path:
    """A folder with two products, three photos and one file that is none."""
    for name, seed in (("milk/1.jpg", 1), ("milk/packshot.jpg", 2), ("apple/1.jpg", 3)):
        path = tmp_path / "wares" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(seed))
    (tmp_path / "wares" / "apple" / "broken.jpg").write_text("no photo")
    return tmp_path / "wares"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_init_makes_a_folder_with_keys_and_signed_metadata_and_keeps_them(tmp_path: Path) -> None:
    data = tmp_path / "new"
    first = run("init", "--data", data)
    assert first.exit_code == 0, first.output
    assert "devices will trust the root key" in first.stdout
    keys = {path.name: path.read_bytes() for path in (data / "keys").iterdir()}
    roles = ("root-1", "root-2", "root-3", "targets", "snapshot", "timestamp")
    assert set(keys) == {f"{role}.pem" for role in roles}
    assert (data / "repository" / "metadata" / "timestamp.json").is_file()
    assert run("init", "--data", data).stdout == first.stdout
    assert {path.name: path.read_bytes() for path in (data / "keys").iterdir()} == keys


def test_an_import_tells_what_it_did_and_what_it_refused(shop: Path, wares: Path) -> None:
    result = run("catalog", "import", wares, "--data", shop)
    assert result.exit_code == 0
    assert "2 products new or changed, 3 photos new, 0 already there, 1 refused" in result.stdout
    assert "refused wares/apple/broken.jpg: this is not a JPEG" in result.stderr
    again = run("catalog", "import", wares, "--data", shop, "--json")
    assert again.exit_code == 0
    record = json.loads(again.stdout)
    assert (record["products"], record["photos"], record["unchanged"]) == (0, 0, 3)
    assert [refusal["source"] for refusal in record["refused"]] == ["wares/apple/broken.jpg"]


def test_an_import_of_nothing_fails(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run("catalog", "import", tmp_path / "empty", "--data", shop).exit_code == 1
    (tmp_path / "bad" / "milk").mkdir(parents=True)
    (tmp_path / "bad" / "milk" / "1.jpg").write_bytes(b"")
    assert run("catalog", "import", tmp_path / "bad", "--data", shop).exit_code == 1
    assert run("catalog", "import", tmp_path / "bad", "--data", shop).exit_code == 1
    missing = run("catalog", "import", tmp_path / "missing", "--data", shop)
    assert missing.exit_code == 1
    assert missing.stderr.startswith("error: ") and missing.stderr.count("\n") == 1


def test_a_table_without_photos_is_imported_again_and_again(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "wares.csv").write_text("sku,title\nmilk,Milk\n")
    assert run("catalog", "import", tmp_path / "wares.csv", "--data", shop).exit_code == 0
    assert run("catalog", "import", tmp_path / "wares.csv", "--data", shop).exit_code == 0


def test_a_product_can_be_added_changed_listed_and_removed(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(photo(1))
    words = ("catalog", "add", "milk", tmp_path / "1.jpg", "--title", "Fresh milk", "--data", shop)
    assert run(*words, "--gtin", "4006381333931", "--category", "Dairy").exit_code == 0
    assert run(*words, "--price", "1.19", "--gtin", "4006381333931").exit_code == 0
    listed = json.loads(run("catalog", "list", "--data", shop, "--json").stdout)
    assert listed == [
        {"sku": "milk", "title": "Fresh milk", "gtin": "4006381333931", "price": "1.19", "photos": 1}
    ]
    text = run("catalog", "list", "--data", shop).stdout
    assert text == "milk  1 photos  Fresh milk · 4006381333931 · 1.19\n1 products, 1 photos\n"
    assert run("catalog", "remove", "milk", "--data", shop).exit_code == 0
    assert json.loads(run("catalog", "list", "--data", shop, "--json").stdout) == []
    gone = run("catalog", "remove", "milk", "--data", shop)
    assert (gone.exit_code, gone.stderr.startswith("error: the catalog holds no product 'milk'")) == (1, True)


def test_adding_a_bad_gtin_or_only_bad_photos_fails(shop: Path, tmp_path: Path) -> None:
    result = run("catalog", "add", "milk", "--gtin", "4006381333932", "--data", shop)
    assert result.exit_code == 1
    assert "check digit is 1" in result.stderr
    (tmp_path / "empty.jpg").write_bytes(b"")
    result = run("catalog", "add", "milk", tmp_path / "empty.jpg", tmp_path / "no.jpg", "--data", shop)
    assert result.exit_code == 1
    assert result.stderr.count("refused ") == 2


def test_check_names_each_photo_with_its_reason(shop: Path, tmp_path: Path) -> None:
    folder = tmp_path / "wares" / "milk"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(photo(1))
    copy = Image.open(io.BytesIO(photo(1))).resize((200, 200))
    copy.save(folder / "b.jpg", quality=70)
    (folder / "small.jpg").write_bytes(photo(2, side=40))
    Image.new("RGB", (128, 128), (3, 3, 3)).save(folder / "dark.jpg")
    (tmp_path / "wares" / "apple").mkdir()
    run("catalog", "import", tmp_path / "wares", "--data", shop)
    run("catalog", "add", "pear", "--gtin", "4006381333931", "--data", shop)
    run("catalog", "add", "plum", "--gtin", "4006381333931", "--data", shop)
    run("catalog", "add", "pear", folder / "a.jpg", "--gtin", "4006381333931", "--data", shop)
    result = run("catalog", "check", "--data", shop, "--json")
    assert result.exit_code == 0
    found = {(each["sku"], Path(each["source"]).name, each["problem"]) for each in json.loads(result.stdout)}
    assert found == {
        ("apple", "", "no_photo"),
        ("milk", "b.jpg", "near_duplicate"),
        ("milk", "dark.jpg", "too_dark"),
        ("milk", "small.jpg", "small"),
        ("pear", "a.jpg", "same_photo_two_products"),
        ("plum", "", "no_photo"),
        ("plum", "", "same_gtin"),
    }
    text = run("catalog", "check", "--data", shop).stdout
    assert "milk: wares/milk/dark.jpg is nearly black: take it again with light\n" in text
    assert text.endswith("7 things to look at\n")


def test_check_finds_photos_that_were_lost_and_test_photos_among_references(
    shop: Path, tmp_path: Path
) -> None:
    for split, quality in (("train", 90), ("test", 70)):
        folder = tmp_path / "wares" / split / "milk"
        folder.mkdir(parents=True)
        Image.open(io.BytesIO(photo(1))).save(folder / "1.jpg", quality=quality)
        (folder / "2.jpg").write_bytes(photo(quality))
    run("catalog", "import", tmp_path / "wares", "--data", shop)
    next(
        path for path in (shop / "photos").rglob("*") if path.is_file() and path.read_bytes() == photo(90)
    ).unlink()
    findings = json.loads(run("catalog", "check", "--data", shop, "--json").stdout)
    assert [(each["source"], each["problem"]) for each in findings] == [
        ("wares/test/milk/1.jpg", "test_photo_is_reference"),
        ("wares/train/milk/2.jpg", "photo_missing"),
    ]


def test_a_good_catalog_has_nothing_to_mend(shop: Path, wares: Path) -> None:
    run("catalog", "import", wares, "--data", shop)
    assert run("catalog", "check", "--data", shop).stdout == "Nothing to mend\n"


def test_the_data_folder_can_be_named_before_the_command_or_in_the_environment(
    shop: Path, wares: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run("--data", shop, "catalog", "import", wares).exit_code == 0
    monkeypatch.setenv("SHELFSIGHT_CLOUD_DATA", str(shop))
    assert "2 products" in run("catalog", "list").stdout
    assert run("--data", tmp_path, "catalog", "list").exit_code == 1
    assert "2 products" in run("--data", tmp_path, "catalog", "list", "--data", shop).stdout


def test_a_data_folder_that_was_never_made_says_how(tmp_path: Path) -> None:
    result = run("catalog", "list", "--data", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"error: {tmp_path} is not a Shelfsight data folder: run `shelfsight-cloud init"
    )


@pytest.mark.parametrize("words", [["nonsense"], ["catalog"], ["catalog", "add"], ["--nonsense"]])
def test_wrong_usage_exits_with_2(words: list[str]) -> None:
    assert run(*words).exit_code == 2


def test_help_is_there_for_every_command_and_importing_none_is_fast(tmp_path: Path) -> None:
    text = run("--help").stdout
    for name in (
        "init",
        "catalog",
        "train",
        "evaluate",
        "publish",
        "rollout",
        "fleet",
        "serve",
        "tick",
        "keys",
    ):
        assert f"  {name} " in text
    for name in ("import", "add", "remove", "list", "check"):
        assert run("catalog", name, "--help").exit_code == 0
    script = (
        "import sys\nfrom cloud.commands import main\nmain(['--help'], standalone_mode=False)\n"
        "heavy = {'sqlalchemy', 'numpy', 'tensorflow', 'flask'} & set(sys.modules)\n"
        "sys.exit(f'help imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
