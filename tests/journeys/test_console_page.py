"""The server's page at `/`, opened by a real browser over a real socket, with something on every shelf."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cloud import signing
from cloud.catalog import Catalog
from cloud.events import Events
from cloud.fleet import DeviceInfo, Fleet
from cloud.proposals import Proposals
from cloud.publishing import publish
from cloud.rollout_rules import Plan
from cloud.wave import Wave
from cloud.workspace import Workspace
from edge.events import new_event
from edge.image import encode_jpeg
from edge.model import open_model
from tests.cloud.conftest import add_pack, draw_pack, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ViewportSize

pytestmark = pytest.mark.browser
TINY_MODEL = Path(__file__).resolve().parent.parent / "data" / "tiny-int8"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


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
        opened = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Give a shop with 30 products, a release, two devices, their events and a shelf."""
    workspace = Workspace.create(tmp_path_factory.mktemp("shop") / "data")
    signing.create_repository(workspace.metadata, workspace.keys)
    sessions = workspace.sessions()
    catalog = Catalog(sessions, workspace.photo_storage())
    for number in range(30):
        add_pack(catalog, number, price=f"{number}.49")
    publish(workspace, open_model(TINY_MODEL), plan=Plan.parse("5,25,100"))
    fleet, events = Fleet(sessions), Events(sessions)
    fingerprint = signing.fingerprint(workspace.metadata)
    kiosk, _ = fleet.enroll(fleet.new_code(fingerprint), DeviceInfo("Kiosk by the door", "kiosk", "0.1.0"))
    camera, _ = fleet.enroll(fleet.new_code(fingerprint), DeviceInfo("Shelf camera", "shelf-camera", "0.1.0"))
    fleet.seen(kiosk, 1, {})
    wave = Wave(sessions)
    assert wave.record({None: 2})
    assert wave.record({None: 1, 1: 1})
    searched = {"verdict": "match", "sku": "pack-03", "similarity": 0.91}
    empty = {"slot": "A1", "sku": "pack-01", "before": "ok", "state": "empty", "seen": None}
    events.take(kiosk, [new_event(kiosk, "searched", searched).to_record()])
    events.take(camera, [new_event(camera, "slot_changed", empty).to_record()])
    return workspace


def test_the_console_shows_the_shop_and_its_browser_has_nothing_to_complain_of(
    shop: Workspace, browser: "Browser", tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    complaints: list[str] = []
    strangers: list[str] = []
    with serving(shop) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.on("request", lambda request: request.url.startswith(address) or strangers.append(request.url))
        page.goto(address, wait_until="networkidle")
        page.screenshot(path=tmp_path / "console.png", full_page=True)

        assert page.title() == "Shelfsight"
        assert page.locator("#devices tbody tr").count() == 2
        assert page.locator("#devices").get_by_text("1 · newest").is_visible()
        assert page.locator("#shelves").get_by_text("empty", exact=True).is_visible()
        assert page.locator("#events li").count() == 2
        assert page.locator("#releases tbody tr").count() == 1
        assert page.locator("#rollouts .stages li").all_inner_texts() == ["5 %", "25 %", "100 %"]
        assert page.locator("#rollouts .here").inner_text() == "5 %"
        assert page.locator("#rollouts .steps li").inner_text().endswith("in stages: 5 %, 25 %, 100 %")
        drawn = page.locator("#rollouts .wave path").evaluate_all(
            "all => all.map(each => each.getBBox().width)"
        )
        assert len(drawn) == 2
        assert min(drawn) > 0
        covers = page.locator("#products img.cover")
        assert covers.count() == 24
        covers.first.scroll_into_view_if_needed()
        assert covers.first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 176

        page.get_by_label("Search products").fill("pack-07")
        page.get_by_role("button", name="Search").click()
        expect(page.locator("#products li")).to_have_count(1)
        page.get_by_role("link", name="Show all").click()
        page.get_by_role("link", name="More").click()
        expect(page.get_by_text("Page 2 of 2")).to_be_visible()
        page.close()
    assert complaints == []
    assert strangers == []


def test_the_console_fits_a_phone_and_the_dark(shop: Workspace, browser: "Browser", tmp_path: Path) -> None:
    with serving(shop) as address:
        for width, dark in ((390, False), (390, True), (1600, True)):
            viewport: ViewportSize = {"width": width, "height": 844}
            page = browser.new_page(viewport=viewport, color_scheme="dark" if dark else "light")
            page.goto(address, wait_until="networkidle")
            page.screenshot(
                path=tmp_path / f"console-{width}-{'dark' if dark else 'light'}.png", full_page=True
            )
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            background = page.evaluate(
                "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
            )
            assert (sum(background) < 200) == dark
            page.close()


def test_a_person_accepts_and_refuses_what_devices_propose(
    shop: Workspace, browser: "Browser", tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    sessions = shop.sessions()
    proposals, catalog = (
        Proposals(sessions, shop.proposed_photo_storage()),
        Catalog(sessions, shop.photo_storage()),
    )
    fleet, events = Fleet(sessions), Events(sessions)
    code = fleet.new_code(signing.fingerprint(shop.metadata))
    kiosk, _ = fleet.enroll(code, DeviceInfo("Kiosk in the back", "kiosk", "0.1.0"))
    for number, (sku, title) in enumerate({"jam": "Grandma's jam", "oops": "A mistake"}.items()):
        photos = [encode_jpeg(draw_pack(60 + number, shot)) for shot in range(3)]
        named = [hashlib.sha256(photo).hexdigest() for photo in photos]
        told = {"sku": sku, "title": title, "photos": named, "look_alikes": ["pack-03"] * number}
        events.take(kiosk, [new_event(kiosk, "proposed", told).to_record()])
        for sha256, photo in zip(named[: 3 - number], photos, strict=False):
            proposals.take_photo(kiosk, sha256, photo)
    complaints: list[str] = []
    with serving(shop) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(address)
        page.get_by_role("link", name="Proposals 2").click()
        shown = page.locator(".shots img")
        expect(shown).to_have_count(5)
        assert shown.first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 96
        page.screenshot(path=tmp_path / "proposals.png", full_page=True)
        page.locator("li", has_text="Grandma's jam").get_by_role("button", name="Accept").click()
        page.get_by_role("status").filter(has_text="jam is accepted").wait_for()
        page.locator("li", has_text="A mistake").get_by_role("button", name="Refuse").click()
        page.get_by_role("status").filter(has_text="oops is refused").wait_for()
        page.screenshot(path=tmp_path / "decided.png", full_page=True)
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.close()
    assert complaints == []
    assert catalog.find("jam") is not None
    assert catalog.photo_counts()["jam"] == 3
    assert catalog.find("oops") is None
