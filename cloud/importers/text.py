"""Reads the text files that people export from spreadsheets and tills."""

from pathlib import Path

from edge.disk import storage_error
from edge.errors import StorageUnusable


def read_text(path: Path) -> str:
    """Return a text file, with or without a byte order mark.

    Raises:
        StorageUnusable: the file may not be read, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise storage_error(error, path) from error
    except UnicodeDecodeError as error:
        raise StorageUnusable(f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8 text") from error
