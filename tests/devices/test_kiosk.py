"""The kiosk behind its page: what it answers, what it writes down, and whom it refuses."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient

from devices.camera import FolderCamera
from devices.config import Settings
from devices.device import Device
from devices.kiosk.app import answer_record, create_app
from devices.kiosk.station import REMEMBERED, Given, Station, search_record
from devices.kiosk.wording import words_for
from edge.categories import CategoryGuess
from edge.image import decode, encode_jpeg
from edge.matcher import Answer, Candidate, Timings
from edge.products import Product
from edge.quality import PROBLEMS
from tests.devices.conftest import SKUS, events_of, pack
from tests.edge.drawn_release import photograph


@pytest.fixture
def station(device: Device, photos: Path) -> Station:
    return Station(device, FolderCamera(photos))


@pytest.fixture
def page(station: Station) -> FlaskClient:
    return create_app(station, station.device.settings, hosts=["localhost"]).test_client()


@pytest.fixture
def phone(device: Device) -> FlaskClient:
    """Give a page that has no camera of its own and sends photos."""
    return create_app(Station(device, None), device.settings).test_client()


def answer(verdict: str, *candidates: Candidate, reason: str = "clear") -> Answer:
    return Answer(verdict, candidates, 7, reason, Timings(0.0, 0.0, 0.0, 0.0), None)


APPLE = Candidate(Product("A1", "Apple", "Fruit", price="2.49"), 0.9, 0.998)


@pytest.mark.parametrize(
    ("given", "tone", "heading", "title"),
    [
        (answer("match", APPLE), "match", "Found it", "Apple"),
        (answer("match", Candidate(Product("A1"), 0.9, 0.9)), "match", "Found it", "A1"),
        (answer("unsure", APPLE, reason="close_runner_up"), "unsure", "Not quite sure", None),
        (answer("unknown", APPLE, reason="low_similarity"), "unknown", "Not found", None),
        (answer("unknown", reason="empty_catalog"), "unknown", "Not found", None),
        (answer("unsure", APPLE, reason="nothing_in_view"), "waiting", "Ready", None),
        (answer("unsure", APPLE, reason="too_dark"), "waiting", "Too dark", None),
        (answer("unsure", APPLE, reason="too_bright"), "waiting", "Too bright", None),
        (answer("unsure", APPLE, reason="too_far"), "waiting", "Too far away", None),
        (answer("unsure", APPLE, reason="glare"), "waiting", "Too much glare", None),
        (answer("unsure", APPLE, reason="blurred"), "waiting", "Blurred", None),
    ],
)
def test_every_verdict_has_plain_words(given: Answer, tone: str, heading: str, title: str | None) -> None:
    words = words_for(given, "€")
    assert (words.tone, words.heading) == (tone, heading)
    assert title is None or words.title == title


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_fault_of_a_picture_asks_for_something_and_names_no_product(problem: str) -> None:
    words = words_for(answer("unsure", APPLE, reason=problem))
    assert words.tone == "waiting"
    assert words.detail.endswith(".")
    assert "Apple" not in f"{words.heading} {words.title} {words.detail}"
    assert not words.others


def test_what_is_not_known_is_said_to_look_like_its_kind_where_that_is_likely() -> None:
    for verdict, rest in (
        ("unsure", "Turn it so that its front shows."),
        ("unknown", "Bring it closer, turn it, or ask the staff."),
    ):
        given = replace(answer(verdict, APPLE, reason="low_similarity"), category=CategoryGuess("Fruit", 0.5))
        assert words_for(given).detail == f"Looks like: Fruit. {rest}"
        assert words_for(replace(given, category=CategoryGuess("Fruit", 0.49))).detail == rest
        assert words_for(replace(given, category=None)).detail == rest
    given = replace(answer("unknown", APPLE), category=CategoryGuess("Fruit", 0.8))
    assert answer_record(Given("id", given, b"", "a.jpg"), "€")["category"] == "Fruit"
    assert search_record(given)["category"] == "Fruit"


def test_a_match_says_price_and_never_a_whole_hundred_percent() -> None:
    words = words_for(answer("match", APPLE), "€")
    assert (words.price, words.sureness, words.detail) == ("€2.49", "99 % sure", "Fruit")


def test_looking_answers_the_next_photo_and_shows_it(page: FlaskClient, data: Path) -> None:
    seen = page.post("/look").json
    assert seen["candidates"][0]["sku"] == SKUS[0]
    assert seen["words"]["title"] == "Apple Juice"
    shown = page.get(seen["frame"])
    assert shown.content_type == "image/jpeg"
    assert decode(shown.data).shape == (64, 64, 3)
    assert [event.kind for event in events_of(data)] == ["searched"]
    told = events_of(data)[0].data
    assert (told["answer"], told["verdict"], told["sku"]) == (seen["id"], "match", SKUS[0])


def test_a_yes_is_a_confirmed_event(page: FlaskClient, data: Path) -> None:
    seen = page.post("/look").json
    assert page.post(f"/answers/{seen['id']}/confirm").status_code == 200
    assert events_of(data)[-1].kind == "confirmed"
    assert events_of(data)[-1].data == {"answer": seen["id"], "release": 1, "sku": SKUS[0]}


def test_not_this_is_a_corrected_event_with_the_right_product(page: FlaskClient, data: Path) -> None:
    seen = page.post("/look").json
    assert page.post(f"/answers/{seen['id']}/correct", json={"sku": SKUS[2]}).status_code == 200
    told = events_of(data)[-1]
    assert (told.kind, told.data["was"], told.data["sku"]) == ("corrected", SKUS[0], SKUS[2])
    assert page.post(f"/answers/{seen['id']}/correct", json={"sku": None}).status_code == 200
    assert events_of(data)[-1].data["sku"] is None


def test_the_answered_product_chosen_after_all_is_a_confirmation(page: FlaskClient, data: Path) -> None:
    seen = page.post("/look").json
    page.post(f"/answers/{seen['id']}/correct", json={"sku": SKUS[0]})
    assert events_of(data)[-1].kind == "confirmed"


@pytest.mark.parametrize("body", [{"sku": "toaster"}, {"sku": 7}, {}, [], "x"])
def test_a_product_that_was_not_offered_is_refused(body: object, page: FlaskClient, data: Path) -> None:
    seen = page.post("/look").json
    refused = page.post(f"/answers/{seen['id']}/correct", json=body)
    assert refused.status_code == 400
    assert "error" in refused.json
    assert [event.kind for event in events_of(data)] == ["searched"]


def test_old_answers_are_forgotten(page: FlaskClient) -> None:
    first = page.post("/look").json
    for _ in range(REMEMBERED):
        page.post("/look")
    for request in (page.get(first["frame"]), page.post(f"/answers/{first['id']}/confirm")):
        assert request.status_code == 404
        assert "once more" in request.json["error"]


def test_a_photo_from_the_page_is_answered_and_searched_once_when_it_settles(
    phone: FlaskClient, data: Path
) -> None:
    photo = photograph(pack(SKUS[3]))
    answers = [phone.post("/answer", data=photo).json for _ in range(4)]
    assert {answer["candidates"][0]["sku"] for answer in answers} == {SKUS[3]}
    assert [event.kind for event in events_of(data)] == ["searched"]


def test_a_picture_of_nothing_is_no_search_and_begins_the_count_anew(phone: FlaskClient, data: Path) -> None:
    seen, dark = photograph(pack(SKUS[3])), encode_jpeg(np.full((64, 64, 3), 5, np.uint8))
    for photo in (dark, dark, dark, seen, dark, seen):
        phone.post("/answer", data=photo)
    assert events_of(data) == []
    phone.post("/answer", data=seen)
    assert [event.data["sku"] for event in events_of(data)] == [SKUS[3]]


def test_what_is_no_photo_is_said_plainly(phone: FlaskClient) -> None:
    refused = phone.post("/answer", data=b"hello")
    assert refused.status_code == 422
    assert refused.json["code"] == "photo_unreadable"
    assert "--camera" in phone.post("/look").json["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_website_cannot_make_the_kiosk_act(
    headers: dict[str, str], page: FlaskClient, data: Path
) -> None:
    assert page.post("/look", headers=headers).status_code == 403
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert page.post("/look", headers=own).status_code == 200


def test_a_foreign_name_that_points_here_is_refused(page: FlaskClient) -> None:
    assert page.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_inline_script(page: FlaskClient) -> None:
    shown = page.get("/")
    policy = shown.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", shown.text)
    assert not re.search(r"<script>|\son\w+=|style=", shown.text)
    for link in re.findall(r'(?:src|href)="(/[^"]+)"', shown.text):
        with page.get(link) as file:
            assert file.status_code == 200, link


def test_a_shops_name_for_its_kiosk_is_text_and_not_markup(device: Device) -> None:
    settings = Settings(data=device.settings.data, name="<b>Dairy</b>")
    shown = create_app(Station(device, None), settings).test_client().get("/")
    assert "&lt;b&gt;Dairy&lt;/b&gt;" in shown.text


def gtins(device: Device, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Give the products of the release bar codes: 4006381333931 is the first, the others have none."""
    products = device.matcher().stack.products
    numbers = {SKUS[0]: "4006381333931", SKUS[1]: "036000291452"}
    for sku, gtin in numbers.items():
        monkeypatch.setitem(products, sku, replace(products[sku], gtin=gtin))
    return numbers


