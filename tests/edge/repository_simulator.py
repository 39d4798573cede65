"""A real TUF repository in memory, served over a real loopback server, that a test can bend.

After python-tuf's own `tests/repository_simulator.py`: real keys, real signatures, real versions.
"""

from datetime import UTC, datetime, timedelta

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from edge.trust import root_fingerprint
from tests.edge.loopback_server import LoopbackServer
from tests.edge.release_maker import Made, sha256

ROLES = (Root.type, Targets.type, Snapshot.type, Timestamp.type)


class RepositorySimulator:
    """Sign releases and put everything into the server's files; `signers` may be swapped to forge.

    `ahead` is by how much its calendar is ahead of the device's: a device whose clock stands at 1970 is the
    same as one with the right clock and a server of the year 2080.
    """

    def __init__(self, server: LoopbackServer, ahead: timedelta = timedelta(0)) -> None:
        self.server = server
        self.ahead = ahead
        self.created: object = None  # None: the timestamp tells when it was signed
        self.signers = {role: CryptoSigner.generate_ed25519() for role in ROLES}
        self.root_signers = [self.signers[Root.type]]
        expires = self.now() + timedelta(days=30)
        self.root = Root(expires=expires, consistent_snapshot=True)
        for role, signer in self.signers.items():
            self.root.add_key(signer.public_key, role)
        self.targets = Targets(expires=expires)
        self.snapshot = Snapshot(expires=expires)
        self.timestamp = Timestamp(expires=expires)
        self.sign_root()
        self.publish()

    def now(self) -> datetime:
        """Return the present by the calendar of this repository."""
        return datetime.now(UTC).replace(microsecond=0) + self.ahead

    def wait(self, days: int) -> None:
        """Let days pass, then sign everything for another month: what a server does while a device sleeps."""
        self.ahead += timedelta(days=days)
        for role in (self.root, self.targets, self.snapshot, self.timestamp):
            role.expires = self.now() + timedelta(days=30)
        self.root.version += 1
        self.sign_root()
        self.targets.version += 1
        self.publish()

    @property
    def root_bytes(self) -> bytes:
        return self.server.files[f"/v1/metadata/{self.root.version}.root.json"]

    @property
    def fingerprint(self) -> str:
        return root_fingerprint(self.root_bytes)

    def add_release(self, made: Made, *, manifest: bytes | None = None, version: int | None = None) -> None:
        """Serve a release's files, sign its manifest, publish."""
        data = made.manifest if manifest is None else manifest
        for name, content in made.files.items():
            self.server.files[f"/v1/files/{name}"] = content
        self.server.files[f"/v1/files/{sha256(data)}"] = data
        self.sign_manifest(f"releases/{made.release.version if version is None else version}.json", data)

    def sign_manifest(self, path: str, data: bytes) -> None:
        """Sign bytes under a name, and publish."""
        self.targets.targets[path] = TargetFile.from_data(path, data, ["sha256"])
        self.targets.version += 1
        self.publish()

    def publish(self) -> None:
        """Sign targets, snapshot and timestamp anew, each with the next version."""
        targets = self._serve(Metadata(self.targets), self.targets.version)
        self.snapshot.version += 1
        self.snapshot.meta["targets.json"] = MetaFile.from_data(self.targets.version, targets, ["sha256"])
        snapshot = self._serve(Metadata(self.snapshot), self.snapshot.version)
        self.timestamp.version += 1
        self.timestamp.snapshot_meta = MetaFile.from_data(self.snapshot.version, snapshot, ["sha256"])
        told = f"{self.now():%Y-%m-%dT%H:%M:%SZ}" if self.created is None else self.created
        self.timestamp.unrecognized_fields["created"] = told
        self._serve(Metadata(self.timestamp), None)

    def sign_root(self, *also: CryptoSigner) -> None:
        """Serve the root as it stands; `also` are keys of the root before."""
        metadata = Metadata(self.root)
        for signer in (*also, *self.root_signers[1:]):
            metadata.sign(signer, append=True)
        self._serve(metadata, self.root.version)

    def change_root(self, signers: list[CryptoSigner], threshold: int, *, by: list[CryptoSigner]) -> None:
        """Serve a next root with these keys and this threshold, signed `by` those of the root before."""
        for signer in self.root_signers:
            self.root.revoke_key(signer.public_key.keyid, Root.type)
        for signer in signers:
            self.root.add_key(signer.public_key, Root.type)
        self.root.roles[Root.type].threshold = threshold
        self.root.version += 1
        self.root_signers = list(signers)
        self.signers[Root.type] = signers[0]
        self.sign_root(*by)

    def rotate_keys(self) -> None:
        """Change every key, the root's too."""
        before = self.signers
        self.signers = {role: CryptoSigner.generate_ed25519() for role in ROLES}
        for role in ROLES:
            self.root.revoke_key(before[role].public_key.keyid, role)
            self.root.add_key(self.signers[role].public_key, role)
        self.root.version += 1
        self.root_signers = [self.signers[Root.type]]
        self.sign_root(before[Root.type])
        self.targets.version += 1
        self.publish()

    def saved(self) -> dict[str, bytes]:
        """Return what is served now, to be served again later as an old copy."""
        return dict(self.server.files)

    def _serve(
        self,
        metadata: Metadata[Root] | Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp],
        version: int | None,
    ) -> bytes:
        role = metadata.signed.type
        metadata.sign(self.signers[role], append=True)
        data = metadata.to_bytes()
        name = f"{role}.json" if version is None else f"{version}.{role}.json"
        self.server.files[f"/v1/metadata/{name}"] = data
        return data
