import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from edge.errors import (
    AccessDenied,
    BadManifest,
    BadSignature,
    CutShort,
    FormatTooNew,
    Freeze,
    HashMismatch,
    Incompatible,
    NoSpace,
    NotEnrolled,
    Oversize,
    Redirected,
    Rollback,
    ServerBusy,
    ServerUnreachable,
    ShelfsightError,
    TrialFailed,
)
from edge.installation import Installation
from edge.matcher import Matcher
from edge.model import open_model
from edge.release_files import is_whole, left_out
from edge.transport import Transport
from edge.trust import root_fingerprint, trust_root
from edge.updater import Updater, UpdateReport
from tests.conftest import DATA
from tests.edge.loopback_server import Asked, LoopbackServer, Reply, loopback_server
from tests.edge.release_maker import Made, make_release, pack_photo
from tests.edge.repository_simulator import RepositorySimulator

PACKS = {"a": 1, "b": 2, "c": 3}


@pytest.fixture(scope="module")
def made() -> list[Made]:
    """Give four releases, number 0 to 3: a base, two deltas on it, and a new base."""
    model = open_model(DATA / "tiny-int8")
    first = make_release(model, 1, PACKS)
    second = make_release(model, 2, {**PACKS, "d": 4}, before=first)
    third = make_release(model, 3, {**PACKS, "d": 4, "e": 5}, before=second)
    return [first, second, third, make_release(model, 4, {"x": 7, "y": 8})]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: no test here pulls a plug."""
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
    """What a device has: a folder, and the server's address."""

    folder: Path
    url: str
    options: dict[str, Any]

    @property
    def installation(self) -> Installation:
        return Installation(self.folder)

    def update(self, offered: int | None, **options: Any) -> UpdateReport:
        progress = options.pop("progress", None)
        with Transport(self.url, timeout_s=2) as transport:
            updater = Updater(self.installation, transport, **{**self.options, **options})
            return updater.update(offered, progress=progress)

    def refuses(self, offered: int, error: type[ShelfsightError], says: str, **options: Any) -> None:
        """Check that the offer is refused in words, and that nothing else changed."""
        before = self.installation.current_version()
        floor = self.installation.floor()
        with pytest.raises(error, match=says) as caught:
            self.update(offered, **options)
        assert type(caught.value) is error
        assert self.installation.current_version() == before
        assert self.installation.floor() == floor
        if before is not None:
            Matcher.open(self.installation.current())


@pytest.fixture
def device(tmp_path: Path, repository: RepositorySimulator) -> Device:
    device = Device(tmp_path / "device", repository.server.url, {})
    trust_root(device.folder, repository.root_bytes, repository.fingerprint)
    return device


# The straight road ----------------------------------------------------------------------------------------


