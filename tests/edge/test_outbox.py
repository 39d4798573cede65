import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.errors import NoSpace, SkipRecord, StorageUnusable
from edge.events import Event, new_event
from edge.outbox import KEPT_SHARE, Outbox


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    with Outbox(path) as outbox:
        yield outbox


def searched(number: int = 0) -> Event:
    return new_event("d", "searched", {"number": number})


def corrected(number: int = 0) -> Event:
    return new_event("d", "corrected", {"number": number})


def numbers(events: list[Event]) -> list[object]:
    return [event.data["number"] for event in events]


def test_events_come_out_in_the_order_they_went_in(outbox: Outbox) -> None:
    events = [searched(number) for number in range(5)]
    for event in events:
        outbox.add(event)

    assert outbox.batch() == events
    assert outbox.batch(limit=2) == events[:2]
    assert len(outbox) == 5


def test_acknowledged_events_are_forgotten_and_others_are_not(outbox: Outbox) -> None:
    events = [searched(number) for number in range(3)]
    for event in events:
        outbox.add(event)

    outbox.acknowledge([events[1].id, "no such id"])

    assert outbox.batch() == [events[0], events[2]]


def test_an_event_added_twice_is_kept_once(outbox: Outbox) -> None:
    event = searched()
    outbox.add(event)
    outbox.add(event)

    assert outbox.batch() == [event]


def test_a_batch_is_bounded_in_bytes_but_never_empty(outbox: Outbox) -> None:
    for _ in range(3):
        outbox.add(new_event("d", "searched", {"text": "x" * 1000}))

    assert len(outbox.batch(max_bytes=2500)) == 2
    assert len(outbox.batch(max_bytes=10)) == 1


def test_events_outlive_the_process(path: Path) -> None:
    event = searched()
    with Outbox(path) as first:
        first.add(event)
    with Outbox(path) as second:
        assert second.batch() == [event]


def test_a_full_outbox_forgets_the_oldest_and_counts_them_by_kind(path: Path) -> None:
    with Outbox(path, capacity=3) as outbox:
        for number in range(5):
            outbox.add(searched(number))

        assert numbers(outbox.batch()) == [2, 3, 4]
        assert outbox.dropped() == {"searched": 2}


def test_corrections_are_never_dropped(path: Path) -> None:
    with Outbox(path, capacity=3) as outbox:
        outbox.add(corrected(0))
        for number in range(1, 5):
            outbox.add(searched(number))
        assert numbers(outbox.batch()) == [0, 3, 4]

        for number in range(10, 14):
            outbox.add(corrected(number))
        assert numbers(outbox.batch()) == [0, 10, 11, 12, 13]

        outbox.add(searched(99))
        assert numbers(outbox.batch()) == [0, 10, 11, 12, 13]
        assert outbox.dropped() == {"searched": 5}


ADD_UNTIL_KILLED = """
import sys
from pathlib import Path
from edge.events import new_event
from edge.outbox import KEPT_SHARE, Outbox
outbox = Outbox(Path(sys.argv[1]))
number = 0
while True:
    outbox.add(new_event("d", "searched", {"number": number}))
    print(number, flush=True)
    number += 1
"""


