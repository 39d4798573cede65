"""The doctor: each thing that can be wrong with a device, and its cure."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest

from devices.built_for import features_here, features_needed
from devices.config import Settings
from devices.doctor import Finding, answers, examine, libraries, machine, probing, server
from devices.sync_report import LAST_SYNC_FILE, SyncReport, last_sync, remember_sync
from tests.devices.conftest import Shelfsight
from tests.edge.tls_server import serve_tls, write_certificate

ROOT = Path(__file__).parents[2]
needs_gcc = pytest.mark.skipif(
    shutil.which("gcc") is None or os.uname().machine != "x86_64", reason="needs gcc on an x86 machine"
)
AARCH64 = b"\x7fELF\x02\x01\x01" + bytes(9) + (3).to_bytes(2, "little") + (183).to_bytes(2, "little")


def findings(settings: Settings) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(settings)}


def runtime() -> str:
    """Name the runtime that answers here."""
    for name in libraries.RUNTIMES:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    raise AssertionError("no runtime is installed")


@pytest.fixture
def enrolled(data: Path) -> Callable[[str], Settings]:
    """Make the device with the release belong to the server at an address."""

    def enroll(url: str) -> Settings:
        record = {"url": url, "device_id": "d-7", "token": "t"}
        (data / "device.json").write_text(json.dumps(record))
        return Settings(data=data)

    return enroll


@pytest.fixture
def another_annoy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put another Annoy before the installed one, and give the path that its library is to have."""
    site = tmp_path / "site"
    (site / "annoy-1.17.3.dist-info").mkdir(parents=True)
    (site / "annoy").mkdir()
    (site / "annoy-1.17.3.dist-info" / "METADATA").write_text("Name: annoy\nVersion: 1.17.3\n")
    (site / "annoy-1.17.3.dist-info" / "RECORD").write_text("annoy/__init__.py,,\nannoy/annoylib.so,,\n")
    monkeypatch.syspath_prepend(str(site))
    return site / "annoy" / "annoylib.so"


def compile_library(path: Path, *options: str) -> None:
    source = path.parent / "sum.c"
    source.write_text(
        "float sum(const float *x) { float s = 0; for (int i = 0; i < 64; i++) s += x[i]; return s; }"
    )
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", *options, "-o", path, source], check=True)


def cpu(root: Path, flags: str) -> Path:
    """Write what a machine with these features shows of its processor."""
    (root / "proc").mkdir(parents=True)
    (root / "proc/cpuinfo").write_text(f"processor\t: 0\nmodel name\t: old\nflags\t\t: {flags}\n")
    return root


def test_a_device_with_a_release_but_no_server_is_told_to_enroll(data: Path) -> None:
    settings = Settings(data=data, delegates=("none",))
    found = findings(settings)
    levels = {name: finding.level for name, finding in found.items()}
    assert levels.pop("enrollment") == "fault"
    assert levels.pop("disk") in ("ok", "warning")
    assert levels.pop("profile") == "warning", "the delegates are not those of its profile"
    assert set(levels.values()) == {"ok"}, found
    assert f"1 golden photo answered by {runtime()} with none" in found["release"].found
    assert found["delegates"].found.startswith("none: variant int8 answers as signed")
    assert found["input"].found.startswith("the network takes 32×32 pixels")
    assert found["enrollment"].cure.endswith("shelfsight enroll URL CODE")
    assert all(finding.cure for finding in found.values() if finding.level != "ok")
    assert not found.keys() & {"server", "tls", "sync"}, "nothing is said twice"


