"""Keeps how many devices ran which release over time, and draws it: the wave of a release in the fleet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from cloud.database import transaction
from cloud.tables import Base
from cloud.times import UtcTime, now

KEPT: Final = timedelta(days=30)
_LONGEST_STEP: Final = timedelta(minutes=15)


class WaveRow(Base):
    """How many devices ran a release at a time; 0 stands for those without one."""

    __tablename__ = "wave"

    at: Mapped[datetime] = mapped_column(UtcTime, primary_key=True)
    release: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    devices: Mapped[int]


@dataclass(frozen=True, slots=True)
class Moment:
    """How many devices ran which release (0: none) at a time."""

    at: datetime
    devices: Mapping[int, int]


class Wave:
    """The releases of the fleet over the last days."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def record(self, counts: Mapping[int | None, int]) -> bool:
        """Keep how many devices run which release now, if that has changed or was not said for long.

        Raises:
            StorageUnusable: the database refused.
        """
        devices = {release or 0: count for release, count in counts.items() if count}
        moment = now()
        with transaction(self._sessions) as session:
            newest = session.scalar(select(func.max(WaveRow.at)))
            before = _at(session, newest) if newest is not None else {}
            if before == devices and newest is not None and moment - newest < _LONGEST_STEP:
                return False
            if newest is not None and newest >= moment:
                return False  # a clock that was set back
            session.add_all(
                WaveRow(at=moment, release=release, devices=count) for release, count in devices.items()
            )
            session.execute(delete(WaveRow).where(WaveRow.at < moment - KEPT))
        return True

    def since(self, start: datetime) -> list[Moment]:
        """Return what was kept since then, oldest first.

        Raises:
            StorageUnusable: the database refused.
        """
        moments: dict[datetime, dict[int, int]] = {}
        with transaction(self._sessions) as session:
            query = select(WaveRow).where(WaveRow.at >= start).order_by(WaveRow.at, WaveRow.release)
            for row in session.scalars(query):
                moments.setdefault(row.at, {})[row.release] = row.devices
        return [Moment(at, devices) for at, devices in moments.items()]


def _at(session: Session, moment: datetime) -> dict[int, int]:
    rows = session.scalars(select(WaveRow).where(WaveRow.at == moment))
    return {row.release: row.devices for row in rows}


@dataclass(frozen=True, slots=True)
class Band:
    """One release in the picture: `path` is SVG, `tone` numbers its color from 0, newest first.

    The key names the newest ones, and all older ones, which have one color, together.
    """

    release: int
    path: str
    tone: int
    name: str
    keyed: bool


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture of the wave in a box of `width` × `height`: bands on each other, newest at the bottom."""

    width: int
    height: int
    bands: tuple[Band, ...]
    begins: datetime
    ends: datetime
    most: int


TONES: Final = 5


def plot(moments: Sequence[Moment], *, width: int = 720, height: int = 160) -> Plot | None:
    """Draw the moments as stacked bands in steps; None if there are fewer than two, or no device."""
    most = max((sum(moment.devices.values()) for moment in moments), default=0)
    if len(moments) < 2 or most == 0:
        return None
    begins, ends = moments[0].at, moments[-1].at
    across = (ends - begins).total_seconds() or 1.0
    columns = [(moment.at - begins).total_seconds() / across * width for moment in moments]
    releases = sorted({release for moment in moments for release in moment.devices}, reverse=True)
    floor = [0.0] * len(moments)
    bands = []
    for rank, release in enumerate(releases):
        top = [low + moment.devices.get(release, 0) for low, moment in zip(floor, moments, strict=True)]
        upper, lower = (_steps(columns, each, height / most, height) for each in (top, floor))
        edge = " ".join(f"{x:.1f},{y:.1f}" for x, y in (*upper, *reversed(lower)))
        tone = TONES if release == 0 else min(rank, TONES - 1)
        several = rank == TONES - 1 and rank + 1 < len([each for each in releases if each])
        name = "none" if release == 0 else f"release {release}{' and older' if several else ''}"
        bands.append(Band(release, f"M{edge}Z", tone, name, rank < TONES or release == 0))
        floor = top
    return Plot(width, height, tuple(bands), begins, ends, most)


def _steps(
    columns: Sequence[float], values: Sequence[float], scale: float, height: int
) -> list[tuple[float, float]]:
    """Draw values that hold until the next one is told."""
    points = []
    for index, value in enumerate(values):
        if index:
            points.append((columns[index], height - values[index - 1] * scale))
        points.append((columns[index], height - value * scale))
    return points
