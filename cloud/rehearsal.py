"""Opens releases that are being made, as devices will: their networks, their vectors, their index.

What two releases have in common is opened once: a network for all assortments, and a search index for as long
as its base is the same, also from publish to publish (`cache/indexes`, which may be deleted at any time).
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final, Self

from cloud.assembly import Assembled
from cloud.embed import open_embedder
from edge.disk import storage_error
from edge.embedder import Embedder
from edge.index import ANNOY_FILE, SearchIndex, prepare_index
from edge.matcher import Matcher
from edge.model import Model, Variant
from edge.release import Release
from edge.release_files import INDEX_FILES
from edge.segments import SegmentStack

_KEPT_INDEXES: Final = 8


class Rehearsal:
    """A place to open releases of one model's `variants` in; close it to get its disk space back."""

    def __init__(self, model: Model, variants: Sequence[Variant], files: Path, cache: Path) -> None:
        """Make the place in the folder `cache`; the releases' segments lie in `files` by their hashes.

        Raises:
            StorageUnusable, NoSpace: the folder cannot be written.
        """
        self._model, self._variants, self._files = model, variants, files.absolute()
        self._indexes = cache / "indexes"
        self._embedders: dict[str, Embedder] = {}
        try:
            self._indexes.mkdir(parents=True, exist_ok=True)
            self._scratch = TemporaryDirectory(prefix="rehearsal-", dir=cache)
        except OSError as error:
            raise storage_error(error, cache) from error

    def matchers(self, assembled: Assembled) -> list[Matcher]:
        """Open a release with each of the variants, as they are decided in it; its segments are written.

        Raises:
            ModelBroken, RuntimeMissing, Incompatible: a network file does not run here.
            StorageUnusable, NoSpace: the release cannot be written.
        """
        release = assembled.release
        folder = Path(self._scratch.name) / f"{release.version}-{release.assortment}"
        base = release.segments[0]
        paths = [(folder / sha256, sha256) for sha256 in release.segments]
        try:
            folder.mkdir()
            self._lend_index(base, folder)
            for path, sha256 in paths:
                path.symlink_to(self._files / sha256)
        except OSError as error:
            raise storage_error(error, folder) from error
        stack = SegmentStack.open(paths, assembled.opened)
        record = prepare_index(stack, folder, release.recipe, release.variants[0].decision.score)
        self._keep_index(base, folder)
        index = SearchIndex.open(stack, folder / ANNOY_FILE, record, release.recipe)
        return [self._matcher(release, stack, index, each.name) for each in self._variants]

    def _matcher(self, release: Release, stack: SegmentStack, index: SearchIndex, name: str) -> Matcher:
        variant = next(each for each in release.variants if each.name == name)
        if name not in self._embedders:
            self._embedders[name] = open_embedder(self._model, self._model.variant(name))
        return Matcher(release, variant, stack, self._embedders[name], index)

    def _lend_index(self, base: str, folder: Path) -> None:
        """Give the release the index that was built of its base; what is missing or wrong is built anew."""
        with suppress(OSError):
            kept = self._indexes / base
            for name in INDEX_FILES:
                if (kept / name).is_file():
                    shutil.copyfile(kept / name, folder / name)
            os.utime(kept)

    def _keep_index(self, base: str, folder: Path) -> None:
        kept = self._indexes / base
        with suppress(OSError):  # it is a cache: the next publish builds what it lacks
            kept.mkdir(exist_ok=True)
            for name in INDEX_FILES:
                if (folder / name).is_file():
                    _copy_whole(folder / name, kept / name)
            by_age = sorted(self._indexes.iterdir(), key=lambda path: path.stat().st_mtime)
            for path in by_age[:-_KEPT_INDEXES]:
                shutil.rmtree(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.cleanup()


def _copy_whole(source: Path, target: Path) -> None:
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, part)
    part.replace(target)
