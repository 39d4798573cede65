"""Keeps how each device fares with a release on its way: offered, running, or failed.

Written once a change and not once a heartbeat. A release that was everybody's from the start has rows for the
devices alone on which it failed: who runs it stands in the fleet.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from cloud.database import transaction
from cloud.fleet import DeviceRow
from cloud.rollouts import RolloutRow
from cloud.tables import Base
from cloud.times import UtcTime, now

Standing = Literal["offered", "running", "failed"]
STEPPED_BACK: Final = "stepped_back"
_LONGEST_CODE: Final = 40


class RolloutDeviceRow(Base):
    """How one device fares with one release; `stage` is that of the rollout when it was offered."""

    __tablename__ = "rollout_devices"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    device: Mapped[str] = mapped_column(primary_key=True)
    store: Mapped[str | None]
    stage: Mapped[int]
    standing: Mapped[str]
    offered: Mapped[datetime] = mapped_column(UtcTime)
    taken: Mapped[datetime | None] = mapped_column(UtcTime)
    failed: Mapped[datetime | None] = mapped_column(UtcTime)
    failure: Mapped[str | None]


@dataclass(frozen=True, slots=True)
class Sighting:
    """How a device was seen to fare with a release; `failure` is the code of what went wrong."""

    version: int
    device: str
    store: str | None
    stage: int
    standing: Standing
    failure: str | None = None


class RolloutDevices:
    """Which devices were offered which release, and what became of it."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def note(self, sightings: Sequence[Sighting]) -> None:
        """Keep what changed with these sightings.

        Raises:
            StorageUnusable: the database refused; they may be noted again.
        """
        with transaction(self._sessions) as session:
            _note(session, sightings)

    def was_offered(self, version: int, device: str) -> bool:
        """Say whether a device was ever offered a release.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            return session.get(RolloutDeviceRow, (version, device)) is not None

    def failures(self, versions: Iterable[int]) -> dict[int, dict[str, int]]:
        """Count, by release, the devices on which it failed, by the code of what went wrong.

        Raises:
            StorageUnusable: the database refused.
        """
        query = select(RolloutDeviceRow.version, RolloutDeviceRow.failure).where(
            RolloutDeviceRow.version.in_(list(versions)), RolloutDeviceRow.standing == "failed"
        )
        counts: dict[int, dict[str, int]] = {}
        with transaction(self._sessions) as session:
            for version, failure in session.execute(query):
                of_release = counts.setdefault(version, {})
                of_release[failure or "failed"] = of_release.get(failure or "failed", 0) + 1
        return counts

    def forget_before(self, version: int) -> None:
        """Forget the devices of the rollouts of older releases.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            session.execute(delete(RolloutDeviceRow).where(RolloutDeviceRow.version < version))


def note_failures(session: Session, device: str, told: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Note in the caller's transaction the releases that went wrong, as new events (kind, data) say."""
    codes: dict[int, str] = {}
    for kind, data in told:
        version, code = data.get("release"), data.get("error")
        if kind not in ("failed", "rolled_back") or isinstance(version, bool):
            continue
        if isinstance(version, int) and 0 < version < 2**53:
            codes[version] = code[:_LONGEST_CODE] if isinstance(code, str) else kind
    if not codes:
        return
    query = select(RolloutRow.version, RolloutRow.stage).where(
        RolloutRow.version.in_(codes), RolloutRow.finished.is_(None)
    )
    watched = session.execute(query).all()
    store = session.scalar(select(DeviceRow.store).where(DeviceRow.id == device)) if watched else None
    _note(
        session,
        [Sighting(version, device, store, stage, "failed", codes[version]) for version, stage in watched],
    )


def _note(session: Session, sightings: Sequence[Sighting]) -> None:
    for sighting in sorted(sightings, key=lambda each: (each.version, each.device)):
        row = session.get(RolloutDeviceRow, (sighting.version, sighting.device))
        if row is None:
            row = RolloutDeviceRow(
                version=sighting.version,
                device=sighting.device,
                store=sighting.store,
                stage=sighting.stage,
                standing="offered",
                offered=now(),
            )
            session.add(row)
        _become(row, sighting)


def _become(row: RolloutDeviceRow, sighting: Sighting) -> None:
    if sighting.standing == "running" and row.standing != "running":
        row.standing, row.taken = "running", now()
    elif sighting.standing == "failed":
        row.standing, row.failed, row.failure = "failed", now(), sighting.failure
    elif sighting.standing == "offered" and row.standing == "running":
        # It ran the release and now runs an older one, and nobody has told why yet.
        row.standing, row.failed, row.failure = "failed", now(), STEPPED_BACK
