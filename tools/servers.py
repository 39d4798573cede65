"""Runs the servers that Shelfsight can be given, a PostgreSQL and a Mosquitto, for tests and benchmarks.

Each runs on a folder of its own, is reached from this machine alone, and is gone at the end.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_START_S: Final = 20.0
_NOBODY: Final = 65534
# What a crash would lose does not matter in a test.
FAST: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}


class Postgres:
    """A running PostgreSQL, reached by a socket in the folder `sockets`; `pid` is its first process."""

    def __init__(self, sockets: Path, pid: int) -> None:
        self.pid = pid
        self._sockets = sockets

    def url(self, database: str) -> str:
        """Write the address of one of its databases."""
        return f"postgresql://postgres@/{database}?host={self._sockets}"

    def create(self, template: str = "template0") -> str:
        """Make a database, empty or like another one that nobody uses; return its name."""
        name = f"shop_{uuid.uuid4().hex}"
        self._run(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY wal_log')
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever uses it."""
        self._run(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _run(self, command: str) -> None:
        import psycopg

        where = f"host={self._sockets} user=postgres dbname=postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(command)


def postgres_programs() -> Path | None:
    """Find the folder of PostgreSQL's programs ; None: it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


@contextmanager
def running_postgres(settings: Mapping[str, str] = FAST) -> Iterator[Postgres]:
    """Run a PostgreSQL, as a user without rights where we are root, for it refuses root."""
    programs = postgres_programs()
    assert programs is not None
    user: dict[str, Any] = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="shelfsight-pg-"))  # a socket's path is at most 107 bytes long
    data = folder / "data"
    if user:
        os.chown(folder, _NOBODY, _NOBODY)
    # Sorts as people do: what relies on the order of code points has to ask for it.
    language = ["--locale-provider=icu", "--icu-locale=en", "--locale=C.UTF-8"]
    init: list[str | Path] = [
        programs / "initdb",
        "-D",
        data,
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "-N",
        *language,
    ]
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    try:
        subprocess.run(init, check=True, stdout=subprocess.DEVNULL, cwd=folder, **user)
        command: list[str | Path] = [programs / "postgres", "-D", data, "-k", folder, "-h", "", *options]
        with (
            (folder / "log").open("wb") as log,
            subprocess.Popen(command, stderr=log, cwd=folder, **user) as server,
        ):
            try:
                _wait_for(lambda: "ready" in (folder / "data/postmaster.pid").read_text(), server)
                yield Postgres(folder, server.pid)
            finally:
                server.send_signal(2)  # "fast": without waiting for whoever is connected
    finally:
        shutil.rmtree(folder)


def mosquitto_program() -> str | None:
    """Find Mosquitto (Debian keeps it off a user's path); None: it is not installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def running_mosquitto(port: int | None = None) -> Iterator[int]:
    """Run a Mosquitto on a loopback port, by default a free one, that lets everybody in; yields the port."""
    program = mosquitto_program()
    assert program is not None
    port = port or _free_port()
    with tempfile.TemporaryDirectory(prefix="shelfsight-mqtt-") as folder:
        settings = Path(folder, "mosquitto.conf")
        settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        Path(folder).chmod(0o755)  # it gives up root's rights itself
        with subprocess.Popen(
            [program, "-c", settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as server:
            try:
                _wait_for(lambda: _listens(port), server)
                yield port
            finally:
                server.terminate()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def _wait_for(is_ready: Callable[[], bool], server: "subprocess.Popen[Any]") -> None:
    end = time.monotonic() + _START_S
    while True:
        try:
            if is_ready():
                return
        except OSError:
            pass
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{server.args!r} did not start (it ended with {server.returncode})")
        time.sleep(0.02)
