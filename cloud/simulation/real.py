"""A few real devices among the virtual ones: `shelfsight sync` in processes of their own, killed once."""

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path

from cloud.processes import DeviceCommand, clean_environment, device_program

Told = Callable[[int, int], None]
"""Told (number of the real device, version) when it has installed a release."""


class RealDevice:
    """One real device: it verifies every signature, merges, answers its golden photos, and confirms."""

    def __init__(self, number: int, folder: Path, told: Told) -> None:
        self.number = number
        self._command = DeviceCommand(folder)
        self._told = told
        self._process: asyncio.subprocess.Process | None = None

    def enroll(self, address: str, code: str) -> None:
        """Enroll it, and let it fetch the release that all have at the beginning.

        Raises:
            ShelfsightError: it said that it could not.
        """
        self._command.enroll(address, code, f"real-{self.number}")
        self._command.sync()

    async def live(self, kill_after_s: float) -> None:
        """Stay in step until cancelled; after `kill_after_s` it is killed once, and started again."""
        try:
            try:
                await asyncio.wait_for(self._run(), kill_after_s)
            except TimeoutError:
                await self._run()
        finally:
            await self._end()

    async def _run(self) -> None:
        await self._end()
        self._process = await asyncio.create_subprocess_exec(
            *device_program(),
            "sync",
            "--json",
            "--data",
            str(self._command.data),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=clean_environment(),
        )
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            report = json.loads(line) if line.startswith(b"{") else {}
            if isinstance(report.get("installed"), int):
                self._told(self.number, report["installed"])

    async def _end(self) -> None:
        """Kill the process as a power cut would."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
        self._process = None
