"""Imports: the layouts, what is refused, and that a second run changes nothing."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image

from cloud.catalog import Catalog
from cloud.importers import ImportReport, import_folder, read_plan
from cloud.workspace import Workspace
from edge.errors import StorageUnusable

GROCERY = Path(__file__).parents[3] / "shared" / "data" / "grocery-store"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    workspace = Workspace.create(tmp_path / "shop")
    return Catalog(workspace.sessions(), workspace.photo_storage())


def draw(path: Path, seed: int, side: int = 64) -> Path:
    """Write a photo that no other seed gives, and the folders above it."""
    cells = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(cells).resize((side, side)).save(path)
    return path


def bomb(side: int) -> bytes:
    """Make a PNG of a few hundred bytes that says it is side × side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def reasons(report: ImportReport) -> dict[str, str]:
    return {refusal.source: refusal.reason for refusal in report.refused}


def test_each_folder_is_a_product_and_names_tell_packshots(catalog: Catalog, tmp_path: Path) -> None:
    root = tmp_path / "wares"
    draw(root / "Fresh-milk_1l" / "shelf.jpg", 1)
    draw(root / "Fresh-milk_1l" / "Packshot front.png", 2)
    draw(root / "apple" / "iconic" / "1.jpg", 3)
    draw(root / "apple" / "shop" / "1.webp", 4)
    draw(root / "apple" / "catalogue.jpg", 5)
    report = import_folder(catalog, root)
    assert (report.products, report.photos, report.unchanged, report.refused) == (2, 5, 0, ())
    assert {product.sku: product.title for product in catalog.products()} == {
        "Fresh-milk_1l": "Fresh milk 1l",
        "apple": "apple",
    }
    kinds = {photo.source: photo.kind for photo in catalog.reference_photos()}
    assert kinds == {
        "wares/Fresh-milk_1l/shelf.jpg": "in-store",
        "wares/Fresh-milk_1l/Packshot front.png": "packshot",
        "wares/apple/iconic/1.jpg": "packshot",
        "wares/apple/shop/1.webp": "in-store",
        "wares/apple/catalogue.jpg": "packshot",
    }


def test_split_folders_above_the_products_give_the_photos_their_split(
    catalog: Catalog, tmp_path: Path
) -> None:
    root = tmp_path / "wares"
    draw(root / "train" / "milk" / "1.jpg", 1)
    draw(root / "val" / "milk" / "2.jpg", 2)
    draw(root / "test" / "milk" / "3.jpg", 3)
    assert import_folder(catalog, root).photos == 3
    assert {photo.source: photo.split for photo in catalog.reference_photos()} == {
        "wares/train/milk/1.jpg": "train",
        "wares/val/milk/2.jpg": "validation",
    }
    assert [photo.source for photo in catalog.test_photos()] == ["wares/test/milk/3.jpg"]


def test_a_second_import_changes_nothing(catalog: Catalog, tmp_path: Path) -> None:
    root = tmp_path / "wares"
    draw(root / "milk" / "1.jpg", 1)
    draw(root / "apple" / "1.jpg", 2)
    import_folder(catalog, root)
    before = (catalog.products(), catalog.reference_photos())
    report = import_folder(catalog, root)
    assert (report.products, report.photos, report.unchanged) == (0, 0, 2)
    assert (catalog.products(), catalog.reference_photos()) == before


