"""The wave of a release through the fleet: what is kept of it, and how it is drawn."""

import re
from datetime import UTC, datetime, timedelta

from cloud.times import now
from cloud.wave import TONES, Moment, Wave, plot
from cloud.workspace import Workspace

MORNING = datetime(2026, 11, 23, 8, tzinfo=UTC)


def moments(*counts: dict[int, int]) -> list[Moment]:
    return [Moment(MORNING + timedelta(minutes=minute), each) for minute, each in enumerate(counts)]


def test_only_what_changed_is_kept(workspace: Workspace) -> None:
    wave = Wave(workspace.sessions())
    assert wave.record({1: 5, None: 2})
    assert not wave.record({1: 5, None: 2})
    assert wave.record({1: 4, 2: 1, None: 2})
    kept = wave.since(now() - timedelta(hours=1))
    assert [dict(each.devices) for each in kept] == [{0: 2, 1: 5}, {0: 2, 1: 4, 2: 1}]
    assert wave.since(now() + timedelta(hours=1)) == []


def test_the_bands_fill_the_picture_and_the_newest_is_at_the_bottom() -> None:
    picture = plot(moments({1: 10}, {1: 6, 2: 4}, {2: 10}), width=200, height=100)
    assert picture is not None
    assert [(band.release, band.tone) for band in picture.bands] == [(2, 0), (1, 1)]
    newest = picture.bands[0].path
    assert newest.startswith("M0.0,100.0 ")
    assert "100.0,60.0" in newest, "four of ten at half the time"
    assert "200.0,0.0" in newest
    points = [tuple(map(float, point)) for point in re.findall(r"([\d.]+),([\d.]+)", newest)]
    assert all(0 <= x <= 200 and 0 <= y <= 100 for x, y in points)


def test_many_releases_share_the_last_color_and_one_line_of_the_key() -> None:
    picture = plot(moments({0: 1, **dict.fromkeys(range(1, 10), 1)}, {9: 9}))
    assert picture is not None
    assert [band.name for band in picture.bands if band.keyed] == [
        "release 9", "release 8", "release 7", "release 6", "release 5 and older", "none",
    ]  # fmt: skip
    assert picture.bands[-1].tone == TONES


def test_of_one_moment_or_no_device_there_is_no_picture() -> None:
    assert plot(moments({1: 5})) is None
    assert plot(moments({}, {})) is None