def test_the_doctor_loads_nothing_that_could_kill_it(data: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from devices.config import Settings\n"
        "from devices.doctor import examine\n"
        "assert len(list(examine(Settings(data=Path(sys.argv[1]))))) > 12\n"
        "compiled = {'numpy', 'PIL', 'annoy', 'cryptography', 'ai_edge_litert', 'tflite_runtime'}\n"
        "print(sorted(compiled & set(sys.modules)))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, data], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (run.returncode, run.stdout) == (0, "[]\n"), run.stderr


# The machine --------------------------------------------------------------------------------------------


def raspberry(root: Path) -> Path:
    (root / "proc/device-tree").mkdir(parents=True)
    (root / "proc/device-tree/model").write_text("Raspberry Pi 5 Model B Rev 1.0\0")
    return root


@pytest.mark.parametrize(
    ("profile", "level", "said"),
    [
        ("raspberry-pi-5", "ok", "this is a Raspberry Pi 5"),
        ("kiosk-x86", "warning", "the settings name kiosk-x86, and this is a Raspberry Pi 5"),
        ("shelf-camera", "ok", "the settings name shelf-camera; by its looks"),
        ("/etc/shelfsight/own.toml", "ok", "the settings name /etc/shelfsight/own.toml"),
        (None, "warning", "the settings name none"),
    ],
)
def test_the_profile_is_chosen_by_looking_and_compared_with_the_named_one(
    profile: str | None, level: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    found = machine.check_profile(Settings(data=tmp_path, profile=profile), raspberry(tmp_path / "root"))
    assert (found.level, said in found.found) == (level, True), found
    if level == "warning":
        assert found.cure.startswith('write profile = "raspberry-pi-5" into ')


def test_a_device_without_a_profile_that_runs_as_its_profile_would_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    settings = Settings(data=tmp_path, threads=3)
    found = machine.check_profile(settings, raspberry(tmp_path / "root"))
    assert found.level == "ok"
    assert "run it as that does" in found.found


def test_a_full_disk_is_seen_before_it_hurts(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LEAST_FREE_BYTES", 10**18)
    assert machine.check_disk(Settings(data=data)).level == "fault"


def test_a_camera_that_is_not_there_is_a_fault(data: Path) -> None:
    assert machine.check_camera(Settings(data=data), 97).level == "fault"


# The libraries ------------------------------------------------------------------------------------------


def test_a_library_for_another_processor_is_told_without_loading_it(another_annoy: Path, data: Path) -> None:
    another_annoy.write_bytes(AARCH64 + bytes(100))
    found = libraries.check_libraries(Settings(data=data))
    assert found.level == "fault"
    assert "annoylib.so of annoy is made for aarch64, not for" in found.found
    assert found.cure == "pip install --force-reinstall annoy"


@pytest.mark.parametrize("content", [b"", b"\x7fELF", None])
def test_a_library_that_is_spoiled_or_gone_is_told(
    content: bytes | None, another_annoy: Path, data: Path
) -> None:
    if content is not None:
        another_annoy.write_bytes(content)
    found = libraries.check_libraries(Settings(data=data))
    assert (found.level, "annoylib.so of annoy is made for nobody" in found.found) == ("fault", True), found


@needs_gcc
def test_an_annoy_compiled_for_another_cpu_is_told_before_it_runs(
    another_annoy: Path, data: Path, tmp_path: Path
) -> None:
    compile_library(another_annoy, "-g", "-march=x86-64-v4")
    old = cpu(tmp_path / "old", "fpu sse sse2 pni ssse3 cx16 lahf_lm sse4_1 sse4_2 popcnt avx")
    found = libraries.check_annoy(Settings(data=data), old)
    assert found.level == "fault"
    assert "1.17.3 was compiled for another CPU: this one has no abm, avx2, avx512bw" in found.found
    assert " avx," not in found.found
    assert found.cure.endswith("--no-cache-dir --no-binary annoy annoy")


@needs_gcc
def test_what_a_library_was_compiled_for_is_read_from_the_file(tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    compile_library(library, "-g")
    assert features_needed(library) == frozenset()
    compile_library(library, "-frecord-gcc-switches", "-march=x86-64-v3")
    assert {"avx2", "fma", "bmi1"} <= (features_needed(library) or set())
    compile_library(library, "-g", "-march=native")
    assert (features_needed(library) or frozenset()) <= features_here(), "what is native runs here"
    compile_library(library, "-g", "-march=skylake-avx512")
    assert features_needed(library) is None, "a processor's name that is not known here says nothing"
    compile_library(library, "-s")
    assert features_needed(library) is None


def test_a_probe_that_dies_is_a_finding_and_not_the_doctors_death(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = tmp_path / "python"
    killer.write_text("#!/bin/sh\nkill -ILL $$\n")
    killer.chmod(0o755)
    monkeypatch.setattr(probing.sys, "executable", str(killer))
    found = libraries.check_annoy(Settings(data=data))
    assert found.level == "fault"
    assert "SIGILL" in found.found
    assert "--no-binary annoy" in found.cure
    for check in (libraries.check_numpy, libraries.check_runtime):
        found = check(Settings(data=data))
        assert "SIGILL" in found.found
        assert "is for younger CPUs than this one" in found.cure
    assert answers.check_release(Settings(data=data))[0].found == "died of SIGILL"


def test_a_runtime_that_is_named_and_missing_is_told_with_its_cure(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "version", version_of_nothing)
    found = libraries.check_runtime(Settings(data=data, runtime="tflite-runtime"))
    assert (found.level, found.cure) == ("fault", "pip install tflite-runtime")
    assert libraries.check_runtime(Settings(data=data)).cure == "pip install ai-edge-litert"


def version_of_nothing(name: str) -> str:
    raise PackageNotFoundError(name)


@pytest.mark.skipif(np.__version__.startswith("1."), reason="numpy 1 is what tflite-runtime was made for")
def test_a_runtime_that_imports_and_fails_at_its_first_network_is_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As tflite-runtime 2.14 is under numpy 2, which cannot be installed beside what the tests need.
    package = tmp_path / "site" / "tflite_runtime"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text(
        "def Interpreter(**_options):\n    raise SystemError('no _ARRAY_API')\n"
    )
    (tmp_path / "site" / "tflite_runtime-2.14.0.dist-info").mkdir()
    (tmp_path / "site/tflite_runtime-2.14.0.dist-info/METADATA").write_text(
        "Name: tflite-runtime\nVersion: 2.14.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    found = libraries.check_runtime(Settings(data=data, runtime="tflite-runtime"))
    assert found.level == "fault"
    assert found.found == "tflite-runtime runs no network (no _ARRAY_API)"
    assert found.cure == "it was made for numpy 1: pip install ai-edge-litert, or pip install 'numpy<2'"


# What answers -------------------------------------------------------------------------------------------


def test_a_new_device_has_no_release_and_nothing_is_made(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "new")
    (found,) = answers.check_release(settings)
    assert (found.level, found.found, found.cure) == (
        "fault",
        "nothing is installed",
        "shelfsight sync --once",
    )
    assert answers.check_delegates(settings) == []
    assert machine.check_data(settings).level == "warning"
    assert server.check_outbox(settings).found == "0 events wait"
    assert not (tmp_path / "new").exists()


def test_a_release_that_answers_wrongly_is_a_fault(data: Path) -> None:
    index = data / "releases" / "1" / "index.ann"
    index.write_bytes(index.read_bytes()[:-4])
    (found,) = answers.check_release(Settings(data=data))
    assert found.level == "fault"
    assert "index" in found.found


def test_a_delegate_that_does_not_run_is_told_with_what_answers_instead(data: Path) -> None:
    settings = Settings(data=data, delegates=("external", "none"), external_library=str(data / "gpu.so"))
    found = answers.check_delegates(settings)
    assert isinstance(found, Finding)
    assert found.level == "warning"
    assert "gpu.so" in found.found
    assert found.found.endswith("none answers in its place")
    assert found.cure.endswith("without external")


def test_what_is_beyond_the_budget_of_the_profile_is_told(data: Path) -> None:
    found = {
        finding.name: finding
        for finding in answers.check_release(
            Settings(data=data, input_size=16, latency_ms=0.0001, memory_mb=16, delegates=("none",))
        )
    }
    assert {name: finding.level for name, finding in found.items()} == {
        "release": "ok",
        "input": "warning",
        "latency": "warning",
        "memory": "warning",
    }
    assert "32×32 pixels, more than the 16" in found["input"].found
    assert "input_size" in found["input"].cure
    assert "more than the 0.0001 it may" in found["latency"].found
    assert "more than the 16 it may" in found["memory"].found


def test_a_budget_that_the_machine_does_not_have_is_told(data: Path) -> None:
    found = answers.check_release(Settings(data=data, memory_mb=999_999, delegates=("none",)))[-1]
    assert (found.name, found.level) == ("memory", "warning")
    assert "999999 MB are allowed, and this machine has" in found.found


# The server ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lead", "level"), [(None, "ok"), (3.0, "ok"), (-300.0, "warning"), (90_000.0, "fault")]
)
def test_a_clock_is_judged_by_the_last_sync(lead: float | None, level: str, data: Path) -> None:
    (data / LAST_SYNC_FILE).write_text(json.dumps({"at": "2026-11-23T10:00:00Z", "clock_lead_s": lead}))
    assert server.check_clock(Settings(data=data)).level == level


def test_a_server_that_does_not_answer_is_named(enrolled: Callable[[str], Settings]) -> None:
    found = server.check_server(enrolled("http://127.0.0.1:9"))
    assert isinstance(found, Finding)
    assert found.level == "fault"
    assert "http://127.0.0.1:9" in found.found
    assert "the device answers without it" in found.cure


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("127.0.0.1", True),
        ("192.168.1.20", True),
        ("fd00::1", True),
        ("localhost", True),
        ("backoffice", True),
        ("server.lan", True),
        ("93.184.215.14", False),
        ("2a00:1450::1", False),
        ("shelfsight.example.com", False),
    ],
)
def test_plain_http_is_a_warning_beyond_the_own_network(
    host: str, near: bool, enrolled: Callable[[str], Settings]
) -> None:
    written = f"[{host}]" if ":" in host else host
    found = server.check_tls(enrolled(f"http://{written}:8080"))
    assert isinstance(found, Finding)
    assert found.level == ("ok" if near else "warning")
    assert near or "enroll with https://" in found.cure


@pytest.mark.parametrize(
    ("days", "level", "said"),
    [(60, "ok", "is good until "), (5.5, "warning", "5 days more"), (-1, "fault", "expired")],
)
def test_a_certificate_is_told_before_it_runs_out(
    days: float, level: str, said: str, enrolled: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = enrolled("https://127.0.0.1")
    certificate = write_certificate(settings.data, days=days)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serve_tls(certificate) as url:
        found = server.check_tls(enrolled(url))
    assert isinstance(found, Finding)
    assert (found.level, said in found.found) == (level, True), found


@pytest.mark.parametrize(
    ("age", "error", "level", "said"),
    [
        (timedelta(seconds=30), None, "ok", "30 s ago"),
        (timedelta(minutes=45), None, "warning", "45 minutes ago"),
        (
            timedelta(seconds=30),
            "server_busy",
            "warning",
            "30 s ago; the last sync failed (server_busy: full)",
        ),
        (timedelta(days=5), "server_unreachable", "fault", "5 days ago; the last sync failed"),
        (None, None, "warning", "never reached"),
    ],
)
def test_a_device_that_hears_nothing_new_is_told(
    age: timedelta | None,
    error: str | None,
    level: str,
    said: str,
    enrolled: Callable[[str], Settings],
) -> None:
    settings = enrolled("https://127.0.0.1")
    if age is not None:
        at = (datetime.now(UTC) - age).isoformat()
        remember_sync(settings.data, SyncReport(at, reached=at))
    if error is not None:
        remember_sync(settings.data, SyncReport(datetime.now(UTC).isoformat(), error=error, message="full"))
    found = server.check_sync(settings)
    assert isinstance(found, Finding)
    assert (found.level, said in found.found) == (level, True), found
    assert found.level == "ok" or found.cure.startswith("shelfsight sync")


def test_when_the_server_was_last_reached_outlives_failures(data: Path) -> None:
    remember_sync(data, SyncReport("2026-11-23T10:00:00Z", reached="2026-11-23T10:00:00Z"))
    for minute in (1, 2):
        remember_sync(data, SyncReport(f"2026-11-23T10:0{minute}:00Z", error="server_busy"))
    last = last_sync(data)
    assert last is not None
    assert (last.at, last.reached) == ("2026-11-23T10:02:00Z", "2026-11-23T10:00:00Z")


# The command --------------------------------------------------------------------------------------------


def test_the_command_exits_with_one_on_a_fault(shelfsight: Shelfsight, data: Path) -> None:
    said = shelfsight("doctor", "--json", "--data", data)
    assert said.exit_code == 1
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    assert {line["name"] for line in lines} >= {
        "python",
        "profile",
        "libraries",
        "annoy",
        "runtime",
        "release",
    }
    assert {frozenset(line) for line in lines} == {frozenset({"name", "level", "found", "cure"})}


def test_in_words_the_cure_stands_below_what_is_wrong_and_no_terminal_is_assumed(
    shelfsight: Shelfsight, tmp_path: Path
) -> None:
    in_words = shelfsight("doctor", "--data", tmp_path).stdout
    assert "FAULT     enrollment   this device belongs to no server\n" in in_words
    assert (
        "cure: shelfsight-cloud fleet code (on the server), then here: shelfsight enroll URL CODE\n"
        in in_words
    )
    assert in_words.splitlines()[-1].endswith("2 wrong")
    assert not set(in_words) & set("\x1b✓✗→")
