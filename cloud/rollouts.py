"""Keeps how far each release has been let out, by which plan, and every step of it with its reason."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, cast

from sqlalchemy import JSON, ColumnElement, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from cloud.database import transaction
from cloud.releases import ReleaseRow
from cloud.rollout_rules import Decision, Evidence, Plan, stage_name
from cloud.stores import StoreRow
from cloud.tables import Base
from cloud.times import UtcTime, now, rfc3339
from edge.errors import BadSetting, NoRelease

State = Literal["active", "paused", "aborted"]
STABLE: Final = "stable"
PERSON: Final = "person"
RULE: Final = "rule"


class RolloutRow(Base):
    """How far one release has been let out on one channel."""

    __tablename__ = "rollouts"

    channel: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    percent: Mapped[float]
    state: Mapped[str]
    started: Mapped[datetime] = mapped_column(UtcTime)
    changed: Mapped[datetime] = mapped_column(UtcTime, index=True)
    plan: Mapped[dict[str, Any]] = mapped_column(JSON)
    stage: Mapped[int]
    shadow: Mapped[bool]
    stage_started: Mapped[datetime] = mapped_column(UtcTime)
    judged_from: Mapped[datetime] = mapped_column(UtcTime)
    finished: Mapped[datetime | None] = mapped_column(UtcTime)
    says: Mapped[str]
    seen: Mapped[dict[str, Any]] = mapped_column(JSON)


class RolloutStepRow(Base):
    """One step of a rollout: what was done, by whom, and why; never changed."""

    __tablename__ = "rollout_steps"

    id: Mapped[int] = mapped_column(primary_key=True)
    channel: Mapped[str]
    version: Mapped[int] = mapped_column(index=True)
    at: Mapped[datetime] = mapped_column(UtcTime)
    action: Mapped[str]
    by: Mapped[str]
    percent: Mapped[float]
    reason: Mapped[str]


@dataclass(frozen=True, slots=True)
class Rollout:
    """A release on its way to a share (0 to 100 percent) of the devices of a channel, and its canary stores.

    It is in stage `stage` (from 0) of its `plan` since `stage_started`. What happened before `judged_from`
    was forgiven when a person resumed it. `finished` says since when nobody watches it any more. `says` and
    `seen` are what the last look at it found: a sentence, and the numbers behind it.
    """

    channel: str
    version: int
    percent: float
    state: State
    started: datetime
    changed: datetime
    plan: Plan = field(default_factory=Plan)
    stage: int = 0
    shadow: bool = False
    stage_started: datetime | None = None
    judged_from: datetime | None = None
    finished: datetime | None = None
    says: str = ""
    seen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_public(self) -> bool:
        """Whether everybody is offered it, so that its manifest is nobody's secret."""
        return self.state == "active" and self.percent >= 100 and not self.shadow

    @property
    def counts_devices(self) -> bool:
        """Whether it is noted device by device who is offered it: it is not simply everybody's."""
        return self.plan.staged or self.percent < 100 or self.plan.shadow

    @property
    def stage_name(self) -> str:
        """Name the stage that it is in: `canary`, `25 %`."""
        return stage_name(self.plan.stages[self.stage] if self.plan.staged else self.percent)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a rollout, as it was recorded; `by` is `person` or `rule`."""

    channel: str
    version: int
    at: datetime
    action: str
    by: str
    percent: float
    reason: str


class Rollouts:
    """The rollouts of all channels.

    An aborted release is offered to nobody any more, and the devices that have it keep it: none ever goes
    back to a lower version because it was told to. To bring back earlier content, publish it anew.
    """

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def start(
        self, version: int, percent: float = 100.0, channel: str = STABLE, *, plan: Plan | None = None
    ) -> Rollout:
        """Offer a release to a share of the devices, or change the share of a rollout that runs.

        With a `plan` it goes by that, from its first stage.

        Raises:
            NoRelease: no such release was published.
            BadSetting: no percentage, a canary that is no store, or a rollout that was aborted.
            StorageUnusable: the database refused.
        """
        plan = plan or Plan.parse(percent=percent)
        with transaction(self._sessions) as session:
            known = select(ReleaseRow.version).where(ReleaseRow.version == version).limit(1)
            if session.scalar(known) is None:
                raise NoRelease(f"release {version} was never published: see `rollout status`")
            _check_canary(session, plan)
            row = session.get(RolloutRow, (channel, version))
            if row is None:
                row = RolloutRow(channel=channel, version=version, started=now())
                session.add(row)
            elif row.state == "aborted":
                raise _aborted(version)
            row.plan, row.shadow, row.finished = plan.to_record(), plan.shadow, None
            row.state, row.says, row.seen, row.judged_from = "active", "", {}, now()
            row.stage, row.percent = 0, plan.stages[0]
            row.stage_started = row.changed = now()
            how = f"in stages: {plan.told}" if plan.staged else f"to {plan.stages[0]:g} %"
            _note(session, row, "start", PERSON, how + (", in shadow first" if plan.shadow else ""))
            return read_rollout(row)

    def check(self, plan: Plan) -> None:
        """Look whether a rollout can go by a plan, before there is anything to let out.

        Raises:
            BadSetting: a canary is no store.
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            _check_canary(session, plan)

    def pause(self, version: int | None = None, channel: str = STABLE) -> Rollout:
        """Offer a release to no further devices for now (by default the newest one).

        Raises:
            NoRelease: there is no such rollout.
            BadSetting: it was aborted.
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            row = _wanted(session, version, channel)
            if row.state != "paused":  # by the rule, whose reason stays
                row.says = "a person paused it"
            row.state, row.changed = "paused", now()
            _note(session, row, "pause", PERSON, "")
            return read_rollout(row)

    def resume(self, version: int | None = None, channel: str = STABLE) -> Rollout:
        """Go on with a rollout (by default the newest one): one that was paused, or one that is in shadow.

        A paused one is offered again as it was, and what failed until now no longer counts; one that runs in
        shadow speaks from now on.

        Raises:
            NoRelease: there is no such rollout.
            BadSetting: it was aborted.
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            row = _wanted(session, version, channel)
            if row.state == "active" and row.shadow:
                row.shadow = False
                row.stage_started = row.changed = now()
                _note(session, row, "speak", PERSON, "")
                return read_rollout(row)
            if row.state == "paused":
                row.finished, row.says = None, ""
                row.judged_from = row.stage_started = now()
            row.state, row.changed = "active", now()
            _note(session, row, "resume", PERSON, "")
            return read_rollout(row)

    def abort(self, version: int | None = None, channel: str = STABLE) -> Rollout:
        """Offer a release to nobody any more, for good (by default the newest one).

        Raises:
            NoRelease: there is no such rollout.
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            row = _wanted(session, version, channel, aborted_too=True)
            row.state, row.changed = "aborted", now()
            _note(session, row, "abort", PERSON, "")
            return read_rollout(row)

    def step(self, rollout: Rollout, decision: Decision, seen: Evidence) -> bool:
        """Do what the rule decided about a rollout, if it is still as it was; return whether it was changed.

        What was seen and said is kept either way. Two processes that decide the same do it once.

        Raises:
            StorageUnusable: the database refused.
        """
        same = _still(rollout)
        with transaction(self._sessions) as session:
            values: dict[str, Any] = {"says": decision.reason, "seen": seen.to_record()}
            if decision.action != "wait":
                values |= _after(rollout, decision)
            if session.execute(
                update(RolloutRow).where(*same).values(**values).returning(RolloutRow.version)
            ).all():
                row = session.get(RolloutRow, (rollout.channel, rollout.version))
                if decision.action == "wait" or row is None:
                    return False
                _note(session, row, decision.action, RULE, decision.reason)
                return True
        return False

    def finish(self, rollout: Rollout) -> None:
        """Watch a rollout no longer, without a word: a newer release is everybody's, or a day is over.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            session.execute(update(RolloutRow).where(*_still(rollout)).values(finished=now()))

    def get(self, version: int, channel: str = STABLE) -> Rollout | None:
        """Return the rollout of a release, or None if it was never offered on this channel.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            row = session.get(RolloutRow, (channel, version))
            return None if row is None else read_rollout(row)

    def newest(self, limit: int = 1000) -> list[Rollout]:
        """Return the rollouts of all channels, newest release first.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            query = select(RolloutRow).order_by(RolloutRow.version.desc(), RolloutRow.channel).limit(limit)
            return [read_rollout(row) for row in session.scalars(query)]

    def watched(self) -> list[Rollout]:
        """Return the rollouts that are neither aborted nor finished, newest release first.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            query = (
                select(RolloutRow)
                .where(RolloutRow.state != "aborted", RolloutRow.finished.is_(None))
                .order_by(RolloutRow.version.desc())
            )
            return [read_rollout(row) for row in session.scalars(query)]

    def steps(self, versions: Sequence[int] | None = None, limit: int = 1000) -> list[Step]:
        """Return the recorded steps, newest first: of these releases, or of all.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            query = select(RolloutStepRow).order_by(RolloutStepRow.id.desc()).limit(limit)
            if versions is not None:
                query = query.where(RolloutStepRow.version.in_(versions))
            rows = session.scalars(query)
            return [Step(**{name: getattr(row, name) for name in Step.__slots__}) for row in rows]

    def count_steps(self) -> dict[tuple[str, str], int]:
        """Count the steps by what was done and by whom.

        Raises:
            StorageUnusable: the database refused.
        """
        names = (RolloutStepRow.action, RolloutStepRow.by)
        with transaction(self._sessions) as session:
            rows = session.execute(select(*names, func.count()).group_by(*names))
            return {(row[0], row[1]): row[2] for row in rows}


