"""Signs what devices may trust: the four TUF roles of a release repository.

With `cloud.ceremony` (which drafts the next root) and `cloud.keyfiles` the only door to `tuf` and
`securesystemslib` on the cloud's side. Root and targets are *offline* keys. Two of three root keys say who
may sign at all; the targets key is needed to publish; all of them may live on sticks in drawers for the rest
of the time. Snapshot and timestamp are *online* keys, short-lived, re-signed by `tick`, so that a frozen or
copied server is noticed in a day.

A repository is a folder of metadata files: `<n>.root.json`, `<n>.targets.json`, `<n>.snapshot.json` and
`timestamp.json`. A numbered file is written once and never again; `timestamp.json` is written last and is the
one file that makes the others true, so a crash before it leaves yesterday's repository whole. Once there are
more names than a few, as every store has its own releases, targets delegates them to hash bins that the same
keys sign, `<n>.bin-<hex>.json`: a device fetches the one bin that its name falls into, and not all stores'.
Follows the TUF specification, sections 4 (formats) and 6.2 (consistent snapshots), and TAP 15 (bins).
"""

import base64
import fcntl
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, TypeVar

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from cloud.keyfiles import PRIVATE, find_keys, open_key
from edge.disk import storage_error, write_atomically
from edge.errors import BadSetting, StorageUnusable

RoleName = Literal["root", "targets", "snapshot", "timestamp"]
ROLES: Final[tuple[RoleName, ...]] = ("root", "targets", "snapshot", "timestamp")
OFFLINE: Final = frozenset({"root", "targets"})
LIFETIMES: Final[dict[RoleName, timedelta]] = {
    "root": timedelta(days=365),
    "targets": timedelta(days=365),
    "snapshot": timedelta(days=7),
    "timestamp": timedelta(days=1),
}
ROOT_KEYS: Final = 3
ROOT_THRESHOLD: Final = 2
WARN_BEFORE: Final = timedelta(days=30)
_MOST_IN_ONE: Final = 24  # names; with more, a bin of 64 and a snapshot that lists them are smaller
_BIN_BITS: Final = 6
_NUMBERED: Final = re.compile(r"([1-9][0-9]*)\.(root|targets|snapshot|bin-[0-9a-f]{2})\.json")
_KEPT: Final = 20  # a device in the middle of a refresh still finds the files that its timestamp named

_Signed = TypeVar("_Signed", Root, Targets, Snapshot, Timestamp)


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """Tell how one role stands: how many of which keys it needs, where they lie, when its signature ends.

    `files` has the private key of each key id that was found.
    """

    role: RoleName
    key_ids: tuple[str, ...]
    threshold: int
    version: int
    expires: datetime
    files: Mapping[str, Path]

    @property
    def offline(self) -> bool:
        """Say whether the private keys are needed only now and then, and may be kept elsewhere."""
        return self.role in OFFLINE

    @property
    def can_sign(self) -> bool:
        """Say whether enough private keys were found to sign with."""
        return len(self.files) >= self.threshold


def create_keys(keys: Path) -> None:
    """Create the private keys that are not there yet: Ed25519, PEM (PKCS #8), readable by the owner alone.

    Raises:
        StorageUnusable, NoSpace: the folder cannot be written.
    """
    _make_folder(keys, mode=0o700)
    for path in (path for role in ROLES for path in _first_files(keys, role)):
        if not path.exists():
            write_atomically(path, CryptoSigner.generate_ed25519().private_bytes, mode=0o600)


def create_repository(metadata: Path, keys: Path) -> None:
    """Create the repository's first metadata, and its keys; what is already there is kept.

    Raises:
        StorageUnusable, NoSpace: a folder cannot be written, or an existing root was signed by other keys.
    """
    _make_folder(metadata)
    with _locked(metadata):
        if not _versions(metadata, "root"):
            create_keys(keys)
            _write_first_root(metadata, keys)
        if not (metadata / "timestamp.json").exists():
            _write_targets(metadata, _latest_root(metadata), (keys,), {})
            _write_online(metadata, keys)


