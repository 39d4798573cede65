"""Rollouts that move on by themselves, over a fleet in the database."""

from datetime import timedelta

import pytest
from click.testing import CliRunner
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from cloud.commands import main
from cloud.conductor import Conducting, Conductor, take_lease
from cloud.database import transaction
from cloud.events import Events
from cloud.fleet import DeviceInfo, DeviceRow, Fleet
from cloud.offers import Offers
from cloud.releases import PublishedRelease, Releases
from cloud.rollout_devices import RolloutDeviceRow
from cloud.rollout_rules import Plan, Rule
from cloud.rollouts import RolloutRow, Rollouts
from cloud.stores import Store, Stores
from cloud.times import now
from cloud.workspace import Workspace
from edge.events import new_event


class Shop:
    """Twelve devices, four of them in the store `mitte`, all on release 1; release 2 is on its way."""

    def __init__(self, workspace: Workspace, plan: Plan) -> None:
        self.sessions: sessionmaker[Session] = workspace.sessions()
        self.fleet, self.rollouts = Fleet(self.sessions), Rollouts(self.sessions)
        self.offers = Offers(self.sessions)
        self.conducting = Conducting(self.sessions)
        Stores(self.sessions).put(Store("mitte"))
        for version in (1, 2):
            Releases(self.sessions).record(
                *(
                    PublishedRelease(
                        version, now(), "0" * 64, "tiny", "0" * 16, 6, 18, 4, 5000, 400, assortment
                    )
                    for assortment in ("", "mitte")
                )
            )
        self.devices: dict[str, str | None] = {}
        for number in range(12):
            store = "mitte" if number < 4 else None
            code = self.fleet.new_code("ABCDEFGHIJ", store=store)
            device, _ = self.fleet.enroll(code, DeviceInfo("Kiosk", "kiosk", "0.1.0"))
            self.devices[device] = store
        self.running: dict[str, int] = dict.fromkeys(self.devices, 1)
        self.rollouts.start(1)
        self.rollouts.start(2, plan=plan)
        self.poll()

    def poll(self, *, silent: tuple[str, ...] = (), takes: bool = True) -> set[str]:
        """Let the devices come by, but those; return the devices that are offered release 2."""
        offered = set()
        for device, store in self.devices.items():
            if device not in silent:
                self.fleet.seen(device, self.running[device], {})
                offer = self.offers.offer(device, store, self.running[device])
                if offer.version == 2:
                    offered.add(device)
                    self.running[device] = 2 if takes and not offer.shadow else 1
        self.offers.flush()
        return offered

    def of(self, store: str | None) -> list[str]:
        """Return the devices of a store."""
        return [device for device, theirs in self.devices.items() if theirs == store]

    def later(self, **ago: float) -> None:
        """Let time pass: what was noted happened so long before."""
        earlier = timedelta(**ago)
        with transaction(self.sessions) as session:
            for table, names in (
                (RolloutDeviceRow, ("offered", "taken", "failed")),
                (RolloutRow, ("started", "stage_started", "judged_from")),
                (DeviceRow, ("last_seen",)),
            ):
                for row in session.query(table):
                    for name in names:
                        if getattr(row, name) is not None:
                            setattr(row, name, getattr(row, name) - earlier)

    def tell(self, device: str, kind: str, **data: object) -> None:
        """Let a device tell an event."""
        Events(self.sessions).take(device, [new_event(device, kind, data).to_record()])

    def percent(self) -> float:
        rollout = self.rollouts.get(2)
        assert rollout is not None
        return rollout.percent

    def state(self) -> str:
        rollout = self.rollouts.get(2)
        assert rollout is not None
        return rollout.state

    def reason(self) -> str:
        return self.rollouts.steps([2])[0].reason


STAGES = Plan.parse("canary,50,100", ["mitte"], rule=Rule(min_devices=4))


