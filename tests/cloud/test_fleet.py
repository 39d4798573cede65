"""Devices join with a one-time code, prove themselves with a token, and are remembered."""

import hashlib
import re
import threading
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import select

from cloud import fleet as fleet_module
from cloud.fleet import DeviceInfo, Fleet, WrongCodeBrake
from cloud.tables import Base
from cloud.times import now
from cloud.workspace import Workspace
from edge.errors import AccessDenied, BadSetting, EnrollmentRefused, ServerBusy

KIOSK = DeviceInfo("Kiosk by the door", "kiosk", "0.1.0")


@pytest.fixture
def fleet(workspace: Workspace) -> Fleet:
    return Fleet(workspace.sessions())


def test_a_code_has_a_secret_and_the_fingerprint_of_the_root(fleet: Fleet) -> None:
    codes = {fleet.new_code("ABCDEFGHIJ") for _ in range(20)}
    assert len(codes) == 20
    assert all(re.fullmatch(r"[A-Z2-9]{4}-[A-Z2-9]{4}-ABCDEFGHIJ", code) for code in codes)


def test_codes_for_many_devices_are_made_at_once_and_each_takes_one_in(fleet: Fleet) -> None:
    codes = fleet.new_codes("ABCDEFGHIJ", 500)
    assert len(set(codes)) == 500
    fleet.enroll(codes[0], KIOSK)
    fleet.enroll(codes[499], KIOSK)
    with pytest.raises(EnrollmentRefused):
        fleet.enroll(codes[0], KIOSK)
    with pytest.raises(BadSetting, match="of no use"):
        fleet.new_codes("ABCDEFGHIJ", 2, timedelta(0))


def test_a_device_enrolls_and_proves_itself(fleet: Fleet) -> None:
    device, token = fleet.enroll(fleet.new_code("ABCDEFGHIJ"), KIOSK)
    fleet.authenticate(device, token)
    (known,) = fleet.devices()
    assert (known.id, known.name, known.device_class, known.release) == (
        device,
        "Kiosk by the door",
        "kiosk",
        None,
    )


@pytest.mark.parametrize("typed", [" {}\n", "{}"])
def test_a_code_is_the_same_in_small_letters_and_without_its_hyphens(fleet: Fleet, typed: str) -> None:
    code = fleet.new_code("ABCDEFGHIJ")
    fleet.enroll(typed.format(code.lower().replace("-", "")), KIOSK)


def test_a_code_works_once(fleet: Fleet) -> None:
    code = fleet.new_code("ABCDEFGHIJ")
    fleet.enroll(code, KIOSK)
    with pytest.raises(EnrollmentRefused, match="wrong, used or expired"):
        fleet.enroll(code, KIOSK)
    assert len(fleet.devices()) == 1


def test_of_two_devices_with_one_code_at_the_same_moment_one_gets_in(fleet: Fleet) -> None:
    code = fleet.new_code("ABCDEFGHIJ")
    got_in: list[str] = []
    start = threading.Barrier(4)

    def enroll() -> None:
        start.wait()
        with suppress(EnrollmentRefused):
            got_in.append(fleet.enroll(code, KIOSK)[0])

    threads = [threading.Thread(target=enroll) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got_in) == 1


def test_an_expired_code_is_refused(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    code = fleet.new_code("ABCDEFGHIJ", timedelta(hours=1))
    later = now() + timedelta(hours=1, seconds=1)
    monkeypatch.setattr(fleet_module, "now", lambda: later)
    with pytest.raises(EnrollmentRefused):
        fleet.enroll(code, KIOSK)


@pytest.mark.parametrize(
    "code", ["", "nonsense", "AAAA-BBBB-CCCCCCCCCC", "A" * 10_000, "ÄÄÄÄ-BBBB-CCCCCCCCCC"]
)
def test_a_wrong_code_is_refused(fleet: Fleet, code: str) -> None:
    fleet.new_code("ABCDEFGHIJ")
    with pytest.raises(EnrollmentRefused):
        fleet.enroll(code, KIOSK)


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(days=1000), timedelta(hours=-1)])
def test_a_code_needs_a_sensible_life(fleet: Fleet, ttl: timedelta) -> None:
    with pytest.raises(BadSetting, match="from a minute to a year"):
        fleet.new_code("ABCDEFGHIJ", ttl)


def test_a_wrong_token_and_an_unknown_device_are_refused_alike(fleet: Fleet) -> None:
    device, token = fleet.enroll(fleet.new_code("ABCDEFGHIJ"), KIOSK)
    other, _ = fleet.enroll(fleet.new_code("ABCDEFGHIJ"), KIOSK)
    for name, presented in ((device, "wrong"), (device, ""), (other, token), ("d-000000000000", token)):
        with pytest.raises(AccessDenied, match="enroll it again"):
            fleet.authenticate(name, presented)


def test_neither_code_nor_token_is_in_the_database(fleet: Fleet, workspace: Workspace) -> None:
    code = fleet.new_code("ABCDEFGHIJ")
    _, token = fleet.enroll(code, KIOSK)
    with workspace.sessions()() as session:
        tables = Base.metadata.sorted_tables
        dump = "\n".join(str(row) for table in tables for row in session.execute(select(table)))
    assert hashlib.sha256(token.encode()).hexdigest() in dump
    assert token not in dump
    assert code[:4] + code[5:9] not in dump


def test_a_device_that_was_removed_is_turned_away(fleet: Fleet) -> None:
    device, token = fleet.enroll(fleet.new_code("ABCDEFGHIJ"), KIOSK)
    fleet.remove(device)
    with pytest.raises(AccessDenied):
        fleet.authenticate(device, token)
    with pytest.raises(BadSetting, match="there is no device"):
        fleet.remove(device)


def test_a_heartbeat_is_remembered(fleet: Fleet) -> None:
    device, _ = fleet.enroll(fleet.new_code("ABCDEFGHIJ"), KIOSK)
    before = fleet.devices()[0].last_seen
    fleet.seen(device, 7, {"free_mb": 120})
    (known,) = fleet.devices()
    assert (known.release, known.status) == (7, {"free_mb": 120})
    assert known.last_seen >= before
    assert known.last_seen.tzinfo is not None
    assert fleet.count_by_release() == {7: 1}


def test_a_device_with_a_name_that_breaks_a_page_is_refused() -> None:
    for name in ("x" * 121, "two\nlines", "\x1b[31m"):
        with pytest.raises(BadSetting, match="printable"):
            DeviceInfo(name, "kiosk", "1")


def test_the_brake_holds_back_one_address_for_a_while() -> None:
    clock = [100.0]
    brake = WrongCodeBrake(most=3, window_s=60, clock=lambda: clock[0])
    for _ in range(3):
        brake.check("10.0.0.1")
        brake.wrong("10.0.0.1")
    with pytest.raises(ServerBusy) as refused:
        brake.check("10.0.0.1")
    assert refused.value.retry_after == 60
    brake.check("10.0.0.2")
    clock[0] += 61
    brake.check("10.0.0.1")
