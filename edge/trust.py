"""Whom a device believes: TUF's roots and signatures, and what they say of a release's manifest.

The only door to python-tuf on a device. It verifies roots, timestamp, snapshot and targets, and gives the
length and hash of a manifest; every byte comes through `edge.transport`. What is trusted lies in `trust/` of
the device folder: the first root, as the enrollment code named it, and python-tuf's own metadata beside it.
`edge.trust_floor` keeps that a second time, and judges expiry where the clock of this device is behind.
"""

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
)
from tuf.api.metadata import Metadata, Root
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater as TufClient

from edge.disk import storage_error, sync_folder, write_atomically
from edge.errors import (
    AccessDenied,
    BadManifest,
    BadSignature,
    Freeze,
    HashMismatch,
    NotEnrolled,
    Rollback,
    ServerUnreachable,
)
from edge.release_files import delete, sync_file
from edge.transport import Transport
from edge.trust_floor import FIRST_ROOT, TrustFloor

_MOST_MANIFEST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """What the offline keys signed about a release's manifest: its length in bytes and its SHA-256 (hex)."""

    length: int
    sha256: str


class Trust:
    """The signatures that a device believes; `folder` is the device's data folder."""

    def __init__(self, folder: Path, transport: Transport) -> None:
        self._trust = folder / "trust"
        self._floor = TrustFloor(folder)
        self._transport = transport

    def manifest_of(
        self, version: int, assortment: str = "", *, not_before: datetime | None = None
    ) -> SignedManifest:
        """Ask the server what is signed about release `version` of an assortment, and verify it.

        `not_before` is a moment (with its time zone) that is proven to be past, as the signed date of a
        release that is here: a clock that is behind it is not believed.

        Raises:
            BadSignature: Keys that this device does not trust, or nobody signed this release.
            Freeze, Rollback, HashMismatch: Signatures that are too old, older than known, or of other bytes.
            BadManifest: It is signed with a length or hash that cannot be.
            NotEnrolled: This device trusts no root.
            ServerUnreachable, ServerBusy, TransferBroken, AccessDenied, StorageUnusable, NoSpace: Not now.
        """
        name = manifest_name(version, assortment)
        what = f"release {version}" + (f" of assortment {assortment}" if assortment else "")
        server = self._transport.base_url
        with _judged(server, self._trust):
            client = self._client()
            client.refresh()
            target = client.get_targetinfo(name)
            _sync_tree(self._trust)
            self._floor.lift()
            self._check_time(name, not_before)
        if target is None:
            raise BadSignature(f"{server} offers {what}, which nobody signed: publish it again.")
        sha256 = target.hashes.get("sha256", "")
        if not 0 < target.length <= _MOST_MANIFEST_BYTES or not sha256:
            raise BadManifest(f"{name} is signed as {target.length} bytes: publish it again.")
        return SignedManifest(target.length, sha256)

    def _client(self) -> TufClient:
        for left_behind in self._trust.glob("tmp*"):  # by python-tuf, when it was killed
            delete(left_behind)
        first_root = self._floor.restore()
        if first_root is None:
            raise NotEnrolled(f"{self._trust} holds no trusted root: enroll this device again.")
        return TufClient(
            str(self._trust),
            metadata_base_url="/v1/metadata/",
            fetcher=_Fetcher(self._transport),
            config=UpdaterConfig(prefix_targets_with_hash=False),
            bootstrap=first_root,
        )

    def _check_time(self, name: str, not_before: datetime | None) -> None:
        """Refuse what was still in force by this device's clock, but not by the time that is proven."""
        found = self._floor.expired(name, not_before)
        if found is not None:
            raise Freeze(
                f"the {found.role} signatures of {self._transport.base_url} ran out at "
                f"{_minute(found.expires)}, and it is proven to be {_minute(found.proven)} or later: run "
                f"`shelfsight-cloud tick` there, and set this device's clock, which says {_clock()}."
            )


def manifest_name(version: int, assortment: str = "") -> str:
    """Name the TUF target of a release's manifest: `releases/7.json`, or `releases/7/ASSORTMENT.json`."""
    return f"releases/{version}/{assortment}.json" if assortment else f"releases/{version}.json"


