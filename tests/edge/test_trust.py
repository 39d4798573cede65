"""Whom a device believes when keys change, files are lost, clocks are wrong and old copies are held up."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from edge.errors import (
    BadSignature,
    Freeze,
    HashMismatch,
    NotEnrolled,
    Oversize,
    Rollback,
    ServerUnreachable,
    ShelfsightError,
)
from edge.transport import Transport
from edge.trust import SignedManifest, Trust, trust_root
from tests.edge.loopback_server import LoopbackServer, loopback_server
from tests.edge.release_maker import sha256
from tests.edge.repository_simulator import RepositorySimulator

CENTURIES = timedelta(days=365 * 56)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: what a power cut does to the files is done to them by hand."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with loopback_server() as server:
        yield server


@pytest.fixture
def repository(server: LoopbackServer) -> RepositorySimulator:
    return RepositorySimulator(server)


@dataclass
class Device:
    """What a device trusts, and the server's address."""

    folder: Path
    url: str

    def sees(self, version: int, *, not_before: datetime | None = None) -> SignedManifest:
        with Transport(self.url, timeout_s=2) as transport:
            return Trust(self.folder, transport).manifest_of(version, not_before=not_before)

    def refuses(self, version: int, error: type[ShelfsightError], says: str, **options: datetime) -> None:
        with pytest.raises(error, match=says) as caught:
            self.sees(version, **options)
        assert type(caught.value) is error


@pytest.fixture
def device(tmp_path: Path, repository: RepositorySimulator) -> Device:
    return enrolled(tmp_path / "device", repository)


def enrolled(folder: Path, repository: RepositorySimulator) -> Device:
    trust_root(folder, repository.root_bytes, repository.fingerprint)
    return Device(folder, repository.server.url)


def publish(repository: RepositorySimulator, version: int) -> SignedManifest:
    data = f"manifest {version}".encode()
    repository.sign_manifest(f"releases/{version}.json", data)
    return SignedManifest(len(data), sha256(data))


def keys(count: int) -> list[CryptoSigner]:
    return [CryptoSigner.generate_ed25519() for _ in range(count)]


# Keys that changed while a device slept --------------------------------------------------------------------


def test_a_device_that_slept_through_four_changes_of_every_key_follows_the_chain(
    device: Device, repository: RepositorySimulator
) -> None:
    publish(repository, 1)
    device.sees(1)
    for _ in range(4):
        repository.rotate_keys()

    assert repository.root.version == 5
    device.sees(1)
    signed = publish(repository, 2)
    assert device.sees(2) == signed


def test_a_fresh_device_starts_at_the_newest_root(tmp_path: Path, repository: RepositorySimulator) -> None:
    for _ in range(4):
        repository.rotate_keys()
    signed = publish(repository, 1)
    repository.server.asked.clear()
    assert enrolled(tmp_path / "fresh", repository).sees(1) == signed
    assert repository.server.paths("/v1/metadata/")[0] == "/v1/metadata/6.root.json"


def test_two_of_three_root_keys_make_the_next_root_whichever_two(
    device: Device, repository: RepositorySimulator
) -> None:
    first = list(repository.root_signers)
    three = keys(3)
    repository.change_root(three, 2, by=first)
    fourth = keys(1)[0]
    repository.change_root([three[0], three[2], fourth], 2, by=[three[1], three[2]])
    signed = publish(repository, 1)
    assert device.sees(1) == signed


@pytest.mark.parametrize("lacking", ["old", "new"])
def test_a_root_without_the_threshold_of_the_old_and_of_the_new_keys_is_refused(
    device: Device, repository: RepositorySimulator, lacking: str
) -> None:
    first = list(repository.root_signers)
    three = keys(3)
    repository.change_root(three, 2, by=first)
    publish(repository, 1)
    device.sees(1)

    others = keys(3)
    repository.change_root(others, 2, by=three[:1] if lacking == "old" else three[:2])
    if lacking == "new":
        path = "/v1/metadata/3.root.json"
        record = json.loads(repository.server.files[path])
        record["signatures"] = [
            each
            for each in record["signatures"]
            if each["keyid"] not in {others[0].public_key.keyid, others[1].public_key.keyid}
        ]
        repository.server.files[path] = json.dumps(record).encode()
    device.refuses(1, BadSignature, "did not sign")


