"""Runs a probe in a process of its own and reads what it says, or how it died."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

PROBE_S = 120


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe came to: `found` when it went well, `error` when it said why not, `died` otherwise."""

    found: Any = None
    error: str = ""
    code: str = ""
    died: str = ""

    @property
    def by_illegal_instruction(self) -> bool:
        """Whether it met an instruction that this CPU does not have."""
        return "SIGILL" in self.died


def probe(*arguments: str) -> Probed:
    """Run `python -m devices.probe` with these arguments; whatever happens to it, this process goes on."""
    try:
        run = subprocess.run(
            [sys.executable, "-m", "devices.probe", *arguments],
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Probed(died=f"gives no answer in {PROBE_S} s")
    if run.returncode < 0:
        return Probed(died=f"died of {signal.Signals(-run.returncode).name}")
    try:
        answer = json.loads(run.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last_line = (run.stderr.strip().splitlines() or ["no output"])[-1]
        return Probed(died=f"fails: {last_line}")
    if "error" in answer:
        return Probed(error=answer["error"], code=answer["code"])
    return Probed(found=answer["found"])
