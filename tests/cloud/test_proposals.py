"""What devices propose: brought over HTTP, decided on by a person, settled by the release that has it."""

import hashlib
import threading
from typing import Any

import pytest
from flask.testing import FlaskClient

from cloud.catalog import Catalog
from cloud.embeddings import EmbeddingCache
from cloud.likeness import find_alike
from cloud.proposals import LARGEST_PHOTO, MOST_WAITING_PHOTOS, Proposals
from cloud.publishing import publish
from cloud.workspace import Workspace
from edge.errors import BadProduct
from edge.events import new_event
from edge.heartbeat import HeartbeatAnswer, Settled
from edge.image import encode_jpeg
from edge.model import Model
from edge.products import Product
from tests.cloud.conftest import draw_pack
from tests.cloud.test_api import enroll

GTIN = "4006381333931"
PHOTOS = [encode_jpeg(draw_pack(40, shot)) for shot in range(3)]


class Caller:
    """A device that is enrolled, as it calls the server."""

    def __init__(self, client: FlaskClient, workspace: Workspace) -> None:
        self._client = client
        self.id, self._token = enroll(client, workspace)

    def propose(self, sku: str = "jam", photos: list[bytes] = PHOTOS, **fields: Any) -> str:
        named = {"sku": sku, "title": "Jam", "gtin": None, "category": "", "price": "4.20", **fields}
        named["photos"] = [hashlib.sha256(photo).hexdigest() for photo in photos]
        event = new_event(self.id, "proposed", named)
        answer = self._client.post(
            f"/v1/devices/{self.id}/events", json={"events": [event.to_record()]}, headers=self._token
        )
        assert answer.json["accepted"] == [event.id], answer.text
        return event.id

    def bring(self, photo: bytes, sha256: str | None = None) -> Any:
        name = sha256 or hashlib.sha256(photo).hexdigest()
        return self._client.put(f"/v1/devices/{self.id}/photos/{name}", data=photo, headers=self._token)

    def settled(self, *ids: str) -> dict[str, Settled]:
        body = {"release": None, "status": {"proposals": list(ids)}}
        answer = self._client.post(f"/v1/devices/{self.id}/heartbeat", json=body, headers=self._token)
        return dict(HeartbeatAnswer.from_record(answer.json).settled)


@pytest.fixture
def device(client: FlaskClient, workspace: Workspace) -> Caller:
    return Caller(client, workspace)


@pytest.fixture
def proposals(workspace: Workspace) -> Proposals:
    return Proposals(workspace.sessions(), workspace.proposed_photo_storage())


def test_a_photo_is_taken_once_however_often_it_is_brought(device: Caller, proposals: Proposals) -> None:
    device.propose()
    for status in (201, 201):
        assert device.bring(PHOTOS[0]).status_code == status
    (waiting,) = proposals.all()
    assert (len(waiting.photos), len(waiting.here)) == (3, 1)
    assert waiting.product == Product("jam", "Jam", price="4.20")
    assert proposals.photos.read(waiting.here[0]) == PHOTOS[0]


def test_photos_that_nobody_proposed_or_that_are_none_are_refused(
    device: Caller, client: FlaskClient, workspace: Workspace
) -> None:
    assert device.bring(PHOTOS[0]).status_code == 429, "no proposal names it"
    text = b"\xff\xd8\xff no JPEG after all"
    large = b"\xff\xd8\xff" + bytes(LARGEST_PHOTO)
    device.propose(photos=[*PHOTOS, text, large])
    assert device.bring(PHOTOS[0], "0" * 64).status_code == 400
    assert device.bring(text).status_code == 400
    assert device.bring(large).status_code == 413
    assert device.bring(PHOTOS[0], "../../etc/passwd").status_code == 404
    other = Caller(client, workspace)
    assert other.bring(PHOTOS[0]).status_code == 429, "it is another device's"
    stranger = client.put(f"/v1/devices/{device.id}/photos/{'0' * 64}", data=PHOTOS[0])
    assert stranger.status_code == 401
    assert list((workspace.data / "proposed").rglob("*.jpg")) == []


