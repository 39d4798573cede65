"""What is counted of answers as events are taken, and what comes of comparing it."""

from datetime import timedelta

from cloud.accuracy import Accuracy, AccuracyRow, Counts
from cloud.database import transaction
from cloud.events import Events
from cloud.times import now
from cloud.workspace import Workspace
from edge.events import Event, new_event

DEVICE = "d-000000000001"


def tell(workspace: Workspace, *events: Event, device: str = DEVICE) -> None:
    Events(workspace.sessions()).take(device, [event.to_record() for event in events])


def told(kind: str, release: object = 2, **data: object) -> Event:
    return new_event(DEVICE, kind, {"release": release, **data})


def test_each_event_is_counted_once_under_its_release(workspace: Workspace) -> None:
    events = [
        told("searched", verdict="match", total_ms=20.0),
        told("searched", verdict="unknown", total_ms="soon"),
        told("scanned", agrees=True),
        told("scanned", agrees="yes"),
        told("confirmed", sku="a"),
        told("corrected", verdict="match", was="a", sku="b"),
        told("corrected", verdict="unsure", was="a", sku="b"),
        told("corrected", verdict="unsure", was="a", sku=None),
        told("searched", release=1, verdict="match"),
        told("searched", release="two", verdict="match"),
        told("searched", release=True, verdict="match"),
        told("slot_changed", slot="A1", state="ok"),
    ]
    tell(workspace, *events[:5])
    tell(workspace, *events, *events)
    tell(workspace, *events)
    counts = Accuracy(workspace.sessions()).of(2)
    assert (counts.answers, counts.unknown, counts.timed) == (2, 1, 1)
    assert (counts.scans, counts.scans_agree) == (2, 1)
    assert (counts.told_right, counts.told_wrong) == (1, 2)
    assert counts.times.mean is not None
    assert abs(counts.times.mean - 20) < 1e-9
    assert Accuracy(workspace.sessions()).of(1) == Counts(answers=1)


def test_a_clock_that_cannot_be_right_is_not_believed(workspace: Workspace) -> None:
    event = told("confirmed")
    for at in ("1970-01-01T00:00:00.000Z", "2036-01-01T00:00:00.000Z"):
        record = told("confirmed").to_record() | {"at": at}
        Events(workspace.sessions()).take(DEVICE, [record])
    tell(workspace, event)
    accuracy = Accuracy(workspace.sessions())
    assert accuracy.of(2, since=now() - timedelta(minutes=1)).told_right == 3


def test_a_release_is_compared_with_what_the_rest_of_the_fleet_runs(workspace: Workspace) -> None:
    for release, unknown in ((1, 90), (3, 6), (4, 40)):
        events = [
            told("searched", release, verdict="unknown" if n < unknown else "match", total_ms=20 + n % 7)
            for n in range(200)
        ]
        tell(workspace, *events, device=f"d-{release}")
    accuracy = Accuracy(workspace.sessions())
    found = {each.measure: each for each in accuracy.compare(4, now() - timedelta(hours=1))}
    known = found["known"]
    assert (known.verdict, known.now, known.before) == ("worse", 0.8, 0.97)
    assert found["time of an answer"].verdict == "no worse"
    assert found["agreement with scans"].verdict == "too few"


def test_where_nobody_runs_the_release_before_any_more_the_week_before_is_taken(workspace: Workspace) -> None:
    tell(workspace, *(told("scanned", 1, agrees=True) for _ in range(80)))
    with transaction(workspace.sessions()) as session:
        for row in session.query(AccuracyRow):
            row.hour -= timedelta(days=2)
    tell(workspace, *(told("scanned", 2, agrees=n > 30) for n in range(80)))
    accuracy = Accuracy(workspace.sessions())
    found = accuracy.compare(2, now() - timedelta(hours=1))[0]
    assert (found.verdict, found.count_before) == ("worse", 80)
    assert accuracy.compare(2, now() - timedelta(days=30))[0].count_before == 80
    assert accuracy.compare(1, now() - timedelta(hours=1))[0].verdict == "too few"


def test_what_was_answered_in_shadow_is_summed_and_nonsense_is_not(workspace: Workspace) -> None:
    good = {"answers": 10, "same_verdict": 9, "same_sku": 8, "unknown": 1, "unknown_before": 0}
    times = {"ms": 100.0, "ms_before": 90}
    tell(
        workspace,
        told("shadowed", **good, **times),
        told("shadowed", **good, **times),
        told("shadowed", **(good | {"same_sku": 11}), **times),
        told("shadowed", **(good | {"answers": -1}), **times),
        told("shadowed", **good, ms=float(10**12), ms_before=0),
        told("shadowed", **good),
    )
    counts = Accuracy(workspace.sessions()).shadow(2)
    assert (counts.answers, counts.same_sku, counts.ms, counts.ms_before) == (20, 16, 200.0, 180.0)
    assert Accuracy(workspace.sessions()).shadow(1).agreement == 0


def test_hours_that_nobody_compares_with_are_forgotten(workspace: Workspace) -> None:
    tell(workspace, told("confirmed"))
    accuracy = Accuracy(workspace.sessions())
    accuracy.forget_old()
    assert accuracy.of(2).told_right == 1
    with transaction(workspace.sessions()) as session:
        for row in session.query(AccuracyRow):
            row.hour -= timedelta(days=91)
    accuracy.forget_old()
    assert accuracy.of(2) == Counts()