def add_target(
    metadata: Path, keys: Path, name: str, data: bytes, *, online_keys: Path | None = None
) -> None:
    """Sign one file as `add_targets` does, and keep every name that was signed before.

    Raises:
        StorageUnusable, NoSpace: a key is missing or another one, or the metadata is unusable.
    """
    add_targets(metadata, keys, {name: data}, online_keys=online_keys)


def add_targets(
    metadata: Path,
    keys: Path,
    files: Mapping[str, bytes],
    *,
    online_keys: Path | None = None,
    keep: Callable[[str], bool] | None = None,
) -> None:
    """Sign the names, lengths and SHA-256 of `files` into targets, then the snapshot and the timestamp.

    All of them become true at once. Of the names that were signed before, those stay of which `keep` says
    so, by default all: every device fetches the whole list after each publish, so it must not grow with
    the number of releases. `keys` holds the targets key; `online_keys` (by default the same folder) the
    snapshot and timestamp keys. Signing the same bytes under the same name again changes nothing but the
    versions.

    Raises:
        StorageUnusable, NoSpace: a key is missing or another one, or the metadata is unusable.
    """
    with _locked(metadata):
        check_publishing_keys(metadata, keys, online_keys or keys)
        signed = {
            **{name: each for name, each in _signed_files(metadata).items() if keep is None or keep(name)},
            **{name: TargetFile.from_data(name, data, ["sha256"]) for name, data in files.items()},
        }
        _write_targets(metadata, _latest_root(metadata), (keys,), signed)
        _write_online(metadata, online_keys or keys)


def check_publishing_keys(metadata: Path, keys: Path, online_keys: Path) -> None:
    """Look at the three keys that publishing needs: a missing one must not leave half a signature.

    Raises:
        StorageUnusable: a key is missing or another one.
    """
    _check_keys(metadata, keys, ("targets",))
    _check_keys(metadata, online_keys, ("snapshot", "timestamp"))


def tick(metadata: Path, keys: Path) -> datetime:
    """Re-sign the snapshot and the timestamp with the online keys alone; return when the timestamp runs out.

    Raises:
        StorageUnusable, NoSpace: an online key is missing or another one, or the metadata is unusable.
    """
    with _locked(metadata):
        return _write_online(metadata, keys)


def renew(metadata: Path, *keys: Path, online_keys: Path | None = None) -> None:
    """Sign root and targets for another year with the offline keys they already have, in the `keys` folders.

    Raises:
        StorageUnusable, NoSpace: a key is missing or another one, or the metadata is unusable.
    """
    with _locked(metadata):
        online = online_keys or keys[0]
        root = _latest_root(metadata)
        root_signers = _signers(root, keys, "root")
        _signers(root, keys, "targets")
        _check_keys(metadata, online, ("snapshot", "timestamp"))
        root.version += 1
        root.expires = expiry("root")
        signed = Metadata(root)
        _sign(signed, root_signers)
        write_atomically(metadata / f"{root.version}.root.json", signed.to_bytes())
        _write_targets(metadata, root, keys, _signed_files(metadata), renew=True)
        _write_online(metadata, online)


