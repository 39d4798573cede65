"""What a change of a large catalog costs a device in bytes: ten products more, one less, one price.

Server and device are the real programs, each in a process of its own; what is between them is counted by a
relay that looks at nothing: all bytes to the device, with headers, signatures, heartbeats and all else.
"""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cloud import signing
from cloud.catalog import Catalog
from cloud.fleet import Fleet
from cloud.processes import clean_environment
from cloud.publishing import Publication, publish
from cloud.workspace import Workspace
from edge.model import Model, open_model
from edge.products import Product
from on_fleet.big_catalog import add_embedded, fill, make_workspace
from on_fleet.server import running

_ROOT = Path(__file__).resolve().parents[2]
_DEVICE = "from devices.commands import main; main()"
_PHOTOS = 5
_SYNC_S = 600


@dataclass
class Counted:
    """Bytes through the relay so far: `down` to the device, `up` to the server."""

    down: int = 0
    up: int = 0


def measure(scratch: Path, *, quick: bool = False) -> dict[str, object]:
    """Return `delta.add_bytes` and `delta.edit_bytes` (the worst of the edits), and what they are made of."""
    model = open_model(_ROOT / "cloud" / "models" / "general")
    products = 400 if quick else 20_000
    workspace = make_workspace(scratch / "shop")
    fill(workspace, model, products, _PHOTOS)
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    price = next(each for each in catalog.products() if each.sku == "P000011")

    def add() -> None:
        add_embedded(workspace, model, [f"N{number}" for number in range(10)], _PHOTOS, 77)

    changes: dict[str, Callable[[], object]] = {
        "add": add,
        "remove": lambda: catalog.remove("P000007"),
        "price": lambda: catalog.put_product(Product(price.sku, price.title, price.category, None, "0.99")),
        "title": lambda: catalog.put_product(
            Product(price.sku, "Another title", price.category, None, "0.99")
        ),
    }
    publish(workspace, model)
    told: dict[str, object] = {"delta.rows": products * _PHOTOS, "delta.dimension": model.dimension}
    with running(workspace) as (address, _), _relayed(address) as (url, counted):
        device = scratch / "device"
        code = Fleet(workspace.sessions()).new_code(signing.fingerprint(workspace.metadata))
        _device(device, "enroll", url, code)
        first, _ = _synced(device, counted)
        told["delta.first_bytes"] = first
        for name, change in changes.items():
            change()
            published, seconds = _published(workspace, model)
            down, up = _synced(device, counted)
            idle, _ = _synced(device, counted)  # the same visit when nothing is new
            told |= {
                f"delta.{name}_bytes": down,
                f"delta.{name}_up_bytes": up,
                f"delta.{name}_less_an_idle_visit": down - idle,
                f"delta.{name}_files": published.release.new_bytes,
                f"delta.{name}_manifest": (workspace.files / published.release.sha256).stat().st_size,
                f"delta.{name}_publish_s": seconds,
            }
    told["delta.edit_bytes"] = max(
        int(str(told[f"delta.{name}_bytes"])) for name in ("remove", "price", "title")
    )
    return told


def _published(workspace: Workspace, model: Model) -> tuple[Publication, float]:
    began = time.monotonic()
    published = publish(workspace, model)
    if not published.changed:
        raise RuntimeError("a change made no release")
    return published, round(time.monotonic() - began, 2)


def _synced(device: Path, counted: Counted) -> tuple[int, int]:
    """Let the device visit the server once; return the bytes that came to it, and that it sent."""
    before = Counted(counted.down, counted.up)
    report = _device(device, "sync", "--once", "--json")
    if report.get("error"):
        raise RuntimeError(f"the device says {report['error']}: {report.get('message')}")
    return counted.down - before.down, counted.up - before.up


def _device(folder: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _DEVICE, *words[:1], "--data", str(folder), *words[1:]],
        cwd=_ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=_SYNC_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"shelfsight {words[0]} ended with {done.returncode}: {done.stderr or done.stdout}"
        )
    found: object = json.loads(done.stdout) if "--json" in words else {}
    return found if isinstance(found, dict) else {}


@contextmanager
def _relayed(address: str) -> Iterator[tuple[str, Counted]]:
    """Stand between device and server on loopback, and count what passes."""
    split = urlsplit(address)
    counted = Counted()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(
            target=_accept,
            args=(listener, (str(split.hostname), int(split.port or 80)), counted),
            daemon=True,
        ).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", counted


def _accept(listener: socket.socket, server: tuple[str, int], counted: Counted) -> None:
    while True:
        try:
            device, _ = listener.accept()
        except OSError:
            return  # the measurement is over
        other = socket.create_connection(server)
        threading.Thread(target=_pass_on, args=(other, device, counted, "down"), daemon=True).start()
        threading.Thread(target=_pass_on, args=(device, other, counted, "up"), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket, counted: Counted, way: str) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            setattr(counted, way, getattr(counted, way) + len(data))
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
