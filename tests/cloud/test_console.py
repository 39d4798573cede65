"""The page at `/`, as the server writes it; tests/journeys/test_console_page.py looks at it in a browser."""

import pytest
from flask.testing import FlaskClient

from cloud import signing
from cloud.catalog import Catalog
from cloud.events import Events
from cloud.fleet import DeviceInfo, Fleet
from cloud.publishing import publish
from cloud.rollouts import Rollouts
from cloud.workspace import Workspace
from edge.events import new_event
from edge.image import decode
from edge.model import Model
from edge.products import Product
from tests.cloud.conftest import add_pack


@pytest.fixture
def device(workspace: Workspace) -> str:
    fleet = Fleet(workspace.sessions())
    code = fleet.new_code(signing.fingerprint(workspace.metadata))
    return fleet.enroll(code, DeviceInfo("Kiosk by the door", "kiosk", "0.1.0"))[0]


def test_an_empty_server_says_what_to_do_next(client: FlaskClient) -> None:
    page = client.get("/").text
    for command in ("catalog import", "shelfsight-cloud publish", "fleet code", "shelf-camera"):
        assert command in page


def test_products_are_shown_with_a_picture(client: FlaskClient, catalog: Catalog) -> None:
    page = client.get("/").text
    assert page.count('class="cover"') == 6
    cover = catalog.page().entries[0].cover
    assert f"/console/thumbnails/{cover}.jpg" in page
    assert "Pack 3" in page


def test_products_are_searched_and_paged(client: FlaskClient, catalog: Catalog) -> None:
    for number in range(6, 30):
        add_pack(catalog, number)
    assert "Page 1 of 2" in client.get("/").text
    assert "pack-29" in client.get("/?page=2").text
    found = client.get("/?search=pack-07").text
    assert found.count('class="cover"') == 1
    assert 'value="pack-07"' in found
    assert "No product has “nothing”" in client.get("/?search=nothing").text
    assert client.get("/?page=900").status_code == 200


@pytest.mark.parametrize("query", ["page=x", "page=-1", "page=99999999999999999999"])
def test_a_page_that_cannot_be_is_refused(client: FlaskClient, query: str) -> None:
    assert client.get(f"/?{query}").status_code == 400


def test_what_a_shop_writes_is_text_and_never_markup(
    client: FlaskClient, catalog: Catalog, workspace: Workspace, device: str
) -> None:
    evil = "<script>alert(1)</script>"
    catalog.put_product(Product("evil", evil, evil))
    slot = {"slot": evil, "sku": evil, "before": None, "state": evil, "seen": evil}
    events = [new_event(device, "slot_changed", slot), new_event(device, "failed", {"error": evil})]
    Events(workspace.sessions()).take(device, [event.to_record() for event in events])
    page = client.get(f"/?search={evil}").text
    assert "&lt;script&gt;" in page
    assert "<script" not in page


def test_the_page_allows_nothing_from_outside_and_no_script(client: FlaskClient) -> None:
    answer = client.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert "http://" not in answer.text.replace("http://localhost", "")
    assert "https://" not in answer.text
    assert "style=" not in answer.text


@pytest.mark.usefixtures("catalog")
def test_releases_and_devices_are_shown_with_how_they_stand(
    client: FlaskClient, workspace: Workspace, tiny_model: Model, device: str
) -> None:
    publish(workspace, tiny_model, percent=20)
    Fleet(workspace.sessions()).seen(device, 1, {"last_error": "hash_mismatch", "outbox": 3})
    page = client.get("/").text
    assert "1 · newest" in page
    assert "20 %" in page
    assert "hash_mismatch" in page
    assert "3 events waiting" in page
    assert "tiny-int8" in page
    Rollouts(workspace.sessions()).pause(1)
    page = client.get("/").text
    assert "a person paused it" in page
    assert "shelfsight-cloud rollout resume 1" in page
    Rollouts(workspace.sessions()).abort(1)
    assert "aborted" in client.get("/").text


def test_slots_are_shown_with_trouble_first(client: FlaskClient, workspace: Workspace, device: str) -> None:
    slots = [("A1", "ok"), ("A2", "empty"), ("A3", "misplaced")]
    records = [
        new_event(
            device,
            "slot_changed",
            {"slot": slot, "sku": "pack-01", "before": None, "state": state, "seen": "pack-02"},
        ).to_record()
        for slot, state in slots
    ]
    Events(workspace.sessions()).take(device, records)
    page = client.get("/").text
    shelves = page[page.index('id="shelves"') :]
    assert shelves.index(">A2<") < shelves.index(">A3<") < shelves.index(">A1<")
    assert "of 3 slots empty or misplaced" in page
    assert "pack-02 stands there" in page
    assert "A2: first look → empty" in page


def test_a_thumbnail_is_small_square_and_kept(
    client: FlaskClient, catalog: Catalog, workspace: Workspace
) -> None:
    cover = catalog.page().entries[0].cover
    with client.get(f"/console/thumbnails/{cover}.jpg") as answer:
        assert (answer.status_code, answer.mimetype) == (200, "image/jpeg")
        assert decode(answer.data).shape == (176, 176, 3)
        etag = answer.headers["ETag"]
    assert len(list((workspace.cache / "thumbnails").rglob("*.jpg"))) == 1
    with client.get(f"/console/thumbnails/{cover}.jpg", headers={"If-None-Match": etag}) as again:
        assert again.status_code == 304


@pytest.mark.parametrize("name", ["0" * 64, "x", "..%2f..%2fkeys%2froot"])
def test_a_thumbnail_of_no_photo_is_not_found(client: FlaskClient, name: str) -> None:
    assert client.get(f"/console/thumbnails/{name}.jpg").status_code == 404


def test_a_thumbnail_of_a_spoiled_photo_is_not_found(client: FlaskClient, catalog: Catalog) -> None:
    cover = catalog.page().entries[0].cover
    assert cover is not None
    catalog.photos.path(cover).write_bytes(b"spoiled")
    assert client.get(f"/console/thumbnails/{cover}.jpg").status_code == 404
