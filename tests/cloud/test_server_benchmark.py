"""The benchmark of the server measures what it says: a short run of it, on both databases."""

from pathlib import Path

import pytest

from benchmarks.on_fleet import server
from tools.servers import postgres_programs


@pytest.mark.timeout(120)
def test_a_short_run_measures_both_databases(tmp_path: Path) -> None:
    told = server.measure(tmp_path, quick=True)
    assert told["server.errors"] == 0
    databases = ["sqlite", "postgresql"] if postgres_programs() else ["sqlite"]
    for database in databases:
        # 200 devices each 1.2 s for 3 s: two requests a visit, and each keeps its connection.
        assert told[f"server.{database}_requests_per_s"] == pytest.approx(2 * 200 / 1.2, rel=0.05)
        assert float(str(told[f"server.{database}_poll_p99_ms"])) > 0
        assert float(str(told[f"server.{database}_cpu"])) > 0