def publish_root(metadata: Path, root_json: bytes, keys: Sequence[Path], online_keys: Path) -> bool:
    """Make a root that enough holders have signed the one in force; return whether targets was signed again.

    What the new root's keys have not signed is signed again at once: targets with a key in one of the `keys`
    folders, the others with the `online_keys`. They are all looked at before the root is written. Killed on
    the way, the same call goes on where it was.

    Raises:
        BadSetting: it does not follow the root in force, or too few of the old or of the new keys signed it.
        StorageUnusable, NoSpace: a key is missing or another one, or the metadata is unusable.
    """
    with _locked(metadata):
        after = _parse(root_json, "the draft", Root)
        if root_bytes(metadata) != root_json:
            _check_follows(_latest_root(metadata), after)
        sign_targets = not _targets_stand(metadata, after.signed)
        for role in ("snapshot", "timestamp"):
            _signers(after.signed, (online_keys,), role)
        if sign_targets:
            _signers(after.signed, keys, "targets")
        write_atomically(metadata / f"{after.signed.version}.root.json", root_json)
        if sign_targets:
            _write_targets(metadata, after.signed, keys, _signed_files(metadata), renew=True)
        _write_online(metadata, online_keys)
        return sign_targets


def root_bytes(metadata: Path) -> bytes:
    """Return the newest root metadata, the file that a device is given when it enrolls.

    Raises:
        StorageUnusable: there is none, or it cannot be read.
    """
    return _read(metadata / f"{_latest_version(metadata, 'root')}.root.json")


def fingerprint(metadata: Path) -> str:
    """Return the first 50 bits of the root's SHA-256 as 10 base32 letters: the end of an enrollment code.

    Raises:
        StorageUnusable: there is no root, or it cannot be read.
    """
    digest = hashlib.sha256(root_bytes(metadata)).digest()
    return base64.b32encode(digest[:10]).decode("ascii")[:10]


def target_names(metadata: Path) -> tuple[str, ...]:
    """Return every signed name, in alphabetical order.

    Raises:
        StorageUnusable: the metadata cannot be read.
    """
    return tuple(sorted(_signed_files(metadata)))


def timestamp_expires(metadata: Path) -> datetime:
    """Return when the timestamp runs out (UTC).

    Raises:
        StorageUnusable: the metadata cannot be read.
    """
    return _load(metadata / "timestamp.json", Timestamp).expires


def stands(metadata: Path) -> bool:
    """Say whether the snapshot and the timestamp are whole, and signed by the keys that the root names.

    Raises:
        StorageUnusable: there is no root, or it cannot be read.
    """
    root = _latest_root(metadata)
    try:
        path = metadata / "timestamp.json"
        timestamp = _parse(_read(path), path, Timestamp)
        path = metadata / f"{timestamp.signed.snapshot_meta.version}.snapshot.json"
        snapshot = _parse(_read(path), path, Snapshot)
    except StorageUnusable:
        return False
    return _is_signed(root, "timestamp", timestamp) and _is_signed(root, "snapshot", snapshot)


def roles(metadata: Path, *folders: Path) -> tuple[RoleStatus, ...]:
    """Return how each of the four roles stands, with the private keys that lie in the folders.

    Raises:
        StorageUnusable: the metadata cannot be read.
    """
    root = _latest_root(metadata)
    timestamp = _load(metadata / "timestamp.json", Timestamp)
    snapshot = _load(metadata / f"{timestamp.snapshot_meta.version}.snapshot.json", Snapshot)
    signed: dict[RoleName, Root | Targets | Snapshot | Timestamp] = {
        "root": root,
        "targets": _current_targets(metadata),
        "snapshot": snapshot,
        "timestamp": timestamp,
    }
    here = find_keys(folders)
    return tuple(
        RoleStatus(
            role=role,
            key_ids=tuple(root.roles[role].keyids),
            threshold=root.roles[role].threshold,
            version=signed[role].version,
            expires=signed[role].expires if role != "targets" else _targets_expire(metadata),
            files={key: here[key] for key in root.roles[role].keyids if key in here},
        )
        for role in ROLES
    )


def running_out(metadata: Path) -> tuple[str, ...]:
    """Say in a sentence each which signatures of the offline keys run out within a month, or have.

    Raises:
        StorageUnusable: the metadata cannot be read.
    """
    expires = {"root": _latest_root(metadata).expires, "targets": _targets_expire(metadata)}
    now = datetime.now(UTC)
    return tuple(
        f"{role} {'runs' if when > now else 'ran'} out on {when:%Y-%m-%d}, and devices take nothing then: "
        "bring the offline keys and run `shelfsight-cloud keys --renew`"
        for role, when in expires.items()
        if when - now < WARN_BEFORE
    )