def test_a_bar_code_beside_an_answer_says_whether_it_was_right(
    device: Device, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = gtins(device, monkeypatch)
    station = Station(device, None)
    page = create_app(station, device.settings).test_client()
    given = page.post("/answer", data=photograph(pack(SKUS[0]))).json
    station.answer_photo(photograph(pack(SKUS[0])))  # the second in a row is what was searched
    heard = page.post("/scanned", json={"gtin": numbers[SKUS[0]]})
    assert heard.status_code == 200
    (event,) = [event for event in events_of(data) if event.kind == "scanned"]
    named = given["candidates"][0]["sku"] if given["verdict"] == "match" else None
    assert event.data["sku"] == SKUS[0]
    assert event.data["release"] == 1
    assert (event.data["answered"], event.data["agrees"]) == (named, named == SKUS[0])
    assert heard.json["agrees"] == event.data["agrees"]

    again = page.post("/scanned", json={"gtin": numbers[SKUS[0]]})
    assert again.json["agrees"] is None, "one answer counts once"
    assert len([event for event in events_of(data) if event.kind == "scanned"]) == 1


def test_a_bar_code_is_found_with_and_without_its_leading_zeros(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    gtins(device, monkeypatch)
    station = Station(device, None)
    for number in ("036000291452", "0036000291452", "00036000291452"):
        scan = station.scanned(number)
        assert scan is not None
        assert (scan.product.sku, scan.agrees) == (SKUS[1], None)


def test_a_bar_code_that_is_none_or_of_nothing_here_is_written_nowhere(
    phone: FlaskClient, data: Path
) -> None:
    for body, status in (
        ({"gtin": "4006381333932"}, 400),
        ({"gtin": 4006381333931}, 400),
        ([], 400),
        ({"gtin": "4006381333931"}, 404),
    ):
        assert phone.post("/scanned", json=body).status_code == status
    assert [event.kind for event in events_of(data)] == []
