"""Peers in processes of their own: asked by a line, they answer with the seconds that it took them."""

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).parent.parent


class Worker:
    """A module of this folder, running under some Python; it prints one line when it is ready."""

    def __init__(self, python: Path, script: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [str(python), "-m", f"on_device.{script}", *map(str, arguments)],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.ready = self._read()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def seconds(self, what: str) -> float:
        """Let it do something once, and return the seconds that it took."""
        assert self._process.stdin is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return float(self._read())

    def _read(self) -> float:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return float(json.loads(line)["seconds"])
        raise RuntimeError(f"{self._process.args} stopped (exit {self._process.wait()})")


def run_once(python: Path, script: str, *arguments: object) -> dict[str, Any]:
    """Run a module of this folder to its end, and return the JSON object of its last line."""
    done = subprocess.run(
        [str(python), "-m", f"on_device.{script}", *map(str, arguments)],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script} {arguments}: {(done.stderr.strip() or 'no output').splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