def test_a_revoked_root_key_signs_nothing_any_more(device: Device, repository: RepositorySimulator) -> None:
    first = list(repository.root_signers)
    three = keys(3)
    repository.change_root(three, 2, by=first)
    publish(repository, 1)
    device.sees(1)
    repository.change_root([three[0], three[1], *keys(1)], 2, by=three[:2])
    device.sees(1)

    stolen = three[2]
    repository.change_root(keys(2), 2, by=[stolen, three[0]])
    device.refuses(1, BadSignature, "did not sign")


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
def test_a_revoked_key_of_another_role_signs_nothing_any_more(
    device: Device, repository: RepositorySimulator, role: str
) -> None:
    stolen = repository.signers[role]
    repository.rotate_keys()
    publish(repository, 1)
    device.sees(1)
    repository.signers[role] = stolen
    publish(repository, 2)
    device.refuses(2, BadSignature, "did not sign")


def test_a_stolen_timestamp_key_that_ran_ahead_is_outlived_by_its_revocation(
    device: Device, repository: RepositorySimulator
) -> None:
    publish(repository, 1)
    repository.timestamp.version = 2**31
    calendar, repository.ahead = repository.ahead, CENTURIES
    repository.timestamp.expires = repository.now() + timedelta(days=1)
    publish(repository, 2)
    device.refuses(2, Freeze, "it is proven to be 20[78]")

    repository.ahead = calendar
    repository.timestamp.version = 3
    repository.timestamp.expires = repository.now() + timedelta(days=1)
    publish(repository, 3)
    device.refuses(3, Rollback, "older than this device has seen")

    repository.rotate_keys()
    signed = publish(repository, 4)
    assert device.sees(4) == signed


# Old states of the server ----------------------------------------------------------------------------------


def newer(repository: RepositorySimulator, device: Device) -> dict[str, bytes]:
    """Bring the device to a newer state of the server, with other keys; return the older state."""
    publish(repository, 1)
    device.sees(1)
    old = repository.saved()
    repository.rotate_keys()
    publish(repository, 2)
    device.sees(2)
    return old


def test_an_old_state_of_the_server_is_refused(device: Device, repository: RepositorySimulator) -> None:
    publish(repository, 1)
    old = repository.saved()
    publish(repository, 2)
    device.sees(2)
    repository.server.files = old
    device.refuses(1, Rollback, "older than this device has seen")


@pytest.mark.parametrize("mixed", ["timestamp", "snapshot", "targets", "snapshot targets", "gone"])
def test_old_and_new_files_of_the_server_mixed_are_refused(
    device: Device, repository: RepositorySimulator, mixed: str
) -> None:
    publish(repository, 1)
    device.sees(1)
    old = repository.saved()
    before = {"snapshot": repository.snapshot.version, "targets": repository.targets.version}
    publish(repository, 2)
    middle = repository.saved()
    publish(repository, 3)
    expected: dict[str, tuple[type[ShelfsightError], str]] = {
        "timestamp": (BadSignature, "which nobody signed"),
        "gone": (ServerUnreachable, "no release metadata"),
    }
    if mixed == "timestamp":  # of a state that this device has not seen, so all fits together, and lacks 3
        repository.server.files["/v1/metadata/timestamp.json"] = middle["/v1/metadata/timestamp.json"]
    elif mixed == "gone":
        timestamp = repository.server.files["/v1/metadata/timestamp.json"]
        repository.server.files = {**old, "/v1/metadata/timestamp.json": timestamp}
    else:
        for role in mixed.split():
            now = {"snapshot": repository.snapshot.version, "targets": repository.targets.version}[role]
            repository.server.files[f"/v1/metadata/{now}.{role}.json"] = old[
                f"/v1/metadata/{before[role]}.{role}.json"
            ]
    error, says = expected.get(mixed, (HashMismatch, "not what was signed"))
    device.refuses(3, error, says)

    repository.publish()
    device.sees(3)


