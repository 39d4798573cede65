"""Starts the sync server and the device as the processes that their users would start, and ends them."""

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import ServerUnreachable, ShelfsightError

_ROOT = Path(__file__).resolve().parents[1]
_START_S = 30.0
_COMMAND_S = 120.0


def clean_environment() -> dict[str, str]:
    """Return our environment less its settings, with the path on which this Shelfsight was found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHELFSIGHT_")}
    kept["PYTHONPATH"] = os.pathsep.join(part for part in (str(_ROOT), kept.get("PYTHONPATH", "")) if part)
    return kept


@contextmanager
def running_server(data: Path, log: Path) -> Iterator[str]:
    """Run `shelfsight-cloud serve` on a free loopback port; yields its address and ends it at the end.

    Raises:
        ServerUnreachable: it did not start; the message says what it said.
    """
    with server_process(data, log) as (address, _):
        yield address


@contextmanager
def server_process(data: Path, log: Path) -> Iterator[tuple[str, int]]:
    """Do as `running_server`, and yield the number of the process too.

    Raises:
        ServerUnreachable: it did not start; the message says what it said.
    """
    command = [sys.executable, "-m", "cloud.commands", "serve", "--port", "0", "--data", str(data)]
    with log.open("w") as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=clean_environment(),
        )
        try:
            yield _address(process, log), process.pid
        finally:
            _end(process)


def cpu_seconds(pid: int) -> float | None:
    """Return the processor seconds that a process has used in all its threads; None where /proc is not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _address(process: "subprocess.Popen[str]", log: Path) -> str:
    """Read the address from the server's greeting."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(_START_S) else ""
    address = next((word.rstrip(",") for word in line.split() if word.startswith("http://")), None)
    if address is None:
        why = log.read_text(errors="replace").strip().splitlines()[-1:] or [
            f"nothing within {_START_S:.0f} s"
        ]
        raise ServerUnreachable(f"the server did not start ({why[0]}): see {log}")
    return address


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


class DeviceCommand:
    """A device, driven as its installer would: each call is one `shelfsight …` in its own process."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def enroll(self, address: str, code: str, name: str) -> None:
        """Enroll the device with a code from the server.

        Raises:
            ShelfsightError: it said that it could not.
        """
        self._run("enroll", address, code, "--name", name, "--json")

    def sync(self) -> dict[str, object]:
        """Sync once and return the device's report: what it installed, the bytes it received.

        Raises:
            ShelfsightError: it said that it could not.
        """
        return self._run("sync", "--once", "--json")[-1]

    def match(self, photos: list[Path]) -> list[dict[str, object]]:
        """Return the device's answer to each photo, in their order.

        Raises:
            ShelfsightError: it could not answer all of them.
        """
        answers = self._run("match", "--json", *(str(photo) for photo in photos))
        if len(answers) != len(photos):
            raise ShelfsightError(
                f"the device answered {len(answers)} of {len(photos)} photos: see {self.data}"
            )
        return answers

    def _run(self, verb: str, *arguments: str) -> list[dict[str, object]]:
        """Run one command to its end and return the JSON objects that it printed, one a line."""
        command = [*device_program(), verb, *arguments, "--data", str(self.data)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_COMMAND_S,
                env=clean_environment(), check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ShelfsightError(
                f"`shelfsight {verb}` took more than {_COMMAND_S:.0f} s and was ended"
            ) from error
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
            said = lines[-1].removeprefix("error: ")
            raise ShelfsightError(f"`shelfsight {verb}` failed with exit code {done.returncode}: {said}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def device_program() -> list[str]:
    """Return the device's command: the script beside this Python, or else what that script does."""
    script = Path(sys.executable).with_name("shelfsight")
    if script.is_file():
        return [str(script)]
    return [sys.executable, "-c", "from devices.commands import main; main(prog_name='shelfsight')"]
