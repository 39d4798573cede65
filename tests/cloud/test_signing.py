"""The cloud's signatures, judged by python-tuf's own client."""

import hashlib
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlparse

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from cloud import signing
from edge.errors import StorageUnusable

MANIFEST = b'{"version":1}'


class FolderFetcher(FetcherInterface):
    """Serves a metadata folder to the TUF client, without a socket."""

    def __init__(self, metadata: Path) -> None:
        self.metadata = metadata

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self.metadata / Path(urlparse(url).path).name
        if not path.exists():
            raise DownloadHTTPError(f"{path.name} is not there", 404)
        yield path.read_bytes()


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: no test here pulls a plug."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    folder = tmp_path / "metadata"
    signing.create_repository(folder, tmp_path / "keys")
    return folder


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def client(metadata: Path, folder: Path, root: bytes | None = None) -> Updater:
    folder.mkdir(exist_ok=True)
    return Updater(
        str(folder),
        "http://repository/metadata/",
        fetcher=FolderFetcher(metadata),
        bootstrap=root,
    )


def test_a_tuf_client_trusts_a_signed_target(metadata: Path, keys: Path, tmp_path: Path) -> None:
    signing.add_target(metadata, keys, "releases/1.json", MANIFEST)
    updater = client(metadata, tmp_path / "client", signing.root_bytes(metadata))
    updater.refresh()
    target = updater.get_targetinfo("releases/1.json")
    assert target is not None
    assert target.length == len(MANIFEST)
    assert target.hashes == {"sha256": hashlib.sha256(MANIFEST).hexdigest()}
    assert updater.get_targetinfo("releases/2.json") is None


def test_an_empty_repository_is_already_trusted(metadata: Path, tmp_path: Path) -> None:
    client(metadata, tmp_path / "client", signing.root_bytes(metadata)).refresh()


def test_a_client_follows_every_publish_tick_and_renewal(metadata: Path, keys: Path, tmp_path: Path) -> None:
    root = signing.root_bytes(metadata)
    for step in (
        lambda: signing.add_target(metadata, keys, "releases/1.json", MANIFEST),
        lambda: signing.tick(metadata, keys),
        lambda: signing.renew(metadata, keys),
        lambda: signing.add_target(metadata, keys, "releases/2.json", b"{}"),
    ):
        step()
        client(metadata, tmp_path / "client", root).refresh()
    updater = client(metadata, tmp_path / "client", root)
    assert updater.get_targetinfo("releases/1.json") is not None
    assert updater.get_targetinfo("releases/2.json") is not None
    assert signing.target_names(metadata) == ("releases/1.json", "releases/2.json")


