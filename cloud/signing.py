"""Signs what devices may trust: the four TUF roles of a release repository.

The only door to `tuf` and `securesystemslib` on the cloud's side. Root and targets are *offline* keys: they
are needed to publish, and may live on a stick in a drawer for the rest of the time. Snapshot and timestamp
are *online* keys, short-lived, re-signed by `tick`, so that a frozen or copied server is noticed in a day.

A repository is a folder of metadata files: `<n>.root.json`, `<n>.targets.json`, `<n>.snapshot.json` and
`timestamp.json`. A numbered file is written once and never again; `timestamp.json` is written last and is the
one file that makes the others true, so a crash before it leaves yesterday's repository whole. Follows the
TUF specification, sections 4 (formats) and 6.2 (consistent snapshots).
"""

import base64
import fcntl
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from edge.disk import storage_error, write_atomically
from edge.errors import StorageUnusable

RoleName = Literal["root", "targets", "snapshot", "timestamp"]
ROLES: Final[tuple[RoleName, ...]] = ("root", "targets", "snapshot", "timestamp")
OFFLINE: Final = frozenset({"root", "targets"})
LIFETIMES: Final[dict[RoleName, timedelta]] = {
    "root": timedelta(days=365),
    "targets": timedelta(days=365),
    "snapshot": timedelta(days=7),
    "timestamp": timedelta(days=1),
}
_KEPT: Final = 20  # a device in the middle of a refresh still finds the files that its timestamp named

_Signed = TypeVar("_Signed", Root, Targets, Snapshot, Timestamp)


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """Tell how one role stands: its key ids, when its signature runs out, whether its private key is here."""

    role: RoleName
    key_ids: tuple[str, ...]
    version: int
    expires: datetime
    key_file: Path
    key_here: bool

    @property
    def offline(self) -> bool:
        """Say whether the private key is needed only to publish, and may be kept elsewhere."""
        return self.role in OFFLINE


def create_keys(keys: Path) -> None:
    """Create the private keys that are not there yet: Ed25519, PEM (PKCS #8), readable by the owner alone.

    Raises:
        StorageUnusable, NoSpace: the folder cannot be written.
    """
    _make_folder(keys, mode=0o700)
    for role in ROLES:
        path = _key_file(keys, role)
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
            _write_targets(metadata, keys, Targets())
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
        targets = _current_targets(metadata)
        targets.targets = {
            **{name: file for name, file in targets.targets.items() if keep is None or keep(name)},
            **{name: TargetFile.from_data(name, data, ["sha256"]) for name, data in files.items()},
        }
        _write_targets(metadata, keys, targets)
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


def renew(metadata: Path, keys: Path, *, online_keys: Path | None = None) -> None:
    """Sign root and targets for another year with the offline keys they already have.

    Raises:
        StorageUnusable, NoSpace: a key is missing or another one, or the metadata is unusable.
    """
    with _locked(metadata):
        _check_keys(metadata, keys, ("root", "targets"))
        _check_keys(metadata, online_keys or keys, ("snapshot", "timestamp"))
        root = _latest_root(metadata)
        root.version += 1
        root.expires = _expiry("root")
        signed = Metadata(root)
        signed.sign(_signer(root, keys, "root"))
        write_atomically(metadata / f"{root.version}.root.json", signed.to_bytes())
        _write_targets(metadata, keys, _current_targets(metadata))
        _write_online(metadata, online_keys or keys)


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
    return tuple(sorted(_current_targets(metadata).targets))


def timestamp_expires(metadata: Path) -> datetime:
    """Return when the timestamp runs out (UTC).

    Raises:
        StorageUnusable: the metadata cannot be read.
    """
    return _load(metadata / "timestamp.json", Timestamp).expires