def test_a_release_goes_from_the_canary_store_to_everybody(workspace: Workspace) -> None:
    shop = Shop(workspace, STAGES)
    assert shop.poll() == set(shop.of("mitte"))
    assert shop.conducting.once() == []
    for percent in (50, 100):
        shop.poll()
        shop.poll()
        shop.later(hours=2)
        shop.poll()
        assert [step.decision.action for step in shop.conducting.once()] == ["advance"]
        assert shop.percent() == percent
        assert shop.conducting.once() == [], "a stage begins anew"
    shop.poll()
    shop.poll()
    shop.later(hours=2)
    shop.poll()
    assert [step.decision.action for step in shop.conducting.once()] == ["finish"]
    assert shop.conducting.once() == []
    assert set(shop.running.values()) == {2}
    steps = shop.rollouts.steps([2])
    assert [(step.action, step.by) for step in steps] == [
        ("finish", "rule"), ("advance", "rule"), ("advance", "rule"), ("start", "person"),
    ]  # fmt: skip
    assert steps[0].reason == "the last stage is passed: 12 run it, for 2 h"
    assert steps[2].reason.startswith("on to 50 %: 4 run it, for ")


def test_failures_hold_it_and_a_person_may_forgive_them(workspace: Workspace) -> None:
    shop = Shop(workspace, STAGES)
    shop.poll()
    bad = shop.of("mitte")[:3]
    for device in bad:
        shop.running[device] = 1
        shop.tell(device, "rolled_back", release=2, to=1, error="trial_crashed", message="x")
    shop.conducting.once()
    assert shop.state() == "paused"
    assert shop.reason() == "3 failed of 4 devices: 75%, at most 5% may"
    assert shop.poll() == set()
    shop.later(minutes=1)
    shop.rollouts.resume(2)
    shop.conducting.once()
    assert shop.state() == "active"


def test_one_failure_of_a_device_that_takes_it_later_is_forgotten(workspace: Workspace) -> None:
    shop = Shop(workspace, STAGES)
    device = shop.of("mitte")[0]
    shop.tell(device, "failed", release=2, error="no_space", message="x")
    (seen,) = [shop.conducting.look(each) for each in shop.rollouts.watched() if each.version == 2]
    assert (seen.failed, seen.running) == (1, 0)
    shop.poll()
    (seen,) = [shop.conducting.look(each) for each in shop.rollouts.watched() if each.version == 2]
    assert (seen.failed, seen.running) == (0, 4)


def test_devices_that_fall_silent_after_the_offer_hold_it(workspace: Workspace) -> None:
    shop = Shop(workspace, STAGES)
    silent = tuple(shop.of("mitte")[:3])
    shop.later(minutes=40)
    shop.poll(silent=silent)
    shop.conducting.once()
    assert shop.state() == "paused"
    assert shop.reason() == "3 fell silent of 4 devices: 75%, at most 5% may"


def test_silence_is_not_counted_outside_of_a_stores_hours(workspace: Workspace) -> None:
    shop = Shop(workspace, STAGES)
    closed = now() + timedelta(hours=3)
    hours = f"{closed:%H}:00-{closed + timedelta(hours=1):%H}:00"
    Stores(shop.sessions).put(Store("mitte", window=hours))
    shop.later(minutes=40)
    shop.poll(silent=tuple(shop.of("mitte")[:3]))
    shop.conducting.once()
    assert shop.state() == "active"


def test_a_device_that_is_switched_off_long_after_is_no_failure(workspace: Workspace) -> None:
    shop = Shop(workspace, STAGES)
    shop.poll()
    shop.later(hours=2)
    shop.poll()
    shop.later(hours=2)
    shop.poll(silent=tuple(shop.of("mitte")))
    assert [step.decision.action for step in shop.conducting.once()] == ["advance"]


def test_a_release_for_everybody_at_once_is_held_when_it_fails_on_many(workspace: Workspace) -> None:
    shop = Shop(workspace, Plan())
    for device in shop.of(None)[:3]:
        shop.tell(device, "failed", release=2, error="trial_failed", message="x")
    shop.conducting.once()
    assert shop.state() == "active", "three devices say too little"
    shop.poll()
    for device in shop.of(None)[:5]:
        shop.tell(device, "failed", release=2, error="trial_failed", message="x")
    shop.conducting.once()
    assert shop.state() == "paused"


