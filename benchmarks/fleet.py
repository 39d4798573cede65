"""What a living catalog costs a fleet, and what breaks: one run, one table.

    python benchmarks/fleet.py [--json OUT] [--only delta,live] [--quick]

Every part (`on_fleet/`) starts the real server, real devices or real tools in processes of their own, on
loopback, and measures some of the keys; nothing is asserted. Figures in seconds belong to the machine that is
named beside them; those in bytes, ratios and counts do not.
"""

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

# The parts use `tools`, which is not installed with Shelfsight, here and in the processes that they start.
ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

from devices.stalls import StallWatch  # noqa: E402

PARTS = ("delta", "live", "server", "outbox", "faults", "power")

# key: (must, whether more is better)
WANTED: dict[str, tuple[float, bool]] = {
    "delta.add_bytes": (40_000, False),
    "delta.edit_bytes": (15_000, False),
    "live.publish_to_answer_s.p50": (2, False),
    "live.publish_to_answer_s.p95": (4, False),
    "live.search_ratio": (1.3, False),
    "live.gap_ms": (250, False),
    "live.p99_ratio": (2, False),
    "live.lost": (0, False),
    "server.poll_p99_ms": (250, False),
    "server.errors": (0, False),
    "server.cpu": (1, False),
    "outbox.batched_per_s": (5_000, True),
    "outbox.durable_per_s": (200, True),
    "faults.kills": (300, True),
    "faults.broken": (0, False),
    "faults.resent_share": (0.01, False),
    "faults.power_cuts": (1, True),
    "faults.power_broken": (0, False),
}


@click.command()
@click.option("--only", default=",".join(PARTS), show_default=True, help="The parts to measure.")
@click.option(
    "--quick", is_flag=True, help="Seconds a part, to see whether it works; its figures say little."
)
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the figures there.")
def main(*, only: str, quick: bool, out: Path | None) -> None:
    """Measure this machine; stop with 1 where a part could not be measured."""
    figures: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    failed: dict[str, str] = {}
    with StallWatch() as watch:
        for name in only.split(","):
            began = time.monotonic()
            print(f"measuring {name}", file=sys.stderr)
            try:
                with TemporaryDirectory(prefix=f"shelfsight-{name}-") as scratch:
                    figures |= flat(import_module(f"on_fleet.{name}").measure(Path(scratch), quick=quick))
            except Exception as error:  # noqa: BLE001 - the other parts are measured all the same
                failed[name] = f"{type(error).__name__}: {error}"
                print(f"  {failed[name]}", file=sys.stderr)
            seconds[name] = round(time.monotonic() - began, 1)
            watch.look()
    record = {
        "machine": f"{os.uname().sysname} {os.uname().machine}, {os.cpu_count()} cores, {processor()}",
        "quick": quick,
        "stalled_share": round(watch.share, 4),
        "seconds": seconds,
        "failed": failed,
        "figures": {key: judged(key, figures[key]) for key in WANTED if key in figures},
        "details": {key: value for key, value in figures.items() if key not in WANTED},
    }
    if out is not None:
        out.write_text(json.dumps(record, indent=1) + "\n")
    tell(record)
    sys.exit(1 if failed else 0)


def flat(measured: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Bring a part's figures to one level: `a: {p50: 1}` becomes `a.p50: 1` where that is a wanted key."""
    found: dict[str, Any] = {}
    for key, value in measured.items():
        inner = isinstance(value, dict) and any(wanted.startswith(f"{above}{key}.") for wanted in WANTED)
        found |= flat(value, f"{above}{key}.") if inner else {f"{above}{key}": value}
    return found


def judged(key: str, value: float) -> dict[str, object]:
    """Hold a figure against what it must be."""
    must, more = WANTED[key]
    return {"value": value, "must": must, "met": value >= must if more else value <= must}


def processor() -> str:
    """Name the processor."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else "unknown processor"


def tell(record: dict[str, Any]) -> None:
    """Print the table."""
    print(f"\n{record['machine']}; stalled {record['stalled_share']:.2%}")
    for key, line in record["figures"].items():
        sign = "≥" if WANTED[key][1] else "≤"
        mark = "met" if line["met"] else "MISSED"
        print(f"{key:30} {line['value']:12,.3f}   must {sign} {line['must']:<8g} {mark}")
    for name, why in record["failed"].items():
        print(f"{name}: not measured ({why})")


if __name__ == "__main__":
    main()
