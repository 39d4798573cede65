"""The bundled model on photos from real shops, by the commands that people use: the claims of its card."""

import json
from pathlib import Path

import pytest

from cloud.bundled import bundled_model
from tests.journeys.shop import Shop

GROCERY = Path(__file__).resolve().parents[3] / "shared" / "data" / "grocery-store"


@pytest.mark.shared
@pytest.mark.skipif(not GROCERY.is_dir(), reason="the Grocery Store Dataset is not in ../shared/data")
def test_the_bundled_model_is_as_good_as_its_card_says(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    assert shop.cloud("init").code == 0
    imported = shop.cloud("catalog", "import", GROCERY)
    assert imported.code == 0, imported.err
    picture = tmp_path / "confusions.png"
    evaluated = shop.cloud("evaluate", "--model", bundled_model(), "--picture", picture, "--json")
    assert evaluated.code == 0, evaluated.err
    measured = evaluated.json()
    promised = json.loads((bundled_model() / "model.json").read_bytes())["scores"]
    assert (measured["photos"], measured["references"], measured["left_out"]) == (2485, 2936, 0)
    assert measured["fine_top1"] >= 0.86
    assert measured["coarse_top1"] >= 0.90
    for name in ("fine_top1", "coarse_top1", "fine_top5", "packshot_fine_top1"):
        # Another CPU's kernels may round a few of 2,485 answers otherwise.
        assert measured[name] == pytest.approx(promised[name], abs=0.003), name
    assert picture.stat().st_size > 10_000