def test_every_bad_photo_is_named_with_its_reason_and_the_rest_go_on(
    catalog: Catalog, tmp_path: Path
) -> None:
    folder = tmp_path / "wares" / "milk"
    good = draw(folder / "good.jpg", 1).read_bytes()
    (folder / "truncated.jpg").write_bytes(good[: len(good) // 2])
    (folder / "corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("this is a shopping list")
    (folder / "bomb.png").write_bytes(bomb(20_000))
    draw(folder / "dot.png", 2, side=1)
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "notes.txt").write_text("not a photo, and says so")
    (folder / ".hidden.jpg").write_text("the operating system's")
    report = import_folder(catalog, tmp_path / "wares")
    assert report.photos == 1
    assert report.ignored == 1
    found = reasons(report)
    for name, reason in {
        "truncated.jpg": "cut short",
        "corrupt.png": "corrupt",
        "empty.jpg": "empty",
        "text.jpg": "not a JPEG",
        "bomb.png": "20000 x 20000 pixels",
        "dot.png": "1 x 1 pixels",
        "gone.jpg": "no such file",
    }.items():
        assert reason in found.pop(f"wares/milk/{name}")
    assert found == {}


def test_photos_outside_of_a_product_folder_are_refused(catalog: Catalog, tmp_path: Path) -> None:
    draw(tmp_path / "wares" / "lost.jpg", 1)
    draw(tmp_path / "wares" / "milk" / "1.jpg", 2)
    report = import_folder(catalog, tmp_path / "wares")
    assert report.photos == 1
    assert "move it into one" in reasons(report)["wares/lost.jpg"]


def test_a_folder_whose_name_is_no_sku_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    draw(tmp_path / "wares" / ("x" * 130) / "1.jpg", 1)
    report = import_folder(catalog, tmp_path / "wares")
    assert report.nothing
    assert "130 characters" in report.refused[0].reason


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up root's right to read everything for a moment; for anybody else nothing changes."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_unreadable_folder_is_refused_and_the_rest_go_on() -> None:
    with TemporaryDirectory() as name:
        root = Path(name) / "wares"
        draw(root / "milk" / "1.jpg", 1)
        draw(root / "secret" / "1.jpg", 2).parent.chmod(0)
        root.parent.chmod(0o755)
        with as_nobody():
            plan = read_plan(root)
        (root / "secret").chmod(0o700)
    assert [photo.source for photo in plan.photos] == ["wares/milk/1.jpg"]
    ((source, reason),) = ((refusal.source, refusal.reason) for refusal in plan.refused)
    assert (source, reason) == ("wares/secret", "cannot be read (Permission denied): check its permissions")


def test_an_unreadable_root_says_so() -> None:
    with TemporaryDirectory() as name:
        Path(name).chmod(0)
        with as_nobody(), pytest.raises(StorageUnusable, match="permission denied"):
            read_plan(Path(name))


def test_a_path_that_is_not_there_says_so(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(StorageUnusable, match="is not there"):
        import_folder(catalog, tmp_path / "nowhere")


def test_a_file_that_is_no_table_says_what_to_name(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "wares.xlsx").write_bytes(b"PK")
    with pytest.raises(StorageUnusable, match="neither a folder nor a table"):
        import_folder(catalog, tmp_path / "wares.xlsx")


def test_a_csv_takes_several_photo_columns_and_repeated_rows(catalog: Catalog, tmp_path: Path) -> None:
    for seed in range(5):
        draw(tmp_path / "photos" / f"{seed}.jpg", seed)
    table = tmp_path / "wares.csv"
    table.write_text(
        "SKU,GTIN,Title,Category,Price,Photo,Photo 2,Packshot,Color\n"
        'milk,4006381333931,"Milk, fresh",Dairy,1.19,photos/0.jpg,photos/1.jpg,photos/2.jpg,white\n'
        "milk,,,,,photos/3.jpg,,,\n"
        "\n"
        "apple,,Apple,Fruit,,photos/4.jpg,,,\n",
        encoding="utf-8-sig",
    )
    report = import_folder(catalog, table)
    assert (report.products, report.photos, report.refused) == (2, 5, ())
    milk = catalog.products()[1]
    assert (milk.title, milk.category, milk.gtin, milk.price) == (
        "Milk, fresh",
        "Dairy",
        "4006381333931",
        "1.19",
    )
    assert [photo.source for photo in catalog.reference_photos(kinds=["packshot"])] == [
        f"{tmp_path.name}/photos/2.jpg"
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_may_have_the_separator_of_its_country(
    catalog: Catalog, tmp_path: Path, delimiter: str
) -> None:
    draw(tmp_path / "1.jpg", 1)
    rows = [["sku", "title", "photo", "kind", "split"], ["milk", "Milk", "1.jpg", "packshot", "train"]]
    (tmp_path / "wares.csv").write_text("\n".join(delimiter.join(row) for row in rows))
    assert import_folder(catalog, tmp_path / "wares.csv").photos == 1
    (photo,) = catalog.reference_photos()
    assert (photo.kind, photo.split) == ("packshot", "train")


def test_json_lines_take_lists_of_photos(catalog: Catalog, tmp_path: Path) -> None:
    for seed in range(3):
        draw(tmp_path / f"{seed}.jpg", seed)
    records = [
        {"sku": "milk", "gtin": 4006381333931, "price": 1.19, "photos": ["0.jpg", "1.jpg"]},
        {"sku": "apple", "photo": str(tmp_path / "2.jpg"), "unheard of": {"a": 1}},
    ]
    (tmp_path / "wares.jsonl").write_text("\n\n".join(json.dumps(record) for record in records))
    report = import_folder(catalog, tmp_path / "wares.jsonl")
    assert (report.products, report.photos, report.refused) == (2, 3, ())
    assert catalog.products()[1].gtin == "4006381333931"


def test_each_bad_row_is_named_by_its_line_and_the_rest_go_on(catalog: Catalog, tmp_path: Path) -> None:
    draw(tmp_path / "1.jpg", 1)
    (tmp_path / "wares.csv").write_text(
        "sku,gtin,title,price,photo,split\n"
        "milk,4006381333931,Milk,1.19,1.jpg,\n"
        "milk,,Cream,,1.jpg,\n"
        "tea,4006381333932,Tea,,1.jpg,\n"
        ",,No name,,1.jpg,\n"
        "rice,,Rice,cheap,1.jpg,\n"
        "salt,,Salt,,1.jpg,holiday\n"
        "oil,,Oil,,https://example.org/oil.jpg,\n"
        "jam,,Jam,,nowhere.jpg,\n"
        "pie,,Pie,,1.jpg,,,,\n"
    )
    report = import_folder(catalog, tmp_path / "wares.csv")
    found = list(reasons(report).items())
    assert [source for source, _ in found] == [
        "wares.csv line 3",
        "wares.csv line 4",
        "wares.csv line 5",
        "wares.csv line 6",
        "wares.csv line 7",
        "wares.csv line 8 https://example.org/oil.jpg",
        "wares.csv line 10",
        f"{tmp_path.name}/nowhere.jpg",
    ]
    for (_, reason), part in zip(
        found,
        (
            "'Cream' here but 'Milk' in wares.csv line 2",
            "check digit is 1",
            "no SKU",
            "not a decimal number",
            "write reference or train",
            "download it",
            "has 9 fields",
            "no such file",
        ),
        strict=True,
    ):
        assert part in reason
    assert [product.sku for product in catalog.products()] == ["jam", "milk", "oil"]
    assert report.photos == 1


def test_bad_json_lines_are_refused_one_by_one(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "wares.jsonl").write_text('{"sku": "milk"}\n{"sku": \n[1]\n{"sku": "tea", "photo": 3}\n')
    report = import_folder(catalog, tmp_path / "wares.jsonl")
    assert [product.sku for product in catalog.products()] == ["milk"]
    assert len(report.refused) == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"name,photo\nmilk,1.jpg\n", "no column `sku`"), (b"", "no column `sku`"), (b"sku\n\xff\xfe", "UTF-8")],
)
def test_a_table_that_is_none_is_refused_whole(
    catalog: Catalog, tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "wares.csv").write_bytes(content)
    with pytest.raises(StorageUnusable, match=reason):
        import_folder(catalog, tmp_path / "wares.csv")


def test_a_csv_that_breaks_off_keeps_the_rows_before(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "wares.csv").write_text('sku,title\nmilk,Milk\ntea,"Tea')
    report = import_folder(catalog, tmp_path / "wares.csv")
    assert [product.sku for product in catalog.products()] == ["milk"]
    assert "is not CSV" in report.refused[0].reason


def test_a_killed_import_goes_on_where_it_was(tmp_path: Path) -> None:
    root = tmp_path / "wares"
    for seed in range(300):
        draw(root / f"product-{seed % 10}" / f"{seed}.png", seed, side=200)
    workspace = Workspace.create(tmp_path / "shop")
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    command = [
        sys.executable,
        "-m",
        "cloud.commands",
        "catalog",
        "import",
        str(root),
        "--data",
        str(workspace.data),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while sum(catalog.photo_counts().values()) < 20 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    kept = sum(catalog.photo_counts().values())
    assert 20 <= kept < 300
    for photo in catalog.reference_photos():
        assert catalog.photos.read(photo.sha256)
    report = import_folder(catalog, root)
    assert (report.photos, report.unchanged, report.refused) == (300 - kept, kept, ())


@pytest.mark.shared
@pytest.mark.skipif(not GROCERY.is_dir(), reason="the Grocery Store Dataset is not in ../shared/data")
def test_the_grocery_store_layout_keeps_the_authors_split(catalog: Catalog, tmp_path: Path) -> None:
    # The whole of it takes a quarter of a minute; its lists cut down to three classes are the same road.
    root = tmp_path / "grocery-store"
    root.mkdir()
    for folder in ("train", "val", "test", "iconic-images-and-descriptions"):
        (root / folder).symlink_to(GROCERY / folder)
    (root / "classes.csv").write_text("\n".join((GROCERY / "classes.csv").read_text().splitlines()[:4]))
    for name in ("train.txt", "val.txt", "test.txt"):
        lines = (GROCERY / name).read_text().splitlines(keepends=True)
        (root / name).write_text("".join(line for line in lines if int(line.split(",")[1]) < 3))
    report = import_folder(catalog, root)
    assert report.refused == ()
    assert [(product.sku, product.title, product.category) for product in catalog.products()] == [
        ("Golden-Delicious", "Golden Delicious", "Apple"),
        ("Granny-Smith", "Granny Smith", "Apple"),
        ("Pink-Lady", "Pink Lady", "Apple"),
    ]
    packshots = catalog.reference_photos(kinds=["packshot"])
    assert [photo.sku for photo in packshots] == ["Golden-Delicious", "Granny-Smith", "Pink-Lady"]
    listed = {name: len((root / f"{name}.txt").read_text().splitlines()) for name in ("train", "val", "test")}
    assert len(catalog.reference_photos(splits=["train"])) == listed["train"]
    assert len(catalog.reference_photos(splits=["validation"])) == listed["val"]
    assert len(catalog.test_photos()) == listed["test"]


def test_a_grocery_list_with_errors_refuses_those_rows(catalog: Catalog, tmp_path: Path) -> None:
    root = tmp_path / "grocery"
    draw(root / "train" / "1.jpg", 1)
    draw(root / "icon.jpg", 2)
    (root / "classes.csv").write_text(
        "Name,ID,Coarse,Coarse ID,Icon\nGala,0,Apple,0,/icon.jpg,/x.txt\nbad,1\n"
    )
    (root / "train.txt").write_text("train/1.jpg, 0, 0\ntrain/1.jpg, 7, 0\n\ntrain/2.jpg, 0, 0\n")
    report = import_folder(catalog, root)
    assert (report.products, report.photos) == (1, 2)
    found = reasons(report)
    assert list(found) == ["grocery/classes.csv line 3", "grocery/train.txt line 2", "grocery/train/2.jpg"]