def test_a_root_that_ran_out_freezes_until_it_is_renewed(
    device: Device, repository: RepositorySimulator
) -> None:
    publish(repository, 1)
    device.sees(1)
    repository.root.expires = repository.now() - timedelta(minutes=1)
    repository.root.version += 1
    repository.sign_root()
    device.refuses(1, Freeze, "root.json is expired.*shelfsight-cloud keys.*clock")

    repository.wait(1)
    device.sees(1)


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json", "root.json"])
def test_whatever_a_server_sends_is_taken_whole_or_refused_by_name(
    device: Device, repository: RepositorySimulator, name: str
) -> None:
    publish(repository, 1)
    device.sees(1)
    repository.rotate_keys()
    signed = publish(repository, 2)
    chance = random.Random(name)
    good = {path: data for path, data in repository.saved().items() if path.endswith(name)}
    path, data = max(good.items(), key=lambda each: each[0])
    senseless = [b"", b"{}", b"[" * 9000, b"null", b'{"signed":{"_type":"root"},"signatures":[]}', b"\xff"]
    for _ in range(40):
        place, length = chance.randrange(len(data)), chance.randrange(1, 30)
        filling = bytes(chance.choice(b'0{}[]",:x\xff') for _ in range(chance.randrange(30)))
        senseless.append(data[:place] + filling + data[place + length :])
    for spoiled in set(senseless) - {data}:
        repository.server.files[path] = spoiled
        with pytest.raises((BadSignature, HashMismatch, Rollback, Oversize)):
            device.sees(2)
    repository.server.files[path] = data
    assert device.sees(2) == signed


# What the disk does to the files of trust ------------------------------------------------------------------

FILES = [
    "trust/first_root.json",
    "trust/root_history/1.root.json",
    "trust/root_history/2.root.json",
    "trust/root.json",
    "trust/timestamp.json",
    "trust/snapshot.json",
    "trust/targets.json",
    "trust/root_history",
    "trust",
    "trust_floor",
]
DAMAGES = ["zeroed", "cut", "flipped", "deleted", "older"]


def damage(device: Device, older: Path, name: str, how: str) -> None:
    path = device.folder / name
    if path.is_dir():
        if how == "older":
            shutil.rmtree(path)
            shutil.copytree(older / name, path, symlinks=True)
            return
        for each in sorted(path.rglob("*.json")):
            if each.exists():
                damage(device, older, str(each.relative_to(device.folder)), how)
        return
    data = path.read_bytes()
    middle = len(data) // 2
    if how == "deleted":
        path.unlink()
    elif how == "older":
        if (older / name).exists():
            path.write_bytes((older / name).read_bytes())
        else:
            path.unlink()
    else:
        spoiled = {"zeroed": b"", "cut": data[:middle], "flipped": data[:middle] + b"7" + data[middle + 1 :]}
        path.write_bytes(spoiled[how])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", DAMAGES)