def rollout_record(rollout: Rollout) -> dict[str, object]:
    """Write a rollout for people's tools; the numbers behind `says` stand beside it."""
    record = {
        "version": rollout.version,
        "channel": rollout.channel,
        "state": rollout.state,
        "percent": rollout.percent,
        "started": rfc3339(rollout.started),
        "changed": rfc3339(rollout.changed),
        "finished": rfc3339(rollout.finished) if rollout.finished else None,
        "stage": rollout.stage_name,
        "shadow": rollout.shadow,
        "plan": rollout.plan.to_record(),
        "says": rollout.says,
    }
    return {**record, "seen": dict(rollout.seen)}


def step_record(step: Step) -> dict[str, object]:
    """Write a step for people's tools."""
    return {name: getattr(step, name) for name in Step.__slots__} | {"at": rfc3339(step.at)}


def in_share(version: int, device: str, percent: float) -> bool:
    """Say whether a device belongs to the first `percent` of this release's rollout.

    The share is drawn by SHA-256 of release and device, so that it grows without shuffling when the
    percentage grows, and so that it is not always the same devices that go first.
    """
    digest = hashlib.sha256(f"{version}:{device}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < percent / 100 * 2**64


def reaches(rollout: Rollout, device: str, store: str | None) -> bool:
    """Say whether a rollout has come to a device: it is of a canary store, or in the share."""
    return (store is not None and store in rollout.plan.canary) or in_share(
        rollout.version, device, rollout.percent
    )


def _check_canary(session: Session, plan: Plan) -> None:
    stores = set(session.scalars(select(StoreRow.name).where(StoreRow.name.in_(plan.canary))))
    if unknown := sorted(set(plan.canary) - stores):
        raise BadSetting(
            f"there is no store {unknown[0]!r} to be a canary: `store list` shows those there are"
        )


def _after(rollout: Rollout, decision: Decision) -> dict[str, Any]:
    """Return what a decision changes in the row."""
    moment = now()
    if decision.action in ("pause", "abort"):
        return {"state": {"pause": "paused", "abort": "aborted"}[decision.action], "changed": moment}
    if decision.action == "speak":
        return {"shadow": False, "stage_started": moment, "changed": moment}
    if decision.action == "finish":
        return {"finished": moment, "changed": moment}
    stage = rollout.stage + 1
    percent = rollout.plan.stages[stage]
    return {"stage": stage, "percent": percent, "stage_started": moment, "changed": moment}


def _still(rollout: Rollout) -> tuple[ColumnElement[bool], ...]:
    """Select a rollout's row as long as nobody has changed it since it was read."""
    return (
        RolloutRow.channel == rollout.channel,
        RolloutRow.version == rollout.version,
        RolloutRow.state == rollout.state,
        RolloutRow.changed == rollout.changed,
    )


def _note(session: Session, row: RolloutRow, action: str, by: str, reason: str) -> None:
    session.add(
        RolloutStepRow(
            channel=row.channel,
            version=row.version,
            at=now(),
            action=action,
            by=by,
            percent=row.percent,
            reason=reason,
        )
    )


def _wanted(session: Session, version: int | None, channel: str, *, aborted_too: bool = False) -> RolloutRow:
    query = select(RolloutRow).where(RolloutRow.channel == channel)
    if version is not None:
        query = query.where(RolloutRow.version == version)
    row = session.scalars(query.order_by(RolloutRow.version.desc()).limit(1)).first()
    if row is None:
        what = "no release was ever" if version is None else f"release {version} was never"
        raise NoRelease(f"{what} offered on channel {channel}: see `rollout status`")
    if row.state == "aborted" and not aborted_too:
        raise _aborted(row.version)
    return row


def _aborted(version: int) -> BadSetting:
    return BadSetting(
        f"the rollout of release {version} was aborted for good: publish a new release "
        "(`publish --content-of VERSION` brings earlier content back)"
    )


def read_rollout(row: RolloutRow) -> Rollout:
    """Read a row as it stands."""
    return Rollout(
        channel=row.channel,
        version=row.version,
        percent=row.percent,
        state=cast(State, row.state),
        started=row.started,
        changed=row.changed,
        plan=Plan.from_record(row.plan),
        stage=row.stage,
        shadow=row.shadow,
        stage_started=row.stage_started,
        judged_from=row.judged_from,
        finished=row.finished,
        says=row.says,
        seen=row.seen,
    )
