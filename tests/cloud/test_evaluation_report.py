"""The report of a whole evaluation: one file that any browser shows, wherever it lies."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from matplotlib.axes import Axes

from cloud.catalog import Catalog
from cloud.embeddings import EmbeddingCache
from cloud.evaluation.report import write_report
from cloud.evaluation.report.drawing import FIRST, INK, chart
from cloud.evaluation.suite import Suite, read_suite
from cloud.evaluation.whole import evaluate_all
from cloud.workspace import Workspace
from edge.model import Model
from edge.products import Product
from tests.cloud.drawn_shop import draw_pack, fill, photograph, write_suite

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ViewportSize


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the report of a drawn shop in which everything could be measured."""
    workspace = Workspace.create(tmp_path_factory.mktemp("shop") / "data")
    catalog = fill(Catalog(workspace.sessions(), workspace.photo_storage()))
    catalog.put_product(Product("pack-1", "Ben's <b>Rice</b> & $peas$", "odd"))
    # Somebody has filed two test photos under another pack: these are mistakes to show.
    for seed in (901, 902):
        catalog.add_photo("pack-4", photograph(draw_pack(3), seed), "in-store", "test", f"wrong/{seed}.jpg")
    suite = read_suite(write_suite(tmp_path_factory.mktemp("bench")))
    path = tmp_path_factory.mktemp("report") / "report.html"
    with EmbeddingCache(workspace.cache) as cache:
        whole = evaluate_all(workspace, suite, cache=cache)
    write_report(workspace, whole, path, lambda task, done, total: None)
    return path


@pytest.fixture
def browser() -> Iterator["Browser"]:
    """Give a headless Chromium; without one the test is skipped, unless it is demanded."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        reason = "needs chromium on the PATH and the playwright package"
        if os.environ.get("SHELFSIGHT_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_alone_on_any_screen_and_has_nothing_to_complain_of(
    report: Path, browser: "Browser", scheme: str
) -> None:
    complaints: list[str] = []
    fetched: list[str] = []
    viewport: ViewportSize
    for viewport in ({"width": 1280, "height": 900}, {"width": 390, "height": 800}):
        page = browser.new_page(viewport=viewport, color_scheme="dark" if scheme == "dark" else "light")
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(report.as_uri())
        page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
        page.wait_for_function("[...document.images].every(image => image.complete)")
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        assert page.evaluate("document.images.length") >= 37
        # Wide tables scroll in themselves; the page never does sideways.
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(each => each.id)")
        assert len(ids) == len(set(ids))
        broken = "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash))"
        assert page.evaluate(f"{broken}.length") == 0
        text = page.evaluate("getComputedStyle(document.querySelector('svg.chart text')).fill")
        assert (sum(map(int, re.findall(r"\d+", text)[:3])) > 384) == (scheme == "dark")
        page.close()
    assert not complaints
    assert {url for url in fetched if not url.startswith("data:")} == {report.as_uri()}


def test_everything_that_was_measured_is_on_the_page(report: Path) -> None:
    page = report.read_text()
    for said in (
        "Products that are told right least often",
        "Is the confidence a probability?",
        "Products that it was never trained on",
        "Compressed too hard",
        "Other things than it was tuned to",
        "How the embeddings lie",
        "What int8 changes",
        "ours: loss",
        "10 of 22 test photos, spoiled 24 times each",
    ):
        assert said in page
    assert page.count("must reached") >= 1 and page.count("aim reached") >= 1


def test_titles_from_a_catalog_are_text_and_nothing_else(report: Path) -> None:
    page = report.read_text()
    assert "<b>Rice" not in page
    assert "Ben&#39;s &lt;b&gt;Rice&lt;/b&gt; &amp; $peas$" in page


def test_a_report_of_next_to_nothing_says_what_is_missing(tiny_model: Model, tmp_path: Path) -> None:
    empty = Workspace.create(tmp_path / "data")
    suite = Suite(models={"grocery": tiny_model.folder, "second_domain": tiny_model.folder})
    with EmbeddingCache(empty.cache) as cache:
        whole = evaluate_all(empty, suite, cache=cache)
    write_report(empty, whole, tmp_path / "report.html", lambda task, done, total: None)
    page = (tmp_path / "report.html").read_text()
    assert "the catalog has no test photos: import some" in page
    assert "train a twin with --leave-out" in page
    assert 'href="#mistakes"' not in page


def test_a_chart_follows_the_colors_of_its_page_and_keeps_its_texts_as_texts() -> None:
    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=FIRST)
        axes.set_title("5 < 6 & $7", color=INK)

    drawn = str(chart(paint, 'A "chart"'))
    assert "var(--first)" in drawn and "var(--ink)" in drawn
    assert not re.search(r"#0[0-9a-f]0[0-9a-f]0[0-9a-f]", drawn)
    root = ElementTree.fromstring(drawn.replace("xlink:href", "href"))
    texts = ["".join(each.itertext()) for each in root.iter("text")]
    assert "5 < 6 & $7" in texts
    assert root.get("aria-label") == 'A "chart"'
    assert drawn == str(chart(paint, 'A "chart"'))  # the same measurement gives the same page
