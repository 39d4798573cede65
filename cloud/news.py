"""Notices that a release is offered to more devices than before, and says within which time they may come."""

from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from cloud.database import transaction
from cloud.fleet import Fleet
from cloud.hints import Hint
from cloud.offers import Offers
from cloud.rollouts import RolloutRow

_FEW: Final = 100
_VISITS_PER_S: Final = 200


class News:
    """What is offered, as it was looked at last."""

    def __init__(self, sessions: sessionmaker[Session], offers: Offers) -> None:
        """Look for the first time: what is offered already is no news.

        Raises:
            StorageUnusable: the database refused.
        """
        self._sessions, self._offers, self._fleet = sessions, offers, Fleet(sessions)
        self._stamp: tuple[object, ...] = ()
        self._offered: set[tuple[int, str, float, int, bool]] = set()
        self.look()

    def look(self) -> Hint | None:
        """Return a hint if something is offered to more devices than when it was asked last.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            stamp = tuple(session.execute(select(func.max(RolloutRow.changed), func.count())).one())
            if stamp == self._stamp:
                return None
            row = RolloutRow
            query = select(row.version, row.channel, row.percent, row.stage, row.shadow)
            offered = {
                (found[0], found[1], found[2], found[3], found[4])
                for found in session.execute(query.where(row.state == "active"))
            }
        new = {each[0] for each in offered - self._offered}
        if new:
            # Before anybody is told: who comes at once must not be answered by what was read a second ago.
            self._offers.refresh()
        self._stamp, self._offered = stamp, offered
        return Hint(max(new), spread_s(self._fleet.count())) if new else None


def spread_s(devices: int) -> float:
    """Return within how many seconds so many devices may come by: a few at once, many one after the other."""
    return 0.0 if devices < _FEW else round(devices / _VISITS_PER_S, 1)
