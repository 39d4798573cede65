"""Moves rollouts on by their rules: gathers what was seen of each, asks the rule, does what it says.

`Conductor` does so every 15 seconds while the server runs, one process of it at a time.
"""

import logging
import secrets
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from cloud.accuracy import Accuracy
from cloud.comparing import Comparison
from cloud.database import transaction
from cloud.fleet import DeviceRow, Fleet
from cloud.offers import Offers, store_windows
from cloud.releases import ReleaseRow
from cloud.rollout_devices import RolloutDeviceRow, RolloutDevices
from cloud.rollout_rules import Decision, Evidence, ShadowCounts, decide
from cloud.rollouts import Rollout, Rollouts, reaches
from cloud.tables import Base
from cloud.times import UtcTime, now
from cloud.wave import Wave
from cloud.windows import Window, chosen, open_seconds
from edge.errors import ShelfsightError, StorageUnusable

EVERY_S: Final = 15.0
_LEASE: Final = timedelta(seconds=45)
_WATCHED_AT_ONCE: Final = timedelta(days=1)  # a release that was everybody's from the start
_KEPT_RELEASES: Final = 20  # of so many rollouts it is remembered how each device fared
_NAME: Final = "conductor"
_log = logging.getLogger(__name__)


class LeaseRow(Base):
    """Which process does something that only one may do, and until when."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    until: Mapped[datetime] = mapped_column(UtcTime)


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that was just taken by the rule."""

    rollout: Rollout
    decision: Decision


class Conducting:
    """The rollouts of a database, looked at once each time it is asked."""

    def __init__(self, sessions: sessionmaker[Session], *, poll_s: float = 60.0) -> None:
        """Take the database; `poll_s` is how often devices come by, in seconds."""
        self._sessions, self._poll_s = sessions, poll_s
        self._rollouts, self._fleet = Rollouts(sessions), Fleet(sessions)
        self._accuracy, self._wave = Accuracy(sessions), Wave(sessions)
        self._devices = RolloutDevices(sessions)

    def once(self) -> list[Taken]:
        """Look at every rollout that is not finished, do what its rule says, and return the steps taken.

        Raises:
            StorageUnusable: the database refused.
        """
        self._wave.record(self._fleet.count_by_release())
        taken = []
        everybodys = 0
        for rollout in self._rollouts.watched():
            superseded = rollout.version < everybodys
            over = not rollout.counts_devices and now() - rollout.changed > _WATCHED_AT_ONCE
            if superseded or (over and rollout.state == "active"):
                self._rollouts.finish(rollout)
                continue
            everybodys = max(everybodys, rollout.version if rollout.is_public else 0)
            seen = self.look(rollout)
            decision = decide(rollout.plan, rollout.stage, seen)
            if rollout.state == "paused":
                self._rollouts.step(rollout, Decision("wait", rollout.says), seen)
            elif self._rollouts.step(rollout, decision, seen):
                held = decision.action in ("pause", "abort")
                level = logging.WARNING if held else logging.INFO
                _log.log(level, "release %d: %s, %s", rollout.version, decision.action, decision.reason)
                taken.append(Taken(rollout, decision))
        if any(each.decision.action == "finish" for each in taken):
            self._accuracy.forget_old()
            kept = self._rollouts.newest(_KEPT_RELEASES)
            self._devices.forget_before(kept[-1].version)
        return taken

    def look(self, rollout: Rollout) -> Evidence:
        """Gather what was seen of a rollout.

        Raises:
            StorageUnusable: the database refused.
        """
        since = rollout.judged_from or rollout.started
        seconds = (now() - (rollout.stage_started or rollout.started)).total_seconds()
        # Failures of the release it replaces must not be held against it, nor those a person forgave.
        comparisons = self._accuracy.compare(rollout.version, max(rollout.started, since))
        shadow = self._accuracy.shadow(rollout.version) if rollout.shadow else None
        with transaction(self._sessions) as session:
            devices = _fares(session, rollout)
            sold = set(
                session.scalars(select(ReleaseRow.assortment).where(ReleaseRow.version == rollout.version))
            )
            windows = store_windows(session)
        counts = _Counts(rollout, windows, sold, self._poll_s)
        for device in devices:
            counts.add(device)
        return counts.evidence(seconds, comparisons=comparisons, shadow=shadow)


@dataclass(frozen=True, slots=True)
class _Fare:
    """One device and how it fares: `standing` is None where it was never offered the release."""

    device: str
    store: str | None
    release: int | None
    last_seen: datetime
    standing: str | None
    stage: int | None
    offered: datetime | None
    taken: datetime | None
    failed: datetime | None