def expiry(role: RoleName) -> datetime:
    """Return when what is signed now for a role runs out, in whole seconds UTC."""
    return (datetime.now(UTC) + LIFETIMES[role]).replace(microsecond=0)


def _write_first_root(metadata: Path, keys: Path) -> None:
    root = Root(version=1, expires=expiry("root"), consistent_snapshot=True)
    signers = {role: [open_key(path) for path in _first_files(keys, role)] for role in ROLES}
    for role, each in signers.items():
        for signer in each:
            root.add_key(signer.public_key, role)
    root.roles["root"].threshold = ROOT_THRESHOLD
    signed = Metadata(root)
    _sign(signed, signers["root"])
    write_atomically(metadata / "1.root.json", signed.to_bytes())


def _write_targets(
    metadata: Path, root: Root, keys: Sequence[Path], files: Mapping[str, TargetFile], *, renew: bool = False
) -> None:
    """Sign these files and no others, in one list or, where there are many, in bins.

    A bin in which nothing changed stays as it is while it lives for long, unless all shall be made anew: to
    `renew` them, or because other keys sign.
    """
    signers = _signers(root, keys, "targets")
    targets = Targets(expires=expiry("targets"))
    bins = _bins(metadata)
    renew = renew or not _targets_stand(metadata, root)
    if bins or len(files) > _MOST_IN_ONE:  # bins are for good: devices refuse a snapshot that lacks one
        named = root.roles["targets"]
        succinct = SuccinctRoles(list(named.keyids), named.threshold, _BIN_BITS, "bin")
        targets.delegations = Delegations(
            {key: root.keys[key] for key in named.keyids}, succinct_roles=succinct
        )
        content: dict[str, dict[str, TargetFile]] = {name: {} for name in succinct.get_roles()}
        for name, file in files.items():
            content[succinct.get_role_for_target(name)][name] = file
        for name, part in content.items():
            before = bins.get(name)
            if renew or before is None or before.targets != part or _ages(before):
                _write_numbered(metadata, name, signers, Targets(expires=expiry("targets"), targets=part))
    else:
        targets.targets = dict(files)
    _write_numbered(metadata, "targets", signers, targets)


def _write_numbered(metadata: Path, role: str, signers: Iterable[CryptoSigner], targets: Targets) -> None:
    # One more than any file there, so that a number that a crash left behind is not used twice.
    targets.version = max(_versions(metadata, role), default=0) + 1
    signed = Metadata(targets)
    _sign(signed, signers)
    write_atomically(metadata / f"{targets.version}.{role}.json", signed.to_bytes())


def _bins(metadata: Path) -> dict[str, Targets]:
    """Open the newest state of each bin, by name; there are all of them or none."""
    newest: dict[str, int] = {}
    for version, role in _numbered(metadata):
        if role.startswith("bin-"):
            newest[role] = max(version, newest.get(role, 0))
    return {
        role: _load(metadata / f"{version}.{role}.json", Targets) for role, version in sorted(newest.items())
    }


def _signed_files(metadata: Path) -> dict[str, TargetFile]:
    targets = _current_targets(metadata)
    if targets.delegations is None:
        return dict(targets.targets)
    return {name: file for part in _bins(metadata).values() for name, file in part.targets.items()}


def _targets_expire(metadata: Path) -> datetime:
    return min(each.expires for each in (_current_targets(metadata), *_bins(metadata).values()))


