"""Events are kept once each, whatever the network does."""

import threading

import pytest

from cloud.events import Events
from cloud.workspace import Workspace
from edge.errors import BadSetting
from edge.events import Event, new_event, uuid7


@pytest.fixture
def events(workspace: Workspace) -> Events:
    return Events(workspace.sessions())


def slot_changed(at: str, after: str, slot: str = "A1") -> dict[str, object]:
    data = {"slot": slot, "sku": "pack-01", "before": None, "state": after, "seen": None}
    return Event(uuid7(), at, "d-1", "slot_changed", data).to_record()


def test_an_event_that_is_sent_twice_is_kept_once(events: Events) -> None:
    batch = [new_event("d-1", "searched", {"verdict": "match"}).to_record() for _ in range(3)]
    first, second = events.take("d-1", batch), events.take("d-1", [*batch, batch[0]])
    assert first.accepted == second.accepted == tuple(record["id"] for record in batch)
    assert events.count_by_kind() == {"searched": 3}


def test_one_batch_delivered_side_by_side_is_kept_once(events: Events) -> None:
    batch = [new_event("d-1", "searched", {}).to_record() for _ in range(50)]
    start = threading.Barrier(4)
    accepted: list[int] = []

    def deliver() -> None:
        start.wait()
        accepted.append(len(events.take("d-1", batch).accepted))

    threads = [threading.Thread(target=deliver) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert accepted == [50] * 4
    assert events.count_by_kind() == {"searched": 50}


def test_an_event_belongs_to_the_device_that_brought_it(events: Events) -> None:
    events.take("d-1", [new_event("d-2", "failed", {"code": "no_space"}).to_record()])
    assert [event.device for event in events.newest()] == ["d-1"]


@pytest.mark.parametrize(
    "record",
    [
        None,
        "text",
        {},
        {"id": "1", "at": "now", "kind": "searched", "data": {}, "format": 1, "device": "d"},
        {**new_event("d", "searched", {}).to_record(), "at": "2026-99-99T10:00:00.000Z"},
        {**new_event("d", "searched", {}).to_record(), "data": []},
        {**new_event("d", "searched", {}).to_record(), "kind": "<script>"},
        {**new_event("d", "searched", {}).to_record(), "data": {"x": "y" * 70_000}},
    ],
)
def test_an_event_that_cannot_be_kept_is_named_and_the_others_are_kept(
    events: Events, record: object
) -> None:
    good = new_event("d-1", "searched", {}).to_record()
    taken = events.take("d-1", [record, good])
    assert taken.accepted == (good["id"],)
    assert len(taken.refused) == 1
    assert taken.refused[0].reason


def test_a_kind_that_only_a_newer_device_knows_is_kept(events: Events) -> None:
    record = {**new_event("d-1", "searched", {}).to_record(), "kind": "teleported"}
    assert events.take("d-1", [record]).accepted
    assert events.count_by_kind() == {"teleported": 1}


def test_a_batch_has_an_end(events: Events) -> None:
    with pytest.raises(BadSetting, match="at most 1000"):
        events.take("d-1", [None] * 1001)


def test_the_newest_events_come_first(events: Events) -> None:
    batch = [new_event("d-1", "searched", {"number": number}).to_record() for number in range(5)]
    events.take("d-1", batch)
    found = events.newest(3)
    assert [event.data["number"] for event in found] == [4, 3, 2]
    assert found[0].at.tzinfo is not None


def test_a_slot_stands_as_it_was_told_last(events: Events) -> None:
    events.take("d-1", [slot_changed("2026-11-23T10:00:00.000Z", "ok")])
    events.take(
        "d-1",
        [
            slot_changed("2026-11-23T10:05:00.000Z", "empty"),
            slot_changed("2026-11-23T10:05:00.000Z", "ok", "A2"),
        ],
    )
    events.take("d-1", [slot_changed("2026-11-23T10:02:00.000Z", "misplaced")])
    assert [(slot.slot, slot.state, slot.sku) for slot in events.slots()] == [
        ("A1", "empty", "pack-01"),
        ("A2", "ok", "pack-01"),
    ]


def test_a_slot_event_that_names_no_slot_changes_none(events: Events) -> None:
    record = new_event("d-1", "slot_changed", {"slot": 7}).to_record()
    assert events.take("d-1", [record]).accepted
    assert events.slots() == []
