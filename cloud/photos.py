"""Keeps photos by their content: one file per SHA-256, written once, never changed."""

import hashlib
from pathlib import Path

from edge.disk import storage_error, write_atomically
from edge.errors import PhotoMissing


class PhotoStorage:
    """A folder of photos, `<first two hex digits>/<sha256>`; adding the same bytes twice keeps one file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, photo: bytes) -> str:
        """Keep the photo and return its name, the SHA-256 of its bytes as 64 hex digits.

        Raises:
            StorageUnusable: the folder cannot be written.
            NoSpace: the disk is full.
        """
        name = hashlib.sha256(photo).hexdigest()
        path = self.path(name)
        # Only whole files get their final name, so one of the right size is the photo.
        if _size(path) == len(photo):
            return name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, path.parent) from error
        write_atomically(path, photo)
        return name

    def read(self, sha256: str) -> bytes:
        """Return the bytes of a photo.

        Raises:
            PhotoMissing: there is no such photo, or its file was changed or may not be read.
        """
        path = self.path(sha256)
        try:
            photo = path.read_bytes()
        except OSError as error:
            raise PhotoMissing(
                f"photo {sha256} is not in {self.folder} ({error.strerror}): import it again"
            ) from error
        if hashlib.sha256(photo).hexdigest() != sha256:
            raise PhotoMissing(f"photo file {path} was changed or damaged: delete it and import it again")
        return photo

    def path(self, sha256: str) -> Path:
        """Return where the photo of that name lies, whether it is there or not."""
        return self.folder / sha256[:2] / sha256


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
