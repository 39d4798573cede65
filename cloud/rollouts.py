"""Decides which devices are offered which release: a share that a person widens, holds or stops."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, cast

from sqlalchemy import select
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from cloud.database import Base, transaction
from cloud.releases import ReleaseRow
from cloud.times import UtcTime, now
from edge.errors import BadSetting, NoRelease

State = Literal["active", "paused", "aborted"]
STABLE: Final = "stable"


class RolloutRow(Base):
    """How far one release has been let out on one channel."""

    __tablename__ = "rollouts"

    channel: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    percent: Mapped[float]
    state: Mapped[str]
    started: Mapped[datetime] = mapped_column(UtcTime)
    changed: Mapped[datetime] = mapped_column(UtcTime)


@dataclass(frozen=True, slots=True)
class Rollout:
    """A release on its way to a share (0 to 100 percent) of the devices of a channel."""

    channel: str
    version: int
    percent: float
    state: State
    started: datetime
    changed: datetime


class Rollouts:
    """The rollouts of all channels.

    An aborted release is offered to nobody any more, and the devices that have it keep it: none ever goes
    back to a lower version because it was told to. To bring back earlier content, publish it anew.
    """

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def start(self, version: int, percent: float, channel: str = STABLE) -> Rollout:
        """Offer a release to a share of the devices, or change the share of a rollout that runs.

        Raises:
            NoRelease: no such release was published.
            BadSetting: a percentage that is not one, or a rollout that was aborted.
            StorageUnusable: the database refused.
        """
        if not 0 <= percent <= 100:
            raise BadSetting(f"{percent:g} is not a percentage: give a number from 0 to 100")
        with transaction(self._sessions) as session:
            if session.get(ReleaseRow, version) is None:
                raise NoRelease(f"release {version} was never published: see `rollout status`")
            row = session.get(RolloutRow, (channel, version))
            if row is None:
                row = RolloutRow(channel=channel, version=version, started=now())
                session.add(row)
            elif row.state == "aborted":
                raise _aborted(version)
            row.percent, row.state, row.changed = percent, "active", now()
            return _rollout(row)

    def pause(self, version: int | None = None, channel: str = STABLE) -> Rollout:
        """Offer a release to no further devices for now (by default the newest one).

        Raises:
            NoRelease: there is no such rollout.
            BadSetting: it was aborted.
            StorageUnusable: the database refused.
        """
        return self._set_state(version, channel, "paused")

    def resume(self, version: int | None = None, channel: str = STABLE) -> Rollout:
        """Go on with a paused rollout (by default the newest one).

        Raises:
            NoRelease: there is no such rollout.
            BadSetting: it was aborted.
            StorageUnusable: the database refused.
        """
        return self._set_state(version, channel, "active")

    def abort(self, version: int | None = None, channel: str = STABLE) -> Rollout:
        """Offer a release to nobody any more, for good (by default the newest one).

        Raises:
            NoRelease: there is no such rollout.
            StorageUnusable: the database refused.
        """
        return self._set_state(version, channel, "aborted")

    def get(self, version: int, channel: str = STABLE) -> Rollout | None:
        """Return the rollout of a release, or None if it was never offered on this channel.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            row = session.get(RolloutRow, (channel, version))
            return None if row is None else _rollout(row)

    def newest(self, limit: int = 1000) -> list[Rollout]:
        """Return the rollouts of all channels, newest release first.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            query = select(RolloutRow).order_by(RolloutRow.version.desc(), RolloutRow.channel).limit(limit)
            return [_rollout(row) for row in session.scalars(query)]

    def offered(self, device: str, current: int | None, channel: str = STABLE) -> int | None:
        """Return the newest release that this device is offered, or None if it is to keep what it has.

        `current` is the release that it runs; nothing older is ever offered.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            query = (
                select(RolloutRow.version, RolloutRow.percent)
                .where(RolloutRow.channel == channel, RolloutRow.state == "active")
                .where(RolloutRow.version >= (current or 0))
                .order_by(RolloutRow.version.desc())
            )
            running = session.execute(query).all()
        return next((version for version, percent in running if in_share(version, device, percent)), None)

    def _set_state(self, version: int | None, channel: str, state: State) -> Rollout:
        with transaction(self._sessions) as session:
            query = select(RolloutRow).where(RolloutRow.channel == channel)
            if version is not None:
                query = query.where(RolloutRow.version == version)
            row = session.scalars(query.order_by(RolloutRow.version.desc()).limit(1)).first()
            if row is None:
                what = "no release was ever" if version is None else f"release {version} was never"
                raise NoRelease(f"{what} offered on channel {channel}: see `rollout status`")
            if row.state == "aborted" and state != "aborted":
                raise _aborted(row.version)
            row.state, row.changed = state, now()
            return _rollout(row)


def in_share(version: int, device: str, percent: float) -> bool:
    """Say whether a device belongs to the first `percent` of this release's rollout.

    The share is drawn by SHA-256 of release and device, so that it grows without shuffling when the
    percentage grows, and so that it is not always the same devices that go first.
    """
    digest = hashlib.sha256(f"{version}:{device}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < percent / 100 * 2**64


def _aborted(version: int) -> BadSetting:
    return BadSetting(f"the rollout of release {version} was aborted for good: publish a new release")


def _rollout(row: RolloutRow) -> Rollout:
    state = cast(State, row.state)
    return Rollout(row.channel, row.version, row.percent, state, row.started, row.changed)