def _targets_stand(metadata: Path, root: Root) -> bool:
    """Say whether targets, and the bins that it delegates to, count by the keys that `root` names."""
    if not _versions(metadata, "targets"):
        return False
    path = metadata / f"{_latest_version(metadata, 'targets')}.targets.json"
    targets = _parse(_read(path), path, Targets)
    delegated = targets.signed.delegations
    if delegated is not None and delegated.succinct_roles is not None:
        role, named = delegated.succinct_roles, root.roles["targets"]
        if (sorted(role.keyids), role.threshold) != (sorted(named.keyids), named.threshold):
            return False
    return _is_signed(root, "targets", targets)


def _ages(targets: Targets) -> bool:
    return targets.expires - datetime.now(UTC) < LIFETIMES["targets"] / 2


def _sign(metadata: Metadata[_Signed], signers: Iterable[CryptoSigner]) -> None:
    for signer in signers:
        metadata.sign(signer, append=True)


def _write_online(metadata: Path, keys: Path) -> datetime:
    """Sign a snapshot of the newest targets, then the timestamp that makes it true."""
    root = _latest_root(metadata)
    snapshot_signers = _signers(root, (keys,), "snapshot")
    timestamp_signers = _signers(root, (keys,), "timestamp")

    targets_version = _latest_version(metadata, "targets")
    targets_bytes = _read(metadata / f"{targets_version}.targets.json")
    snapshot = Metadata(
        Snapshot(
            version=max(_versions(metadata, "snapshot"), default=0) + 1,
            expires=expiry("snapshot"),
            meta={
                "targets.json": MetaFile.from_data(targets_version, targets_bytes, ["sha256"]),
                **{f"{name}.json": MetaFile(each.version) for name, each in _bins(metadata).items()},
            },
        )
    )
    _sign(snapshot, snapshot_signers)
    snapshot_bytes = snapshot.to_bytes()
    write_atomically(metadata / f"{snapshot.signed.version}.snapshot.json", snapshot_bytes)

    timestamp = Metadata(
        Timestamp(
            version=_timestamp_version(metadata) + 1,
            expires=expiry("timestamp"),
            snapshot_meta=MetaFile.from_data(snapshot.signed.version, snapshot_bytes, ["sha256"]),
            # For `edge.trust_floor`: a device whose clock is behind judges expiry by this moment.
            unrecognized_fields={"created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")},
        )
    )
    _sign(timestamp, timestamp_signers)
    write_atomically(metadata / "timestamp.json", timestamp.to_bytes())
    _forget_old(metadata)
    return timestamp.signed.expires


def _forget_old(metadata: Path) -> None:
    versions: dict[str, list[int]] = {}
    for version, role in _numbered(metadata):
        versions.setdefault(role, []).append(version)
    for role, each in versions.items():
        for version in sorted(each)[:-_KEPT] if role != "root" else ():
            (metadata / f"{version}.{role}.json").unlink(missing_ok=True)


def _current_targets(metadata: Path) -> Targets:
    return _load(metadata / f"{_latest_version(metadata, 'targets')}.targets.json", Targets)


def _latest_root(metadata: Path) -> Root:
    return _load(metadata / f"{_latest_version(metadata, 'root')}.root.json", Root)


def _timestamp_version(metadata: Path) -> int:
    path = metadata / "timestamp.json"
    return _load(path, Timestamp).version if path.exists() else 0


def _latest_version(metadata: Path, role: RoleName) -> int:
    versions = _versions(metadata, role)
    if not versions:
        raise StorageUnusable(f"there is no {role} metadata in {metadata}: run `shelfsight-cloud init` first")
    return max(versions)


def _versions(metadata: Path, role: str) -> list[int]:
    return [version for version, name in _numbered(metadata) if name == role]


