"""Read the files at rest again, a little at a time: flash forgets, and a release must not rot unseen.

Where it stopped and what it found is kept on the disk (the state file `scrub`), so that a round goes on over
restarts, and what rotted stays known until it is mended.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.errors import IndexBroken
from edge.index import IndexRecord
from edge.ledger import Ledger
from edge.release_files import MANIFEST, held_files, index_is_whole, is_entry, is_sealed, read_manifest

INDEX = "index"
"""What the index of a release is called in a list of what rotted: its files stand and fall together."""


@dataclass(frozen=True, slots=True, order=True)
class Rotten:
    """One file of an installed release that is not what it was: its name there, or `index`."""

    release: int
    name: str


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What one step of the scrub did: bytes it read, whether the round is over, all that is rotten now."""

    read: int
    ended: bool
    rotten: tuple[Rotten, ...]


def scrub_step(ledger: Ledger, folders: Mapping[int, Path], budget: int) -> Scrubbed:
    """Read on where the step before stopped, until `budget` bytes are read or the round is over.

    `folders` are the releases to read, by version. A file is read whole, so that a step takes at least one.

    Raises:
        NoSpace, StorageUnusable: what was found cannot be kept.
    """
    state = ledger.scrub()
    start = _place(state.get("next"))
    rotten = {each for each in known_rotten(ledger) if each.release in folders}
    read, following = 0, None
    for each, size in _items(folders):
        if start is not None and each < start:
            continue
        if read >= budget:
            following = each
            break
        rotten.discard(each)
        if not _is_sound(each.name, folders[each.release]):
            rotten.add(each)
        read += size
    _keep(ledger, following, rotten)
    return Scrubbed(read, following is None, tuple(sorted(rotten)))


def known_rotten(ledger: Ledger) -> tuple[Rotten, ...]:
    """Return what was found rotten and is not mended yet."""
    listed = ledger.scrub().get("rotten")
    places = [_place(item) for item in listed] if isinstance(listed, list) else []
    return tuple(sorted(place for place in places if place is not None))


def forget_rotten(ledger: Ledger, mended: Rotten) -> None:
    """Note that something is mended.

    Raises:
        NoSpace, StorageUnusable: It cannot be noted.
    """
    _keep(ledger, _place(ledger.scrub().get("next")), set(known_rotten(ledger)) - {mended})


def _keep(ledger: Ledger, following: Rotten | None, rotten: set[Rotten]) -> None:
    ledger.set_scrub(
        {
            "next": [following.release, following.name] if following else None,
            "rotten": [[each.release, each.name] for each in sorted(rotten)],
        }
    )


def _place(value: object) -> Rotten | None:
    if not isinstance(value, list) or [type(each) for each in value] != [int, str]:
        return None
    return Rotten(*value)


def _items(folders: Mapping[int, Path]) -> Iterator[tuple[Rotten, int]]:
    """Give everything there is to read, in a fixed order, with its bytes."""
    for version, folder in sorted(folders.items()):
        release = read_manifest(folder)
        sizes = {MANIFEST: _size(folder / MANIFEST), INDEX: _size(folder / "index.ann")}
        if release is not None:
            sizes |= {entry.sha256: entry.size for entry in held_files(release, folder)}
        yield from ((Rotten(version, name), sizes[name]) for name in sorted(sizes))


def _is_sound(name: str, folder: Path) -> bool:
    if name == INDEX:
        for path in folder.glob("index.*"):
            _forget_cached(path)
        try:
            IndexRecord.read(folder / "index.json")
        except IndexBroken:
            return False
        return index_is_whole(folder)
    _forget_cached(folder / name)
    release = read_manifest(folder)
    if name == MANIFEST or release is None:
        return release is not None and is_sealed(folder)
    return all(is_entry(folder / name, each) for each in held_files(release, folder) if each.sha256 == name)


def _forget_cached(path: Path) -> None:
    """Let the next read come from the disk: what memory holds of a file says nothing of what rots there."""
    if not hasattr(os, "posix_fadvise"):
        return
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