def trust_root(folder: Path, root_json: bytes, fingerprint: str) -> None:
    """Trust a server's root metadata from now on, if it is the one that the enrollment code names.

    `folder` is the device's data folder; `fingerprint` the last group of the code, base32 of the first 50
    bits of the sha256 of `root_json`. What was trusted before, from another server, is forgotten; the floor
    of versions is not.

    Raises:
        BadSignature: It is another root, or none at all.
        NoSpace, StorageUnusable: It cannot be kept.
    """
    expected = root_fingerprint(root_json)
    given = fingerprint.strip().upper()
    if given != expected:
        raise BadSignature(
            f"the server's root of trust is {expected}, and the code says {given}: "
            "check the code, and that this is the right server."
        )
    try:
        root = Metadata.from_bytes(root_json)
        if not isinstance(root.signed, Root):
            raise RepositoryError(f"it is of type {root.signed.type}")
        root.signed.verify_delegate(Root.type, root.signed_bytes, root.signatures)
    except (RepositoryError, ValueError) as error:
        raise BadSignature(
            f"what the server calls its root of trust is none ({error}): ask for a new code."
        ) from error
    trust = folder / "trust"
    try:
        known = (trust / FIRST_ROOT).read_bytes() if (trust / FIRST_ROOT).is_file() else None
        if known != root_json:
            delete(trust)
        trust.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, trust) from error
    write_atomically(trust / FIRST_ROOT, root_json)
    sync_folder(folder)


def root_fingerprint(root_json: bytes) -> str:
    """Return ten letters that name a root: base32 (RFC 4648) of the first 50 bits of its sha256."""
    return base64.b32encode(hashlib.sha256(root_json).digest()[:10]).decode()[:10]


class _Fetcher(FetcherInterface):
    """Let python-tuf fetch metadata through our socket, so that our errors come out as they are."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def download_bytes(self, url: str, max_length: int) -> bytes:
        try:
            data = self._transport.get_bytes(url, max_bytes=max_length)
        except AccessDenied:
            if url.endswith(".root.json"):
                # Static storage that forbids listing says 403 for a root that is not there yet.
                raise DownloadHTTPError(f"{url} is forbidden", 403) from None
            raise
        if data is None:
            raise DownloadHTTPError(f"{url} is not there", 404)
        return data

    def _fetch(self, url: str) -> Iterator[bytes]:
        yield self.download_bytes(url, UpdaterConfig().targets_max_length)


@contextmanager
def _judged(server: str, trust: Path) -> Iterator[None]:
    """Say in our words what python-tuf found wrong."""
    try:
        yield
    except ExpiredMetadataError as error:
        raise Freeze(
            f"the signatures of {server} have expired ({error}): run `shelfsight-cloud tick` there "
            "(`shelfsight-cloud keys` for root and targets), or set this device's clock, which says "
            f"{_clock()}, if it is wrong."
        ) from error
    except BadVersionNumberError as error:
        raise Rollback(
            f"{server} gives metadata older than this device has seen ({error}): "
            "restore the newest metadata there."
        ) from error
    except LengthOrHashMismatchError as error:
        raise HashMismatch(
            f"{server} gives metadata that is not what was signed ({error}): publish again."
        ) from error
    except RepositoryError as error:
        raise BadSignature(
            f"{server} gives metadata that the keys this device trusts did not sign ({error}): "
            "check the address, or enroll this device again."
        ) from error
    except DownloadError as error:
        raise ServerUnreachable(
            f"{server} has no release metadata ({error}): check that it is the sync server."
        ) from error
    except OSError as error:
        raise storage_error(error, trust) from error


def _clock() -> str:
    return _minute(datetime.now(UTC))


def _minute(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _sync_tree(folder: Path) -> None:
    # python-tuf renames without fsync: after a power cut its files could be there and empty.
    for path in folder.rglob("*.json"):
        sync_file(path)
    sync_folder(folder / "root_history")
    sync_folder(folder)
