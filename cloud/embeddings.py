"""Keeps the embeddings of photos, so that an unchanged photo is never embedded twice.

A cache in the strict sense: it may be deleted at any time, and a damaged one is made anew.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from edge.disk import storage_error
from edge.errors import StorageUnusable

# Counts up when `edge.image`, `edge.embedder` or `edge.reference` come to give other vectors for the same
# photo and model.
PIPELINE: Final = 2
_BUSY_S: Final = 30


class EmbeddingCache:
    """Vectors by model file, role and photo; float32 (D,), unit length.

    Model files and photos are named by their SHA-256; the role, `query` or `reference`, says how it was
    looked at.
    """

    def __init__(self, folder: Path) -> None:
        """Open the cache in `folder`, or make it there.

        Raises:
            StorageUnusable: the folder cannot be written.
        """
        self._path = folder / "embeddings.db"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, folder) from error
        try:
            self._connection = self._open()
        except sqlite3.DatabaseError:
            self._path.unlink(missing_ok=True)
            self._connection = self._open_or_refuse()

    def known(self, model: str, role: str, photos: list[str]) -> Mapping[str, NDArray[np.float32]]:
        """Return the vectors that are kept for these photos in this role, embedded by this model file.

        Raises:
            StorageUnusable: the cache cannot be read.
        """
        wanted = set(photos)
        try:
            rows = self._connection.execute(
                "SELECT photo, vector FROM vectors WHERE model = ? AND pipeline = ? AND role = ?",
                (model, PIPELINE, role),
            ).fetchall()
        except sqlite3.Error as error:
            raise self._refused(error) from error
        return {photo: np.frombuffer(vector, dtype="<f4") for photo, vector in rows if photo in wanted}

    def keep(self, model: str, role: str, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Keep the vectors of these photos; all of them or, when the process is killed, none.

        Raises:
            StorageUnusable: the cache cannot be written.
        """
        rows = [
            (model, PIPELINE, role, photo, vector.astype("<f4").tobytes())
            for photo, vector in vectors.items()
        ]
        try:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_BUSY_S)
        try:
            with closing(connection.cursor()) as cursor:
                cursor.execute("PRAGMA journal_mode = WAL")
                cursor.execute(
                    "CREATE TABLE IF NOT EXISTS vectors"
                    " (model TEXT, pipeline INTEGER, role TEXT, photo TEXT, vector BLOB,"
                    " PRIMARY KEY (model, pipeline, role, photo)) WITHOUT ROWID"
                )
                cursor.execute("DROP TABLE IF EXISTS embeddings")  # of version 0.2 and before
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _open_or_refuse(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def _refused(self, error: sqlite3.Error) -> StorageUnusable:
        return StorageUnusable(
            f"the embedding cache {self._path} cannot be used ({error}): delete it and try again"
        )
