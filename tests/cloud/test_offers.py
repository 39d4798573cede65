"""Who is offered a release on its way, and who may fetch its manifest."""

import hashlib
from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event

from cloud.fleet import DeviceInfo, Fleet
from cloud.offers import Offer, Offers
from cloud.publishing import publish
from cloud.releases import PublishedRelease, Releases
from cloud.rollout_devices import RolloutDevices
from cloud.rollout_rules import Plan
from cloud.rollouts import Rollouts, in_share
from cloud.stores import Store, Stores
from cloud.times import now
from cloud.workspace import Workspace
from edge.errors import BadSetting
from edge.model import Model
from tests.edge.release_maker import make_release

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
NIGHT = datetime(2026, 11, 23, 3, tzinfo=UTC)


class Clock:
    """Seconds that go when they are told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def offers(workspace: Workspace, clock: Clock) -> Offers:
    return Offers(workspace.sessions(), clock=clock)


def record(workspace: Workspace, *named: tuple[int, str], sha256: str = "0" * 64) -> Rollouts:
    sessions = workspace.sessions()
    Releases(sessions).record(
        *(
            PublishedRelease(version, now(), sha256, "tiny", "0" * 16, 6, 18, 4, 5000, 400, assortment)
            for version, assortment in named
        )
    )
    return Rollouts(sessions)


def test_the_canary_store_is_first_and_stays_in_every_stage(workspace: Workspace, offers: Offers) -> None:
    rollouts = record(workspace, (1, ""), (1, "mitte"), (2, ""), (2, "mitte"), (1, "nord"), (2, "nord"))
    for store in ("mitte", "nord"):
        Stores(workspace.sessions()).put(Store(store))
    rollouts.start(1)
    rollouts.start(2, plan=Plan.parse("canary,5,100", ["mitte"]))
    assert offers.offer("d-1", "mitte", 1) == Offer(2, "mitte")
    assert offers.offer("d-1", "nord", 1) == Offer(1, "nord")
    assert offers.offer("d-1", None, None) == Offer(1)


def test_a_store_is_offered_only_what_there_is_of_its_assortment(
    workspace: Workspace, offers: Offers
) -> None:
    rollouts = record(workspace, (1, ""), (1, "mitte"), (2, ""), (3, ""))
    Stores(workspace.sessions()).put(Store("mitte"))
    Stores(workspace.sessions()).put(Store("nord"))
    for version in (1, 2):
        rollouts.start(version)
    rollouts.start(3, 50)
    assert offers.offer("d-1", "mitte", None) == Offer(1, "mitte")
    assert offers.offer("d-1", "nord", None) == Offer(None, "nord")
    assert offers.offer("d-1", "no store any more", None).version in (2, 3)
    assert offers.offer("d-1", "mitte", 2) == Offer(None, "mitte")


def test_outside_of_its_hours_a_device_is_offered_nothing_new(workspace: Workspace, offers: Offers) -> None:
    rollouts = record(workspace, (1, "mitte"), (2, "mitte"), (3, "mitte"))
    Stores(workspace.sessions()).put(Store("mitte", window="02:00-05:00"))
    rollouts.start(2)
    assert offers.offer("d-1", "mitte", 1, moment=NOON) == Offer(None, "mitte")
    assert offers.offer("d-1", "mitte", 1, moment=NIGHT) == Offer(2, "mitte")
    assert offers.offer("d-1", "mitte", None, moment=NOON) == Offer(2, "mitte"), "it has nothing at all"
    rollouts.start(3, plan=Plan.parse(window="11:00-13:00"))
    offers = Offers(workspace.sessions())
    assert offers.offer("d-1", "mitte", 2, moment=NOON) == Offer(3, "mitte")
    assert offers.offer("d-1", "mitte", 2, moment=NIGHT) == Offer(None, "mitte")


def test_a_release_in_shadow_is_offered_as_such_to_devices_that_have_another(
    workspace: Workspace, offers: Offers
) -> None:
    rollouts = record(workspace, (1, ""), (2, ""))
    rollouts.start(1)
    rollouts.start(2, plan=Plan.parse(shadow=True))
    assert offers.offer("d-1", None, 1) == Offer(2, shadow=True)
    assert offers.offer("d-1", None, None) == Offer(1)


def test_an_offer_costs_one_cheap_query(workspace: Workspace, clock: Clock) -> None:
    rollouts = record(workspace, (1, ""), (2, ""))
    rollouts.start(1)
    rollouts.start(2, 50)
    sessions = workspace.sessions()
    offers = Offers(sessions, clock=clock)
    device = next(f"d-{number}" for number in range(99) if not in_share(2, f"d-{number}", 50))
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(sessions.kw["bind"], "before_cursor_execute", note)
    assert offers.offer(device, None, 1).version == 1
    first = len(asked)
    for _ in range(100):
        offers.offer(device, None, 1)
    assert len(asked) - first == 100
    assert set(asked[first:]) == {asked[0]}
    assert asked[0].startswith("SELECT max(rollouts.changed)")
    rollouts.start(2, 100)
    assert offers.offer(device, None, 1).version == 2, "and what changes is offered at once"


def test_it_is_noted_once_who_was_offered_it_and_what_became_of_it(
    workspace: Workspace, offers: Offers, clock: Clock
) -> None:
    rollouts = record(workspace, (1, ""), (2, ""))
    rollouts.start(1)
    rollouts.start(2, plan=Plan.parse("50,100"))
    device = next(f"d-{number}" for number in range(99) if in_share(2, f"d-{number}", 50))
    devices = RolloutDevices(workspace.sessions())
    assert offers.offer(device, None, 1).version == 2
    assert devices.was_offered(2, device), "a device alone must not wait for the next one to be noted"
    offers.offer(device, None, 2)
    offers.offer(device, None, 1)
    offers.flush()
    assert devices.failures([2]) == {2: {"stepped_back": 1}}
    offers.offer(device, None, 2)
    offers.flush()
    assert devices.failures([2]) == {}
    offers.offer(device, None, 1, set_aside=[2])
    offers.flush()
    assert devices.failures([2]) == {2: {"set_aside": 1}}


# The manifest ------------------------------------------------------------------------------------------


@pytest.fixture
def manifest(workspace: Workspace, tiny_model: Model) -> str:
    """Give the name of the manifest of release 2, which lies in the repository."""
    data = make_release(tiny_model, 2, {"pack-1": 1}, golden=False).manifest
    name = hashlib.sha256(data).hexdigest()
    (workspace.files / name).write_bytes(data)
    return name


def test_a_manifest_is_public_when_everybody_is_offered_the_release(
    client: FlaskClient, workspace: Workspace, manifest: str
) -> None:
    with client.get(f"/v1/files/{manifest}") as unknown:
        assert unknown.status_code == 404, "it is signed, and not offered yet"
    rollouts = record(workspace, (2, ""), sha256=manifest)
    rollouts.start(2)
    with client.get(f"/v1/files/{manifest}") as answer:
        assert (answer.status_code, hashlib.sha256(answer.data).hexdigest()) == (200, manifest)
        assert "public" in answer.headers["Cache-Control"]


def test_nobody_outside_the_share_gets_the_manifest(
    client: FlaskClient, workspace: Workspace, manifest: str
) -> None:
    rollouts = record(workspace, (2, ""), sha256=manifest)
    sessions = workspace.sessions()
    fleet = Fleet(sessions)
    tokens = {}
    while len(set(tokens)) < 2:
        device, token = fleet.enroll(fleet.new_code("ABCDEFGHIJ"), DeviceInfo("Kiosk", "kiosk", "0.1.0"))
        tokens[in_share(2, device, 50)] = (device, {"Authorization": f"Bearer {token}"})

    def ask(headers: dict[str, str]) -> tuple[int, str]:
        with client.get(f"/v1/files/{manifest}", headers=headers) as answer:
            return answer.status_code, answer.headers["Cache-Control"]

    inside, outside = tokens[True][1], tokens[False][1]
    rollouts.start(2, 50)
    assert ask(inside) == (200, "private, no-store")
    for headers in (outside, {}, {"Authorization": "Bearer x"}, {"Authorization": "Basic x"}):
        assert ask(headers) == (404, "no-store")

    body = {"release": None, "status": {}}
    path = f"/v1/devices/{tokens[True][0]}/heartbeat"
    assert client.post(path, json=body, headers=inside).json["offered_release"] == 2
    rollouts.pause()
    assert ask(inside)[0] == 200, "it was offered it"
    rollouts.resume()
    rollouts.start(2, 100)
    assert ask(outside)[0] == 200
    rollouts.pause()
    assert ask(outside)[0] == 404


def test_a_file_that_only_looks_like_a_manifest_is_everybodys(
    client: FlaskClient, workspace: Workspace
) -> None:
    data = b'{"version": 2, "format": 1}'
    name = hashlib.sha256(data).hexdigest()
    (workspace.files / name).write_bytes(data)
    with client.get(f"/v1/files/{name}") as answer:
        assert answer.status_code == 200


@pytest.mark.usefixtures("catalog")
def test_a_release_is_published_in_stages_or_not_at_all(
    workspace: Workspace, tiny_model: Model, offers: Offers
) -> None:
    plan = Plan.parse("canary,100", ["mitte"])
    with pytest.raises(BadSetting, match="no store 'mitte'"):
        publish(workspace, tiny_model, plan=plan)
    assert Releases(workspace.sessions()).latest() is None
    Stores(workspace.sessions()).put(Store("mitte"))
    publish(workspace, tiny_model, plan=plan)
    assert offers.offer("d-1", "mitte", None) == Offer(1, "mitte")
    assert offers.offer("d-1", None, None).version is None
