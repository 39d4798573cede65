"""The benchmark of the living catalog works and tells what it found: by its command, as quick as it goes."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_what_can_be_measured_is_and_what_cannot_is_named(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, "benchmarks/fleet.py", "--quick", "--only", "nothing,outbox"]
    done = subprocess.run(
        [*command, "--json", str(out)], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 1
    assert "nothing: not measured" in done.stdout
    record = json.loads(out.read_text())
    assert record["quick"] is True
    assert set(record["failed"]) == {"nothing"}
    assert set(record["figures"]) == {"outbox.batched_per_s", "outbox.durable_per_s"}
    assert all(each["value"] > 0 for each in record["figures"].values())
