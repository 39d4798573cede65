"""Says at a heartbeat which release a device is offered, and at a request for a manifest who may have it.

Ten thousand devices ask every minute, so what runs is kept in memory, and it takes one row to see that
it still does. Who was offered a release on its way is noted in batches.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from cloud.database import transaction
from cloud.fleet import Fleet
from cloud.releases import ReleaseRow
from cloud.rollout_devices import RolloutDevices, Sighting, Standing
from cloud.rollouts import STABLE, Rollout, RolloutRow, reaches, read_rollout
from cloud.stores import StoreRow
from cloud.times import now
from cloud.windows import Window, chosen
from edge.disk import storage_error
from edge.errors import BadManifest, BadSetting, FormatTooNew
from edge.release import Release

_NOTED_EVERY_S: Final = 1.0
_ALL_EVERY_S: Final = 10.0
_SET_ASIDE: Final = "set_aside"
_REMEMBERED_NAMES: Final = 100_000
_MOST_MANIFEST_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Offer:
    """What a device is to have: `version` (None: keep what it has) of an assortment, perhaps in shadow."""

    version: int | None
    assortment: str = ""
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class _Running:
    """What runs, as it was read at `read` (monotonic seconds); `stamp` changes when rollouts do."""

    read: float
    stamp: datetime | None
    partial: tuple[Rollout, ...] = ()
    counted: tuple[Rollout, ...] = ()
    manifests: frozenset[tuple[int, str]] = frozenset()
    everybodys: Mapping[str, int] = field(default_factory=dict)
    public: frozenset[int] = frozenset()
    windows: Mapping[str, Window | None] = field(default_factory=dict)

    def assortment(self, store: str | None) -> str:
        return store if store is not None and store in self.windows else ""

    def window(self, rollout: Rollout | None, store: str | None) -> Window | None:
        """Return when a device of a store may be changed; a rollout's own window goes before the store's."""
        of_store = self.windows.get(store) if store is not None else None
        return chosen(rollout.plan.window if rollout else "", of_store)


class Offers:
    """What each device is offered. Safe between threads; every process of the server has its own."""

    def __init__(
        self, sessions: sessionmaker[Session], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read nothing yet; `clock` gives seconds."""
        self._sessions, self._clock = sessions, clock
        self._devices, self._fleet = RolloutDevices(sessions), Fleet(sessions)
        self._running: _Running | None = None
        self._reading, self._noting = threading.Lock(), threading.Lock()
        self._known: dict[tuple[int, str], Standing] = {}
        self._waiting: list[Sighting] = []
        self._noted = float("-inf")
        self._versions: OrderedDict[str, int | None] = OrderedDict()

    # Heartbeats -----------------------------------------------------------------------------------------

    def offer(
        self,
        device: str,
        store: str | None,
        current: int | None,
        *,
        set_aside: Collection[object] = (),
        moment: datetime | None = None,
    ) -> Offer:
        """Say what a device of a store is to have that runs release `current`; nothing older is ever offered.

        `set_aside` are the releases that it says failed on it, `moment` the present, unless told otherwise.

        Raises:
            StorageUnusable: the database refused.
        """
        running = self._read()
        offered = _choose(running, device, store, current, moment or now())
        for rollout in running.counted:
            standing = self._seen(rollout.version, device, current, offered, rollout.version in set_aside)
            if standing is not None:
                failure = _SET_ASIDE if standing == "failed" else None
                self._known[rollout.version, device] = standing
                self._waiting.append(
                    Sighting(rollout.version, device, store, rollout.stage, standing, failure)
                )
        if self._waiting and self._clock() - self._noted >= _NOTED_EVERY_S:
            self.flush()
        return offered

    def refresh(self) -> None:
        """Read what runs at once: whoever is told that there is something new is offered it.

        Raises:
            StorageUnusable: the database refused.
        """
        self._read(wait=True)

    @property
    def are_counted(self) -> bool:
        """Whether a rollout is on its way whose devices must come by often, so that silence is noticed."""
        return bool((self._running or self._read()).counted)

    def flush(self) -> None:
        """Bring to the database what was seen of devices since the last time.

        Raises:
            StorageUnusable: the database refused; it is kept for the next time.
        """
        with self._noting:
            waiting, self._waiting = self._waiting, []
            self._noted = self._clock()
            try:
                self._devices.note(waiting)
            except BaseException:
                self._waiting = waiting + self._waiting
                raise

    def _seen(
        self, version: int, device: str, current: int | None, offered: Offer, set_aside: bool
    ) -> Standing | None:
        """Say what is new of how a device fares with a release, None if nothing is."""
        known = self._known.get((version, device))
        standing: Standing | None = None
        if current == version:
            standing = "running"
        elif set_aside:
            standing = "failed"
        elif known == "running" and (current or 0) < version:
            standing = "offered"  # of a device that ran it this says that it stepped back
        elif offered.version == version and known is None:
            standing = "offered"
        return None if standing == known else standing

    # Files ----------------------------------------------------------------------------------------------

    def is_public(self, sha256: str, path: Path) -> bool:
        """Say whether anybody may have the file `path` of the repository: it is no manifest, or everybody's.

        Raises:
            StorageUnusable: the database or the file cannot be read.
        """
        known = self._version_of(sha256, path)
        return known is None or known in self._read(wait=True).public

    def may_have(self, sha256: str, token: str) -> bool:
        """Say whether the device with this token may have a manifest that is not everybody's.

        It may if it runs the release, is offered it now, or was. A relay has no share of its own: it shows
        the token of the device that asks it.

        Raises:
            StorageUnusable: the database refused.
        """
        version, device = self._versions.get(sha256), self._fleet.by_token(token)
        if version is None or device is None:
            return False
        if device.release == version or self._devices.was_offered(version, device.id):
            return True
        running = self._read(wait=True)
        return _choose(running, device.id, device.store, device.release, now()).version == version

    def _version_of(self, sha256: str, path: Path) -> int | None:
        """Return the release whose manifest a file is: 0 if it is not known yet, None if the file is none."""
        if sha256 in self._versions:
            return self._versions[sha256]
        with transaction(self._sessions) as session:
            version = session.scalar(select(ReleaseRow.version).where(ReleaseRow.sha256 == sha256).limit(1))
        if version is None and _is_manifest(path):
            return 0  # of a release that is being published at this moment
        self._versions[sha256] = version
        if len(self._versions) > _REMEMBERED_NAMES:
            self._versions.popitem(last=False)
        return version

    # What runs ------------------------------------------------------------------------------------------

    def _read(self, *, wait: bool = False) -> _Running:
        """Return what runs; while one thread looks, others take what there is, unless they `wait`."""
        if not self._reading.acquire(blocking=wait or self._running is None):
            assert self._running is not None
            return self._running
        try:
            before, self._running = self._running, self._read_anew(self._running)
            if before is None or self._running.stamp != before.stamp:
                counted = {rollout.version for rollout in self._running.counted}
                self._known = {key: known for key, known in self._known.items() if key[0] in counted}
            return self._running
        finally:
            self._reading.release()

    def _read_anew(self, before: _Running | None) -> _Running:
        began = self._clock()
        with transaction(self._sessions) as session:
            stamp = session.scalar(select(func.max(RolloutRow.changed)))
            # Now and then everything: stores change too, and a clock that was set back hides a change.
            if before is not None and before.stamp == stamp and began - before.read < _ALL_EVERY_S:
                return before
            return _Running(read=began, stamp=stamp, windows=store_windows(session), **_of_rollouts(session))


