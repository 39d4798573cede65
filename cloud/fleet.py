"""Keeps the devices: how one joins with a one-time code, proves who it is, and when it was last seen.

Neither codes nor tokens are stored, only their SHA-256: a copy of the database opens nothing. Tokens are 256
random bits, so a plain hash is enough; codes are 40 bits, live a day, and are used once, and guessing them on
line is held back by `WrongCodeBrake`.
"""

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final, cast

from sqlalchemy import JSON, Table, bindparam, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from cloud.database import transaction
from cloud.tables import Base
from cloud.times import UtcTime, now, rfc3339
from edge.errors import AccessDenied, BadSetting, EnrollmentRefused, ServerBusy

_ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # 32 letters that are not mistaken for each other
_CODE = re.compile(r"([0-9A-Z]{8})[0-9A-Z]{10}")
_LONGEST_NAME: Final = 120
DEFAULT_TTL: Final = timedelta(hours=24)


class CodeRow(Base):
    """One enrollment code, by the hash of its secret part; `device` is who used it."""

    __tablename__ = "enrollment_codes"

    code_sha256: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(UtcTime)
    expires: Mapped[datetime] = mapped_column(UtcTime)
    device: Mapped[str | None]
    store: Mapped[str | None]


class DeviceRow(Base):
    """One enrolled device."""

    __tablename__ = "devices"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    device_class: Mapped[str]
    software: Mapped[str]
    store: Mapped[str | None] = mapped_column(index=True)
    token_sha256: Mapped[str] = mapped_column(index=True)
    enrolled: Mapped[datetime] = mapped_column(UtcTime)
    last_seen: Mapped[datetime] = mapped_column(UtcTime)
    release: Mapped[int | None] = mapped_column(index=True)
    status: Mapped[dict[str, Any]] = mapped_column(JSON)


@dataclass(frozen=True, slots=True)
class Device:
    """A device as people see it: what it runs, what it said of itself, when it was last seen."""

    id: str
    name: str
    device_class: str
    software: str
    store: str | None
    enrolled: datetime
    last_seen: datetime
    release: int | None
    status: Mapping[str, Any]

    def to_record(self) -> dict[str, object]:
        """Write the device as the fleet list has it; never its token."""
        return {
            "id": self.id,
            "name": self.name,
            "class": self.device_class,
            "version": self.software,
            "store": self.store,
            "release": self.release,
            "enrolled": rfc3339(self.enrolled),
            "last_seen": rfc3339(self.last_seen),
            "status": self.status,
        }


@dataclass(frozen=True, slots=True)
class Sighted:
    """A device that came by at a time, the release that it runs and what it says of itself."""

    device: str
    at: datetime
    release: int | None
    status: Mapping[str, Any]