def test_what_was_added_survives_a_kill(path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ADD_UNTIL_KILLED, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(50):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    told = 49 + len(process.stdout.read().split())
    process.wait(10)
    process.stdout.close()

    with Outbox(path) as outbox:
        kept = numbers(outbox.batch())
    assert kept == list(range(len(kept)))
    assert len(kept) >= told
    assert not list(path.parent.glob("*damaged*"))


@pytest.mark.parametrize("spoiled", [b"", b"this is no database" * 100, os.urandom(8192)])
def test_a_file_that_is_no_database_is_set_aside(path: Path, spoiled: bytes) -> None:
    path.write_bytes(spoiled)
    with Outbox(path) as outbox:
        outbox.add(searched(1))

        assert numbers(outbox.batch()) == [1]
        assert outbox.damaged_files() == (1 if spoiled else 0)


def test_a_file_that_goes_bad_in_use_is_set_aside_and_counted(path: Path) -> None:
    for round_ in (1, 2):
        with Outbox(path) as outbox:
            for number in range(200):
                outbox.add(searched(number))
        spoiled = bytearray(path.read_bytes())
        spoiled[4096:] = os.urandom(len(spoiled) - 4096)
        path.write_bytes(spoiled)
        with Outbox(path) as outbox:
            outbox.batch()
            outbox.add(searched(7))
            assert 7 in numbers(outbox.batch())
            assert outbox.damaged_files() == round_
    assert len(list(path.parent.glob("outbox.db.damaged-*"))) == 1


def test_another_programs_database_is_set_aside(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE events (something TEXT)")
    database.commit()
    database.close()
    with Outbox(path) as outbox:
        outbox.add(searched(1))
        assert numbers(outbox.batch()) == [1]
        assert outbox.damaged_files() == 1


def test_one_spoiled_record_is_dropped_and_the_rest_go_on(outbox: Outbox, path: Path) -> None:
    events = [searched(number) for number in range(3)]
    for event in events:
        outbox.add(event)
    database = sqlite3.connect(path)
    database.execute("UPDATE events SET record = ? WHERE id = ?", (b"{", events[0].id))
    database.execute("UPDATE events SET record = ? WHERE id = ?", ("text", events[1].id))
    database.commit()
    database.close()

    assert outbox.batch() == [events[2]]
    assert outbox.dropped() == {"searched": 2}


def test_a_newer_file_is_refused_and_left_alone(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.add(searched())
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StorageUnusable, match="update"):
        Outbox(path)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageUnusable, match="missing"):
        Outbox(tmp_path / "missing" / "outbox.db")


FILL = """
import resource, signal, sys
from pathlib import Path
from edge.errors import ShelfsightError
from edge.events import new_event
from edge.outbox import KEPT_SHARE, Outbox
outbox = Outbox(Path(sys.argv[1]))
outbox.add(new_event("d", "searched", {"number": 0}))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    while True:
        outbox.add(new_event("d", "searched", {"number": 1, "text": "x" * 10_000}))
except ShelfsightError as error:
    print(type(error).__name__, error)
"""


def test_a_disk_that_takes_no_more_is_told_and_what_was_kept_stays(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith((NoSpace.__name__, StorageUnusable.__name__))
    with Outbox(path) as outbox:
        assert numbers(outbox.batch())[:2] == [0, 1]
        assert outbox.damaged_files() == 0


def test_several_threads_may_add_at_once(outbox: Outbox) -> None:
    def add() -> None:
        for number in range(20):
            outbox.add(searched(number))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(outbox) == 80


VERSION_1 = """
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    record BLOB NOT NULL
);
CREATE INDEX events_kind ON events (kind, number);
CREATE TABLE dropped (kind TEXT PRIMARY KEY, count INTEGER NOT NULL);
INSERT INTO dropped VALUES ('searched', 7);
PRAGMA user_version = 1;
"""


def test_a_file_of_the_version_before_keeps_its_events_and_counts(path: Path) -> None:
    events = [corrected(0), searched(1), searched(2)]
    database = sqlite3.connect(path)
    database.executescript(VERSION_1)
    database.executemany(
        "INSERT INTO events (id, kind, record) VALUES (?, ?, ?)",
        [(event.id, event.kind, event.to_bytes()) for event in events],
    )
    database.commit()
    database.close()
    with Outbox(path, capacity=3) as outbox:
        assert (outbox.batch(), len(outbox), outbox.dropped()) == (events, 3, {"searched": 7})
        outbox.add(searched(3))
        assert numbers(outbox.batch()) == [0, 2, 3]
        assert outbox.dropped() == {"searched": 8}
        assert outbox.damaged_files() == 0


def test_many_events_are_kept_all_or_none_and_in_order(outbox: Outbox) -> None:
    events = [searched(number) for number in range(1000)]
    outbox.add_many(events)
    outbox.add_many(events[:10])
    assert outbox.batch(limit=2000) == events
    endless = Event(searched().id, searched().at, "d", "searched", {"x": float("nan")})
    with pytest.raises(SkipRecord):
        outbox.add_many([searched(1), endless])
    assert len(outbox) == 1000


def test_the_bytes_are_bounded_too(path: Path) -> None:
    with Outbox(path, capacity_bytes=10_000) as outbox:
        for number in range(20):
            outbox.add(new_event("d", "searched", {"number": number, "text": "x" * 1000}))
        kept = outbox.batch()
        assert sum(len(event.to_bytes()) for event in kept) <= 10_000
        assert numbers(kept) == list(range(20 - len(kept), 20))
        assert outbox.dropped() == {"searched": 20 - len(kept)}
        assert len(kept) == 8


def test_what_people_said_has_an_end_that_is_told_and_nothing_kept_is_lost(path: Path) -> None:
    with Outbox(path, capacity=2) as outbox:
        for number in range(KEPT_SHARE * 2):
            outbox.add(corrected(number))
        with pytest.raises(StorageUnusable, match="bring this device back"):
            outbox.add(corrected(99))
        assert numbers(outbox.batch()) == list(range(KEPT_SHARE * 2))
        assert outbox.dropped() == {"corrected": 1}
        outbox.acknowledge([outbox.batch()[0].id])
        outbox.add(corrected(99))
        assert numbers(outbox.batch())[-1] == 99


def test_an_event_that_is_postponed_stands_behind_all_others(outbox: Outbox) -> None:
    events = [searched(number) for number in range(3)]
    outbox.add_many(events)
    outbox.postpone(events[0].id)
    outbox.add(searched(3))
    assert numbers(outbox.batch()) == [1, 2, 0, 3]
    assert len(outbox) == 4


def test_an_event_that_is_given_up_is_counted(outbox: Outbox) -> None:
    event = corrected()
    outbox.add(event)
    outbox.give_up(event.id)
    outbox.give_up("no such id")
    assert (len(outbox), outbox.dropped()) == (0, {"corrected": 1})


def test_a_file_that_is_moved_away_while_it_is_open_is_begun_anew(outbox: Outbox, path: Path) -> None:
    outbox.add(searched(0))
    path.rename(path.with_name("elsewhere"))  # as another process does with one that it found damaged
    outbox.add(searched(1))
    with Outbox(path) as other:
        assert numbers(other.batch()) == [1]


def test_two_processes_count_together(path: Path) -> None:
    with Outbox(path, capacity=4) as one, Outbox(path, capacity=4) as other:
        for number in range(4):
            (one if number % 2 else other).add(searched(number))
        one.add(searched(4))
        other.add(searched(5))
        assert numbers(one.batch()) == numbers(other.batch()) == [2, 3, 4, 5]
        assert one.dropped() == {"searched": 2}
