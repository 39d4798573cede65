"""What the tests of the devices share: a device folder with a real small release in it."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from devices.commands import main
from devices.config import OUTBOX_FILE, Settings
from devices.device import Device
from edge.embedder import Embedder
from edge.events import Event
from edge.image import Picture
from edge.installation import Installation
from edge.matcher import Answer
from edge.model import Model
from edge.outbox import Outbox
from edge.release import Release
from tests.edge.drawn_release import ReleaseMaker, draw_pack, photograph

SKUS = ("apple juice", "bean soup", "corn flakes", "dark chocolate")
PACKS = {sku: draw_pack(seed) for seed, sku in enumerate(SKUS, start=1)}

Shelfsight = Callable[..., Result]


class Foreign:
    """A vendor's delegate library, and what it does in the processes that are started from now on."""

    def __init__(self, library: Path, monkeypatch: pytest.MonkeyPatch, trigger: Path) -> None:
        self.library = library
        self._monkeypatch = monkeypatch
        self._trigger = trigger

    def does(self, what: str) -> None:
        """Do this at once, as `tests/data/delegates/foreign_delegate.c` has it."""
        self._monkeypatch.setenv("FOREIGN_DELEGATE", what)
        self._monkeypatch.delenv("FOREIGN_DELEGATE_IF", raising=False)

    def will(self, what: str) -> None:
        """Work until `now` is called, and do this then."""
        self._trigger.unlink(missing_ok=True)
        self._monkeypatch.setenv("FOREIGN_DELEGATE", what)
        self._monkeypatch.setenv("FOREIGN_DELEGATE_IF", str(self._trigger))

    def now(self) -> None:
        """Begin to do what it `will`."""
        self._trigger.touch()


def pack(sku: str) -> Picture:
    """Give the picture of a product of the test release."""
    return PACKS[sku]


def install_release(
    data: Path, folder: Path, version: int = 1, trial: Callable[[Path], None] = lambda _folder: None
) -> None:
    """Install the release in `folder` on the device in `data` under `version`, and confirm it."""
    release = replace(Release.from_bytes((folder / "release.json").read_bytes()), version=version)
    installation = Installation(data)
    for entry in release.files:
        shutil.copy(folder / entry.sha256, installation.staging(version) / entry.sha256)
    installation.install(release, release.to_bytes())
    installation.try_out(version, trial)


def answered_by(device: Device, release: int, photo: bytes) -> Answer:
    """Ask until that release answers: a new one is opened beside the old one, which answers meanwhile."""
    deadline = time.monotonic() + 20
    while (answer := device.see(photo)).release != release:
        assert time.monotonic() < deadline, f"release {answer.release} still answers"
    return answer


def spoil(path: Path) -> None:
    """Cut the last byte off a file; another name of the same file, in another release, keeps what it had."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1])


def events_of(data: Path) -> list[Event]:
    """Read what waits in the outbox of the device in `data`."""
    with Outbox(data / OUTBOX_FILE) as outbox:
        return outbox.batch()


@pytest.fixture
def release_folder(tiny_model: Model, tmp_path: Path) -> Path:
    """Give a release of four drawn packs, with one golden photo."""
    golden = [photograph(pack(SKUS[0]))]
    return ReleaseMaker(tiny_model).write(tmp_path / "release", PACKS, golden)


@pytest.fixture
def data(release_folder: Path, tmp_path: Path) -> Path:
    """Give the folder of a device that has the release installed as version 1."""
    folder = tmp_path / "device"
    install_release(folder, release_folder)
    return folder


@pytest.fixture
def device(data: Path, tiny_model: Model) -> Device:
    """Give that device, by the delegate that takes its network here: tflite-runtime's XNNPACK does not."""
    network = tiny_model.path(tiny_model.variant())
    opened = Embedder.open(network, dimension=tiny_model.dimension, input_size=tiny_model.input_size)
    return Device(Settings(data=data, name="Kiosk 3", delegates=(opened.delegate,)))


@pytest.fixture
def foreign(foreign_delegate: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Foreign:
    """Give a vendor's delegate that works, until it is told otherwise."""
    monkeypatch.delenv("FOREIGN_DELEGATE", raising=False)
    return Foreign(foreign_delegate, monkeypatch, tmp_path / "now")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Give a folder with one photo of each product."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, sku in enumerate(SKUS):
        (folder / f"{number}-{sku.replace(' ', '-')}.jpg").write_bytes(photograph(pack(sku), seed=number))
    return folder


@pytest.fixture
def shelfsight(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Shelfsight]:
    """Give the command `shelfsight`, with no environment and an empty home."""
    for name in ("SHELFSIGHT_DATA", "SHELFSIGHT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    yield run