class _Counts:
    """Adds up how the devices fare with one rollout."""

    def __init__(
        self, rollout: Rollout, windows: Mapping[str, Window | None], sold: Collection[str], poll_s: float
    ) -> None:
        self._rollout, self._windows, self._sold = rollout, windows, sold
        self._since = rollout.judged_from or rollout.started
        self._silence_s = rollout.plan.rule.silent_polls * poll_s
        self._now = now()
        self._offered = self._running = self._failed = self._silent = self._reachable = 0
        self._ages: list[float] = []

    def add(self, fare: _Fare) -> None:
        """Count one device."""
        if fare.standing is None:
            self._add_unoffered(fare)
            return
        of_this_stage = fare.stage == self._rollout.stage
        self._offered += 1
        self._reachable += of_this_stage
        if fare.standing == "failed" and fare.failed is not None and fare.failed > self._since:
            self._failed += 1
        elif self._is_silent(fare):
            self._silent += 1
        elif fare.standing == "running":
            self._running += 1
            if of_this_stage and fare.taken is not None:
                self._ages.append((self._now - fare.taken).total_seconds())

    def evidence(
        self, seconds: float, *, comparisons: tuple[Comparison, ...], shadow: ShadowCounts | None
    ) -> Evidence:
        """Return what was counted."""
        return Evidence(
            seconds=seconds,
            offered=self._offered,
            running=self._running,
            failed=self._failed,
            silent=self._silent,
            reachable=self._reachable,
            ages=tuple(sorted(self._ages, reverse=True)),
            comparisons=comparisons,
            shadow=shadow,
        )

    def _add_unoffered(self, fare: _Fare) -> None:
        rollout, assortment = self._rollout, fare.store if fare.store in self._windows else ""
        if fare.release == rollout.version:
            self._running += 1
        elif (fare.release or 0) < rollout.version and assortment in self._sold:
            awake = (self._now - fare.last_seen).total_seconds() < self._silence_s
            self._reachable += awake and reaches(rollout, fare.device, fare.store)

    def _is_silent(self, fare: _Fare) -> bool:
        """Say whether a device was not seen any more soon after it was offered the release, or took it."""
        began = fare.taken if fare.standing == "running" else fare.offered
        if began is None or (fare.last_seen - began).total_seconds() >= self._silence_s:
            return False
        if (self._since - fare.last_seen).total_seconds() >= self._silence_s:
            return False  # a person knew of it and went on
        of_store = self._windows.get(fare.store) if fare.store is not None else None
        window = chosen(self._rollout.plan.window, of_store)
        return open_seconds(window, fare.last_seen, self._now) >= self._silence_s


class Conductor:
    """Moves the rollouts on while the server runs: every 15 seconds, in a thread of its own.

    Of several processes of one server one does it. Where the database fails it says so in the log and tries
    again; nothing is offered to more devices in the meantime.
    """

    def __init__(self, sessions: sessionmaker[Session], offers: Offers, *, every_s: float = EVERY_S) -> None:
        self._sessions, self._offers, self._every_s = sessions, offers, every_s
        self._conducting = Conducting(sessions)
        self._holder = secrets.token_hex(8)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="conductor", daemon=True)

    def start(self) -> None:
        """Begin to watch the rollouts."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, and wait until a step that was begun is taken."""
        self._stopped.set()
        self._thread.join()

    def once(self) -> None:
        """Look at the rollouts, if no other process does.

        Raises:
            StorageUnusable: the database refused.
        """
        self._offers.flush()
        if take_lease(self._sessions, _NAME, self._holder, _LEASE):
            self._conducting.once()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self.once()
            except ShelfsightError as error:
                _log.error("the rollouts could not be looked at: %s", error)


def take_lease(sessions: sessionmaker[Session], name: str, holder: str, length: timedelta) -> bool:
    """Become the one who does something, or go on being it, for a while; return whether that was possible.

    Raises:
        StorageUnusable: the database refused.
    """
    moment = now()
    free = or_(LeaseRow.holder == holder, LeaseRow.until < moment)
    try:
        with transaction(sessions) as session:
            renewed = (
                update(LeaseRow)
                .where(LeaseRow.name == name, free)
                .values(holder=holder, until=moment + length)
                .returning(LeaseRow.name)
            )
            if session.execute(renewed).all():
                return True
            if session.get(LeaseRow, name) is not None:
                return False
            session.add(LeaseRow(name=name, holder=holder, until=moment + length))
        return True
    except StorageUnusable as error:
        if isinstance(error.__cause__, IntegrityError):  # another process was a moment faster
            return False
        raise


def _fares(session: Session, rollout: Rollout) -> list[_Fare]:
    joined = (RolloutDeviceRow.device == DeviceRow.id) & (RolloutDeviceRow.version == rollout.version)
    query = select(
        DeviceRow.id,
        DeviceRow.store,
        DeviceRow.release,
        DeviceRow.last_seen,
        RolloutDeviceRow.standing,
        RolloutDeviceRow.stage,
        RolloutDeviceRow.offered,
        RolloutDeviceRow.taken,
        RolloutDeviceRow.failed,
    ).outerjoin(RolloutDeviceRow, joined)
    return [_Fare(*row) for row in session.execute(query)]
