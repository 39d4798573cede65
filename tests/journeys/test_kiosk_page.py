"""A shopper at the kiosk: a real browser on the real page, over a real release on this disk."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from werkzeug.serving import make_server

from devices.camera import Frame
from devices.config import Settings
from devices.device import Device
from devices.kiosk.app import create_app
from devices.kiosk.station import Station
from edge.explain_picture import encode_png
from edge.image import decode, fit
from edge.model import Model
from tests.devices.conftest import SKUS, events_of, install_release, pack
from tests.edge.drawn_release import ReleaseMaker, draw_pack, photograph

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    # A camera that shows a moving test picture, and is allowed without a question.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]

pytestmark = pytest.mark.browser


@pytest.fixture
def data(tiny_model: Model, tmp_path: Path) -> Path:
    packs = {sku: pack(sku) for sku in SKUS}
    folder = ReleaseMaker(tiny_model).write(tmp_path / "release", packs, [photograph(pack(SKUS[0]))])
    install_release(tmp_path / "device", folder)
    return tmp_path / "device"


@pytest.fixture
def browser() -> Iterator["Browser"]:
    required = os.environ.get("SHELFSIGHT_REQUIRE_BROWSER") == "1"
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        if required:
            pytest.fail("SHELFSIGHT_REQUIRE_BROWSER is set, and there is no Chromium or no playwright")
        pytest.skip("no Chromium on this machine (apt-get install chromium), or no playwright")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield opened
        opened.close()


@contextmanager
def kiosk(data: Path, *options: object) -> Iterator[str]:
    """Run `shelfsight kiosk` on a free port in a process of its own; gives its address."""
    script = "from devices.commands import main; main()"
    command = [sys.executable, "-c", script, "kiosk", "--port", "0", "--data", data, *options]
    environment = os.environ | {"SHELFSIGHT_NAME": "Kiosk 3, dairy"}
    process = subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        greeting = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", greeting)
        try:
            assert found, greeting
            yield found[0]
        finally:
            process.terminate()
            assert process.wait(timeout=10) == 0


@contextmanager
def looking(browser: "Browser", address: str, width: int, height: int) -> Iterator["Page"]:
    """Open the page, and at the end see that it had nothing to complain about."""
    page = browser.new_page(viewport={"width": width, "height": height})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"{request.url} failed"))
    page.goto(address)
    yield page
    page.close()
    assert complaints == []


def test_a_shopper_sees_the_answer_and_says_that_it_is_another_product(
    browser: "Browser", data: Path, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "seen.jpg").write_bytes(photograph(pack(SKUS[1])))
    with kiosk(data, "--frames", frames) as address, looking(browser, address, 1920, 1080) as page:
        page.get_by_role("heading", name="Bean Soup").wait_for()
        assert page.evaluate("document.getElementById('frame').decode().then(() => true)")
        page.screenshot(path=tmp_path / "answer.png")
        page.get_by_role("button", name="Not this").click()
        page.get_by_role("heading", name="Which one is it?").wait_for()
        assert page.get_by_role("button", name="Bean Soup").count() == 0, (
            "what was refused is not offered again"
        )
        page.screenshot(path=tmp_path / "choose.png")
        page.get_by_role("button", name="Corn Flakes").click()
        page.get_by_role("status").filter(has_text="Thank you").wait_for()
        page.screenshot(path=tmp_path / "thanks.png")
    told = [event for event in events_of(data) if event.kind == "corrected"]
    assert [(event.data["was"], event.data["sku"]) for event in told] == [(SKUS[1], SKUS[2])]


def test_a_product_that_is_held_too_far_away_is_asked_closer_and_not_guessed(
    browser: "Browser", data: Path, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    far_away = np.full((64, 64, 3), 190, np.uint8)
    far_away[20:34, 30:44] = fit(pack(SKUS[1]), 14)
    (frames / "seen.png").write_bytes(encode_png(far_away))
    with kiosk(data, "--frames", frames) as address, looking(browser, address, 1920, 1080) as page:
        page.get_by_role("heading", name="Hold it closer").wait_for()
        page.screenshot(path=tmp_path / "closer.png")
        assert not page.get_by_role("button", name="Tell us what it is").is_visible()
        assert not page.get_by_text("Bean Soup").is_visible()
    assert events_of(data) == []


class HeldProduct:
    """A camera in front of which somebody holds one product, and shows another when told to."""

    def __init__(self, sku: str) -> None:
        self.sku = sku

    def read(self) -> Frame:
        return Frame(decode(photograph(pack(self.sku))), datetime.now(UTC), "camera 0")

    def close(self) -> None:
        pass


def test_a_kiosk_follows_its_own_camera_from_product_to_product(
    browser: "Browser", data: Path, tmp_path: Path
) -> None:
    settings = Settings(data=data, name="Kiosk 3", look_interval_s=0.1)
    camera = HeldProduct(SKUS[0])
    station = Station(Device(settings), camera)
    server = make_server("127.0.0.1", 0, create_app(station, settings), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with looking(browser, f"http://127.0.0.1:{server.server_port}/", 1280, 800) as page:
            page.get_by_role("heading", name="Apple Juice").wait_for()
            page.locator("#frame").wait_for(state="visible")
            wait_for_searches(page, data, 1)
            camera.sku = SKUS[3]
            page.get_by_role("heading", name="Dark Chocolate").wait_for()
            wait_for_searches(page, data, 2)
            page.screenshot(path=tmp_path / "live.png")
            page.get_by_role("button", name="Hold").click()
            page.get_by_role("button", name="Go on").wait_for()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert searches(data) == [SKUS[0], SKUS[3]], "each product once, however often the camera looked"


def searches(data: Path) -> list[object]:
    """List the best candidates of the searches in the outbox, oldest first."""
    return [event.data["candidates"][0]["sku"] for event in events_of(data) if event.kind == "searched"]


def wait_for_searches(page: "Page", data: Path, count: int) -> None:
    """Give the kiosk time to look until an answer has settled: a busy machine looks seldom."""
    for _ in range(200):
        if len(searches(data)) >= count:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"only {searches(data)} were searched")


def test_a_phone_answers_through_its_own_camera_and_from_a_chosen_photo(
    browser: "Browser", data: Path, tmp_path: Path
) -> None:
    photo = tmp_path / "mine.jpg"
    photo.write_bytes(photograph(pack(SKUS[3])))
    with kiosk(data) as address, looking(browser, address, 390, 844) as page:
        page.locator("#live").wait_for(state="visible")
        page.locator("#facts", has_text="Release 1").wait_for()
        page.locator("#file").set_input_files(photo)
        page.get_by_role("heading", name="Dark Chocolate").wait_for()
        page.screenshot(path=tmp_path / "phone.png", full_page=True)
        page.get_by_role("button", name="Yes, that’s it").click()
        page.get_by_role("status").filter(has_text="Thank you").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out at the side"
    assert [event.data["sku"] for event in events_of(data) if event.kind == "confirmed"] == [SKUS[3]]


def test_staff_teach_a_product_and_see_at_once_that_it_is_known(
    browser: "Browser", data: Path, tmp_path: Path
) -> None:
    taken = []
    for seed in range(3):
        taken.append(tmp_path / f"{seed}.jpg")
        taken[-1].write_bytes(photograph(draw_pack(77), seed=seed))
    blank = tmp_path / "blank.png"
    blank.write_bytes(encode_png(np.full((64, 64, 3), 120, np.uint8)))
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "seen.jpg").write_bytes(photograph(draw_pack(77), seed=9))
    with (
        kiosk(data, "--frames", frames) as address,
        looking(browser, f"{address}staff", 1280, 800) as page,
    ):
        page.locator("#files").set_input_files([*taken, blank])
        page.locator("#photos li").nth(3).wait_for()
        page.get_by_text("nothing in view", exact=False).wait_for()
        page.get_by_role("button", name="Remove photo 4").click()
        page.get_by_role("button", name="Take a photo").click()
        page.locator("#photos li").nth(3).wait_for()
        page.get_by_label("SKU").fill("jam")
        page.get_by_label("Title").fill("Grandma's jam")
        page.get_by_label("Price").fill("4.20")
        page.screenshot(path=tmp_path / "teach.png")
        page.get_by_role("button", name="Teach it").click()
        page.get_by_role("status").filter(has_text="is known from 4 photos").wait_for()
        page.get_by_role("button", name="Show it to the camera and try").click()
        page.locator("#tried", has_text="Found it: Grandma's jam").wait_for()
        page.get_by_text("jam · 4 photos · proposed").wait_for()
        page.screenshot(path=tmp_path / "taught.png")
        page.goto(address)
        page.get_by_role("heading", name="Grandma's jam").wait_for()
        page.get_by_text("4.20").wait_for()
    assert [event.kind for event in events_of(data) if event.kind == "proposed"] == ["proposed"]


def test_staff_are_warned_of_a_look_alike_and_may_add_it_all_the_same(
    browser: "Browser", data: Path, tmp_path: Path
) -> None:
    twin = tmp_path / "twin.jpg"
    twin.write_bytes(photograph(pack(SKUS[1]), seed=5))
    with kiosk(data) as address, looking(browser, f"{address}staff", 390, 844) as page:
        page.locator("#files").set_input_files(twin)
        page.locator("#photos li").wait_for()
        page.get_by_label("SKU").fill("jam")
        page.get_by_role("button", name="Teach it").click()
        page.get_by_role("heading", name="Look at this first").wait_for()
        page.get_by_text("would be answered as bean soup (Bean Soup)").wait_for()
        both = page.locator("#concern-list img")
        both.nth(1).wait_for()
        assert both.nth(1).evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        page.screenshot(path=tmp_path / "warned.png", full_page=True)
        page.get_by_role("button", name="Add it anyway").click()
        page.get_by_role("status").filter(has_text="is known from 1 photo").wait_for()
        page.get_by_role("button", name="Forget jam").click()
        page.get_by_role("button", name="Forget jam").wait_for(state="detached")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out at the side"
