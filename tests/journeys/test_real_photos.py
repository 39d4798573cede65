"""The bundled models on photos from real shops, by the commands people use: the claims of their cards."""

import json
from pathlib import Path

import pytest

from cloud.bundled import bundled_model
from cloud.embeddings import EmbeddingCache
from cloud.evaluation.domain import measure_second_domain
from edge.model import open_model
from tests.journeys.shop import Shop

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
GROCERY, CLOTHING = SHARED / "grocery-store", SHARED / "clothing-small"


@pytest.mark.shared
@pytest.mark.skipif(not GROCERY.is_dir(), reason="the Grocery Store Dataset is not in ../shared/data")
def test_the_grocery_model_is_as_good_as_its_card_says(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    assert shop.cloud("init").code == 0
    imported = shop.cloud("catalog", "import", GROCERY)
    assert imported.code == 0, imported.err
    picture = tmp_path / "confusions.png"
    evaluated = shop.cloud("evaluate", "--model", "grocery", "--picture", picture, "--json")
    assert evaluated.code == 0, evaluated.err
    measured = evaluated.json()
    promised = json.loads((bundled_model("grocery") / "model.json").read_bytes())["scores"]["grocery"]
    assert (measured["photos"], measured["references"], measured["left_out"]) == (2485, 2936, 0)
    assert measured["fine_top1"] >= 0.87
    assert measured["coarse_top1"] >= 0.915
    for name in ("fine_top1", "coarse_top1", "fine_top5", "packshot_fine_top1"):
        # Another CPU's kernels may round a few of 2,485 answers otherwise.
        assert measured[name] == pytest.approx(promised[name], abs=0.003), name
    assert picture.stat().st_size > 10_000


@pytest.mark.shared
@pytest.mark.skipif(not CLOTHING.is_dir(), reason="the photos of clothes are not in ../shared/data")
def test_the_general_model_serves_another_shop_as_its_card_says(tmp_path: Path) -> None:
    model = open_model(bundled_model("general"))
    with EmbeddingCache(tmp_path) as cache:
        found = measure_second_domain(model, model.variant(), CLOTHING, cache=cache, progress=lambda *_: None)
    promised = json.loads((model.folder / "model.json").read_bytes())["scores"]["second_domain"]["top1"]
    assert (found.photos, found.references) == (372, 3068)
    assert found.top1 == pytest.approx(promised, abs=0.012)  # four of 372 photos