def _of_rollouts(session: Session) -> dict[str, Any]:
    stable = RolloutRow.channel == STABLE
    everybodys = (stable, RolloutRow.state == "active", RolloutRow.percent >= 100, ~RolloutRow.shadow)
    public = frozenset(session.scalars(select(RolloutRow.version).where(*everybodys)))
    newest = (
        select(ReleaseRow.assortment, func.max(ReleaseRow.version))
        .join(RolloutRow, RolloutRow.version == ReleaseRow.version)
        .where(*everybodys)
        .group_by(ReleaseRow.assortment)
    )
    unfinished = (
        select(RolloutRow).where(stable, RolloutRow.state != "aborted").order_by(RolloutRow.version.desc())
    )
    partly = (RolloutRow.percent < 100) | RolloutRow.shadow
    rows = session.scalars(unfinished.where(partly | RolloutRow.finished.is_(None)))
    rollouts = [read_rollout(row) for row in rows]
    partial = tuple(
        each for each in rollouts if each.state == "active" and (not each.is_public or each.plan.window)
    )
    offered = [each.version for each in partial]
    manifests = select(ReleaseRow.version, ReleaseRow.assortment).where(ReleaseRow.version.in_(offered))
    return {
        "partial": partial,
        "counted": tuple(each for each in rollouts if each.counts_devices and each.finished is None),
        "manifests": frozenset((row[0], row[1]) for row in session.execute(manifests)),
        "everybodys": {row[0]: row[1] for row in session.execute(newest)},
        "public": public,
    }


def _choose(
    running: _Running, device: str, store: str | None, current: int | None, moment: datetime
) -> Offer:
    assortment = running.assortment(store)
    everybodys = running.everybodys.get(assortment)
    offer, window = Offer(everybodys, assortment), running.window(None, store)
    for rollout in running.partial:
        if rollout.version < max(current or 0, everybodys or 0):
            break
        is_for_it = (rollout.version, assortment) in running.manifests and reaches(rollout, device, store)
        # One that has nothing yet could not answer at all beside a release that keeps silent.
        if is_for_it and not (rollout.shadow and current is None):
            offer = Offer(rollout.version, assortment, rollout.shadow)
            window = running.window(rollout, store)
            break
    if offer.version is None or offer.version < (current or 0):
        return Offer(None, assortment)
    in_time = current is None or offer.version == current or window is None or window.is_open(moment)
    return offer if in_time else Offer(None, assortment)


def store_windows(session: Session) -> dict[str, Window | None]:
    """Return the hours of each store in which its devices may be changed; None: always."""
    windows: dict[str, Window | None] = {}
    for row in session.scalars(select(StoreRow)):
        try:
            windows[row.name] = Window.parse(row.window, row.timezone) if row.window else None
        except BadSetting:  # checked when it was set; this machine may know fewer time zones than that one
            windows[row.name] = None
    return windows


def _is_manifest(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if file.read(1) != b"{" or path.stat().st_size > _MOST_MANIFEST_BYTES:
                return False
        Release.from_bytes(path.read_bytes())
    except FormatTooNew:
        return True
    except BadManifest:
        return False
    except OSError as error:
        raise storage_error(error, path) from error
    return True