def test_private_keys_are_for_the_owner_alone(metadata: Path, keys: Path) -> None:
    assert metadata.exists()
    assert {path.name for path in keys.iterdir()} == {
        *(f"root-{number}.pem" for number in (1, 2, 3)),
        *("targets.pem", "snapshot.pem", "timestamp.pem"),
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {0o600}


def test_creating_a_repository_again_keeps_it(metadata: Path, keys: Path) -> None:
    before = {path.name: path.read_bytes() for path in metadata.glob("*.json")}
    signing.create_repository(metadata, keys)
    assert {path.name: path.read_bytes() for path in metadata.glob("*.json")} == before


def test_a_repository_whose_creation_was_killed_is_finished(
    metadata: Path, keys: Path, tmp_path: Path
) -> None:
    for path in metadata.glob("*.json"):
        if path.name != "1.root.json":
            path.unlink()
    signing.create_repository(metadata, keys)
    client(metadata, tmp_path / "client", signing.root_bytes(metadata)).refresh()


def test_tick_needs_only_the_online_keys(metadata: Path, keys: Path, tmp_path: Path) -> None:
    for name in ("root-1", "root-2", "root-3", "targets"):
        (keys / f"{name}.pem").unlink()
    expires = signing.tick(metadata, keys)
    assert abs(expires - datetime.now(UTC) - timedelta(days=1)) < timedelta(minutes=1)
    assert signing.timestamp_expires(metadata) == expires
    client(metadata, tmp_path / "client", signing.root_bytes(metadata)).refresh()


def test_publishing_without_the_offline_key_names_the_file_and_signs_nothing(
    metadata: Path, keys: Path
) -> None:
    (keys / "targets.pem").unlink()
    before = sorted(path.name for path in metadata.iterdir())
    with pytest.raises(StorageUnusable, match=r"targets\.pem is not there: bring the folder .* --keys"):
        signing.add_target(metadata, keys, "releases/1.json", MANIFEST)
    assert sorted(path.name for path in metadata.iterdir()) == before


def test_offline_keys_may_live_in_another_folder(metadata: Path, keys: Path, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    for name in ("root-1", "root-2", "root-3", "targets"):
        (keys / f"{name}.pem").rename(stick / f"{name}.pem")
    signing.add_target(metadata, stick, "releases/1.json", MANIFEST, online_keys=keys)
    client(metadata, tmp_path / "client", signing.root_bytes(metadata)).refresh()


@pytest.mark.parametrize(
    "content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_broken_key_file_is_named(metadata: Path, keys: Path, content: bytes) -> None:
    (keys / "timestamp.pem").write_bytes(content)
    with pytest.raises(StorageUnusable, match=r"timestamp\.pem is not a PEM private key"):
        signing.tick(metadata, keys)


def test_a_key_of_another_repository_is_refused(metadata: Path, keys: Path, tmp_path: Path) -> None:
    signing.create_keys(tmp_path / "other")
    (tmp_path / "other" / "snapshot.pem").replace(keys / "snapshot.pem")
    with pytest.raises(StorageUnusable, match=r"snapshot\.pem is not the snapshot key that the root trusts"):
        signing.tick(metadata, keys)


def test_a_publish_killed_before_the_timestamp_shows_nothing_new(
    metadata: Path, keys: Path, tmp_path: Path
) -> None:
    timestamp = (metadata / "timestamp.json").read_bytes()
    signing.add_target(metadata, keys, "releases/1.json", MANIFEST)
    (metadata / "timestamp.json").write_bytes(timestamp)
    updater = client(metadata, tmp_path / "client", signing.root_bytes(metadata))
    updater.refresh()
    assert updater.get_targetinfo("releases/1.json") is None
    signing.add_target(metadata, keys, "releases/1.json", b"made again")
    updater = client(metadata, tmp_path / "client")
    updater.refresh()
    target = updater.get_targetinfo("releases/1.json")
    assert target is not None
    assert target.length == len(b"made again")


def test_old_snapshots_are_forgotten_and_the_current_ones_kept(metadata: Path, keys: Path) -> None:
    for _ in range(25):
        signing.tick(metadata, keys)
    assert len(list(metadata.glob("*.snapshot.json"))) == 20


def test_several_files_are_signed_at_once_and_old_names_are_dropped(
    metadata: Path, keys: Path, tmp_path: Path
) -> None:
    for version in range(1, 30):
        files = {f"releases/{version}/{store}.json": f"{version} {store}".encode() for store in ("a", "b")}
        signing.add_targets(metadata, keys, files, keep={f"releases/{version - 1}/a.json"}.__contains__)

    updater = client(metadata, tmp_path / "client", signing.root_bytes(metadata))
    updater.refresh()
    assert signing.target_names(metadata) == (
        "releases/28/a.json",
        "releases/29/a.json",
        "releases/29/b.json",
    )
    assert updater.get_targetinfo("releases/29/b.json") is not None
    assert updater.get_targetinfo("releases/28/b.json") is None
    assert updater.get_targetinfo("releases/28/a.json") is not None
    assert len(list(metadata.glob("*.targets.json"))) == 20


def publish_stores(metadata: Path, keys: Path, version: int, count: int) -> None:
    """Sign a release of each of many stores, and keep those of the one before."""
    files = {f"releases/{version}/s{number}.json": MANIFEST for number in range(count)}
    signing.add_targets(metadata, keys, files, keep=lambda name: name.startswith(f"releases/{version - 1}/"))


def test_the_names_of_many_stores_lie_in_bins_so_that_a_device_fetches_few_of_them(
    metadata: Path, keys: Path, tmp_path: Path
) -> None:
    publish_stores(metadata, keys, 1, 5)
    root = signing.root_bytes(metadata)
    updater = client(metadata, tmp_path / "client", root)
    updater.refresh()
    assert not list(metadata.glob("*.bin-*.json"))
    for version in (2, 3):
        publish_stores(metadata, keys, version, 500)

    updater = client(metadata, tmp_path / "client", root)
    updater.refresh()
    for number in range(0, 500, 50):
        target = updater.get_targetinfo(f"releases/3/s{number}.json")
        assert target is not None
        assert target.length == len(MANIFEST)
    assert updater.get_targetinfo("releases/1/s1.json") is None
    assert len(signing.target_names(metadata)) == 1000
    bins = [path.stat().st_size for path in metadata.glob("2.bin-*.json")]
    assert len(bins) == 64
    assert sum(bins) > 100_000
    others = ("timestamp.json", "4.snapshot.json", "4.targets.json")
    assert max(bins) + sum((metadata / name).stat().st_size for name in others) < 8000


def test_bins_stay_when_the_stores_go_and_those_without_a_change_are_not_signed_again(
    metadata: Path, keys: Path, tmp_path: Path
) -> None:
    publish_stores(metadata, keys, 1, 100)
    root = signing.root_bytes(metadata)
    client(metadata, tmp_path / "client", root).refresh()
    signing.add_targets(metadata, keys, {"releases/2.json": b"{}"}, keep=lambda name: True)
    assert len(list(metadata.glob("2.bin-*.json"))) == 1
    signing.add_targets(metadata, keys, {"releases/3.json": b"{}"}, keep=lambda name: False)
    updater = client(metadata, tmp_path / "client", root)
    updater.refresh()
    assert updater.get_targetinfo("releases/3.json") is not None
    assert signing.target_names(metadata) == ("releases/3.json",)


def test_bins_are_renewed_with_the_rest_and_before_they_run_out(
    metadata: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_stores(metadata, keys, 1, 100)
    signing.renew(metadata, keys)
    assert len(list(metadata.glob("2.bin-*.json"))) == 64
    with monkeypatch.context() as patch:
        patch.setitem(signing.LIFETIMES, "targets", timedelta(days=20))
        signing.renew(metadata, keys)
    assert signing.running_out(metadata)[0].startswith("targets runs out on")
    signing.add_target(metadata, keys, "releases/2.json", b"{}")
    assert signing.running_out(metadata) == ()


@pytest.mark.parametrize("after", [0, 1, 30, 64])
def test_a_publish_killed_among_the_bins_is_just_repeated(
    metadata: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    signing.add_target(metadata, keys, "releases/1.json", MANIFEST)
    root = signing.root_bytes(metadata)
    client(metadata, tmp_path / "client", root).refresh()
    real, calls = signing.write_atomically, iter(range(1000))

    def cut(path: Path, data: bytes) -> None:
        if next(calls) >= after:
            raise KeyboardInterrupt
        real(path, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(signing, "write_atomically", cut)
        publish_stores(metadata, keys, 2, 100)
    signing.tick(metadata, keys)  # by the server, which goes on
    assert client(metadata, tmp_path / "client").get_targetinfo("releases/1.json") is not None or after == 64
    publish_stores(metadata, keys, 2, 100)
    updater = client(metadata, tmp_path / "client")
    updater.refresh()
    assert all(updater.get_targetinfo(f"releases/2/s{number}.json") for number in range(100))


def test_damaged_metadata_is_named(metadata: Path, keys: Path) -> None:
    (metadata / "1.targets.json").write_bytes(b'{"signed":')
    with pytest.raises(StorageUnusable, match=r"1\.targets\.json is not TUF metadata"):
        signing.add_target(metadata, keys, "releases/1.json", MANIFEST)
    (metadata / "1.targets.json").write_bytes((metadata / "timestamp.json").read_bytes())
    with pytest.raises(StorageUnusable, match="timestamp metadata under another name"):
        signing.target_names(metadata)


def test_a_folder_without_a_repository_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StorageUnusable, match="shelfsight-cloud init"):
        signing.root_bytes(tmp_path)


def test_the_fingerprint_is_fifty_bits_of_the_root(metadata: Path) -> None:
    digest = hashlib.sha256(signing.root_bytes(metadata)).digest()
    bits = f"{int.from_bytes(digest, 'big'):0256b}"[:50]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    assert signing.fingerprint(metadata) == "".join(
        alphabet[int(bits[place : place + 5], 2)] for place in range(0, 50, 5)
    )


def test_the_roles_tell_where_their_keys_are_and_when_they_expire(metadata: Path, keys: Path) -> None:
    (keys / "root-2.pem").unlink()
    (keys / "root-3.pem").unlink()
    status = {each.role: each for each in signing.roles(metadata, keys)}
    assert [role for role in status if status[role].offline] == ["root", "targets"]
    assert [(len(each.key_ids), each.threshold) for each in status.values()] == [
        (3, 2),
        (1, 1),
        (1, 1),
        (1, 1),
    ]
    assert [each.can_sign for each in status.values()] == [False, True, True, True]
    assert list(status["root"].files.values()) == [keys / "root-1.pem"]
    assert len({key for each in status.values() for key in each.key_ids}) == 6
    days = {
        role: round((each.expires - datetime.now(UTC)) / timedelta(days=1)) for role, each in status.items()
    }
    assert days == {"root": 365, "targets": 365, "snapshot": 7, "timestamp": 1}
