"""Maintenance windows: the hours of a day, by a shop's own clock, in which its devices may be changed."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge.errors import BadSetting

_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of every day from `begins` to `ends` by the clock of `zone`; they may go past midnight."""

    begins: time
    ends: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str, timezone: str = "") -> "Window":
        """Read `02:00-05:00` and the name of a time zone; without one it is UTC.

        Raises:
            BadSetting: it is no such span, or no time zone that this machine knows.
        """
        found = _WINDOW.fullmatch(text.strip())
        if not found or found.group(1, 2) == found.group(3, 4):
            raise BadSetting(f"{text[:40]!r} is no maintenance window: write it as 02:00-05:00")
        first = time(int(found[1]), int(found[2]))
        try:
            zone = ZoneInfo(timezone or "UTC")
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise BadSetting(
                f"{timezone[:60]!r} is no time zone known here: write it as Europe/Berlin"
            ) from error
        return cls(first, time(int(found[3]), int(found[4])), zone)

    def is_open(self, moment: datetime) -> bool:
        """Say whether `moment` (aware) lies in the window."""
        clock = moment.astimezone(self.zone).time()
        if self.begins < self.ends:
            return self.begins <= clock < self.ends
        return clock >= self.begins or clock < self.ends

    def open_seconds(self, since: datetime, until: datetime) -> float:
        """Return how many seconds of the span from `since` to `until` (aware) lie in the window."""
        day = since.astimezone(self.zone).date() - timedelta(days=1)
        total = 0.0
        while True:
            begins = datetime.combine(day, self.begins, self.zone)
            if begins >= until:
                return total
            after = day if self.begins < self.ends else day + timedelta(days=1)
            ends = datetime.combine(after, self.ends, self.zone)
            # In UTC, since two times of one zone are subtracted by their clocks, whatever the season.
            overlap = min(ends, until).astimezone(UTC) - max(begins, since).astimezone(UTC)
            total += max(overlap.total_seconds(), 0.0)
            day += timedelta(days=1)


def open_seconds(window: Window | None, since: datetime, until: datetime) -> float:
    """Return the seconds from `since` to `until` in the window; without one all of them."""
    if window is None:
        return max((until - since).total_seconds(), 0.0)
    return window.open_seconds(since, until)


def chosen(own: str, of_store: Window | None) -> Window | None:
    """Return when a device may be changed: `own` hours of a rollout, by the store's clock, or its store's.

    Raises:
        BadSetting: `own` is no window.
    """
    if not own:
        return of_store
    return Window.parse(own, of_store.zone.key if of_store else "")
