import csv
import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cloud.importers import read_plan
from cloud.sample.barcode import modules
from cloud.sample.brands import BRANDS
from cloud.sample.designs import Design, catalog_designs, gtin_for, held_out_designs
from cloud.sample.motifs import MOTIFS, motif
from cloud.sample.packages import draw_package
from cloud.sample.photos import FRAME, VIEWS, in_store_photo, packshot
from cloud.sample.write import write_sample
from edge.products import check_gtin


def _pixels(photo: bytes) -> NDArray[np.float32]:
    with Image.open(io.BytesIO(photo)) as image:
        return np.asarray(image.convert("RGB"), np.float32)


def _difference(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the mean difference in gray levels where either picture shows something."""
    shown = np.minimum(first, second).min(axis=2) < 245
    return float(np.abs(first - second)[shown].mean())


def test_the_shop_sells_at_least_sixty_products_with_valid_in_store_gtins() -> None:
    designs = (*catalog_designs(), *held_out_designs())
    assert len(catalog_designs()) >= 60
    assert len(held_out_designs()) >= 8
    assert len({design.sku for design in designs}) == len(designs)
    assert len({design.gtin for design in designs}) == len(designs)
    for design in designs:
        assert check_gtin(design.gtin) == design.gtin
        assert 20 <= int(design.gtin[:2]) <= 29


def test_no_brand_of_the_catalog_is_also_a_stranger_to_it() -> None:
    assert not {design.brand.name for design in catalog_designs()} & {
        design.brand.name for design in held_out_designs()
    }


def test_a_barcode_has_the_bars_of_the_standard() -> None:
    # The left half of GS1's own example, 5901234123457.
    assert modules("5901234123457").startswith("101" + "0001011" + "0100111" + "0110011")
    assert len(modules(gtin_for("anything"))) == 95


@pytest.mark.parametrize("name", sorted(MOTIFS))
def test_every_illustration_can_be_drawn(name: str) -> None:
    alpha = np.asarray(motif(name, (180, 60, 40), 96).getchannel("A"))
    assert alpha.shape == (96, 96)
    assert 0.08 < (alpha > 128).mean() < 0.98


@pytest.mark.parametrize("design", catalog_designs()[::7], ids=lambda design: design.sku)
def test_the_same_seed_draws_the_same_bytes_and_another_seed_others(design: Design) -> None:
    others = catalog_designs()[:6]
    first = in_store_photo(design, others, "01", seed=1)
    assert in_store_photo(design, others, "01", seed=1) == first
    assert in_store_photo(design, others, "01", seed=2) != first
    assert packshot(design, "turned", seed=1) == packshot(design, "turned", seed=1)


def test_every_form_of_package_stands_upright_on_white() -> None:
    for brand in BRANDS:
        design = next(design for design in catalog_designs() if design.brand is brand)
        pixels = _pixels(packshot(design, "front"))
        assert pixels[:6].mean() > 250, design.sku
        assert pixels[:, :6].mean() > 250, design.sku
        middle = pixels[150:230, 150:230]
        assert middle.std() > 12, design.sku


def test_the_views_of_a_product_differ_and_so_do_its_look_alikes() -> None:
    for brand in BRANDS:
        first, second = (Design(brand, flavor) for flavor in brand.flavors[:2])
        front, turned = (_pixels(packshot(first, view)) for view in ("front", "turned"))
        assert _difference(front, turned) > 5, first.sku
        assert _difference(front, _pixels(packshot(second, "front"))) > 5, second.sku


def test_a_photo_in_the_shop_is_a_full_frame_that_is_neither_black_nor_white() -> None:
    designs = catalog_designs()
    for number, subject in enumerate((designs[0], designs[30], held_out_designs()[3])):
        pixels = _pixels(in_store_photo(subject, designs[:8], f"{number:02d}"))
        assert pixels.shape == (FRAME[1], FRAME[0], 3)
        assert 25 < pixels.mean() < 215
        assert pixels.std() > 25


def test_a_turned_package_shows_its_side() -> None:
    carton = next(design for design in catalog_designs() if design.brand.form == "carton")
    straight, turned = (draw_package(carton, 200, yaw=yaw) for yaw in (0.0, 25.0))
    assert turned.width > straight.width * 1.1


def test_a_sample_on_disk_is_what_the_importer_reads_whoever_draws_it(tmp_path: Path) -> None:
    alone = write_sample(tmp_path / "alone", products=4, photos=5, labeled=3, workers=1)
    told: list[tuple[int, int]] = []
    shared = write_sample(
        tmp_path / "shared",
        products=4,
        photos=5,
        labeled=3,
        workers=2,
        progress=lambda done, total: told.append((done, total)),
    )
    files = sorted(path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*.*"))
    assert len(files) == 1 + 5 * len(VIEWS) + 5 + 3
    for name in files:
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "shared" / name).read_bytes(), name
    assert told[-1] == (23, 23)

    plan = read_plan(alone.table)
    assert not plan.refused
    assert [product.sku for product in plan.products] == [design.sku for design in catalog_designs()[:4]]
    kinds = [(photo.kind, photo.split) for photo in plan.photos]
    assert kinds.count(("packshot", "reference")) == 4 * len(VIEWS)
    assert kinds.count(("in-store", "validation")) == 3
    assert len(kinds) == 4 * len(VIEWS) + 3
    with alone.table.open() as lines:
        assert next(csv.DictReader(lines))["sku"] == "quillmere-orange"

    assert len({photo.sku for photo in shared.labeled}) == 3
    assert {photo.path.parent.name for photo in shared.labeled} == {"labeled"}
    strangers = [photo for photo in shared.photos if photo.sku is None]
    assert len(strangers) == 1
    assert strangers[0].path == shared.newcomer.photo
