"""What this disk already holds of a release that is on its way: taken over instead of fetched or built."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edge.errors import StorageUnusable
from edge.release import FileEntry, Release
from edge.release_files import (
    INDEX_FILES,
    Hashed,
    delete,
    index_is_whole,
    link,
    opened_segments,
    part_path,
    read_manifest,
)


def carry_file(
    entry: FileEntry, staging: Path, installed: Sequence[Path], unfinished: Sequence[Path], hashed: Hashed
) -> bool:
    """Put a file into the staging folder if one of the other folders holds it; tell whether it is there now.

    It becomes a hard link, so it takes no space, and is hashed there: `hashed` knows it again. A `.part` of
    an unfinished release is taken over too, and does not count as the file.

    Raises:
        NoSpace, StorageUnusable: The disk fails.
    """
    wanted = staging / entry.sha256
    if hashed.is_entry(wanted, entry):
        return True
    delete(wanted)
    for folder in (*installed, *unfinished):
        held = folder / entry.sha256
        if folder != staging and held.is_file():
            with suppress(
                StorageUnusable
            ):  # without hard links this is a copy, and what rotted may not be read
                link(held, wanted)
            if hashed.is_entry(wanted, entry):
                return True
            delete(wanted)
    part = part_path(staging, entry)
    for folder in unfinished:
        if not part.exists() and part_path(folder, entry).is_file():
            link(part_path(folder, entry), part)
    return False


def carry_index(release: Release, staging: Path, installed: Sequence[Path]) -> None:
    """Link the index of an installed release that was built over the same base by the same recipe.

    Whoever prepares the staging folder may use it, and never writes it in place: it is another release's too.

    Raises:
        NoSpace, StorageUnusable: The disk fails.
    """
    base = opened_segments(release, staging)[0]
    for folder in installed:
        other = read_manifest(folder)
        if other is None or opened_segments(other, folder)[0] != base or other.recipe != release.recipe:
            continue
        if index_is_whole(folder):
            for name in INDEX_FILES:
                if (folder / name).exists():
                    link(folder / name, staging / name)
            return
