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
_LOOKED_UP: Final = 2_000  # photos up to which each is asked for; of more the whole table is read


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
        query = "SELECT photo, vector FROM vectors WHERE model = ? AND pipeline = ? AND role = ?"
        wanted, one = set(photos), f"{query} AND photo = ?"
        try:
            if len(wanted) < _LOOKED_UP:
                found = [self._connection.execute(one, (model, PIPELINE, role, each)) for each in wanted]
                rows = [row for each in found for row in each]
            else:
                rows = self._connection.execute(query, (model, PIPELINE, role)).fetchall()
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

    def known_rows(self, model: str, scale: float) -> Mapping[str, bytes]:
        """Return the quantized rows that are kept of reference photos of this model file, int8 (D,) as bytes.

        A row is a quarter of a vector: a large catalog is published from these.

        Raises:
            StorageUnusable: the cache cannot be read.
        """
        query = "SELECT photo, row FROM rows WHERE model = ? AND pipeline = ? AND scale = ?"
        try:
            return dict(self._connection.execute(query, (model, PIPELINE, scale)))
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def keep_rows(self, model: str, scale: float, rows: Mapping[str, bytes]) -> None:
        """Keep the quantized rows of reference photos; all of them or, when the process is killed, none.

        Raises:
            StorageUnusable: the cache cannot be written.
        """
        values = [(model, PIPELINE, scale, photo, row) for photo, row in rows.items()]
        try:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?)", values)
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
                cursor.execute(
                    "CREATE TABLE IF NOT EXISTS rows"
                    " (model TEXT, pipeline INTEGER, scale REAL, photo TEXT, row BLOB,"
                    " PRIMARY KEY (model, pipeline, scale, photo)) WITHOUT ROWID"
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
