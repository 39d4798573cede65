"""The cloud's data folder: what lies where in it."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from cloud.database import DATABASE_NAME, open_database
from cloud.photos import PhotoStorage
from edge.disk import storage_error
from edge.errors import StorageUnusable


@dataclass(frozen=True, slots=True)
class Workspace:
    """One data folder of the cloud. `database_url` names another database than the one in the folder."""

    data: Path
    database_url: str | None = None

    @property
    def database(self) -> Path:
        """The SQLite file, unless `database_url` names another database."""
        return self.data / DATABASE_NAME

    @property
    def photos(self) -> Path:
        """Reference photos by their hash."""
        return self.data / "photos"

    @property
    def models(self) -> Path:
        """One model folder per model of the user's own."""
        return self.data / "models"

    @property
    def runs(self) -> Path:
        """One folder per training."""
        return self.data / "runs"

    @property
    def cache(self) -> Path:
        """What can be computed again; may be deleted at any time."""
        return self.data / "cache"

    @property
    def keys(self) -> Path:
        """The private signing keys."""
        return self.data / "keys"

    @property
    def repository(self) -> Path:
        """What devices may fetch."""
        return self.data / "repository"

    @property
    def metadata(self) -> Path:
        """The signed TUF metadata."""
        return self.repository / "metadata"

    @property
    def files(self) -> Path:
        """The files of all releases by their hash."""
        return self.repository / "files"

    @classmethod
    def open(cls, data: Path, database_url: str | None = None) -> "Workspace":
        """Open a data folder that `create` made.

        Raises:
            StorageUnusable: the folder was never initialized.
        """
        workspace = cls(data, database_url)
        if not workspace.photos.is_dir():
            raise StorageUnusable(
                f"{data} is not a Shelfsight data folder: "
                f"run `shelfsight-cloud init --data {data}` first, or name another with --data"
            )
        if database_url is None and not workspace.database.is_file():
            raise StorageUnusable(
                f"{data} has no database of its own: name the one it was made with by --database, "
                f"or make one by `shelfsight-cloud init --data {data}`"
            )
        return workspace

    @classmethod
    def create(cls, data: Path, database_url: str | None = None) -> "Workspace":
        """Make a data folder with an empty catalog; what a folder already holds stays as it is.

        Raises:
            StorageUnusable: the folder or the database in it cannot be made.
        """
        workspace = cls(data, database_url)
        folders = (workspace.photos, workspace.models, workspace.runs, workspace.cache, workspace.files)
        try:
            for folder in (*folders, workspace.metadata):
                folder.mkdir(parents=True, exist_ok=True)
            workspace.keys.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise storage_error(error, data) from error
        workspace.sessions()
        return workspace

    def sessions(self) -> sessionmaker[Session]:
        """Open the database; keep the result, it holds the connections.

        Raises:
            StorageUnusable: the database cannot be opened.
        """
        return open_database(self.data, self.database_url)

    def photo_storage(self) -> PhotoStorage:
        """Return the storage of this folder's photos."""
        return PhotoStorage(self.photos)

    def proposed_photo_storage(self) -> PhotoStorage:
        """Return the storage of the photos that devices propose, apart from those of the catalog."""
        return PhotoStorage(self.data / "proposed")
