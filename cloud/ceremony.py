"""Drafts of the next root, signed by several holders on different machines, until enough of them have.

A draft is one file that travels: it carries the root in force beside the one that shall follow it, so that
who signs needs nothing else to see what changes. It is no secret, and worth nothing until it has the
signatures that the old root asks for and those that the new one asks for. What could lock devices out for
good is refused at every step, by whoever opens the draft.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, get_args

from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from cloud.keyfiles import own_id
from cloud.signing import OFFLINE, ROLES, RoleName, expiry
from edge.disk import storage_error, write_atomically
from edge.errors import BadSetting

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Tally:
    """The keys of the old or of the new root that have signed a draft, and how many must."""

    signed: tuple[str, ...]
    unsigned: tuple[str, ...]
    threshold: int

    @property
    def missing(self) -> int:
        """Tell how many signatures are still needed."""
        return max(0, self.threshold - len(self.signed))


@dataclass(frozen=True, slots=True)
class Changes:
    """What the next root has otherwise: keys added and revoked by role, and thresholds.

    `revoke` are key ids, or their beginnings of at least eight letters.
    """

    add: Sequence[tuple[RoleName, SSlibKey]] = ()
    revoke: Sequence[str] = ()
    thresholds: Mapping[RoleName, int] | None = None


class Draft:
    """The next root on its way from holder to holder."""

    def __init__(self, before: bytes, after: Metadata[Root]) -> None:
        self._before_bytes = before
        self._before = _root(before)
        self._after = after

    @classmethod
    def make(cls, before: bytes, changes: Changes) -> "Draft":
        """Draft the root that follows the root metadata `before`; without changes it only lives for longer.

        Raises:
            BadSetting: it could lock devices out, or a key id fits none or several keys.
        """
        root = _root(before).signed
        for key_id in [_one_key(root, begin) for begin in changes.revoke]:
            for role in ROLES:
                if key_id in root.roles[role].keyids:
                    root.revoke_key(key_id, role)
        for role, key in changes.add:
            root.add_key(key, role)
        for role, threshold in (changes.thresholds or {}).items():
            root.roles[role].threshold = threshold
        root.version += 1
        root.expires = expiry("root")
        draft = cls(before, Metadata(root))
        draft.check()
        return draft

    @classmethod
    def read(cls, path: Path) -> "Draft":
        """Open a draft that was written, and check it as if it came from a stranger.

        Raises:
            BadSetting: it is no draft, or one that could lock devices out.
            StorageUnusable: it cannot be read.
        """
        try:
            record: Any = json.loads(path.read_bytes())
            draft = cls(record["before"].encode(), _root(record["after"].encode()))
        except OSError as error:
            raise storage_error(error, path) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadSetting(f"{path} is no draft of a root: have it sent again") from error
        draft.check()
        return draft

    def write(self, path: Path) -> None:
        """Write the draft to a file.

        Raises:
            StorageUnusable, NoSpace: the folder cannot be written.
        """
        record = {
            "format": FORMAT,
            "before": self._before_bytes.decode(),
            "after": self._after.to_bytes().decode(),
        }
        write_atomically(path, json.dumps(record, indent=1).encode() + b"\n")

    def sign(self, signer: CryptoSigner) -> bool:
        """Sign with a root key of the old or of the new root; return whether it had not signed before.

        Raises:
            BadSetting: it is a root key of neither.
        """
        key_id = signer.public_key.keyid
        if all(key_id not in each.signed.roles["root"].keyids for each in (self._before, self._after)):
            raise BadSetting(
                f"key {short(key_id)} is a root key neither of the old root nor of the new: take another one"
            )
        signed_before = any(key_id in tally.signed for tally in self.tallies())
        self._after.sign(signer, append=True)
        return not signed_before

    def merge(self, other: "Draft") -> None:
        """Take over the signatures of a copy of this draft that another holder has signed meanwhile.

        Raises:
            BadSetting: it is a copy of another draft.
        """
        if other._after.signed != self._after.signed or other._before_bytes != self._before_bytes:
            raise BadSetting("these are copies of two different drafts: let all holders sign the same one")
        self._after.signatures.update(other._after.signatures)

    def check(self) -> None:
        """Refuse what could lock devices out for good.

        Raises:
            BadSetting: a role without enough keys, a key that is online and offline at once, an expiry that
                is past, a number that does not follow, another key under an id that holders know.
        """
        before, after = self._before.signed, self._after.signed
        if after.version != before.version + 1:
            raise BadSetting(
                f"root {after.version} cannot follow root {before.version}: make the draft again"
            )
        if not after.consistent_snapshot:
            raise BadSetting("the draft gives up consistent snapshots, which devices rely on: draft it again")
        for role in ROLES:
            named, threshold = after.roles[role].keyids, after.roles[role].threshold
            if not 1 <= threshold <= len(named):
                raise BadSetting(
                    f"{role} would need {threshold} of {len(named)} keys, which nobody could ever sign: "
                    "add a key, or lower the threshold"
                )
        for key_id, public in after.keys.items():
            if public != before.keys.get(key_id) and key_id != own_id(public):
                raise BadSetting(
                    f"the draft has another key under the id {short(key_id)}, so that nobody would see it "
                    "change: sign nothing, and find out who changed it"
                )
        online = {key for role in ROLES if role not in OFFLINE for key in after.roles[role].keyids}
        offline = {key for role in ROLES if role in OFFLINE for key in after.roles[role].keyids}
        for key in online & offline:
            raise BadSetting(
                f"key {short(key)} would be an offline key that lies on the server: give each role its own"
            )
        if after.expires <= datetime.now(UTC):
            raise BadSetting(f"the draft ran out on {after.expires:%Y-%m-%d}: make it again")

    @property
    def fingerprint(self) -> str:
        """The ten letters of the root in force: what enrollment codes end with, and `keys` shows."""
        digest = hashlib.sha256(self._before_bytes).digest()
        return base64.b32encode(digest[:10]).decode("ascii")[:10]

    @property
    def version(self) -> int:
        """The number of the drafted root."""
        return self._after.signed.version

    @property
    def expires(self) -> datetime:
        """When the drafted root runs out (UTC)."""
        return self._after.signed.expires

    @property
    def root_json(self) -> bytes:
        """The drafted root as it would be published, with the signatures that it has."""
        return self._after.to_bytes()

    def changes(self) -> tuple[str, ...]:
        """Say in a line each what the new root has otherwise."""
        before, after = self._before.signed, self._after.signed
        lines = []
        for role in ROLES:
            old, new = before.roles[role], after.roles[role]
            lines += [f"{role}: revokes key {short(key)}" for key in old.keyids if key not in new.keyids]
            lines += [f"{role}: adds key {short(key)}" for key in new.keyids if key not in old.keyids]
            if (old.threshold, len(old.keyids)) != (new.threshold, len(new.keyids)):
                lines.append(
                    f"{role}: needs {new.threshold} of {len(new.keyids)} keys, "
                    f"before {old.threshold} of {len(old.keyids)}"
                )
        lines.append(f"root: lives until {after.expires:%Y-%m-%d}, before {before.expires:%Y-%m-%d}")
        return tuple(lines)

    def warnings(self) -> tuple[str, ...]:
        """Say what is allowed and unwise."""
        root = self._after.signed.roles["root"]
        if root.threshold == 1:
            return ("one root key alone can replace all keys: let two sign (--threshold root=2)",)
        if root.threshold == len(root.keyids):
            return ("all root keys must sign, so that one lost key locks you out for good: add one",)
        return ()

    def tallies(self) -> tuple[Tally, Tally]:
        """Count the signatures: first by the keys of the old root, then by those of the new."""
        before, after = (_tally(each.signed, self._after) for each in (self._before, self._after))
        return before, after


def short(key_id: str) -> str:
    """Cut a key id to what people compare: its first 16 letters."""
    return key_id[:16]


def as_role(name: str) -> RoleName:
    """Take a word for a role.

    Raises:
        BadSetting: there is no such role.
    """
    for role in ROLES:
        if name == role:
            return role
    raise BadSetting(f"there is no role {name!r}: one of {', '.join(get_args(RoleName))}")


def key_ids_of(root_json: bytes, role: RoleName) -> tuple[str, ...]:
    """Return the ids of the keys that a root names for a role."""
    return tuple(_root(root_json).signed.roles[role].keyids)


def role_of(root_json: bytes, key_id: str) -> tuple[RoleName, str]:
    """Return the role of a key and its whole id, by the beginning of it.

    Raises:
        BadSetting: it fits none or several keys.
    """
    root = _root(root_json).signed
    found = _one_key(root, key_id)
    return next(role for role in ROLES if found in root.roles[role].keyids), found


def signers_needed(draft: Draft, here: Iterable[str]) -> tuple[str, ...]:
    """Choose those of the root keys that are `here` with which a draft gets all the signatures it lacks."""
    held, chosen = list(here), list[str]()
    for tally in draft.tallies():
        ready = len(tally.signed) + sum(key in chosen for key in tally.unsigned)
        more = [key for key in tally.unsigned if key in held and key not in chosen]
        chosen += more[: max(0, tally.threshold - ready)]
    return tuple(chosen)


def _root(data: bytes) -> Metadata[Root]:
    try:
        metadata: Metadata[Root] = Metadata.from_bytes(data)
    except RepositoryError as error:
        raise ValueError("no TUF metadata") from error
    if not isinstance(metadata.signed, Root):
        raise ValueError("no root metadata")
    return metadata


def _one_key(root: Root, begin: str) -> str:
    found = [key for key in root.keys if key.startswith(begin.lower())]
    if len(begin) < 8 or len(found) != 1:
        raise BadSetting(
            f"{begin!r} names {len(found) or 'none'} of the keys: give eight or more letters of the id that "
            "`shelfsight-cloud keys` shows"
        )
    return found[0]


def _tally(root: Root, after: Metadata[Root]) -> Tally:
    result = root.get_verification_result("root", after.signed_bytes, after.signatures)
    return Tally(tuple(result.signed), tuple(result.unsigned), result.threshold)
