"""What `catalog check` says of copies, across products and splits, and of labels."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cloud import bundled
from cloud.catalog import Catalog
from cloud.commands import main
from cloud.inspection import inspect_catalog
from cloud.look_alikes import altered_fingerprints, altered_pairs, fingerprint, near_pairs
from cloud.workspace import Workspace
from edge.image import Picture, decode, encode_jpeg, fit
from edge.products import Product
from tests.cloud.conftest import draw_pack


def scene(seed: int, side: int = 160) -> Picture:
    """Draw soft blotches under sharp hatching that no other seed gives: light and dark everywhere."""
    cells = np.random.default_rng(seed).integers(0, 255, (7, 7, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC)).astype(int)
    hatched = np.indices((side, side)).sum(axis=0) // 4 % 2
    return np.clip(soft + 50 * hatched[:, :, None], 0, 255).astype(np.uint8)


def put(catalog: Catalog, sku: str, split: str, picture: Picture, name: str) -> None:
    catalog.put_product(Product(sku))
    catalog.add_photo(sku, encode_jpeg(picture), "in-store", split, name)  # type: ignore[arg-type]


def cut(picture: Picture, share: float) -> Picture:
    rim = round(len(picture) * share)
    return np.ascontiguousarray(picture[rim:-rim, rim:-rim])


ALTERED = [
    pytest.param(lambda picture: np.ascontiguousarray(picture[:, ::-1]), id="mirrored"),
    pytest.param(lambda picture: cut(picture, 0.03), id="3 percent cut off"),
    pytest.param(lambda picture: cut(picture, 0.07), id="7 percent cut off"),
    pytest.param(lambda picture: fit(cut(picture, 0.1), 100), id="10 percent cut off and smaller"),
]


@pytest.mark.parametrize("alter", ALTERED)
def test_mirrored_and_cropped_copies_are_pairs_that_the_plain_hash_does_not_see(alter) -> None:  # type: ignore[no-untyped-def]
    pictures = {f"whole-{seed}": scene(seed) for seed in range(12)}
    pictures["copy"] = decode(encode_jpeg(alter(scene(4)), quality=70))
    whole = {name: fingerprint(picture) for name, picture in pictures.items()}
    altered = {name: altered_fingerprints(picture) for name, picture in pictures.items()}
    assert near_pairs(whole) == set()
    assert altered_pairs(whole, altered) == {("copy", "whole-4")}


def test_a_picture_that_is_its_own_mirror_image_is_no_pair() -> None:
    half = scene(1)[:, :80]
    even = np.concatenate([half, half[:, ::-1]], axis=1)
    assert altered_pairs({"even": fingerprint(even)}, {"even": altered_fingerprints(even)}) == set()


@pytest.mark.parametrize(
    ("filed", "alter", "problem", "words"),
    [
        (("milk", "train"), False, "near_duplicate", "looks the same as a.jpg: one of them is enough"),
        (("milk", "train"), True, "near_duplicate", "is a mirrored or cropped copy of a.jpg"),
        (("soda", "train"), True, "same_photo_two_products", "copy of a.jpg of product milk"),
        (("milk", "validation"), False, "validation_photo_is_reference", "a.jpg, which is trained on"),
        (("milk", "test"), True, "test_photo_is_reference", "copy of the reference a.jpg"),
    ],
)
def test_a_copy_is_told_with_what_it_spoils(
    workspace: Workspace, filed: tuple[str, str], alter: bool, problem: str, words: str
) -> None:
    sku, split = filed
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    put(catalog, "milk", "train", scene(1), "a.jpg")
    copy = np.ascontiguousarray(scene(1)[:, ::-1]) if alter else fit(scene(1), 120)
    put(catalog, sku, split, copy, "b.jpg")
    (finding,) = inspect_catalog(catalog)
    assert (finding.sku, finding.source, finding.problem) == (sku, "b.jpg", problem)
    assert words in finding.reason


def test_of_a_copy_the_photo_that_measures_is_named_wherever_it_comes_in_the_catalog(
    workspace: Workspace,
) -> None:
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    put(catalog, "milk", "validation", scene(1), "a.jpg")
    put(catalog, "milk", "train", fit(scene(1), 120), "b.jpg")
    (finding,) = inspect_catalog(catalog)
    assert (finding.source, finding.problem) == ("a.jpg", "validation_photo_is_reference")


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def mislabeled(workspace: Workspace) -> Workspace:
    """A shop of seven drawn packs with five photos each, one of pack 3 filed under pack 5."""
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    for number in range(7):
        for shot in range(5):
            sku = "pack-5" if (number, shot) == (3, 2) else f"pack-{number}"
            put(catalog, sku, "train", draw_pack(number, shot), f"{number}/{shot}.jpg")
    return workspace


def test_check_tells_a_doubtful_label_with_suspect_confidence_and_witnesses_and_draws_it(
    mislabeled: Workspace, tmp_path: Path
) -> None:
    picture = tmp_path / "doubts.png"
    words = ("catalog", "check", "--data", mislabeled.data, "--json", "--picture", picture)
    result = run(*words)
    assert result.exit_code == 0, result.output
    (doubt,) = [each for each in json.loads(result.stdout) if each["problem"] == "label_doubted"]
    assert (doubt["sku"], doubt["source"], doubt["suspect"]) == ("pack-5", "3/2.jpg", "pack-3")
    assert 0.5 <= doubt["confidence"] <= 1
    assert set(doubt["witnesses"]) <= {f"3/{shot}.jpg" for shot in range(5)}
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = run("catalog", "check", "--data", mislabeled.data).stdout
    assert "pack-5: 3/2.jpg looks like pack-3 (sure to " in text


def test_check_without_any_model_says_so_and_looks_at_the_rest(
    mislabeled: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bundled, "_BUNDLED", tmp_path)
    result = run("catalog", "check", "--data", mislabeled.data, "--json")
    assert result.exit_code == 0
    assert result.stderr.startswith("Labels were not compared, for want of a model: no model came with")
    assert all(each["problem"] != "label_doubted" for each in json.loads(result.stdout))


def test_a_model_that_was_asked_for_and_is_broken_is_an_error(mislabeled: Workspace, tmp_path: Path) -> None:
    assert run("catalog", "check", "--data", mislabeled.data, "--model", tmp_path / "none").exit_code == 1
    broken = tmp_path / "broken"
    shutil.copytree(bundled.bundled_model(), broken)
    for file in broken.glob("*.tflite"):
        file.write_bytes(b"no network")
    result = run("catalog", "check", "--data", mislabeled.data, "--model", broken)
    assert result.exit_code == 1 and result.stderr.startswith("error: ")


def test_an_empty_catalog_has_nothing_to_mend(workspace: Workspace, tmp_path: Path) -> None:
    picture = tmp_path / "doubts.png"
    result = run("catalog", "check", "--data", workspace.data, "--picture", picture)
    assert (result.exit_code, result.stdout) == (0, "Nothing to mend\n")
    assert picture.read_bytes().startswith(b"\x89PNG")
