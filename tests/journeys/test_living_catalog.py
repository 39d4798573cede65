"""Stores, folded chains and another model, as a real device meets them at a real server."""

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from cloud import assembly, signing
from cloud.app import create_app
from cloud.catalog import Catalog
from cloud.fleet import Fleet
from cloud.publishing import publish, publish_content_of
from cloud.stores import Store, Stores
from cloud.workspace import Workspace
from devices.config import Settings
from devices.device import Device
from devices.enrollment import enroll, read_enrollment
from devices.sync_report import SyncReport
from edge.model import Model, open_model, write_model
from edge.products import Product
from edge.release import Release
from tests.cloud.conftest import certificate_of, certify
from tests.devices.conftest import SKUS, pack
from tests.edge.drawn_release import photograph


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Give a cloud with four drawn packs, nothing published."""
    made = Workspace.create(tmp_path / "cloud")
    signing.create_repository(made.metadata, made.keys)
    catalog = catalog_of(made)
    for sku in SKUS:
        catalog.put_product(Product(sku, sku.title()))
        catalog.add_photo(sku, photograph(pack(sku)), "packshot", "reference", f"{sku}.jpg")
    return made


@pytest.fixture
def url(workspace: Workspace) -> Iterator[str]:
    """Give the address of that cloud's server."""
    server = make_server("127.0.0.1", 0, create_app(workspace), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def catalog_of(workspace: Workspace) -> Catalog:
    return Catalog(workspace.sessions(), workspace.photo_storage())


def a_device(workspace: Workspace, url: str, folder: Path, store: str | None = None) -> Device:
    settings = Settings(data=folder)
    code = Fleet(workspace.sessions()).new_code(signing.fingerprint(workspace.metadata), store=store)
    enroll(settings, url, code)
    return Device(settings)


def synced(device: Device, version: int) -> SyncReport:
    """Let a device come by until it is offered a release: the server looks for new ones once a second."""
    until = time.monotonic() + 10
    while True:
        report = device.sync()
        if report.offered == version or time.monotonic() > until:
            assert (report.installed, report.error) == (version, None)
            return report
        time.sleep(0.2)


def in_use(device: Device) -> Release:
    return Release.from_bytes((device.installation.current() / "release.json").read_bytes())


def test_a_device_has_its_stores_products_and_after_a_move_the_other_stores(
    workspace: Workspace, url: str, tiny_model: Model, tmp_path: Path
) -> None:
    stores = Stores(workspace.sessions())
    stores.put(Store("kiel"))
    stores.put(Store("ulm"))
    stores.stock("kiel", [SKUS[2]])
    publish(workspace, tiny_model)
    device = a_device(workspace, url, tmp_path / "device", "ulm")
    synced(device, 1)
    assert in_use(device).assortment == "ulm"
    photo = photograph(pack(SKUS[2]), seed=8)
    assert SKUS[2] not in {each.product.sku for each in device.see(photo).candidates}
    stores.move(read_enrollment(device.settings.data).device_id, "kiel")
    publish(workspace, tiny_model)
    synced(device, 2)
    assert in_use(device).assortment == "kiel"
    answer = Device(device.settings).see(photo)
    assert (answer.release, answer.candidates[0].product.sku) == (2, SKUS[2])


def test_a_folded_base_costs_a_device_nothing_even_one_that_missed_some_releases(
    workspace: Workspace, url: str, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "DELTA_SHARE", 100.0)
    monkeypatch.setattr(assembly, "MOST_DELTAS", 6)
    publish(workspace, tiny_model)
    device = a_device(workspace, url, tmp_path / "device")
    folded = None
    for price in range(1, 9):
        catalog_of(workspace).put_product(Product(SKUS[0], "Pack", price=f"{price}.00"))
        row = publish(workspace, tiny_model).release
        release = Release.from_bytes((workspace.files / row.sha256).read_bytes())
        base = release.file(release.segments[0])
        if base.merge:
            folded = base
            break
        if price <= 4:
            synced(device, row.version)
    assert folded is not None
    assert row.version - in_use(device).version > 1
    (workspace.files / folded.sha256).unlink()  # nobody can fetch it
    synced(device, row.version)
    assert in_use(device).segments[0] == folded.sha256
    assert device.see(photograph(pack(SKUS[0]), seed=8)).candidates[0].product.price == f"{price}.00"


def test_another_model_comes_with_its_own_vectors_in_one_release_and_nothing_mixes(
    workspace: Workspace, url: str, tiny_model: Model, tmp_path: Path
) -> None:
    publish(workspace, tiny_model)
    device = a_device(workspace, url, tmp_path / "device")
    synced(device, 1)
    before = in_use(device)
    other = in_another_space(tiny_model, tmp_path / "model")
    publish(workspace, other)
    assert device.see(photograph(pack(SKUS[1]), seed=8)).candidates[0].product.sku == SKUS[1]
    assert in_use(device) == before  # the old pair answers until the new one is there, whole
    synced(device, 2)
    after = in_use(device)
    assert (after.space, before.space) == (other.space, tiny_model.space)
    assert not set(after.segments) & set(before.segments)
    assert all(not entry.merge for entry in after.files)
    answer = Device(device.settings).see(photograph(pack(SKUS[1]), seed=8))
    assert (answer.release, answer.candidates[0].product.sku) == (2, SKUS[1])
    # And back, under a new number, without a look at a model folder.
    assert publish_content_of(workspace, 1).release.version == 3
    synced(device, 3)
    assert (in_use(device).space, in_use(device).segments) == (tiny_model.space, before.segments)


def in_another_space(model: Model, folder: Path) -> Model:
    shutil.copytree(model.folder, folder)
    write_model(replace(model, space="f" * 16), folder)
    made = open_model(folder)
    certify(made, replace(certificate_of(made), space=made.space))
    return made
