"""Goes the whole road: draw a shop, publish it, sync a device, match photos, teach it one more product."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from cloud import signing
from cloud.bundled import find_model
from cloud.catalog import Catalog
from cloud.demo.folder import demo_folder
from cloud.demo.picture import draw_answers
from cloud.demo.score import Outcome, Score, read_outcome, score
from cloud.fleet import Fleet
from cloud.importers import ImportPlan, PlannedPhoto, import_plan, read_plan
from cloud.processes import DeviceCommand, running_server
from cloud.publishing import publish
from cloud.sample.write import Newcomer, Sample, ShopPhoto, write_sample
from cloud.workspace import Workspace
from edge.disk import write_atomically
from edge.errors import ShelfsightError
from edge.model import Model, open_model
from edge.products import Product

Progress = Callable[[int, int], None]


class Step(Protocol):
    """What a step tells while it goes on: how far it is, and at its end what came of it."""

    def progress(self, done: int, total: int) -> None:
        """Show how much is done."""

    def say(self, result: str) -> None:
        """Say what came of it, in a few words."""


Announce = Callable[[str], AbstractContextManager[Step]]
"""Announces a step by its title and times it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to show: the shop's sizes, the model (None: the bundled one), processes to draw with.

    Without `labeled` photos the model keeps the thresholds that came with it.
    """

    folder: Path
    products: int = 80
    photos: int = 40
    labeled: int = 120
    seed: int = 7
    workers: int = 2
    model: Path | None = None


@dataclass(frozen=True, slots=True)
class FirstSync:
    """What the first release cost the device; sizes in bytes."""

    release: int
    bytes_received: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Update:
    """How a new product reached the device: from `catalog add` to the first answer that names it."""

    sku: str
    title: str
    release: int
    bytes_received: int
    seconds: float
    before: str
    after: Outcome


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything the demo found out; `address` is where its server listens while the road is open."""

    address: str
    folder: Path
    model: str
    first_sync: FirstSync
    outcomes: tuple[Outcome, ...]
    score: Score
    picture: Path
    update: Update


@contextmanager
def demo_road(plan: Plan, announce: Announce) -> Iterator[Shown]:
    """Go the road and yield what was found, with the server still running; it is ended on the way out.

    Raises:
        BadSetting: the folder holds something else than an earlier demo, or one that still runs.
        ShelfsightError: a step failed; the message says which and why.
    """
    with ExitStack() as held:
        folder = held.enter_context(demo_folder(plan.folder))
        model = open_model(find_model(plan.model))
        sample = _draw(plan, folder / "shop", announce)
        workspace = _stock(sample, folder / "cloud", announce)
        with announce("Embed the catalog, sign and publish release 1") as step:
            publication = publish(workspace, model, progress=step.progress)
            release = publication.release
            step.say(
                f"{release.products} products, {release.rows} vectors, model {release.model}, "
                f"decision fitted to {publication.calibration_photos} labeled photos"
            )
        with announce("Start the sync server, a process of its own"):
            address = held.enter_context(running_server(workspace.data, folder / "server.log"))
        device = DeviceCommand(folder / "device")
        first = _join(workspace, device, address, announce)
        outcomes = _match(device, sample.photos, announce)
        total = score(outcomes)
        picture = folder / "answers.png"
        with announce("Draw the answers") as step:
            write_atomically(picture, draw_answers(outcomes, total, _packshots(sample)))
            step.say(str(_short(picture)))
        before = next(outcome for outcome in outcomes if outcome.photo.path == sample.newcomer.photo)
        with announce(f"Add a product: {sample.newcomer.design.title}") as step:
            update = _teach(workspace, model, device, sample.newcomer, before)
            step.say(f"release {update.release}, {update.bytes_received / 1e3:.1f} kB")
        yield Shown(address, folder, model.name, first, outcomes, total, picture, update)