def test_whichever_file_the_disk_spoils_an_old_state_is_refused_and_the_true_one_is_taken(
    device: Device, repository: RepositorySimulator, tmp_path: Path, name: str, how: str
) -> None:
    publish(repository, 1)
    device.sees(1)
    old = repository.saved()
    older = Path(shutil.copytree(device.folder, tmp_path / "older", symlinks=True))
    repository.rotate_keys()
    publish(repository, 2)
    device.sees(2)
    true = repository.saved()
    damage(device, older, name, how)

    # The whole past held up to it, root 2 withheld: the keys of root 1 may be stolen by now.
    repository.server.files = old
    with pytest.raises((Rollback, BadSignature)):
        device.sees(1)

    repository.server.files = true
    signed = publish(repository, 3)
    assert device.sees(3) == signed
    before = {path: path.read_bytes() for path in device.folder.rglob("*") if path.is_file()}
    assert device.sees(3) == signed
    assert {path: path.read_bytes() for path in device.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("how", DAMAGES)
def test_with_its_timestamp_spoiled_a_device_still_refuses_an_old_state_under_the_same_keys(
    device: Device, repository: RepositorySimulator, tmp_path: Path, how: str
) -> None:
    publish(repository, 1)
    device.sees(1)
    old = repository.saved()
    older = Path(shutil.copytree(device.folder, tmp_path / "older", symlinks=True))
    publish(repository, 2)
    device.sees(2)
    for name in ("timestamp", "snapshot", "targets"):
        damage(device, older, f"trust/{name}.json", how)
    repository.server.files = old
    device.refuses(1, Rollback, "older than this device has seen")


@pytest.mark.parametrize("how", ["zeroed", "cut"])
def test_a_power_cut_right_after_a_refresh_leaves_something_that_recovers(
    device: Device, repository: RepositorySimulator, how: str
) -> None:
    """python-tuf renames without fsync: all that it wrote in this refresh may be there and empty."""
    newer(repository, device)
    floor = (device.folder / "trust_floor").read_bytes()
    publish(repository, 3)
    device.sees(3)
    (device.folder / "trust_floor").write_bytes(floor)  # it is written after them
    for name in ("timestamp", "snapshot", "targets"):
        damage(device, device.folder, f"trust/{name}.json", how)
    (device.folder / "trust" / "tmp1a2b3c4d").write_bytes(b"half")

    device.sees(3)
    assert not list((device.folder / "trust").glob("tmp*"))


def test_a_device_that_lost_the_first_root_and_the_floor_is_told_to_enroll(
    device: Device, repository: RepositorySimulator
) -> None:
    newer(repository, device)
    (device.folder / "trust" / "first_root.json").write_bytes(b"")
    (device.folder / "trust_floor").write_bytes(b'{"first_root.json": 7, "timestamp.json": "\\ud800"}')
    device.refuses(2, NotEnrolled, "enroll this device again")

    trust_root(device.folder, repository.root_bytes, repository.fingerprint)
    device.sees(2)


def test_the_floor_of_another_server_does_not_hold(device: Device, repository: RepositorySimulator) -> None:
    newer(repository, device)
    with loopback_server() as other_server:
        other = RepositorySimulator(other_server)
        signed = publish(other, 1)
        moved = enrolled(device.folder, other)
        assert moved.sees(1) == signed
        old = other.saved()
        publish(other, 2)
        moved.sees(2)
        other.server.files = old
        shutil.rmtree(device.folder / "trust")
        moved.refuses(1, Rollback, "older")


def test_who_enrolls_again_at_the_same_server_keeps_the_floor(
    device: Device, repository: RepositorySimulator
) -> None:
    publish(repository, 1)
    old = repository.saved()
    publish(repository, 2)
    device.sees(2)
    shutil.rmtree(device.folder / "trust")
    trust_root(device.folder, repository.root_bytes, repository.fingerprint)
    repository.server.files = old
    device.refuses(1, Rollback, "older")


# Clocks ----------------------------------------------------------------------------------------------------


@pytest.fixture
def future(server: LoopbackServer) -> RepositorySimulator:
    """Give a server for which a device's clock stands at 1970."""
    return RepositorySimulator(server, CENTURIES)


def test_a_clock_at_1970_breaks_no_verification(tmp_path: Path, future: RepositorySimulator) -> None:
    device = enrolled(tmp_path / "early", future)
    for version in (1, 2, 3):
        signed = publish(future, version)
        assert device.sees(version) == signed
        future.wait(100)


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_a_clock_at_1970_lets_nothing_through_that_is_proven_to_have_run_out(
    tmp_path: Path, future: RepositorySimulator, role: str
) -> None:
    device = enrolled(tmp_path / "early", future)
    publish(future, 1)
    device.sees(1)
    getattr(future, role).expires = future.now() - timedelta(hours=1)
    if role == "root":
        future.root.version += 1
        future.sign_root()
    publish(future, 2)
    device.refuses(2, Freeze, rf"the {role} signatures of .* ran out at .* proven .* set this device's clock")

    future.wait(1)
    device.sees(2)


def test_a_frozen_copy_is_refused_at_1970_by_the_date_of_a_release_even_if_all_trust_is_lost(
    tmp_path: Path, future: RepositorySimulator
) -> None:
    device = enrolled(tmp_path / "early", future)
    publish(future, 1)
    frozen = future.saved()
    device.sees(1)
    future.wait(100)
    made = future.now()
    publish(future, 2)
    device.sees(2)

    future.server.files = frozen
    (device.folder / "trust_floor").unlink()
    for path in (device.folder / "trust").rglob("*.json"):
        if path.name != "first_root.json":
            path.unlink()
    device.refuses(1, Freeze, "proven", not_before=made)


SHIFT = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += atoll(getenv("SHIFT_S"));
    return failed;
}
"""

SEE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from edge.errors import ShelfsightError
from edge.transport import Transport
from edge.trust import Trust
try:
    with Transport(sys.argv[2]) as transport:
        signed = Trust(Path(sys.argv[1]), transport).manifest_of(int(sys.argv[3]))
        print(datetime.now(UTC).year, signed.sha256)
except ShelfsightError as error:
    print(datetime.now(UTC).year, error.code, error)
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler to shift a process's clock")
def test_a_process_whose_clock_is_wrong_by_decades_verifies_or_freezes_and_goes_on_when_it_is_right(
    device: Device, repository: RepositorySimulator, tmp_path: Path
) -> None:
    (tmp_path / "shift.c").write_text(SHIFT)
    shim = tmp_path / "shift.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, tmp_path / "shift.c", "-ldl"], check=True)

    def sees(version: int, years: int) -> str:
        shift = {"LD_PRELOAD": str(shim), "SHIFT_S": str(int(years * 365.25 * 86_400))}
        words = [sys.executable, "-c", SEE, str(device.folder), device.url, str(version)]
        done = subprocess.run(words, env={**os.environ, **shift}, capture_output=True, text=True, check=True)
        return done.stdout

    this_year = datetime.now(UTC).year
    signed = publish(repository, 1)
    year, sha256_of_manifest = sees(1, 1971 - this_year).split()
    assert int(year) in (1970, 1971)
    assert sha256_of_manifest == signed.sha256
    floor = (device.folder / "trust_floor").read_bytes()
    signed = publish(repository, 2)
    told = sees(2, 10)
    assert told.split()[1] == "freeze"
    assert f"set this device's clock, which says {told.split()[0]}-" in told
    assert (device.folder / "trust_floor").read_bytes() == floor
    assert sees(2, 0).split()[1] == signed.sha256

    repository.targets.expires = repository.now() - timedelta(days=1)
    repository.publish()
    assert "proven" in sees(2, 1971 - this_year)


def test_a_clock_ten_years_ahead_freezes_says_so_and_loses_nothing(
    tmp_path: Path, server: LoopbackServer
) -> None:
    repository = RepositorySimulator(server)
    device = enrolled(tmp_path / "late", repository)
    publish(repository, 1)
    device.sees(1)
    before = {path: path.read_bytes() for path in device.folder.rglob("*") if path.is_file()}

    right = repository.saved()
    repository.wait(-3650)  # for the device's clock, the server lives ten years ago
    publish(repository, 2)
    now = datetime.now(UTC)
    device.refuses(2, Freeze, f"set this device's clock, which says {now:%Y-%m-%d %H}.* if it is wrong")
    after = {path: path.read_bytes() for path in device.folder.rglob("*") if path.is_file()}
    floor = device.folder / "trust_floor"
    assert after[floor] == before[floor]

    repository.server.files = {**right, **repository.saved()}
    repository.wait(3650)
    signed = publish(repository, 3)
    assert device.sees(3) == signed


@pytest.mark.parametrize("told", ["", "yesterday", 7, {}, "9999-99-99T00:00:00Z"])
def test_a_server_that_does_not_tell_when_it_signed_is_judged_by_the_clock(
    device: Device, repository: RepositorySimulator, told: object
) -> None:
    repository.created = told
    signed = publish(repository, 1)
    assert device.sees(1) == signed
    repository.targets.expires = repository.now() - timedelta(minutes=1)
    publish(repository, 2)
    device.refuses(2, Freeze, "targets is expired")
