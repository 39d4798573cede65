"""Takes a folder for a demo: never one that holds anything else, never one where another demo runs."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from edge.disk import storage_error
from edge.errors import BadSetting

_MARK = ".shelfsight-demo"
_PARTS = ("shop", "cloud", "device")


@contextmanager
def demo_folder(folder: Path) -> Iterator[Path]:
    """Make the folder, or empty an earlier demo's, and hold it; yields its absolute path.

    Raises:
        BadSetting: it holds something else, or another demo is running in it.
        StorageUnusable: it cannot be made or emptied.
    """
    folder = folder.absolute()
    with _claim(folder):
        yield folder


def _claim(folder: Path) -> TextIO:
    """Return the folder's locked mark, with nothing else left in the folder."""
    mark = folder / _MARK
    try:
        if folder.is_dir() and any(folder.iterdir()) and not mark.is_file():
            raise BadSetting(
                f"{folder} holds other things than a demo: name an empty or a new folder with --data"
            )
        folder.mkdir(parents=True, exist_ok=True)
        holder = mark.open("a")
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for part in _PARTS:
                if (folder / part).exists():
                    shutil.rmtree(folder / part)
        except BlockingIOError as error:
            holder.close()
            raise BadSetting(
                f"another demo is running in {folder}: end it, or name another folder with --data"
            ) from error
        except OSError:
            holder.close()
            raise
    except OSError as error:
        raise storage_error(error, folder) from error
    return holder