_TABLE: Final = cast(Table, DeviceRow.__table__)
_SAW: Final = (
    update(_TABLE)
    .where(_TABLE.c.id == bindparam("row"))
    .values({name: bindparam(name) for name in ("last_seen", "release", "status")})
)


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a device says of itself when it enrolls.

    Raises:
        BadSetting: a text that is too long or not printable.
    """

    name: str
    device_class: str
    software: str

    def __post_init__(self) -> None:
        for text in (self.name, self.device_class, self.software):
            if len(text) > _LONGEST_NAME or not text.isprintable():
                raise BadSetting(
                    f"a device's name, class and version are at most {_LONGEST_NAME} printable letters"
                )


class Fleet:
    """The devices that belong to this server."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def new_code(self, fingerprint: str, ttl: timedelta = DEFAULT_TTL, *, store: str | None = None) -> str:
        """Make a code with which one device of `store` may enroll once: `XXXX-XXXX-FFFFFFFFFF`.

        The last part is the fingerprint of the root key: who types the code tells the device whom to trust.

        Raises:
            BadSetting: a life that is not between a minute and a year.
            StorageUnusable: the database refused.
        """
        return self.new_codes(fingerprint, 1, ttl, store=store)[0]

    def new_codes(
        self, fingerprint: str, count: int, ttl: timedelta = DEFAULT_TTL, *, store: str | None = None
    ) -> list[str]:
        """Make `count` codes as `new_code` does, all or none.

        Raises:
            BadSetting: a life that is not between a minute and a year.
            StorageUnusable: the database refused; none was made.
        """
        if not timedelta(minutes=1) <= ttl <= timedelta(days=366):
            raise BadSetting(f"a code that lives {ttl} is of no use: give it from a minute to a year")
        secret_parts: set[str] = set()
        while len(secret_parts) < count:
            secret_parts.add("".join(secrets.choice(_ALPHABET) for _ in range(8)))
        made = now()
        with transaction(self._sessions) as session:
            session.add_all(
                CodeRow(code_sha256=_sha256(secret), created=made, expires=made + ttl, store=store)
                for secret in secret_parts
            )
        return [f"{secret[:4]}-{secret[4:]}-{fingerprint}" for secret in secret_parts]

    def enroll(self, code: str, info: DeviceInfo) -> tuple[str, str]:
        """Take a device in; return its id and the token with which it proves itself from now on.

        Raises:
            EnrollmentRefused: the code is wrong, used or expired (which of these is not told).
            StorageUnusable: the database refused; the code can be used again.
        """
        device = f"d-{secrets.token_hex(6)}"
        token = secrets.token_urlsafe(32)
        with transaction(self._sessions) as session:
            store = _use_code(session, code, device)
            session.add(
                DeviceRow(
                    id=device,
                    name=info.name or device,
                    device_class=info.device_class,
                    software=info.software,
                    store=store,
                    token_sha256=_sha256(token),
                    enrolled=now(),
                    last_seen=now(),
                    release=None,
                    status={},
                )
            )
        return device, token

    def authenticate(self, device: str, token: str) -> str | None:
        """Check that a token is the device's own; return its store, None if it has none.

        Raises:
            AccessDenied: there is no such device, or it has another token.
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            # Two columns: a status is a kilobyte, and this is asked ten thousand times a minute.
            query = select(DeviceRow.token_sha256, DeviceRow.store).where(DeviceRow.id == device)
            row = (
                session.execute(query).one_or_none() if "\0" not in device else None
            )  # PostgreSQL takes none
        expected = row[0] if row is not None else _sha256("")
        if not hmac.compare_digest(expected, _sha256(token)) or row is None:
            raise AccessDenied(f"device {device[:40]!r} is not known here: enroll it again with a new code")
        return row[1]

    def by_token(self, token: str) -> Device | None:
        """Return the device that a token belongs to, or None.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            row = session.scalar(select(DeviceRow).where(DeviceRow.token_sha256 == _sha256(token)))
            return None if row is None else _device(row)

    def remove(self, device: str) -> None:
        """Forget a device: its token opens nothing any more, and what it told is kept.

        Raises:
            BadSetting: there is no such device.
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            row = session.get(DeviceRow, device)
            if row is None:
                raise BadSetting(f"there is no device {device!r}: `shelfsight-cloud fleet` lists them")
            session.delete(row)

    def seen(self, device: str, release: int | None, status: Mapping[str, Any]) -> None:
        """Remember that a device was here, what it runs and what it says of itself.

        Raises:
            StorageUnusable: the database refused.
        """
        self.saw([Sighted(device, now(), release, status)])

    def saw(self, sighted: Iterable["Sighted"]) -> None:
        """Remember of many devices at once that they were here; those that were removed meanwhile stay so.

        Raises:
            StorageUnusable: the database refused; nothing was written.
        """
        # In the same order everywhere: two servers that write the same rows must not wait for each other.
        rows = [
            {"row": each.device, "last_seen": each.at, "release": each.release, "status": dict(each.status)}
            for each in sorted(sighted, key=attrgetter("device"))
        ]
        if rows:
            with transaction(self._sessions) as session:
                session.connection().execute(_SAW, rows)

    def devices(self, limit: int = 1000) -> list[Device]:
        """Return the devices, most recently seen first.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            rows = session.scalars(
                select(DeviceRow).order_by(DeviceRow.last_seen.desc(), DeviceRow.id).limit(limit)
            )
            return [_device(row) for row in rows]

    def count(self) -> int:
        """Return how many devices are enrolled.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            return session.scalar(select(func.count()).select_from(DeviceRow)) or 0

    def count_by_release(self) -> dict[int | None, int]:
        """Return how many devices run each release; None stands for those without one.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            query = select(DeviceRow.release, func.count()).group_by(DeviceRow.release)
            return {row[0]: row[1] for row in session.execute(query)}

    def count_by_delegate(self) -> dict[tuple[str | None, str | None], int]:
        """Return how many devices run their network by which delegate, and wanted which; None: not told yet.

        Raises:
            StorageUnusable: the database refused.
        """
        used, wanted = (DeviceRow.status[name].as_string() for name in ("delegate", "wanted"))
        with transaction(self._sessions) as session:
            query = select(used, wanted, func.count()).group_by(used, wanted)
            return {(row[0], row[1]): row[2] for row in session.execute(query)}


class WrongCodeBrake:
    """Holds back who tries codes: at most `most` wrong ones within `window_s` seconds from one address.

    Kept in memory and safe between threads; a restart forgets it, which a 40-bit code can afford.
    """

    def __init__(
        self, most: int = 10, window_s: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._window_s, self._clock = most, window_s, clock
        self._wrong: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def check(self, address: str) -> None:
        """Let an address try a code.

        Raises:
            ServerBusy: it has tried too many wrong ones; `retry_after` says for how long.
        """
        with self._lock:
            wrong = self._recent(address)
            if len(wrong) >= self._most:
                wait = max(1.0, wrong[0] + self._window_s - self._clock())
                raise ServerBusy("too many wrong codes: wait a minute and check the code", retry_after=wait)

    def wrong(self, address: str) -> None:
        """Remember that an address gave a wrong code."""
        with self._lock:
            if len(self._wrong) > 10_000:  # a flood from many addresses must not fill the memory
                self._wrong.clear()
            self._recent(address).append(self._clock())

    def _recent(self, address: str) -> deque[float]:
        times = self._wrong.setdefault(address, deque(maxlen=self._most))
        while times and times[0] <= self._clock() - self._window_s:
            times.popleft()
        return times


def _use_code(session: Session, code: str, device: str) -> str | None:
    # One statement tests and takes the code, so that two devices with the same code cannot both get in.
    found = _CODE.fullmatch(re.sub(r"[\s-]", "", code[:100]).upper())
    taken: list[str | None] = []
    if found:
        query = (
            update(CodeRow)
            .where(CodeRow.code_sha256 == _sha256(found[1]))
            .where(CodeRow.device.is_(None), CodeRow.expires > now())
            .values(device=device)
            .returning(CodeRow.store)
        )
        taken = list(session.scalars(query))
    if len(taken) != 1:
        raise EnrollmentRefused(
            "this enrollment code is wrong, used or expired: get a new one from `shelfsight-cloud fleet code`"
        )
    return taken[0]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _device(row: DeviceRow) -> Device:
    return Device(**{name: getattr(row, name) for name in Device.__slots__})
