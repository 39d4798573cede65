"""Keeps the record of what was published: one row a release and assortment, never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from cloud.database import transaction
from cloud.tables import Base
from cloud.times import UtcTime


class ReleaseRow(Base):
    """One published release of one assortment; its manifest is the repository file `sha256`."""

    __tablename__ = "releases"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    assortment: Mapped[str] = mapped_column(primary_key=True, index=True)
    created: Mapped[datetime] = mapped_column(UtcTime)
    sha256: Mapped[str] = mapped_column(index=True)
    model: Mapped[str]
    space: Mapped[str]
    products: Mapped[int]
    rows: Mapped[int]
    files: Mapped[int]
    size: Mapped[int]
    new_bytes: Mapped[int]


@dataclass(frozen=True, slots=True)
class PublishedRelease:
    """What is known of a published release of an assortment; the assortment "" is the whole catalog.

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
    assortment: str = ""


class Releases:
    """The releases that were published from this data folder."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def record(self, *releases: PublishedRelease) -> None:
        """Remember what was just signed, all of it or nothing.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            for each in releases:
                values = {name: getattr(each, name) for name in PublishedRelease.__slots__}
                session.add(ReleaseRow(**values))

    def latest(self, assortment: str | None = None) -> PublishedRelease | None:
        """Return the newest release, of an assortment or of any; None before the first.

        Raises:
            StorageUnusable: the database refused.
        """
        newest = self.newest(1, assortment)
        return newest[0] if newest else None

    def newest(self, limit: int = 1000, assortment: str | None = None) -> list[PublishedRelease]:
        """Return the releases, newest first: of an assortment, or of all.

        Raises:
            StorageUnusable: the database refused.
        """
        query = select(ReleaseRow).order_by(ReleaseRow.version.desc(), ReleaseRow.assortment).limit(limit)
        if assortment is not None:
            query = query.where(ReleaseRow.assortment == assortment)
        with transaction(self._sessions) as session:
            return [_published(row) for row in session.scalars(query)]

    def latest_of_each(self) -> dict[str, PublishedRelease]:
        """Return the newest release of every assortment.

        Raises:
            StorageUnusable: the database refused.
        """
        newest = (
            select(ReleaseRow.assortment, func.max(ReleaseRow.version).label("version"))
            .group_by(ReleaseRow.assortment)
            .subquery()
        )
        is_newest = (ReleaseRow.assortment == newest.c.assortment) & (ReleaseRow.version == newest.c.version)
        with transaction(self._sessions) as session:
            rows = session.scalars(select(ReleaseRow).join(newest, is_newest))
            return {row.assortment: _published(row) for row in rows}

    def versions_of(self, assortment: str) -> Sequence[int]:
        """Return the versions that there are of an assortment, newest first.

        Raises:
            StorageUnusable: the database refused.
        """
        query = select(ReleaseRow.version).where(ReleaseRow.assortment == assortment)
        with transaction(self._sessions) as session:
            return session.scalars(query.order_by(ReleaseRow.version.desc())).all()

    def get(self, version: int, assortment: str = "") -> PublishedRelease | None:
        """Return one release, or None if it was never published for this assortment.

        Raises:
            StorageUnusable: the database refused.
        """
        with transaction(self._sessions) as session:
            row = session.get(ReleaseRow, (version, assortment))
            return None if row is None else _published(row)


def _published(row: ReleaseRow) -> PublishedRelease:
    return PublishedRelease(**{name: getattr(row, name) for name in PublishedRelease.__slots__})