def _short(path: Path) -> Path:
    """Return the path as people would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _draw(plan: Plan, folder: Path, announce: Announce) -> Sample:
    with announce("Draw a sample shop") as step:
        sample = write_sample(
            folder,
            products=plan.products,
            photos=plan.photos,
            labeled=plan.labeled,
            seed=plan.seed,
            workers=plan.workers,
            progress=step.progress,
        )
        packshots = f"{sample.products} products in {sample.packshots} packshots"
        photos = len(sample.photos) + len(sample.labeled)
        step.say(f"{packshots}, {photos} photos in the shop")
    return sample


def _stock(sample: Sample, folder: Path, announce: Announce) -> Workspace:
    """Make the cloud's data folder and import the catalog."""
    with announce("Make the signing keys and an empty repository") as step:
        workspace = Workspace.create(folder)
        signing.create_repository(workspace.metadata, workspace.keys)
        step.say(f"devices will trust root key {signing.fingerprint(workspace.metadata)}")
    with announce("Import the catalog") as step:
        report = import_plan(_catalog(workspace), read_plan(sample.table), step.progress)
        if report.refused:
            raise ShelfsightError(f"{report.refused[0].source} was refused: {report.refused[0].reason}")
        step.say(f"{report.products} products, {report.photos} photos")
    return workspace


def _catalog(workspace: Workspace) -> Catalog:
    return Catalog(workspace.sessions(), workspace.photo_storage())


def _join(workspace: Workspace, device: DeviceCommand, address: str, announce: Announce) -> FirstSync:
    """Enroll the device and let it fetch the first release."""
    with announce("Enroll a device, in a process of its own") as step:
        code = Fleet(workspace.sessions()).new_code(
            signing.fingerprint(workspace.metadata), timedelta(hours=1)
        )
        device.enroll(address, code, "demo kiosk")
        step.say(f"at {address}")
    with announce("Sync it: fetch, verify, try out, switch over") as step:
        began = time.monotonic()
        version, received = _sync(device)
        step.say(f"release {version}, {received / 1e6:.2f} MB")
        return FirstSync(version, received, time.monotonic() - began)


def _sync(device: DeviceCommand) -> tuple[int, int]:
    """Let the device sync; return the release that it installed and the bytes that it received."""
    report = device.sync()
    installed, received = report.get("installed"), report.get("bytes_received")
    if not isinstance(installed, int) or not isinstance(received, int):
        raise ShelfsightError(f"the device installed no release: {report.get('message') or report}")
    return installed, received


def _match(device: DeviceCommand, photos: tuple[ShopPhoto, ...], announce: Announce) -> tuple[Outcome, ...]:
    with announce(f"Match {len(photos)} photos on the device") as step:
        answers = device.match([photo.path for photo in photos])
        outcomes = tuple(read_outcome(photo, answer) for photo, answer in zip(photos, answers, strict=True))
        step.say(f"{score(outcomes).median_ms:.1f} ms each (median)")
    return outcomes


def _packshots(sample: Sample) -> Callable[[str], Path]:
    return lambda sku: sample.table.parent / "packshots" / sku / "front.jpg"


def _teach(
    workspace: Workspace, model: Model, device: DeviceCommand, newcomer: Newcomer, before: Outcome
) -> Update:
    """Add a product to the catalog, publish, sync, and match a photo of it."""
    began = time.monotonic()
    design = newcomer.design
    product = Product(design.sku, design.title, design.brand.category, design.gtin, design.price)
    planned = tuple(
        PlannedPhoto(design.sku, path, "packshot", "reference", path.as_posix())
        for path in newcomer.packshots
    )
    import_plan(_catalog(workspace), ImportPlan((product,), planned, ()))
    publish(workspace, model)
    version, received = _sync(device)
    photo = ShopPhoto(newcomer.photo, design.sku)
    after = read_outcome(photo, device.match([newcomer.photo])[0])
    seconds = time.monotonic() - began
    return Update(design.sku, design.title, version, received, seconds, before.verdict, after)
