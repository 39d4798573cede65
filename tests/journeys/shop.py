"""A shop for the journeys: the real commands, the real server process, a device in its own process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud import signing
from cloud.catalog import Catalog
from cloud.fleet import Fleet
from cloud.publishing import publish
from cloud.workspace import Workspace
from devices.config import Settings
from devices.enrollment import enroll
from edge.model import open_model
from edge.products import Product
from tests.edge.drawn_release import draw_pack, photograph

COMMANDS = Path(sys.executable).parent
TINY_MODEL = Path(__file__).resolve().parent.parent / "data" / "tiny-int8"


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit code, what it printed, and what it complained of."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def run(command: str, arguments: Sequence[object], *, environment: dict[str, str] | None = None) -> Finished:
    finished = subprocess.run(
        [COMMANDS / command, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **(environment or {})},
    )
    assert "Traceback" not in finished.stderr, finished.stderr
    return Finished(finished.returncode, finished.stdout, finished.stderr)


@dataclass(frozen=True)
class Shop:
    """One cloud data folder, one device data folder, and photos between them."""

    folder: Path

    @property
    def cloud_data(self) -> Path:
        return self.folder / "cloud"

    @property
    def device_data(self) -> Path:
        return self.folder / "device"

    def cloud(self, *arguments: object) -> Finished:
        return run("shelfsight-cloud", ["--data", self.cloud_data, *arguments])

    def device(self, *arguments: object) -> Finished:
        return run("shelfsight", ["--data", self.device_data, *arguments])

    def photo(self, pack: int, seed: int = 99) -> Path:
        """Take a photo of a pack that is in no catalog folder."""
        path = self.folder / f"seen-{pack}-{seed}.jpg"
        path.write_bytes(photograph(draw_pack(pack), seed=seed))
        return path

    def draw(self, packs: Sequence[int]) -> Path:
        """Draw a folder with one sub-folder a product, two reference photos each."""
        root = self.folder / "photos"
        for pack in packs:
            place = root / f"pack-{pack}"
            place.mkdir(parents=True)
            for seed in range(2):
                (place / f"{seed}.jpg").write_bytes(photograph(draw_pack(pack), seed=seed))
        return root

    def publish(self) -> dict[str, Any]:
        published = self.cloud("publish", "--model", TINY_MODEL, "--json")
        assert published.code == 0, published.err
        report: dict[str, Any] = published.json()
        return report

    def open(self, packs: Sequence[int]) -> None:
        """Make the cloud folder with these packs, published as release 1, sooner than by commands."""
        made = Workspace.create(self.cloud_data)
        signing.create_repository(made.metadata, made.keys)
        for pack in packs:
            self.add(pack)
        publish(made, open_model(TINY_MODEL))

    def add(self, pack: int) -> None:
        """Add a pack to the catalog, with one photo."""
        made, sku = Workspace.open(self.cloud_data), f"pack-{pack}"
        catalog = Catalog(made.sessions(), made.photo_storage())
        catalog.put_product(Product(sku, sku.title()))
        catalog.add_photo(sku, photograph(draw_pack(pack)), "packshot", "reference", f"{sku}.jpg")

    def enroll_another(self, url: str, number: int) -> Path:
        """Enroll one more device at `url`; give its folder."""
        made = Workspace.open(self.cloud_data)
        code = Fleet(made.sessions()).new_code(signing.fingerprint(made.metadata))
        data = self.folder / f"device-{number}"
        enroll(Settings(data=data, name=f"Kiosk {number}"), url, code)
        return data

    def enroll(self, url: str) -> Finished:
        code = self.cloud("fleet", "code", "--json").json()["code"]
        return self.device("enroll", url, code)

    @contextmanager
    def server(self) -> Iterator[str]:
        """Serve the cloud folder as users do, in a process of its own; gives its address."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        process = subprocess.Popen(
            [COMMANDS / "shelfsight-cloud", "--data", str(self.cloud_data), "serve", "--port", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _wait_until_healthy(url, process)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            _, complaints = process.communicate(timeout=20)
            assert "Traceback" not in complaints, complaints


def _wait_until_healthy(url: str, process: "subprocess.Popen[str]") -> None:
    for _ in range(150):
        assert process.poll() is None, "the server ended at once"
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"the server at {url} did not come up")