def test_a_fresh_device_gets_the_release_and_answers_with_it(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    repository.add_release(made[0])
    steps: list[tuple[int, int]] = []

    report = device.update(1, progress=lambda done, total: steps.append((done, total)))

    assert (report.installed, report.current, report.files) == (1, 1, len(made[0].files))
    total = sum(len(data) for data in made[0].files.values())
    assert steps[0] == (0, total)
    assert steps[-1] == (total, total)
    assert report.bytes_received > total
    assert report.seconds > 0
    answer = Matcher.open(device.installation.current()).match_photo(pack_photo(2, 5))
    assert answer.candidates[0].product.sku == "b"


def test_an_update_fetches_only_what_is_new_and_links_the_rest(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    repository.add_release(made[0])
    device.update(1)
    repository.add_release(made[1])
    repository.server.asked.clear()

    report = device.update(2)

    new = set(made[1].files) - set(made[0].files)
    fetched = {path.rpartition("/")[2] for path in repository.server.paths("/v1/files/")}
    assert len(new) == report.files == 1
    assert new < fetched
    assert len(fetched) == 2  # the manifest besides
    network = made[0].release.variants[0].sha256
    releases = device.folder / "releases"
    assert (releases / "1" / network).samefile(releases / "2" / network)
    assert report.bytes_received < 6000


@pytest.mark.parametrize("offered", [None, 1])
def test_no_offer_or_the_release_in_use_costs_no_request(
    device: Device, repository: RepositorySimulator, made: list[Made], offered: int | None
) -> None:
    repository.add_release(made[0])
    device.update(1)
    repository.server.asked.clear()

    report = device.update(offered)

    assert (report.installed, report.current, report.bytes_received) == (None, 1, 0)
    assert repository.server.asked == []


def test_releases_may_be_skipped(device: Device, repository: RepositorySimulator, made: list[Made]) -> None:
    for one in made:
        repository.add_release(one)

    assert device.update(1).current == 1
    assert device.update(4).current == 4


def test_unknown_fields_of_a_manifest_are_kept(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    record = {**json.loads(made[0].manifest), "season": {"name": "spring"}}
    data = json.dumps(record, indent=2).encode()
    repository.add_release(made[0], manifest=data)

    device.update(1)

    assert (device.installation.current() / "release.json").read_bytes() == data
    assert Matcher.open(device.installation.current()).release.extra == {"season": {"name": "spring"}}


def test_keys_may_be_changed_while_a_device_is_away(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    repository.add_release(made[0])
    device.update(1)
    repository.rotate_keys()
    repository.rotate_keys()
    repository.add_release(made[1])

    assert device.update(2).current == 2


def test_a_storage_that_says_forbidden_for_what_is_not_there_will_do(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    repository.add_release(made[0])
    repository.server.spoil = lambda asked: (
        Reply(403)
        if asked.path.endswith(".root.json") and asked.path not in repository.server.files
        else None
    )

    assert device.update(1).current == 1


# A device that runs a few of the network files ------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed() -> list[Made]:
    """Give two releases with a file for the CPU, one for a GPU and one for an Edge TPU."""
    model = open_model(DATA / "tiny-int8")
    networks = {
        "gpu": model.path(model.variant("float32")).read_bytes(),
        "edgetpu": (DATA / "broken-models" / "tiny_edgetpu.tflite").read_bytes(),
    }
    first = make_release(model, 1, PACKS, networks=networks)
    return [first, make_release(model, 2, {**PACKS, "d": 4}, before=first, networks=networks)]


CPU = frozenset({"cpu"})
CORAL = frozenset({"cpu", "edgetpu"})


def network(made: Made, target: str) -> str:
    return next(each.sha256 for each in made.release.variants if each.target == target)


def fetched(repository: RepositorySimulator) -> set[str]:
    return {path.rpartition("/")[2] for path in repository.server.paths("/v1/files/")}


def test_a_device_fetches_only_the_network_files_that_it_runs(
    device: Device, repository: RepositorySimulator, mixed: list[Made]
) -> None:
    repository.add_release(mixed[0])
    steps: list[tuple[int, int]] = []

    report = device.update(1, targets=CORAL, progress=lambda done, total: steps.append((done, total)))

    spared = network(mixed[0], "gpu")
    assert fetched(repository) & set(mixed[0].files) == set(mixed[0].files) - {spared}
    assert (report.current, report.files) == (1, len(mixed[0].files) - 1)
    assert steps[-1][1] == sum(len(data) for name, data in mixed[0].files.items() if name != spared)
    assert is_whole(device.installation.current())


def test_the_variant_that_a_device_names_is_fetched_whatever_its_target(
    device: Device, repository: RepositorySimulator, mixed: list[Made]
) -> None:
    repository.add_release(mixed[0])
    device.update(1, targets=CPU, variant="gpu")
    assert left_out(device.installation.current()) == {network(mixed[0], "edgetpu")}


def test_a_disk_needs_room_only_for_what_is_fetched(
    device: Device, repository: RepositorySimulator, mixed: list[Made]
) -> None:
    repository.add_release(mixed[0])
    entries = {entry.sha256: entry.size for entry in mixed[0].release.files}
    spared = entries[network(mixed[0], "gpu")] + entries[network(mixed[0], "edgetpu")]
    index = 10 * entries[mixed[0].release.segments[0]]
    free = sum(entries.values()) - spared + index + 1024 * 1024

    with pytest.raises(NoSpace):
        device.update(1, free_bytes=lambda folder: free)
    assert device.update(1, targets=CPU, free_bytes=lambda folder: free).current == 1


@pytest.mark.parametrize("offered", [None, 1])
def test_a_coral_that_is_plugged_in_gets_its_file_without_a_new_release(
    device: Device, repository: RepositorySimulator, mixed: list[Made], offered: int | None
) -> None:
    repository.add_release(mixed[0])
    device.update(1, targets=CPU)
    repository.server.asked.clear()

    report = device.update(offered, targets=CORAL)

    assert (report.installed, report.current, report.files) == (None, 1, 1)
    assert [each.path for each in repository.server.asked] == [f"/v1/files/{network(mixed[0], 'edgetpu')}"]
    folder = device.installation.current()
    assert (folder / network(mixed[0], "edgetpu")).read_bytes() == mixed[0].files[
        network(mixed[0], "edgetpu")
    ]
    assert left_out(folder) == {network(mixed[0], "gpu")}
    assert is_whole(folder)

    repository.server.asked.clear()
    assert device.update(offered, targets=CORAL).files == 0
    assert device.update(offered, targets=CPU).files == 0
    assert repository.server.asked == []


def test_a_coral_gets_its_file_although_the_release_that_is_offered_was_set_aside(
    device: Device, repository: RepositorySimulator, mixed: list[Made]
) -> None:
    for one in mixed:
        repository.add_release(one)
    device.update(1, targets=CPU)
    device.update(2, targets=CPU)
    device.installation.step_back("it answers nonsense", failed=2)

    device.refuses(2, TrialFailed, "set aside", targets=CORAL)

    assert left_out(device.installation.current()) == {network(mixed[0], "gpu")}


def test_a_next_release_links_what_this_device_runs_and_leaves_the_rest_where_it_is(
    device: Device, repository: RepositorySimulator, mixed: list[Made]
) -> None:
    for one in mixed:
        repository.add_release(one)
    device.update(1)

    assert device.update(2, targets=CORAL).files == 1
    folder = device.installation.current()
    assert left_out(folder) == {network(mixed[1], "gpu")}
    assert (folder / network(mixed[1], "edgetpu")).samefile(
        folder.parent / "1" / network(mixed[1], "edgetpu")
    )


def test_wrong_bytes_for_a_coral_leave_the_release_as_it_was(
    device: Device, repository: RepositorySimulator, mixed: list[Made]
) -> None:
    repository.add_release(mixed[0])
    device.update(1, targets=CPU)
    path = f"/v1/files/{network(mixed[0], 'edgetpu')}"
    right = repository.server.files[path]
    repository.server.files[path] = bytes(len(right))

    device.refuses(1, HashMismatch, "publish it again", targets=CORAL)
    assert is_whole(device.installation.current())

    repository.server.files[path] = right
    assert device.update(1, targets=CORAL).files == 1


COMPLETE = """
import sys
from pathlib import Path
from edge.installation import Installation
from edge.transport import Transport
from edge.updater import Updater
targets = frozenset({"cpu", "edgetpu"})
Updater(Installation(Path(sys.argv[1])), Transport(sys.argv[2]), targets=targets).update(1)
"""


def test_a_device_killed_while_it_fetches_what_it_lacks_goes_on_where_it_was(
    device: Device, repository: RepositorySimulator, mixed: list[Made]
) -> None:
    repository.add_release(mixed[0])
    device.update(1, targets=CPU)
    name = network(mixed[0], "edgetpu")
    data = mixed[0].files[name]
    repository.server.spoil = lambda asked: (
        Reply(200, data, drip=(4000, 0.05)) if asked.path.endswith(name) else None
    )
    process = subprocess.Popen([sys.executable, "-c", COMPLETE, str(device.folder), device.url])
    part = device.folder / "incoming" / "1" / f"{name}.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size >= 8000) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    held = part.stat().st_size
    assert 8000 <= held < len(data)
    assert device.installation.recover() is None
    assert device.installation.current_version() == 1
    assert is_whole(device.installation.current())
    Matcher.open(device.installation.current())

    repository.server.spoil = lambda asked: None
    repository.server.asked.clear()
    assert device.update(1, targets=CORAL).files == 1
    assert [each.headers.get("range") for each in repository.server.asked] == [f"bytes={held}-"]
    assert not (device.folder / "incoming" / "1").exists()


# First trust ----------------------------------------------------------------------------------------------


def test_the_fingerprint_is_ten_letters(repository: RepositorySimulator) -> None:
    fingerprint = root_fingerprint(repository.root_bytes)

    assert len(fingerprint) == 10
    assert set(fingerprint) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")


def test_a_root_with_another_fingerprint_is_not_trusted(
    tmp_path: Path, repository: RepositorySimulator
) -> None:
    with pytest.raises(BadSignature, match="AAAAAAAAAA"):
        trust_root(tmp_path, repository.root_bytes, "AAAAAAAAAA")
    with pytest.raises(BadSignature):
        trust_root(tmp_path, repository.root_bytes, "")
    assert not (tmp_path / "trust").exists()


def test_what_is_no_root_is_not_trusted_even_with_its_fingerprint(
    tmp_path: Path, repository: RepositorySimulator
) -> None:
    forged = json.loads(repository.root_bytes)
    forged["signed"]["version"] = 2
    timestamp = repository.server.files["/v1/metadata/timestamp.json"]
    for data in (json.dumps(forged).encode(), timestamp, b"{}", b"\xff", b""):
        with pytest.raises(BadSignature, match="root of trust"):
            trust_root(tmp_path, data, root_fingerprint(data))
    assert not (tmp_path / "trust").exists()


def test_a_device_may_enroll_at_another_server_and_its_floor_stays(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    repository.add_release(made[1])
    device.update(2)
    with loopback_server() as other_server:
        other = RepositorySimulator(other_server)
        trust_root(device.folder, other.root_bytes, other.fingerprint.lower())
        moved = replace(device, url=other_server.url)
        other.add_release(made[0])
        other.add_release(made[2])

        moved.refuses(1, Rollback, "release 1 is older than release 2")
        assert moved.update(3).current == 3


def test_a_device_without_trust_is_told_to_enroll(
    tmp_path: Path, repository: RepositorySimulator, made: list[Made]
) -> None:
    repository.add_release(made[0])
    device = Device(tmp_path / "new", repository.server.url, {})
    device.refuses(1, NotEnrolled, "enroll")


@pytest.mark.parametrize("data", [b"", b"{", b"{}"])
def test_a_spoiled_root_is_told_and_enrolling_mends_it(
    device: Device, repository: RepositorySimulator, made: list[Made], data: bytes
) -> None:
    repository.add_release(made[0])
    (device.folder / "trust" / "first_root.json").write_bytes(data)
    device.refuses(1, NotEnrolled, "enroll")

    trust_root(device.folder, repository.root_bytes, repository.fingerprint)
    assert device.update(1).current == 1


# Refusals: everything stays on the old release -------------------------------------------------------------


@pytest.fixture
def running(device: Device, repository: RepositorySimulator, made: list[Made]) -> Device:
    """Give a device on release 2; release 1 was published before it and 3 after it."""
    repository.add_release(made[0])
    repository.add_release(made[1])
    device.update(2)
    repository.add_release(made[2])
    return device


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_metadata_signed_by_another_key_is_refused(
    running: Device, repository: RepositorySimulator, made: list[Made], role: str
) -> None:
    repository.signers[role] = CryptoSigner.generate_ed25519()
    if role == "root":
        repository.root.version += 1
        repository.sign_root()
    repository.add_release(made[3])
    running.refuses(4, BadSignature, "did not sign")


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json"])
def test_metadata_changed_on_the_way_is_refused(
    running: Device, repository: RepositorySimulator, name: str
) -> None:
    def spoil(asked: Asked) -> Reply | None:
        if not asked.path.endswith(name):
            return None
        return Reply(200, repository.server.files[asked.path].replace(b"20", b"21", 1))

    repository.server.spoil = spoil
    running.refuses(3, HashMismatch if name != "timestamp.json" else BadSignature, "sign")


def test_an_error_page_instead_of_metadata_is_refused(
    running: Device, repository: RepositorySimulator
) -> None:
    repository.server.spoil = lambda asked: (
        Reply(200, b"<html>Welcome to the shop's wifi</html>") if "timestamp" in asked.path else None
    )
    running.refuses(3, BadSignature, "check the address")


def test_a_release_that_nobody_signed_is_refused(running: Device) -> None:
    running.refuses(99, BadSignature, "release 99, which nobody signed")


def test_an_older_release_is_refused_without_a_request(
    running: Device, repository: RepositorySimulator
) -> None:
    repository.server.asked.clear()
    running.refuses(1, Rollback, "release 1 is older than release 2")
    assert repository.server.asked == []


def test_an_old_copy_of_the_repository_is_refused(
    running: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    old = repository.saved()
    repository.add_release(made[3])
    running.update(4)

    repository.server.files = old
    running.refuses(5, Rollback, "older than this device has seen")


@pytest.mark.parametrize("loss", ["emptied", "deleted"])
def test_with_its_metadata_lost_a_device_still_refuses_an_older_release(
    running: Device, repository: RepositorySimulator, loss: str
) -> None:
    trust = running.folder / "trust"
    for path in trust.glob("*.json"):
        if path.name == "first_root.json":
            continue
        if loss == "deleted":
            path.unlink()
        elif not path.is_symlink():
            path.write_bytes(b"")
    (running.folder / "floor").unlink()
    (running.folder / "current").write_bytes(b"1\n")

    assert running.installation.floor() == 2
    running.refuses(1, Rollback, "older")
    assert running.update(3).current == 3


def test_a_manifest_that_lies_about_its_version_is_refused(
    running: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    repository.add_release(made[3], version=7)
    running.refuses(7, BadManifest, "signed as release 7 says it is release 4")


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_expired_metadata_is_refused(
    running: Device, repository: RepositorySimulator, made: list[Made], role: str
) -> None:
    getattr(repository, role).expires = datetime.now(UTC) - timedelta(minutes=1)
    if role == "root":
        repository.root.version += 1
        repository.sign_root()
    repository.add_release(made[3])
    running.refuses(4, Freeze, "shelfsight-cloud tick.*clock")


def test_a_newer_format_is_refused_by_name(
    running: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    repository.add_release(made[3], manifest=b'{"format": 3, "version": "four"}')
    running.refuses(4, FormatTooNew, "format 3.*up to 2.*update Shelfsight")


def test_a_release_for_other_devices_is_refused(
    running: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    other = replace(made[3], release=replace(made[3].release, device_classes=("phone",)))
    repository.add_release(other)
    running.refuses(4, Incompatible, "phone", device_class="kiosk")
    assert running.update(4, device_class="phone").current == 4


def test_a_misspelled_variant_is_told_and_condemns_no_release(
    running: Device, repository: RepositorySimulator
) -> None:
    repository.server.asked.clear()
    running.refuses(3, Incompatible, "int9", variant="int9")
    assert len(repository.server.paths("/v1/files/")) == 1  # the manifest alone

    assert running.update(3, variant="int8").current == 3


@pytest.mark.parametrize("what", ["manifest", "file"])
def test_wrong_bytes_are_refused_and_deleted(
    running: Device, repository: RepositorySimulator, made: list[Made], what: str
) -> None:
    repository.add_release(made[3])
    target = repository.targets.targets["releases/4.json"].hashes["sha256"]
    spoiled = target if what == "manifest" else made[3].release.segments[0]
    right = repository.server.files[f"/v1/files/{spoiled}"]
    repository.server.files[f"/v1/files/{spoiled}"] = bytes(len(right))
    repository.server.asked.clear()

    running.refuses(4, HashMismatch, "publish it again")
    assert len(repository.server.paths(f"/v1/files/{spoiled}")) == (1 if what == "manifest" else 2)
    assert not list(running.folder.rglob(f"{spoiled}*"))

    repository.server.files[f"/v1/files/{spoiled}"] = right
    assert running.update(4).current == 4


def test_a_part_of_other_bytes_is_thrown_away_and_the_whole_is_fetched(
    running: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    repository.add_release(made[3])
    segment = made[3].release.segments[0]
    part = running.installation.staging(4) / f"{segment}.part"
    part.write_bytes(b"x" * 100)

    assert running.update(4).current == 4
    ranges = [a.headers.get("range") for a in repository.server.asked if a.path.endswith(segment)]
    assert ranges == ["bytes=100-", None]


# Not now --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        (Reply(503, b"", {"Retry-After": "9"}), ServerBusy, "503"),
        (Reply(401), AccessDenied, "401"),
        (Reply(302, b"", {"Location": "/"}), Redirected, "redirects"),
        (Reply(200, b"x", cut_after=0), CutShort, "cut off"),
        (Reply(200, b"x" * 20_000), Oversize, "more than"),
    ],
)
def test_troubles_of_the_network_come_through_python_tuf_as_they_are(
    running: Device, repository: RepositorySimulator, reply: Reply, error: type[ShelfsightError], says: str
) -> None:
    repository.server.spoil = lambda asked: reply if "timestamp" in asked.path else None
    running.refuses(3, error, says)


def test_a_server_that_is_down_is_told(running: Device) -> None:
    replace(running, url="http://127.0.0.1:9").refuses(3, ServerUnreachable, "127.0.0.1:9")


def test_a_server_that_is_no_sync_server_is_told(running: Device, repository: RepositorySimulator) -> None:
    repository.server.files.clear()
    running.refuses(3, ServerUnreachable, "sync server")


def test_a_file_that_the_server_lacks_is_told(
    running: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    repository.add_release(made[3])
    lost = f"/v1/files/{made[3].release.segments[0]}"
    data = repository.server.files.pop(lost)
    running.refuses(4, ServerUnreachable, "404")

    repository.server.files[lost] = data
    assert running.update(4).current == 4


def test_a_cut_download_goes_on_at_the_next_update(
    running: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    repository.add_release(made[3])
    segment = f"/v1/files/{made[3].release.segments[0]}"
    data = repository.server.files[segment]
    repository.server.spoil = lambda asked: Reply(200, data, cut_after=40) if asked.path == segment else None
    running.refuses(4, CutShort, segment)

    repository.server.spoil = lambda asked: None
    assert running.update(4).current == 4
    assert [a.headers.get("range") for a in repository.server.asked if a.path == segment] == [
        None,
        "bytes=40-",  # answered with the whole, which broke off as early as before: no third time
        "bytes=40-",
    ]


UPDATE = """
import sys
from pathlib import Path
from edge.installation import Installation
from edge.transport import Transport
from edge.updater import Updater
Updater(Installation(Path(sys.argv[1])), Transport(sys.argv[2])).update(int(sys.argv[3]))
"""


def test_a_device_killed_in_a_download_goes_on_where_it_was(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    repository.add_release(made[0])
    network = made[0].release.variants[0].sha256
    data = made[0].files[network]
    repository.server.spoil = lambda asked: (
        Reply(200, data, drip=(4000, 0.05)) if asked.path.endswith(network) else None
    )
    process = subprocess.Popen([sys.executable, "-c", UPDATE, str(device.folder), device.url, "1"])
    part = device.folder / "incoming" / "1" / f"{network}.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size >= 8000) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    held = part.stat().st_size
    assert 8000 <= held < len(data)

    repository.server.spoil = lambda asked: None
    assert device.update(1).current == 1
    asked = [a for a in repository.server.asked if a.path.endswith(network)]
    assert asked[-1].headers["range"] == f"bytes={held}-"


def test_a_device_killed_anywhere_in_an_update_ends_up_on_the_release(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    for one in made:
        repository.add_release(one)
    for round_, version in enumerate([1, 1, 2, 2, 3, 3, 4, 4]):
        process = subprocess.Popen(
            [sys.executable, "-c", UPDATE, str(device.folder), device.url, str(version)]
        )
        time.sleep(0.35 + 0.06 * round_)
        process.kill()
        process.wait(10)
    device.installation.recover()
    version = device.installation.current_version() or 0
    if version:
        assert is_whole(device.installation.current())
        Matcher.open(device.installation.current())
    if version != 4 and 4 not in device.installation.set_aside():
        assert device.update(4).current == 4


# The disk and the trial -----------------------------------------------------------------------------------


def test_a_disk_without_room_is_told_in_bytes_before_anything_is_fetched(
    running: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    repository.add_release(made[3])
    repository.server.asked.clear()
    running.refuses(
        4, NoSpace, r"release 4 needs \d+ more bytes, .* has 1000 free", free_bytes=lambda folder: 1000
    )
    assert len(repository.server.paths("/v1/files/")) == 1  # the manifest alone

    assert running.update(4).current == 4


FULL = """
import resource, signal, sys
from pathlib import Path
from edge.errors import NoSpace
from edge.installation import Installation
from edge.transport import Transport
from edge.updater import Updater
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
updater = Updater(Installation(Path(sys.argv[1])), Transport(sys.argv[2]))
try:
    updater.update(1)
except NoSpace as error:
    print(error)
"""


def test_a_disk_that_fills_up_on_the_way_is_told_and_the_update_goes_on_later(
    device: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    repository.add_release(made[0])
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(device.folder), device.url],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no space left" in done.stdout
    assert device.installation.current_version() is None

    report = device.update(1)
    assert report.current == 1
    assert report.bytes_received < sum(len(data) for data in made[0].files.values())


def test_a_release_whose_golden_photos_are_answered_otherwise_is_set_aside_and_not_fetched_again(
    running: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    golden = replace(made[3].release.golden[0], similarity=0.1)
    wrong = replace(made[3], release=replace(made[3].release, golden=(golden,)))
    repository.add_release(wrong)
    running.refuses(4, TrialFailed, "golden photo")
    assert running.installation.set_aside() == {4}
    assert not list(running.folder.rglob(made[3].release.segments[0]))

    repository.server.asked.clear()
    running.refuses(4, TrialFailed, "set aside")
    assert repository.server.asked == []


def test_a_device_that_died_in_a_trial_installs_that_release_with_its_next_update_and_fetches_no_file(
    running: Device,
) -> None:
    def die(folder: Path) -> None:
        raise RuntimeError("as if the process had died")

    with pytest.raises(RuntimeError):
        running.update(3, trial=die)
    assert running.installation.current_version() == 2

    report = running.update(3)
    assert (report.current, report.files) == (3, 0)
    assert running.installation.set_aside() == frozenset()


def test_after_stepping_back_the_failed_release_is_refused_and_the_next_one_is_taken(
    running: Device, repository: RepositorySimulator, made: list[Made]
) -> None:
    running.update(3)
    assert running.installation.step_back("it answers nonsense") == 2
    running.refuses(3, TrialFailed, "set aside")

    repository.add_release(made[3])
    assert running.update(4).current == 4
