"""What this device has verified, kept a second time: the floor below which its trust never goes.

python-tuf refuses what is older than its own files. With those lost, cut or put back by an older copy it
believes any old state of the server, and it brings none of them to the disk. So the signed bytes themselves
are kept once more in `trust_floor` of the device folder: the roots, the newest timestamp and snapshot. Before
python-tuf looks, the newer of both copies is put where it looks.

Nothing in here is believed because it lies here: it counts only if the chain of roots from the first one has
signed it. So a spoiled floor is as good as none, the floor of another server does not hold here, and what
was signed by a key that has been revoked since lifts nothing. That matters for the time most of all: the
newest timestamp says when it was signed (`created`), and expiry is judged by that moment where this device's
clock is behind it. The clock itself lifts nothing, so a wrong one is forgotten when it is set right.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from edge.disk import storage_error, write_atomically

FIRST_ROOT = "first_root.json"  # python-tuf keeps its own files beside it
_NAME = "trust_floor"
_ROLES = ("root", "timestamp", "snapshot", "targets")
_Kind = TypeVar("_Kind", bound=Signed)


@dataclass(frozen=True, slots=True)
class Expired:
    """Metadata that ran out before a moment that is proven to be past (UTC)."""

    role: str
    expires: datetime
    proven: datetime


class TrustFloor:
    """The second copy of the metadata in `trust/`; `folder` is the device's data folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._trust = folder / "trust"

    def restore(self) -> bytes | None:
        """Put back what `trust/` lacks or has in an older state; return the first root, None if it is lost.

        Raises:
            NoSpace, StorageUnusable: The disk fails.
        """
        kept = self._read()
        first = root = self._put(FIRST_ROOT, kept, _first_root)
        if first is None or root is None:
            return None
        while after := self._put(_root_name(root.version + 1), kept, partial(_next_root, root)):
            root = after
        self._put("timestamp.json", kept, partial(_verified, root, Timestamp))
        self._put("snapshot.json", kept, partial(_verified, root, Snapshot))
        return _bytes(self._trust / FIRST_ROOT)

    def lift(self) -> None:
        """Keep what python-tuf has just verified; call it when its files are on the disk.

        Raises:
            NoSpace, StorageUnusable: The disk fails; the floor is as it was.
        """
        roots = (_root_name(number) for number in range(1, _load(self._trust / "root.json").version + 1))
        names = (FIRST_ROOT, *roots, "timestamp.json", "snapshot.json")
        kept = {name: data.decode() for name in names if (data := _bytes(self._trust / name))}
        record = json.dumps(kept, indent=1).encode() + b"\n"
        if record != _bytes(self._path):
            write_atomically(self._path, record)

    def expired(self, name: str, not_before: datetime | None) -> Expired | None:
        """Judge what python-tuf has just verified of a target by the proven time; None if it is in force.

        The proven time is when the newest timestamp was signed, or `not_before` if that is later: another
        moment that signatures prove to be past. A server that does not tell it is judged by the clock alone.

        Raises:
            OSError, RepositoryError: A file that python-tuf has just written cannot be read.
        """
        signed = {role: _load(self._trust / f"{role}.json") for role in _ROLES}
        targets = signed["targets"]
        if isinstance(targets, Targets) and targets.delegations is not None:
            for role, _ in targets.delegations.get_roles_for_target(name):
                signed[role] = _load(self._trust / f"{role}.json")
        proven = [when for when in (_created(signed["timestamp"]), not_before) if when is not None]
        for role, each in signed.items():
            if proven and each.is_expired(max(proven)):
                return Expired(role, each.expires, max(proven))
        return None

    def _put(self, name: str, kept: dict[str, bytes], judge: Callable[[bytes], _Kind | None]) -> _Kind | None:
        """Leave in `trust/` the newer of what is there and what is kept; None if neither is good."""
        path = self._trust / name
        here = _bytes(path)
        newest: _Kind | None = None
        chosen = here
        for data in (here, kept.get(name, b"")):
            signed = judge(data)
            if signed is not None and (newest is None or signed.version > newest.version):
                newest, chosen = signed, data
        if chosen != here:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise storage_error(error, path) from error
            write_atomically(path, chosen)
        return newest

    def _read(self) -> dict[str, bytes]:
        try:
            record: object = json.loads(_bytes(self._path))
        except (ValueError, RecursionError):
            return {}
        if not isinstance(record, dict):
            return {}
        return {name: text.encode(errors="replace") for name, text in record.items() if isinstance(text, str)}


def _root_name(version: int) -> str:
    return f"root_history/{version}.root.json"


def _bytes(path: Path) -> bytes:
    """Read a file; one that cannot be read is as good as empty."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _load(path: Path) -> Signed:
    signed: Signed = Metadata.from_bytes(path.read_bytes()).signed
    return signed


def _first_root(data: bytes) -> Root | None:
    try:
        root: Signed = Metadata.from_bytes(data).signed
    except RepositoryError:
        return None
    return _verified(root, Root, data) if isinstance(root, Root) else None


def _next_root(before: Root, data: bytes) -> Root | None:
    """Open a root that follows `before`: signed by the keys of both."""
    root = _verified(before, Root, data)
    if root is None or root.version != before.version + 1:
        return None
    return _verified(root, Root, data)


def _verified(root: Root, kind: type[_Kind], data: bytes) -> _Kind | None:
    """Open metadata of a kind if enough keys of that role have signed it, as `root` names them."""
    try:
        metadata = Metadata.from_bytes(data)
        root.verify_delegate(kind.type, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError):
        return None
    signed: Signed = metadata.signed
    return signed if isinstance(signed, kind) else None


def _created(timestamp: Signed) -> datetime | None:
    """Return when a timestamp was signed, as it says itself; None if it does not."""
    try:
        when = datetime.fromisoformat(str(timestamp.unrecognized_fields["created"]))
    except (KeyError, ValueError):
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
