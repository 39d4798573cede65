"""A store's devices get what is sold there, and that alone; judged by the manifests that are published."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cloud import keeping, signing
from cloud.catalog import Catalog
from cloud.commands import main
from cloud.fleet import DeviceInfo, Fleet
from cloud.importers import import_plan, read_plan
from cloud.publishing import publish, publish_content_of
from cloud.releases import Releases
from cloud.stores import Store, Stores
from cloud.workspace import Workspace
from edge.errors import BadProduct, BadSetting, NoRelease
from edge.image import encode_jpeg
from edge.matcher import Matcher, check_golden, prepare_release_folder
from edge.model import Model
from edge.products import Product
from edge.release import Release
from edge.segments import SegmentStack
from tests.cloud.conftest import add_pack, draw_pack


@pytest.fixture
def stores(workspace: Workspace) -> Stores:
    """Give stores: two in the north, one of which takes nothing of its region, and one in the south."""
    made = Stores(workspace.sessions())
    made.put(Store("kiel", "north"))
    made.put(Store("husum", "north", takes_region=False))
    made.put(Store("ulm", "south", timezone="Europe/Berlin", window="02:00-05:00"))
    return made


def enroll(workspace: Workspace, store: str | None = None) -> str:
    fleet = Fleet(workspace.sessions())
    code = fleet.new_code(signing.fingerprint(workspace.metadata), store=store)
    return fleet.enroll(code, DeviceInfo("", "kiosk", "1"))[0]


def release_of(workspace: Workspace, version: int, assortment: str = "") -> Release:
    row = Releases(workspace.sessions()).get(version, assortment)
    assert row is not None
    return Release.from_bytes((workspace.files / row.sha256).read_bytes())


def sold(workspace: Workspace, version: int, assortment: str = "") -> set[str]:
    """Return the SKUs that a device finds in a release, numbers only."""
    names = release_of(workspace, version, assortment).segments
    stack = SegmentStack.open([(workspace.files / name, name) for name in names])
    return {sku.removeprefix("pack-0") for sku in stack.products}


def versions(workspace: Workspace) -> dict[str, list[int]]:
    releases = Releases(workspace.sessions())
    return {name: list(releases.versions_of(name)) for name in sorted(releases.latest_of_each())}


# What is sold where -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("catalog")
def test_a_store_gets_its_own_products_its_regions_and_those_of_everywhere(
    workspace: Workspace, stores: Stores, tiny_model: Model
) -> None:
    stores.stock("kiel", ["pack-00"])
    stores.stock("north", ["pack-01"])
    stores.stock("south", ["pack-02"])
    stores.stock("husum", ["pack-02"])
    publish(workspace, tiny_model)
    assert sold(workspace, 1, "kiel") == set("01345")
    assert sold(workspace, 1, "husum") == set("2345")
    assert sold(workspace, 1, "ulm") == set("2345")
    assert release_of(workspace, 1, "ulm").assortment == "ulm"
    assert signing.target_names(workspace.metadata) == (
        "releases/1/husum.json",
        "releases/1/kiel.json",
        "releases/1/ulm.json",
    )


@pytest.mark.usefixtures("catalog")
def test_what_two_stores_have_in_common_is_one_file(
    workspace: Workspace, stores: Stores, tiny_model: Model
) -> None:
    stores.stock("kiel", ["pack-00"])
    publish(workspace, tiny_model)
    assert release_of(workspace, 1, "husum").segments == release_of(workspace, 1, "ulm").segments
    assert release_of(workspace, 1, "husum").golden == release_of(workspace, 1, "ulm").golden
    assert release_of(workspace, 1, "kiel").segments != release_of(workspace, 1, "ulm").segments


@pytest.mark.usefixtures("catalog")
def test_a_product_that_moves_is_a_delta_of_both_stores_and_nothing_to_the_third(
    workspace: Workspace, catalog: Catalog, stores: Stores, tiny_model: Model
) -> None:
    for number in range(6, 10):
        add_pack(catalog, number)
    stores.stock("kiel", ["pack-00"])
    publish(workspace, tiny_model)
    stores.stock("ulm", ["pack-00"])
    stores.unstock("kiel", ["pack-00"])
    publish(workspace, tiny_model)
    assert versions(workspace) == {"husum": [1], "kiel": [2, 1], "ulm": [2, 1]}
    for store in ("kiel", "ulm"):
        before, after = release_of(workspace, 1, store), release_of(workspace, 2, store)
        assert after.segments[:-1] == before.segments
    assert "0" not in sold(workspace, 2, "kiel")
    assert "0" in sold(workspace, 2, "ulm")


@pytest.mark.usefixtures("catalog")
def test_the_whole_catalog_is_published_while_a_device_is_in_no_store(
    workspace: Workspace, tiny_model: Model
) -> None:
    stores = Stores(workspace.sessions())
    publish(workspace, tiny_model)
    assert versions(workspace) == {"": [1]}
    stores.put(Store("kiel"))
    publish(workspace, tiny_model)
    assert versions(workspace) == {"": [1], "kiel": [2]}
    enroll(workspace)
    Catalog(workspace.sessions(), workspace.photo_storage()).remove("pack-00")
    publish(workspace, tiny_model)
    assert versions(workspace) == {"": [3, 1], "kiel": [3, 2]}


@pytest.mark.usefixtures("catalog", "stores")
def test_a_device_that_is_moved_gets_a_higher_number_of_a_store_that_did_not_change(
    workspace: Workspace, tiny_model: Model
) -> None:
    stores = Stores(workspace.sessions())
    device = enroll(workspace, "kiel")
    publish(workspace, tiny_model)
    assert not publish(workspace, tiny_model).changed
    assert stores.move(device, "ulm")
    assert not stores.move(device, "ulm")
    published = publish(workspace, tiny_model)
    assert [(each.assortment, each.version) for each in published.releases] == [("ulm", 2)]
    assert release_of(workspace, 2, "ulm").segments == release_of(workspace, 1, "ulm").segments
    assert not publish(workspace, tiny_model).changed


def test_a_store_that_sells_nothing_with_a_photo_is_named_and_the_others_are_published(
    workspace: Workspace, catalog: Catalog, stores: Stores, tiny_model: Model
) -> None:
    stores.stock("kiel", [product.sku for product in catalog.products()])
    published = publish(workspace, tiny_model)
    assert published.empty == ("husum", "ulm")
    assert versions(workspace) == {"kiel": [1]}


@pytest.mark.usefixtures("catalog")
def test_what_a_closed_store_sold_alone_is_not_suddenly_sold_everywhere(
    workspace: Workspace, stores: Stores, tiny_model: Model
) -> None:
    stores.stock("kiel", ["pack-00"])
    stores.remove("kiel")
    publish(workspace, tiny_model)
    assert sold(workspace, 1, "ulm") == set("12345")


@pytest.mark.usefixtures("catalog")
def test_a_mistake_in_a_place_is_refused_and_changes_nothing(workspace: Workspace, stores: Stores) -> None:
    with pytest.raises(BadSetting, match="neither a store nor a region"):
        stores.stock("keil", ["pack-00"])
    with pytest.raises(BadProduct, match="holds no product"):
        stores.stock("kiel", ["pack-00", "pack-99"])
    assert stores.places() == {}
    with pytest.raises(BadProduct, match="is sold everywhere"):
        stores.unstock("kiel", ["pack-00"])
    stores.stock("kiel", ["pack-00"])
    with pytest.raises(BadProduct, match="the only place"):
        stores.unstock("kiel", ["pack-00"])
    assert stores.unstock("kiel", ["pack-00"], everywhere=True) == 1
    with pytest.raises(BadSetting, match="a store and a region"):
        stores.put(Store("north"))
    with pytest.raises(BadSetting, match="a store and a region"):
        stores.put(Store("bonn", "kiel"))
    enroll(workspace, "kiel")
    with pytest.raises(BadSetting, match="1 devices belong"):
        stores.remove("kiel")


@pytest.mark.parametrize(
    "wrong", [("Kiel",), ("",), ("a/b",), ("kiel", "kiel"), ("kiel", "n", True, "Mars/Base"), ("x" * 64,)]
)
def test_a_store_that_cannot_be_is_refused(wrong: tuple[str]) -> None:
    with pytest.raises(BadSetting):
        Store(*wrong)
    with pytest.raises(BadSetting):
        Store("kiel", window="02:00-25:00")


@pytest.mark.usefixtures("stores")
def test_a_table_says_where_products_are_sold_and_a_misspelled_place_is_refused(
    workspace: Workspace, catalog: Catalog, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("sku,title,places\npack-00,Pack 0,kiel;south\npack-01,Pack 1,\nnew,New,keil\n")
    report = import_plan(catalog, read_plan(table))
    assert [(each.source, "keil is neither" in each.reason) for each in report.refused] == [("new", True)]
    assert Stores(workspace.sessions()).places() == {"pack-00": {"kiel", "south"}}
    assert "new" not in {product.sku for product in catalog.products()}
    table.write_text("sku,title\npack-00,Pack 0\n")  # says nothing of places: they stay
    import_plan(catalog, read_plan(table))
    assert Stores(workspace.sessions()).places() == {"pack-00": {"kiel", "south"}}


@pytest.mark.usefixtures("catalog")
def test_the_commands_do_it_all(workspace: Workspace) -> None:
    def run(*words: str) -> str:
        found = CliRunner().invoke(main, [*words[:2], "--data", str(workspace.data), *words[2:]])
        assert found.exit_code == 0, found.output
        return found.output

    run("store", "add", "kiel", "--region", "north", "--window", "02:00-05:00", "--timezone", "Europe/Berlin")
    run("store", "add", "ulm", "--without-region")
    assert [each["name"] for each in json.loads(run("store", "list", "--json"))] == ["kiel", "ulm"]
    assert json.loads(run("store", "stock", "north", "pack-00", "pack-01", "--json")) == {"changed": 2}
    run("store", "unstock", "north", "pack-00", "--everywhere")
    run("catalog", "add", "extra", "--title", "Extra", "--place", "ulm")
    assert Stores(workspace.sessions()).places() == {"pack-01": {"north"}, "extra": {"ulm"}}
    assert "-" in run("fleet", "code", "--store", "kiel")
    device = enroll(workspace, "kiel")
    assert "Moved" in run("fleet", "move", device, "ulm")
    (found,) = Fleet(workspace.sessions()).devices()
    assert found.store == "ulm"
    run("fleet", "move", device)
    run("store", "remove", "ulm")
    bad = CliRunner().invoke(main, ["fleet", "code", "--data", str(workspace.data), "--store", "nowhere"])
    assert (bad.exit_code, "there is no store" in bad.output) == (1, True)


# Back, and what is kept -------------------------------------------------------------------------------------


def answers(workspace: Workspace, version: int, folder: Path) -> Matcher:
    release = release_of(workspace, version)
    folder.mkdir()
    for entry in release.files:
        (folder / entry.sha256).write_bytes((workspace.files / entry.sha256).read_bytes())
    (folder / "release.json").write_bytes(release.to_bytes())
    prepare_release_folder(folder)
    matcher = Matcher.open(folder)
    check_golden(matcher, folder)
    return matcher


def test_the_content_of_an_earlier_release_comes_back_under_a_new_number(
    workspace: Workspace, catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    publish(workspace, tiny_model)
    catalog.put_product(Product("pack-00", "Pack 0", "packs", price="999.00"))
    publish(workspace, tiny_model)
    published = publish_content_of(workspace, 1)
    assert (published.release.version, published.changed) == (3, True)
    assert answers(workspace, 3, tmp_path / "3").stack.products["pack-00"].price is None
    assert release_of(workspace, 3).segments == release_of(workspace, 1).segments
    manifest = (workspace.files / published.release.sha256).stat().st_size
    assert published.release.new_bytes == manifest  # all the rest is on the devices
    assert not publish_content_of(workspace, 3).changed
    # The catalog is as it was: publishing it brings the price back.
    publish(workspace, tiny_model)
    assert answers(workspace, 4, tmp_path / "4").stack.products["pack-00"].price == "999.00"


def test_the_way_back_over_another_model_is_the_old_model_with_its_old_vectors(
    workspace: Workspace, catalog: Catalog, tiny_model: Model, several_model: Model, tmp_path: Path
) -> None:
    publish(workspace, several_model)
    catalog.remove("pack-00")
    publish(workspace, tiny_model)
    publish_content_of(workspace, 1)
    matcher = answers(workspace, 3, tmp_path / "3")
    assert matcher.release.model == several_model.name
    photo = encode_jpeg(draw_pack(0, 9))
    assert matcher.match_photo(photo).candidates[0].product.sku == "pack-00"


@pytest.mark.usefixtures("catalog")
def test_a_release_that_never_was_or_is_kept_no_more_does_not_come_back(
    workspace: Workspace, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NoRelease, match="never published"):
        publish_content_of(workspace, 7)
    monkeypatch.setattr(keeping, "KEPT_CONTENT", 3)
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    for price in range(1, 6):
        catalog.put_product(Product("pack-00", "Pack 0", "packs", price=f"{price}.00"))
        publish(workspace, tiny_model)
    with pytest.raises(NoRelease, match="kept no more"):
        publish_content_of(workspace, 1)
    assert publish_content_of(workspace, 4).changed


def test_files_that_no_kept_release_needs_are_deleted_and_all_others_stay(
    workspace: Workspace, catalog: Catalog, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "KEPT_CONTENT", 4)
    for number in range(6, 16):
        add_pack(catalog, number)
    for price in range(1, 10):
        catalog.put_product(Product("pack-00", "Pack 0", "packs", price=f"{price}.00"))
        publish(workspace, tiny_model)
    assert signing.target_names(workspace.metadata) == tuple(f"releases/{each}.json" for each in (7, 8, 9))
    there = {path.name for path in workspace.files.iterdir()}
    needed: set[str] = set()
    for version in range(1, 10):
        row = Releases(workspace.sessions()).get(version)
        assert row is not None
        assert (row.sha256 in there) == (version > 5)
        if version > 5:
            release = release_of(workspace, version)
            needed |= {row.sha256, *(entry.sha256 for entry in release.files)}
            if version > 6:
                needed |= {release.merged_sha256, *(each for file in release.files for each in file.merge)}
    assert there == needed


@pytest.mark.usefixtures("catalog")
def test_what_is_everybodys_stays_signed_while_younger_releases_are_for_a_few(
    workspace: Workspace, catalog: Catalog, tiny_model: Model
) -> None:
    publish(workspace, tiny_model)
    for price in range(1, 6):
        catalog.put_product(Product("pack-00", "Pack 0", "packs", price=f"{price}.00"))
        publish(workspace, tiny_model, percent=1)
    assert signing.target_names(workspace.metadata) == tuple(f"releases/{each}.json" for each in range(1, 7))
    release = release_of(workspace, 1)
    assert (workspace.files / release.merged_sha256).is_file()