def roles(metadata: Path, keys: Path) -> tuple[RoleStatus, ...]:
    """Return how each of the four roles stands.

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
    return tuple(
        RoleStatus(
            role=role,
            key_ids=tuple(root.roles[role].keyids),
            version=signed[role].version,
            expires=signed[role].expires,
            key_file=_key_file(keys, role),
            key_here=_key_file(keys, role).exists(),
        )
        for role in ROLES
    )


def _write_first_root(metadata: Path, keys: Path) -> None:
    root = Root(version=1, expires=_expiry("root"), consistent_snapshot=True)
    signers = {role: CryptoSigner(_private_key(keys, role)) for role in ROLES}
    for role, signer in signers.items():
        root.add_key(signer.public_key, role)
    signed = Metadata(root)
    signed.sign(signers["root"])
    write_atomically(metadata / "1.root.json", signed.to_bytes())


def _write_targets(metadata: Path, keys: Path, targets: Targets) -> None:
    # One more than any file there, so that a number that a crash left behind is not used twice.
    targets.version = max(_versions(metadata, "targets"), default=0) + 1
    targets.expires = _expiry("targets")
    signed = Metadata(targets)
    signed.sign(_signer(_latest_root(metadata), keys, "targets"))
    write_atomically(metadata / f"{targets.version}.targets.json", signed.to_bytes())


def _write_online(metadata: Path, keys: Path) -> datetime:
    """Sign a snapshot of the newest targets, then the timestamp that makes it true."""
    root = _latest_root(metadata)
    snapshot_signer = _signer(root, keys, "snapshot")
    timestamp_signer = _signer(root, keys, "timestamp")

    targets_version = _latest_version(metadata, "targets")
    targets_bytes = _read(metadata / f"{targets_version}.targets.json")
    snapshot = Metadata(
        Snapshot(
            version=max(_versions(metadata, "snapshot"), default=0) + 1,
            expires=_expiry("snapshot"),
            meta={"targets.json": MetaFile.from_data(targets_version, targets_bytes, ["sha256"])},
        )
    )
    snapshot.sign(snapshot_signer)
    snapshot_bytes = snapshot.to_bytes()
    write_atomically(metadata / f"{snapshot.signed.version}.snapshot.json", snapshot_bytes)

    timestamp = Metadata(
        Timestamp(
            version=_timestamp_version(metadata) + 1,
            expires=_expiry("timestamp"),
            snapshot_meta=MetaFile.from_data(snapshot.signed.version, snapshot_bytes, ["sha256"]),
            # For `edge.trust_floor`: a device whose clock is behind judges expiry by this moment.
            unrecognized_fields={"created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")},
        )
    )
    timestamp.sign(timestamp_signer)
    write_atomically(metadata / "timestamp.json", timestamp.to_bytes())
    _forget_old(metadata, "snapshot")
    _forget_old(metadata, "targets")
    return timestamp.signed.expires


def _forget_old(metadata: Path, role: RoleName) -> None:
    for version in sorted(_versions(metadata, role))[:-_KEPT]:
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


def _versions(metadata: Path, role: RoleName) -> list[int]:
    pattern = re.compile(rf"([1-9][0-9]*)\.{role}\.json")
    try:
        names = [path.name for path in metadata.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error(error, metadata) from error
    return [int(found[1]) for name in names if (found := pattern.fullmatch(name))]


def _load(path: Path, kind: type[_Signed]) -> _Signed:
    try:
        signed: Signed = Metadata.from_bytes(_read(path)).signed
    except RepositoryError as error:
        raise StorageUnusable(f"{path} is not TUF metadata ({error}): restore it from a backup") from error
    if not isinstance(signed, kind):
        raise StorageUnusable(
            f"{path} is {signed.type} metadata under another name: restore it from a backup"
        )
    return signed


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


def _key_file(keys: Path, role: RoleName) -> Path:
    return keys / f"{role}.pem"


def _private_key(keys: Path, role: RoleName) -> PrivateKeyTypes:
    path = _key_file(keys, role)
    try:
        return load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError as error:
        where = (
            "bring the folder with the offline keys back, or name it with --keys"
            if role in OFFLINE
            else ("restore it from a backup")
        )
        raise StorageUnusable(f"the private key {path} is not there: {where}") from error
    except OSError as error:
        raise StorageUnusable(
            f"the private key {path} cannot be read ({error.strerror}): run this as the user who owns it"
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StorageUnusable(
            f"{path} is not an unencrypted PEM private key: restore it from a backup"
        ) from error


def _check_keys(metadata: Path, keys: Path, wanted: tuple[RoleName, ...]) -> None:
    root = _latest_root(metadata)
    for role in wanted:
        _signer(root, keys, role)


def _signer(root: Root, keys: Path, role: RoleName) -> CryptoSigner:
    """Open the private key of a role and hold it against the public key that the root names."""
    public = root.keys[root.roles[role].keyids[0]]
    if not isinstance(public, SSlibKey):
        raise StorageUnusable(
            f"the root names a {public.keytype} key for {role}, which is not kept in a file"
        )
    try:
        return CryptoSigner(_private_key(keys, role), public)
    except ValueError as error:
        raise StorageUnusable(
            f"{_key_file(keys, role)} is not the {role} key that the root trusts: put the right file back"
        ) from error


def _expiry(role: RoleName) -> datetime:
    return (datetime.now(UTC) + LIFETIMES[role]).replace(microsecond=0)


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
