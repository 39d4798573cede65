"""Hours in which a device may be changed."""

from datetime import UTC, datetime, timedelta

import pytest

from cloud.windows import Window, chosen, open_seconds
from edge.errors import BadSetting

WINTER = datetime(2026, 1, 15, tzinfo=UTC)


def test_hours_are_those_of_the_shops_clock() -> None:
    window = Window.parse("02:00-05:00", "Europe/Berlin")
    assert window.is_open(WINTER.replace(hour=1))
    assert not window.is_open(WINTER.replace(hour=4))
    assert window.is_open(datetime(2026, 7, 15, 0, 30, tzinfo=UTC)), "in summer an hour earlier"


def test_hours_may_go_past_midnight() -> None:
    window = Window.parse("22:00-04:00")
    assert window.is_open(WINTER.replace(hour=23))
    assert window.is_open(WINTER.replace(hour=3, minute=59))
    assert not window.is_open(WINTER.replace(hour=4))
    assert window.open_seconds(WINTER, WINTER + timedelta(days=3)) == 3 * 6 * 3600


def test_only_the_open_part_of_a_span_counts() -> None:
    window = Window.parse("02:00-05:00")
    began = WINTER.replace(hour=4, minute=50)
    assert window.open_seconds(began, WINTER.replace(hour=23)) == 600
    assert window.open_seconds(began, WINTER + timedelta(days=1, hours=2, minutes=5)) == 900
    assert open_seconds(None, began, began + timedelta(minutes=5)) == 300
    assert window.open_seconds(began, began - timedelta(hours=1)) == 0


def test_a_night_in_which_the_clock_is_set_has_the_hours_that_it_has() -> None:
    window = Window.parse("01:00-05:00", "Europe/Berlin")
    spring = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert window.open_seconds(spring, spring + timedelta(days=1)) == 3 * 3600


def test_a_rollouts_own_hours_go_before_the_stores() -> None:
    store = Window.parse("02:00-05:00", "Europe/Berlin")
    own = chosen("10:00-11:00", store)
    assert own is not None
    assert own.is_open(WINTER.replace(hour=9, minute=30))
    assert chosen("", store) is store


@pytest.mark.parametrize("text", ["", "2-5", "02:00", "02:00-02:00", "24:00-05:00", "02:00-05:60"])
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="02:00-05:00"):
        Window.parse(text)


def test_an_unknown_time_zone_is_refused() -> None:
    for zone in ("Mitte", "../etc/passwd", "x" * 300):
        with pytest.raises(BadSetting, match="Europe/Berlin"):
            Window.parse("02:00-05:00", zone)