def test_a_device_cannot_fill_the_disk(
    device: Caller, proposals: Proposals, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_WAITING_PHOTOS >= 100
    monkeypatch.setattr("cloud.proposals.MOST_WAITING_PHOTOS", 2)
    device.propose()
    assert [device.bring(photo).status_code for photo in PHOTOS] == [201, 201, 429]
    proposals.refuse(proposals.all()[0].id)
    device.propose("other", PHOTOS[2:])
    assert device.bring(PHOTOS[2]).status_code == 201


def test_two_devices_that_propose_the_same_make_one_proposal(
    device: Caller, client: FlaskClient, workspace: Workspace, proposals: Proposals, catalog: Catalog
) -> None:
    other = Caller(client, workspace)
    ids = [device.propose("jam", PHOTOS[:1], gtin=GTIN), other.propose("jam", PHOTOS[1:2])]
    ids.append(other.propose("marmalade", PHOTOS[2:], gtin=GTIN))
    ids.append(device.propose("third name", PHOTOS[2:]))
    (waiting,) = proposals.all()
    assert waiting.devices == (device.id, other.id)
    assert len(waiting.photos) == 3
    device.bring(PHOTOS[0])
    other.bring(PHOTOS[2])
    done = proposals.accept(waiting.id, catalog)
    assert (done.state, done.target, done.release) == ("accepted", "jam", None)
    assert device.settled(ids[0], ids[1]) == {ids[0]: Settled("accepted", None)}, "one's own only"
    assert other.settled(*ids).keys() == {ids[1], ids[2]}


def test_a_proposal_told_twice_counts_once_and_what_is_none_stays_an_event(
    device: Caller, proposals: Proposals
) -> None:
    id_ = device.propose()
    device.propose("", PHOTOS)
    device.propose("jam", [])
    assert [each.id for each in proposals.all()] == [id_]
    assert [len(each.photos) for each in proposals.all()] == [3]


def test_what_the_catalog_has_gets_the_photos_and_keeps_its_record(
    device: Caller, proposals: Proposals, catalog: Catalog
) -> None:
    catalog.put_product(Product("known", "As the center calls it", gtin=GTIN, price="1.00"))
    device.propose("jam", gtin=GTIN)
    for photo in PHOTOS:
        device.bring(photo)
    (waiting,) = proposals.all(catalog=catalog)
    assert waiting.known is not None
    assert waiting.known.sku == "known"
    done = proposals.accept(waiting.id[:20], catalog)
    assert (done.state, done.target) == ("merged", "known")
    found = catalog.find("known")
    assert found is not None
    assert (found.title, found.price) == ("As the center calls it", "1.00")
    assert catalog.photo_counts()["known"] == 3
    assert catalog.find("jam") is None
    with pytest.raises(BadProduct, match="merged already"):
        proposals.accept(waiting.id, catalog)


def test_accepting_waits_for_a_photo_and_can_choose_another_sku(
    device: Caller, proposals: Proposals, catalog: Catalog
) -> None:
    id_ = device.propose()
    with pytest.raises(BadProduct, match="none of the 3 photos"):
        proposals.accept(id_, catalog)
    device.bring(PHOTOS[0])
    with pytest.raises(BadProduct, match="no product 'nowhere'"):
        proposals.accept(id_, catalog, into="nowhere")
    done = proposals.accept(id_, catalog, sku="jam-2")
    assert (done.state, done.target) == ("merged", "jam-2")
    assert catalog.find("jam-2") == Product("jam-2", "Jam", price="4.20")
    assert device.bring(PHOTOS[1]).json["kept"] is False, "the rest is not wanted any more"
    with pytest.raises(BadProduct, match="no proposal 'zzz'"):
        proposals.get("zzz")


def test_it_is_settled_by_the_first_release_that_has_its_photos(
    device: Caller, proposals: Proposals, catalog: Catalog, workspace: Workspace, tiny_model: Model
) -> None:
    publish(workspace, tiny_model)
    id_ = device.propose()
    device.bring(PHOTOS[0])
    proposals.accept(id_, catalog)
    assert device.settled(id_) == {id_: Settled("accepted", None)}
    second = publish(workspace, tiny_model).release.version
    publish(workspace, tiny_model)
    catalog.put_product(Product("later"))
    publish(workspace, tiny_model)
    assert device.settled(id_) == {id_: Settled("accepted", second)}


def test_what_is_refused_leaves_no_photo_behind_that_nobody_else_proposes(
    device: Caller, proposals: Proposals
) -> None:
    id_ = device.propose()
    for photo in PHOTOS:
        device.bring(photo)
    proposals.refuse(id_)
    assert device.settled(id_) == {id_: Settled("refused", None)}
    assert [path for path in proposals.photos.folder.rglob("*") if path.is_file()] == []


def test_a_proposal_is_decided_once_even_by_two_people_at_a_time(
    device: Caller, proposals: Proposals, catalog: Catalog, workspace: Workspace
) -> None:
    id_ = device.propose()
    device.bring(PHOTOS[0])
    outcomes: list[str] = []

    def decide(number: int) -> None:
        try:
            mine = Proposals(workspace.sessions(), workspace.proposed_photo_storage())
            done = mine.refuse(id_) if number else mine.accept(id_, catalog)
            outcomes.append(done.state)
        except BadProduct:
            outcomes.append("too late")

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) in (["accepted", "too late"], ["refused", "too late"])
    assert proposals.get(id_).state in outcomes
    assert (catalog.find("jam") is not None) == ("accepted" in outcomes)


