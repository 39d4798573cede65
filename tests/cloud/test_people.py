"""What people and their tools may read, and who may not."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from cloud import signing
from cloud.app import create_app
from cloud.catalog import Catalog
from cloud.events import Events
from cloud.fleet import DeviceInfo, Fleet
from cloud.releases import PublishedRelease, Releases
from cloud.rollouts import Rollouts
from cloud.times import now
from cloud.workspace import Workspace
from edge.events import new_event

PAGES = ("/", "/v1/catalog", "/v1/releases", "/v1/rollouts", "/v1/fleet", "/metrics")


@pytest.fixture
def device(workspace: Workspace, catalog: Catalog) -> str:
    """Give a device on release 2 of a server that has something to show everywhere."""
    assert catalog.products()
    sessions = workspace.sessions()
    for version in (1, 2):
        release = PublishedRelease(version, now(), "a" * 64, "tiny", "b" * 16, 6, 18, 4, 5000, 400)
        Releases(sessions).record(release)
        Rollouts(sessions).start(version, 100)
    fleet = Fleet(sessions)
    code = fleet.new_code(signing.fingerprint(workspace.metadata))
    name, _ = fleet.enroll(code, DeviceInfo("Kiosk 1", "kiosk", "0.1.0"))
    fleet.seen(name, 2, {"free_mb": 5})
    Events(sessions).take(name, [new_event(name, "installed", {"release": 2}).to_record()])
    return name


def test_the_catalog_is_listed_in_pages(client: FlaskClient, device: str) -> None:
    assert device
    answer = client.get("/v1/catalog?limit=2&offset=1").json
    assert answer["total"] == 6
    assert [product["sku"] for product in answer["products"]] == ["pack-01", "pack-02"]
    assert answer["products"][0]["photos"] == 3
    assert len(answer["products"][0]["cover"]) == 64
    assert client.get("/v1/catalog?search=PACK%203").json["total"] == 1


@pytest.mark.parametrize(
    "query", ["limit=x", "limit=-1", "limit=1001", "offset=9999999999999", "limit=%C2%B2"]
)
def test_a_page_that_cannot_be_is_refused(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/v1/catalog?{query}")
    assert (answer.status_code, answer.json["code"]) == (400, "bad_setting")


def test_releases_rollouts_and_fleet_are_listed(client: FlaskClient, device: str) -> None:
    assert [release["version"] for release in client.get("/v1/releases").json["releases"]] == [2, 1]
    assert client.get("/v1/rollouts").json["rollouts"][0]["percent"] == 100
    (listed,) = client.get("/v1/fleet").json["devices"]
    assert (listed["id"], listed["name"], listed["class"], listed["release"]) == (
        device,
        "Kiosk 1",
        "kiosk",
        2,
    )


def test_no_page_tells_a_secret(client: FlaskClient, workspace: Workspace, device: str) -> None:
    assert device
    code = Fleet(workspace.sessions()).new_code("ABCDEFGHIJ")
    for page in PAGES:
        text = client.get(page).text
        assert "token" not in text.lower()
        assert code[:4] not in text


def test_prometheus_can_read_the_metrics(client: FlaskClient, device: str) -> None:
    assert device
    answer = client.get("/metrics")
    assert answer.mimetype == "text/plain"
    lines = answer.text.splitlines()
    assert 'shelfsight_devices{release="2"} 1' in lines
    assert 'shelfsight_events_total{kind="installed"} 1' in lines
    assert "shelfsight_release 2" in lines
    assert 'shelfsight_rollout_percent{release="2"} 100' in lines
    assert 'shelfsight_rollout_state{release="2",state="active"} 1' in lines
    assert 'shelfsight_rollout_steps_total{action="start",by="person"} 2' in lines
    assert any(line.startswith("shelfsight_timestamp_expires_seconds 1") for line in lines)
    assert all(line.startswith(("# HELP ", "# TYPE ", "shelfsight_")) for line in lines)


def test_prometheus_hears_by_what_devices_run_their_networks(
    client: FlaskClient, workspace: Workspace, device: str
) -> None:
    fleet = Fleet(workspace.sessions())
    for status in (
        {"delegate": "xnnpack", "wanted": "edgetpu"},
        {"delegate": "xnnpack", "wanted": "xnnpack"},
        {"delegate": 'evil"} 7\n', "wanted": 'evil"} 7\n'},
    ):
        name, _ = fleet.enroll(fleet.new_code("ABCDEFGHIJ"), DeviceInfo("Kiosk", "kiosk", "0.1.0"))
        fleet.seen(name, 2, status)
    lines = client.get("/metrics").text.splitlines()
    assert [line for line in lines if line.startswith("shelfsight_devices_by_delegate")] == [
        'shelfsight_devices_by_delegate{delegate="other"} 1',
        'shelfsight_devices_by_delegate{delegate="unknown"} 1',
        'shelfsight_devices_by_delegate{delegate="xnnpack"} 2',
    ]
    assert "shelfsight_devices_fallen_back 1" in lines
    assert "xnnpack, not edgetpu" in client.get("/").text
    assert client.get("/").text.count(", not ") == 1, "the others run what they want"


@pytest.mark.parametrize(
    "page", [*PAGES, "/console/static/console.css", f"/console/thumbnails/{'0' * 64}.jpg"]
)
def test_other_machines_are_shown_nothing_of_it(client: FlaskClient, page: str) -> None:
    for environment in (
        {"REMOTE_ADDR": "192.0.2.7"},
        {"HTTP_X_FORWARDED_FOR": "192.0.2.7"},
        {"HTTP_FORWARDED": "for=192.0.2.7"},
        {"HTTP_HOST": "shop.example.com:8080"},
    ):
        answer = client.get(page, environ_overrides=environment)
        assert answer.status_code == 403
        assert "no login" in answer.json["error"]


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:8080", "[::1]:8080"])
def test_this_machine_is_shown_the_pages_by_any_of_its_names(client: FlaskClient, host: str) -> None:
    assert client.get("/v1/releases", environ_overrides={"HTTP_HOST": host}).status_code == 200


def test_devices_on_other_machines_are_served(client: FlaskClient) -> None:
    answer = client.get("/v1/metadata/timestamp.json", environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    assert answer.status_code == 200


def test_the_pages_can_be_opened_to_other_machines(workspace: Workspace) -> None:
    app: Flask = create_app(workspace, people_anywhere=True)
    answer = app.test_client().get("/v1/fleet", environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    assert answer.status_code == 200
