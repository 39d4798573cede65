"""The small files that say which release is in use, on trial, good, or set aside.

Each holds one JSON value and is replaced as a whole, so a kill leaves the old value or the new one. A file
that a failing disk has spoiled reads as if it were not there; what can be known without it is for
`edge.installation` to say, which also finds the marks inside the releases themselves.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from edge.disk import storage_error, sync_folder, write_atomically

CONFIRMED = "confirmed"
"""Name of the list of good versions, and of the mark inside each good release."""

CHANCES = 3
"""How many times in a row a release may begin something that does not end: a trial, or a start in use.

Whoever pulls the plug does that to a good release; a release that brings the machine down does it every time.
"""

_NAMES = ("current", "tried", "proven", CONFIRMED, "floor", "set_aside", "starts", "scrub")


class Ledger:
    """Read and write the state files in the device folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def current(self) -> int | None:
        """Return the version in use."""
        return _version(_read(self._folder / "current"))

    def set_current(self, version: int | None) -> None:
        """Use this version from now on, or none."""
        self._write("current", version)

    def tried(self) -> int | None:
        """Return the version whose trial began and did not end."""
        value = _read(self._folder / "tried")
        return _version(value.get("release") if isinstance(value, dict) else value)

    def trials(self, version: int) -> int:
        """Return how many trials of this version in a row began and did not end.

        One that an older Shelfsight noted, which counted none, is the first. A count that makes no sense is
        `CHANCES`: better to go without a release than to be brought down by it for ever.
        """
        value = _read(self._folder / "tried")
        if _version(value) == version:
            return 1
        if not isinstance(value, dict) or _version(value.get("release")) != version:
            return 0
        return _version(value.get("count")) or CHANCES

    def set_trials(self, version: int, count: int) -> None:
        """Keep the number of trials that did not end, with the one that begins; 0 forgets it."""
        if count or (self._folder / "tried").exists():
            self._write("tried", {"release": version, "count": count} if count else None)

    def forget_trials(self) -> None:
        """Say that no trial is going on, and that the last one ended."""
        self.set_trials(0, 0)

    def proven(self) -> int | None:
        """Return the version that passed its trial and is not to be used yet."""
        return _version(_read(self._folder / "proven"))

    def set_proven(self, version: int | None) -> None:
        """Say which version passed its trial without coming into use, or with None that there is none."""
        self._write("proven", version)

    def starts(self, version: int) -> int:
        """Return how many programs began to answer from this version and have not come to an answer."""
        value = _read(self._folder / "starts")
        if not isinstance(value, dict) or _version(value.get("release")) != version:
            return 0
        return _version(value.get("count")) or 0

    def set_starts(self, version: int, count: int) -> None:
        """Keep the number of starts that came to nothing; 0 forgets it."""
        if count or (self._folder / "starts").exists():
            self._write("starts", {"release": version, "count": count} if count else None)

    def confirmed(self) -> frozenset[int]:
        """Return the versions that passed their trial."""
        value = _read(self._folder / CONFIRMED)
        versions = (_version(item) for item in value) if isinstance(value, list) else ()
        return frozenset(version for version in versions if version is not None)

    def set_confirmed(self, versions: frozenset[int]) -> None:
        """Say which versions passed their trial."""
        self._write(CONFIRMED, sorted(versions))

    def floor(self) -> int:
        """Return the highest version ever confirmed, 0 if none was or the file is lost."""
        return _version(_read(self._folder / "floor")) or 0

    def raise_floor(self, version: int) -> None:
        """Lift the floor to this version; it never goes down."""
        if version > self.floor():
            self._write("floor", version)

    def set_aside(self) -> dict[int, str]:
        """Return why each version that must not be used again was set aside."""
        value = _read(self._folder / "set_aside")
        if not isinstance(value, dict):
            return {}
        return {int(key): str(reason) for key, reason in value.items() if key.isdecimal()}

    def add_set_aside(self, version: int, reason: str) -> None:
        """Say that this version must not be used again."""
        reasons: Mapping[int, str] = {**self.set_aside(), version: reason}
        self._write("set_aside", {str(key): reasons[key] for key in sorted(reasons)})

    def scrub(self) -> Mapping[str, object]:
        """Return how far the scrub of files at rest has come, for `edge.scrubbing` to read."""
        value = _read(self._folder / "scrub")
        return value if isinstance(value, dict) else {}

    def set_scrub(self, value: Mapping[str, object]) -> None:
        """Keep how far the scrub has come."""
        self._write("scrub", value)

    def leftovers(self) -> list[Path]:
        """Return the files that a kill left behind while a state file was being replaced."""
        return [path for name in _NAMES for path in self._folder.glob(f".{name}.*.tmp")]

    def _write(self, name: str, value: object) -> None:
        path = self._folder / name
        if value is not None:
            write_atomically(path, json.dumps(value).encode() + b"\n")
            return
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, path) from error
        sync_folder(self._folder)


def mark_confirmed(release_folder: Path) -> None:
    """Leave the mark in a release's own folder that it passed its trial; it outlives the loss of the list."""
    write_atomically(release_folder / CONFIRMED, b"true\n")


def is_marked_confirmed(release_folder: Path) -> bool:
    """Tell whether the release's folder bears the mark."""
    return _read(release_folder / CONFIRMED) is True


def _read(path: Path) -> object:
    """Return the JSON value in the file, None where there is no such file or no sense in it."""
    try:
        value: object = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value


def _version(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