def test_worse_answers_hold_it(workspace: Workspace) -> None:
    shop = Shop(workspace, STAGES)
    shop.poll()
    one, other = shop.of("mitte")[0], shop.of(None)[0]
    for number in range(60):
        for device, release, agrees in ((one, 2, number % 3 > 0), (other, 1, number > 0)):
            shop.tell(device, "scanned", release=release, answer="x", sku="a", answered="b", agrees=agrees)
    shop.conducting.once()
    assert shop.state() == "paused"
    assert "agreement with scans 66.7% of 60, before 98.3% of 60" in shop.reason()


def test_a_shadow_speaks_when_it_agrees(workspace: Workspace) -> None:
    rule = Rule(min_agreement=0.9, min_seconds=0)
    shop = Shop(workspace, Plan.parse("canary,100", ["mitte"], shadow=True, rule=rule))
    assert shop.poll() == set(shop.of("mitte"))
    counts = {"same_verdict": 99, "same_sku": 97, "unknown": 1, "unknown_before": 2, "ms": 900.0}
    shop.tell(
        shop.of("mitte")[0], "shadowed",
        release=2, against=1, answers=100, **counts, ms_before=1000.0, since="2026-11-23T10:00:00.000Z",
    )  # fmt: skip
    (step,) = shop.conducting.once()
    assert step.decision.action == "speak"
    rollout = shop.rollouts.get(2)
    assert rollout is not None
    assert (rollout.shadow, rollout.seen["shadow"]["agreement"], rollout.seen["shadow"]["ms"]) == (
        False,
        0.97,
        9.0,
    )
    shop.poll()
    assert sorted(shop.running.values()) == [1] * 8 + [2] * 4


def test_an_older_release_is_watched_no_more_when_a_newer_one_is_everybodys(workspace: Workspace) -> None:
    shop = Shop(workspace, Plan())
    shop.conducting.once()
    assert [rollout.version for rollout in shop.rollouts.watched()] == [2]


def test_of_two_processes_one_conducts(workspace: Workspace) -> None:
    sessions = workspace.sessions()
    soon = timedelta(seconds=45)
    assert take_lease(sessions, "x", "one", soon)
    assert take_lease(sessions, "x", "one", soon)
    assert not take_lease(sessions, "x", "other", soon)
    assert take_lease(sessions, "y", "other", -soon)
    assert take_lease(sessions, "y", "one", soon), "the other one is gone"


def test_the_conductor_takes_steps_while_the_server_runs(workspace: Workspace) -> None:
    shop = Shop(workspace, Plan.parse("50,100", rule=Rule(min_seconds=0, min_devices=1)))
    shop.poll()
    conductor = Conductor(shop.sessions, shop.offers, every_s=0.01)
    conductor.start()
    try:
        for _ in range(500):
            if shop.percent() == 100:
                break
    finally:
        conductor.stop()
    assert shop.percent() == 100


def test_rollout_status_tells_stage_reason_and_steps(workspace: Workspace) -> None:
    if workspace.database_url is not None:
        pytest.skip("the command is the same on any database")
    shop = Shop(workspace, STAGES)
    with transaction(shop.sessions) as session:
        session.execute(update(DeviceRow).values(status={}))

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["--data", str(workspace.data), "rollout", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    assert "stages canary, 50 %, 100 %" in run("status")
    assert "now: 0 of the 4 devices that are needed run it" in run("status")
    assert '"stage": "canary"' in run("status", "--json")
    assert "paused" in run("pause")
    assert "`rollout resume 2` goes on, `rollout abort 2` ends it for good" in run("status")
    assert "pause by a person" in run("status"), "that is why it stands"
    assert '"state": "active"' in run("resume", "--json")
    aborted = run("abort")
    assert "publish --content-of VERSION" in aborted
    assert "abort by a person" in run("status")