def _numbered(metadata: Path) -> list[tuple[int, str]]:
    """Return the number and the role of every numbered file."""
    try:
        names = [path.name for path in metadata.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error(error, metadata) from error
    return [(int(found[1]), found[2]) for name in names if (found := _NUMBERED.fullmatch(name))]


def _load(path: Path, kind: type[_Signed]) -> _Signed:
    return _parse(_read(path), path, kind).signed


def _parse(data: bytes, path: Path | str, kind: type[_Signed]) -> Metadata[_Signed]:
    try:
        metadata: Metadata[_Signed] = Metadata.from_bytes(data)
    except RepositoryError as error:
        raise StorageUnusable(f"{path} is not TUF metadata ({error}): restore it from a backup") from error
    signed: Signed = metadata.signed
    if not isinstance(signed, kind):
        raise StorageUnusable(
            f"{path} is {signed.type} metadata under another name: restore it from a backup"
        )
    return metadata


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise storage_error(error, path) from error


def _make_folder(path: Path, *, mode: int = 0o755) -> None:
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error


def _first_files(keys: Path, role: RoleName) -> tuple[Path, ...]:
    """Name the files of the keys with which a repository begins."""
    if role != "root":
        return (keys / f"{role}{PRIVATE}",)
    return tuple(keys / f"root-{number}{PRIVATE}" for number in range(1, ROOT_KEYS + 1))


def _signers(root: Root, folders: Sequence[Path], role: str) -> tuple[CryptoSigner, ...]:
    """Open the private keys of a role, as many as it needs, by what the root says of their public halves."""
    wanted = root.roles[role]
    here = find_keys(folders)
    found = [here[key] for key in wanted.keyids if key in here]
    if len(found) >= wanted.threshold:
        return tuple(open_key(path) for path in found[: wanted.threshold])
    named = [path for folder in folders for path in sorted(folder.glob(f"{role}*{PRIVATE}"))]
    for path in named:
        open_key(path)  # says what is wrong with it, if it is no key
    if wanted.threshold > 1:
        raise StorageUnusable(
            f"{wanted.threshold} of the {len(wanted.keyids)} {role} keys are needed, and "
            f"{' and '.join(map(str, folders))} {'holds' if len(folders) == 1 else 'hold'} {len(found)}: "
            "bring another, or let each holder sign with `shelfsight-cloud keys draft` and `keys sign`"
        )
    if named:
        raise StorageUnusable(
            f"{named[0]} is not the {role} key that the root trusts: put the right file back"
            + ("" if role in OFFLINE else ", or replace what is lost, `shelfsight-cloud keys rotate ROLE...`")
        )
    where = (
        "bring the folder with the offline keys back, or name it with --keys"
        if role in OFFLINE
        else "put it back, or replace all that are lost, `shelfsight-cloud keys rotate ROLE...`"
    )
    raise StorageUnusable(f"the private key {folders[0] / role}{PRIVATE} is not there: {where}")


def _check_keys(metadata: Path, keys: Path, wanted: tuple[RoleName, ...]) -> None:
    root = _latest_root(metadata)
    for role in wanted:
        _signers(root, (keys,), role)


def _check_follows(before: Root, after: Metadata[Root]) -> None:
    if after.signed.version != before.version + 1:
        raise BadSetting(
            f"the draft is root {after.signed.version}, and root {before.version} is in force: "
            "make the draft again from that one"
        )
    for whose, root in (("old", before), ("new", after.signed)):
        result = root.get_verification_result("root", after.signed_bytes, after.signatures)
        if not result.verified:
            raise BadSetting(
                f"{len(result.signed)} of the {result.threshold} keys of the {whose} root that must sign the "
                "draft have: `shelfsight-cloud keys show` names those that have not"
            )


def _is_signed(root: Root, role: str, metadata: Metadata[_Signed]) -> bool:
    return root.get_verification_result(role, metadata.signed_bytes, metadata.signatures).verified


@contextmanager
def _locked(metadata: Path) -> Iterator[None]:
    """Hold the repository for one signer at a time: `publish` and the server's own tick are two processes."""
    try:
        handle = (metadata / ".lock").open("a")
    except OSError as error:
        raise storage_error(error, metadata) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