def test_accepting_that_was_killed_half_way_is_finished_by_accepting_again(
    device: Caller, proposals: Proposals, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = device.propose()
    for photo in PHOTOS:
        device.bring(photo)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(catalog, "add_photo", killed)
        proposals.accept(id_, catalog)
    done = proposals.accept(id_, catalog)
    assert (done.state, done.target) == ("accepted", "jam")
    assert catalog.photo_counts()["jam"] == 3
    assert [path for path in proposals.photos.folder.rglob("*") if path.is_file()] == []


def test_the_look_alike_in_the_catalog_is_named_with_its_similarity(
    device: Caller, proposals: Proposals, catalog: Catalog, workspace: Workspace, tiny_model: Model
) -> None:
    twin = encode_jpeg(draw_pack(3, 77))
    id_ = device.propose("twin", [twin])
    device.bring(twin)
    with EmbeddingCache(workspace.cache) as cache:
        alike = find_alike(proposals.get(id_), proposals, catalog, tiny_model, cache)
    assert alike[0].sku == "pack-03"
    assert alike[0].similarity > max(0.6, alike[1].similarity)
    assert len(alike) == 3


def test_the_page_shows_what_waits_and_takes_forms_from_itself_alone(
    device: Caller, client: FlaskClient, proposals: Proposals, catalog: Catalog
) -> None:
    id_ = device.propose(look_alikes=["pack-03"])
    device.bring(PHOTOS[0])
    page = client.get("/proposals")
    assert page.status_code == 200
    for words in ("Jam", "4.20", "2 more on the way", "pack-03", "Kiosk 1"):
        assert words in page.text
    photo = hashlib.sha256(PHOTOS[0]).hexdigest()
    shown = client.get(f"/proposals/photos/{photo}.jpg")
    assert shown.data == PHOTOS[0]
    shown.close()
    address = f"/proposals/{id_}/accept"
    for headers in ({}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post(address, headers=headers).status_code == 403
    far = client.post(
        address, headers={"Origin": "http://localhost"}, environ_base={"REMOTE_ADDR": "10.0.0.7"}
    )
    assert far.status_code == 403
    assert client.get("/proposals", environ_base={"REMOTE_ADDR": "10.0.0.7"}).status_code == 403
    assert proposals.get(id_).state == "waiting"
    done = client.post(address, headers={"Origin": "http://localhost"}, follow_redirects=True)
    assert "jam is accepted" in done.text
    assert proposals.get(id_).state == "accepted"
    again = client.post(f"/proposals/{id_}/refuse", headers={"Sec-Fetch-Site": "same-origin"})
    assert "accepted+already" in again.headers["Location"]


def test_a_hostile_proposal_is_shown_as_text(device: Caller, client: FlaskClient) -> None:
    device.propose("x", title="<script>alert(1)</script>", look_alikes=["<b>", 7, None])
    page = client.get("/proposals").text
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
