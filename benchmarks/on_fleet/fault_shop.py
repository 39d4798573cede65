"""A small real shop for the benchmarks of faults: a server, devices on release 2, release 3 on offer."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from cloud.catalog import Catalog
from cloud.fleet import Fleet
from cloud.processes import DeviceCommand
from cloud.publishing import publish
from cloud.rollout_rules import Plan, Rule
from cloud.signing import fingerprint
from cloud.workspace import Workspace
from edge.disk import sha256_file
from edge.installation import Installation
from edge.matcher import Matcher, check_golden
from edge.model import Model
from edge.products import Product
from edge.release_files import MANIFEST, is_whole
from on_fleet.big_catalog import add_photos, make_workspace
from on_fleet.server import running

OLD, NEW = 2, 3
_PACKS = 8
_PIECE = 8 * 1024


@dataclass
class SlowLine:
    """A proxy that lets so many bytes a second of files through, and keeps what it sent of each."""

    rate: float
    upstream: str = ""
    sent: list[tuple[str, int, int]] = field(default_factory=list)
    """(path, first byte, bytes) of each answer with a file."""

    def forget(self) -> None:
        """Begin to count anew."""
        self.sent = []

    def resent(self) -> tuple[int, int]:
        """Return the bytes sent more than once, and those that were needed: each byte once."""
        needed = total = 0
        for path in {path for path, _, _ in self.sent}:
            reached = 0
            for begin, end in sorted((begin, begin + count) for at, begin, count in self.sent if at == path):
                total += end - begin
                needed += max(0, end - max(begin, reached))
                reached = max(reached, end)
        return total - needed, needed


@contextmanager
def slow_line(rate: float) -> Iterator[tuple[str, SlowLine]]:
    """Run a proxy on loopback; its upstream is set when that is known."""
    line = SlowLine(rate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(line))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", line
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(line: SlowLine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def handle(self) -> None:
            with suppress(OSError):  # the device was killed
                super().handle()

        def do_GET(self) -> None:
            self._pass_on()

        do_POST = do_GET  # noqa: N815

        def _pass_on(self) -> None:
            at = urlsplit(line.upstream)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream = HTTPConnection(str(at.hostname), at.port, timeout=60)
            try:
                headers = {
                    name: value for name, value in self.headers.items() if name.lower() != "connection"
                }
                upstream.request(self.command, self.path, body or None, headers)
                answer = upstream.getresponse()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                        self.send_header(name, value)
                slow = self.path.startswith("/v1/files/") and answer.status in (200, 206)
                data = answer.read()
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if slow:
                    stated = answer.getheader("Content-Range", "bytes 0-")
                    self._drip(data, int(stated.removeprefix("bytes ").partition("-")[0]))
                else:
                    self.wfile.write(data)
            finally:
                upstream.close()

        def _drip(self, data: bytes, begin: int) -> None:
            count = 0
            try:
                for start in range(0, len(data), _PIECE):
                    piece = data[start : start + _PIECE]
                    self.wfile.write(piece)
                    count += len(piece)
                    time.sleep(len(piece) / line.rate)
            finally:
                line.sent.append((self.path, begin, count))

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@dataclass(frozen=True)
class FaultDevice:
    """A device that has releases 1 and 2 and is offered 3: its folder, to be copied, and its line."""

    folder: Path
    line: SlowLine


@dataclass(frozen=True)
class FaultShop:
    """The devices, and what is signed: the hash of each release's manifest."""

    devices: list[FaultDevice]
    manifests: dict[int, str]
    address: str

    def trouble(self, folder: Path) -> str | None:
        """Say what is wrong with the device in `folder`: None where it has an old or new release, whole,
        signed, and answers with it."""
        installation = Installation(folder)
        version = installation.current_version()
        if version not in (OLD, NEW):
            return f"release {version} is in use"
        current = installation.current()
        if not is_whole(current):
            return f"release {version} is not whole"
        if sha256_file(current / MANIFEST) != self.manifests[version]:
            return f"release {version} is not what was signed"
        try:
            check_golden(Matcher.open(current), current)
        except Exception as error:  # noqa: BLE001 - whatever it is, this device does not answer
            return f"release {version} does not answer: {error}"
        return None


@contextmanager
def fault_shop(
    scratch: Path, models: tuple[Model, Model], *, devices: int = 1, rate: float = 1e9
) -> Iterator[FaultShop]:
    """Publish releases 1 and 2 with the first model and 3 with the second, on a running server.

    Releases 2 and 3 have a product more each.
    """
    workspace = make_workspace(scratch / "cloud")
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    for number in range(_PACKS):
        _add(catalog, number)
    publish(workspace, models[0])
    with ExitStack() as held:
        lines = [held.enter_context(slow_line(rate)) for _ in range(devices)]
        address, _ = held.enter_context(running(workspace))
        made: list[FaultDevice] = []
        for number, (at, line) in enumerate(lines):
            line.upstream = address
            device = DeviceCommand(scratch / f"device-{number}")
            device.enroll(at, Fleet(workspace.sessions()).new_code(
                fingerprint(workspace.metadata), timedelta(hours=1)), f"device {number}")  # fmt: skip
            device.sync()
            made.append(FaultDevice(device.data, line))
        _add(catalog, _PACKS)
        publish(workspace, models[0])
        for each in made:
            DeviceCommand(each.folder).sync()
        _add(catalog, _PACKS + 1)
        # Devices that are killed in trials tell so, and any sensible rule would stop the rollout.
        publish(workspace, models[1], plan=Plan(rule=Rule(max_failed=1.0)))
        yield FaultShop(made, _signed(workspace), address)


def _add(catalog: Catalog, number: int) -> None:
    sku = f"pack-{number}"
    catalog.put_products([Product(sku, title=f"Pack {number}")])
    add_photos(catalog, sku, number, 3)


def _signed(workspace: Workspace) -> dict[int, str]:
    """Read from the signed metadata which manifest belongs to each release."""
    found: dict[int, str] = {}
    for path in workspace.metadata.glob("*.json"):
        signed = json.loads(path.read_bytes())["signed"]
        for name, target in signed.get("targets", {}).items() if signed["_type"] == "targets" else ():
            number = name.removeprefix("releases/").removesuffix(".json")
            if number.isdecimal():
                found[int(number)] = target["hashes"]["sha256"]
    return found
