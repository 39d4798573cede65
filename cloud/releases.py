"""Keeps the record of what was published: one row a release, never changed."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from cloud.database import Base, transaction
from cloud.times import UtcTime


class ReleaseRow(Base):
    """One published release; its manifest is the repository file `sha256`."""

    __tablename__ = "releases"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    created: Mapped[datetime] = mapped_column(UtcTime)
    sha256: Mapped[str]
    model: Mapped[str]
    space: Mapped[str]
    products: Mapped[int]
    rows: Mapped[int]
    files: Mapped[int]
    size: Mapped[int]
    new_bytes: Mapped[int]


@dataclass(frozen=True, slots=True)
class PublishedRelease:
    """What is known of a published release.

    `sha256` names its manifest in the repository; `files` counts all that it has. `size` is what a new device
    fetches that answers on its CPU, `new_bytes` what such a device with the release before it fetches, both
    in bytes and with the manifest.
    """

    version: int
    created: datetime
    sha256: str
    model: str
    space: str
    products: int
    rows: int
    files: int
    size: int
    new_bytes: int


class Releases:
    """The releases that were published from this data folder."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def record(self, release: PublishedRelease) -> None:
        """Remember a release that was just signed.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            session.add(ReleaseRow(**{name: getattr(release, name) for name in PublishedRelease.__slots__}))

    def latest(self) -> PublishedRelease | None:
        """Return the newest release, or None before the first.

        Raises:
            StorageUnusable: the database refused.
        """
        newest = self.newest(1)
        return newest[0] if newest else None

    def newest(self, limit: int = 1000) -> list[PublishedRelease]:
        """Return the releases, newest first.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            rows = session.scalars(select(ReleaseRow).order_by(ReleaseRow.version.desc()).limit(limit))
            return [_published(row) for row in rows]

    def get(self, version: int) -> PublishedRelease | None:
        """Return one release, or None if it was never published.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            row = session.get(ReleaseRow, version)
            return None if row is None else _published(row)


def _published(row: ReleaseRow) -> PublishedRelease:
    return PublishedRelease(**{name: getattr(row, name) for name in PublishedRelease.__slots__})
