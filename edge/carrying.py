"""What this disk already holds of a release that is on its way: taken over instead of fetched or built."""

from collections.abc import Sequence
from pathlib import Path

from edge.release import FileEntry, Release
from edge.release_files import (
    INDEX_FILES,
    delete,
    index_is_whole,
    is_entry,
    link,
    opened_segments,
    part_path,
    read_manifest,
)


def carry_file(
    entry: FileEntry, staging: Path, installed: Sequence[Path], unfinished: Sequence[Path]
) -> bool:
    """Put a file into the staging folder if one of the other folders holds it; tell whether it is there now.

    It becomes a hard link, so it takes no space, and is hashed first. A `.part` of an unfinished release is
    taken over too, and does not count as the file.

    Raises:
        NoSpace, StorageUnusable: The disk fails.
    """
    wanted = staging / entry.sha256
    if is_entry(wanted, entry):
        return True
    delete(wanted)
    for folder in (*installed, *unfinished):
        held = folder / entry.sha256
        if folder != staging and is_entry(held, entry):
            link(held, wanted)
            return True
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
