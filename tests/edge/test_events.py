import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import SkipRecord
from edge.events import EVENT_FORMAT, KINDS, MOST_BYTES, Event, new_event, uuid7

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(KINDS)), st.dictionaries(st.sampled_from("abc"), JSON))
def test_an_event_survives_the_round_trip(kind: str, data: dict[str, object]) -> None:
    event = new_event("device-1", kind, data)

    assert Event.from_bytes(event.to_bytes()) == event
    assert Event.from_record(event.to_record()) == event


def test_unknown_fields_and_kinds_are_kept() -> None:
    record = {**new_event("d", "searched", {}).to_record(), "kind": "weighed", "shop": {"n": 1}}

    event = Event.from_record(record)

    assert (event.kind, event.extra) == ("weighed", {"shop": {"n": 1}})
    assert event.to_record() == record


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "7"),
        ("id", "0190f3c4-1111-4111-8111-111111111111"),
        ("id", None),
        ("at", "yesterday"),
        ("at", "2026-11-23T10:10:00+01:00"),
        ("device", ""),
        ("device", 3),
        ("kind", "Searched!"),
        ("data", []),
        ("data", {"a": "x" * MOST_BYTES}),
        ("format", True),
        ("format", 0),
    ],
)
def test_a_malformed_field_is_refused_by_name(name: str, value: object) -> None:
    record = {**new_event("d", "searched", {}).to_record(), name: value}
    with pytest.raises(SkipRecord, match="event"):
        Event.from_record(record)
    del record[name]
    with pytest.raises(SkipRecord, match=name):
        Event.from_record(record)


def test_a_newer_format_is_refused_by_name() -> None:
    event = replace(new_event("d", "searched", {}), format=EVENT_FORMAT + 1)
    with pytest.raises(SkipRecord, match=f"format {EVENT_FORMAT + 1}.*update"):
        Event.from_bytes(event.to_bytes())


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b'{"id": NaN}', b"[" * 10_000])
def test_bytes_that_are_no_event_are_refused(data: bytes) -> None:
    with pytest.raises(SkipRecord):
        Event.from_bytes(data)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, "\ud800", b"x"])
def test_data_that_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(SkipRecord, match="JSON"):
        new_event("d", "searched", {"value": value})


def test_an_unknown_kind_is_not_made_here() -> None:
    with pytest.raises(SkipRecord, match="seerched"):
        new_event("d", "seerched", {})


def test_ids_are_uuids_of_version_7_that_sort_by_time() -> None:
    ids = []
    for _ in range(50):
        ids.append(uuid7())
        time.sleep(0.0001)

    assert ids == sorted(ids)
    assert len(set(ids)) == 50
    assert all(id_[14] == "7" and id_[19] in "89ab" for id_ in ids)
    milliseconds = int(ids[0].replace("-", "")[:12], 16)
    assert abs(milliseconds - time.time() * 1000) < 60_000
