"""The doctor: each thing that can be wrong with a device, and its cure."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from devices import doctor
from devices.config import Settings
from devices.doctor import Finding, examine
from devices.sync_report import LAST_SYNC_FILE
from tests.devices.conftest import Shelfsight


def findings(settings: Settings) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(settings)}


def test_a_device_with_a_release_but_no_server_is_told_to_enroll(data: Path) -> None:
    found = findings(Settings(data=data))
    levels = {name: finding.level for name, finding in found.items()}
    assert levels.pop("enrollment") == "fault"
    assert levels.pop("server") == "warning"
    assert levels.pop("disk") in ("ok", "warning")
    assert set(levels.values()) == {"ok"}, found
    assert "1 golden photo answered by ai-edge-litert" in found["release"].found
    assert found["enrollment"].cure.endswith("shelfsight enroll URL CODE")
    assert all(finding.cure for finding in found.values() if finding.level != "ok")


def test_a_new_device_has_no_release_and_nothing_is_made(tmp_path: Path) -> None:
    found = doctor.check_release(Settings(data=tmp_path / "new"))
    assert (found.level, found.cure) == ("fault", "shelfsight sync --once")
    assert "ai-edge-litert" in found.found
    assert doctor.check_data(Settings(data=tmp_path / "new")).level == "warning"
    assert not (tmp_path / "new").exists()


def test_a_release_that_answers_wrongly_is_a_fault(data: Path) -> None:
    index = data / "releases" / "1" / "index.ann"
    index.write_bytes(index.read_bytes()[:-4])
    found = doctor.check_release(Settings(data=data))
    assert found.level == "fault"
    assert "index" in found.found


def test_a_probe_that_dies_is_a_finding_and_not_the_doctors_death(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = tmp_path / "python"
    killer.write_text("#!/bin/sh\nkill -ILL $$\n")
    killer.chmod(0o755)
    monkeypatch.setattr(doctor.sys, "executable", str(killer))
    found = doctor.check_annoy(Settings(data=data))
    assert found.level == "fault"
    assert "SIGILL" in found.found
    assert "--no-binary annoy" in found.cure


@pytest.mark.parametrize(
    ("lead", "level"), [(None, "ok"), (3.0, "ok"), (-300.0, "warning"), (90_000.0, "fault")]
)
def test_a_clock_is_judged_by_the_last_sync(lead: float | None, level: str, data: Path) -> None:
    (data / LAST_SYNC_FILE).write_text(json.dumps({"at": "2026-11-23T10:00:00Z", "clock_lead_s": lead}))
    assert doctor.check_clock(Settings(data=data)).level == level


def test_a_server_that_does_not_answer_is_named(data: Path) -> None:
    (data / "device.json").write_text('{"url": "http://127.0.0.1:9", "device_id": "d-7", "token": "t"}')
    found = findings(Settings(data=data))["server"]
    assert found.level == "fault"
    assert "http://127.0.0.1:9" in found.found
    assert "the device answers without it" in found.cure


def test_a_full_disk_is_seen_before_it_hurts(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 10**18)
    assert doctor.check_disk(Settings(data=data)).level == "fault"


def test_a_camera_that_is_not_there_is_a_fault(data: Path) -> None:
    found = [
        finding for finding in examine(replace(Settings(data=data)), camera=97) if finding.name == "camera"
    ]
    assert found[0].level == "fault"


def test_the_command_exits_with_one_on_a_fault(shelfsight: Shelfsight, data: Path) -> None:
    said = shelfsight("doctor", "--json", "--data", data)
    assert said.exit_code == 1
    assert {json.loads(line)["name"] for line in said.stdout.splitlines()} >= {"python", "annoy", "release"}
    in_words = shelfsight("doctor", "--data", data).stdout
    assert "FAULT" in in_words
    assert "here: shelfsight enroll URL CODE" in in_words
