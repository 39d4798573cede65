"""Says which releases are kept on the server, and lets go of the files that none of them needs.

A release that may still be offered is kept whole: its signature, its files, what these are computed from, and
its content as one base, which devices fall back to. Of some older ones the content is kept, so that it can be
published again.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from cloud.releases import PublishedRelease, Releases
from cloud.rollouts import Rollouts
from edge.disk import storage_error
from edge.errors import KeepRelease
from edge.release import Release

KEPT_OFFERED: Final = 3  # releases of an assortment that stay signed, however far the newest has come
KEPT_CONTENT: Final = 10  # releases of an assortment whose content stays

_FILE = re.compile(r"[0-9a-f]{64}")


def offerable(
    releases: Releases, rollouts: Rollouts, published: Iterable[PublishedRelease]
) -> dict[str, list[int]]:
    """Return which versions of each assortment a device may still be offered, newest first.

    They are the newest ones, at least down to the newest that is everybody's: who is not in the share of a
    younger one is offered that. `published` are about to be recorded.

    Raises:
        StorageUnusable: the database refused.
    """
    public = {each.version for each in rollouts.newest() if each.is_public}
    found: dict[str, list[int]] = {}
    new = {each.assortment: each.version for each in published}
    for assortment in releases.latest_of_each().keys() | new.keys():
        versions = [new[assortment]] if assortment in new else []
        versions += releases.versions_of(assortment)
        settled = next((place for place, each in enumerate(versions) if each in public), len(versions))
        found[assortment] = versions[: max(KEPT_OFFERED, settled + 1)]
    return found


def prune_files(files: Path, releases: Releases, offered: Mapping[str, Collection[int]]) -> None:
    """Delete the files in `files` that no kept release needs; `offered` are the versions that may be offered.

    Raises:
        StorageUnusable: the folder or the database cannot be used.
    """
    needed: set[str] = set()
    for assortment, versions in offered.items():
        for row in releases.newest(max(KEPT_CONTENT, len(versions)), assortment):
            needed.add(row.sha256)
            try:
                release = Release.from_bytes((files / row.sha256).read_bytes())
            except (OSError, KeepRelease):
                continue  # a manifest that is gone names nothing
            needed |= {entry.sha256 for entry in release.files}
            if row.version in versions:
                needed |= {release.merged_sha256, *(each for entry in release.files for each in entry.merge)}
    try:
        for path in files.iterdir():
            if _FILE.fullmatch(path.name) and path.name not in needed:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, files) from error
