"""Times in the database and on the wire: always UTC, always aware."""

from datetime import UTC, datetime

from sqlalchemy import DateTime
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class UtcTime(TypeDecorator[datetime]):
    """A column of aware UTC times; SQLite has no time zones, so the database keeps them without."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware time into the naive UTC time that is stored."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn a stored time into an aware one."""
        return None if value is None else value.replace(tzinfo=UTC)


def now() -> datetime:
    """Return the present, aware, in UTC."""
    return datetime.now(UTC)


def rfc3339(time: datetime) -> str:
    """Write a time as `2026-11-23T10:10:00Z`."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
