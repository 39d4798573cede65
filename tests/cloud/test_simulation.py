"""A fleet that is not there, with a server that is: real processes, real signatures, real hints."""

import asyncio
import random
from datetime import timedelta
from pathlib import Path

import pytest

from cloud import signing
from cloud.catalog import Catalog
from cloud.fleet import DeviceInfo, Fleet
from cloud.publishing import publish
from cloud.simulation.link import FAST, Link, PartlyHere, Quality
from cloud.simulation.picture import draw_wave
from cloud.simulation.run import Plan, simulate
from cloud.simulation.scene import add_again, catalog_of, copy_workspace, hold_back
from cloud.simulation.virtual import Character, VirtualDevice
from cloud.simulation.wave import Wave
from cloud.workspace import Workspace
from edge.errors import NoRelease, TryLater
from edge.model import Model
from edge.products import Product
from tests.cloud.conftest import serving
from tests.edge.loopback_server import loopback_server

QUIET = Plan(
    devices=6,
    real=1,
    slow=0,
    lossy=0,
    wrong_clocks=0,
    restarts_per_hour=0,
    trial_s=(0, 0.1),
    warm_s=1.5,
    phase_s=0.5,
    longest_s=30,
)


def test_a_wave_runs_through_a_copy_of_the_shop_and_leaves_the_shop_alone(
    workspace: Workspace, catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    before = {product.sku for product in catalog.products()}
    wave = simulate(workspace.data, tiny_model, QUIET, lambda *_: None)
    figures = wave.figures()
    assert figures.installed == 6
    assert figures.real[0] is not None, "the real device checked every signature and took it"
    assert 500 < figures.bytes_per_device["p50"] < 40_000, "a delta, not a catalog"
    assert figures.to_fleet_s["100"] is not None
    assert figures.errors == {}
    assert {product.sku for product in catalog.products()} == before
    assert not list(workspace.files.iterdir()), "nothing was published in the shop itself"
    draw_wave(wave, tmp_path / "wave.png")
    assert (tmp_path / "wave.png").read_bytes().startswith(b"\x89PNG")


def test_the_held_back_product_comes_back_with_all_its_photos(
    workspace: Workspace, catalog: Catalog, tmp_path: Path
) -> None:
    copied = catalog_of(copy_workspace(workspace.data, tmp_path / "copy"))
    whole = copied.reference_photos()
    held = hold_back(copied)
    assert held.product.sku not in {product.sku for product in copied.products()}
    add_again(copied, held)
    assert copied.reference_photos() == whole == catalog.reference_photos()


def test_a_shop_with_one_product_has_none_to_add(workspace: Workspace) -> None:
    lonely = Catalog(workspace.sessions(), workspace.photo_storage())
    lonely.put_product(Product("only", "The only one"))
    with pytest.raises(NoRelease, match="two with photos"):
        hold_back(lonely)


def test_a_cut_body_goes_on_where_it_ended() -> None:
    body = bytes(range(256)) * 200
    bad = Quality(loss=1.0, bytes_per_s=1e9, round_trip_s=0)
    with loopback_server() as server:
        server.files["/v1/files/x"] = body

        async def fetch() -> tuple[bytes, bytes | None]:
            async with Link(server.url, "t", bad, random.Random(3)) as link:
                partial = b""
                while not partial:  # a lost request is as likely as a cut body
                    try:
                        await link.get("/v1/files/x")
                    except PartlyHere as cut:
                        partial = cut.partial
                    except TryLater:
                        continue
            async with Link(server.url, "t", FAST, random.Random(3)) as link:
                return partial, await link.get("/v1/files/x", partial)

        partial, whole = asyncio.run(fetch())
    assert 0 < len(partial) < len(body)
    assert body.startswith(partial)
    assert whole == body


@pytest.mark.parametrize(("ahead", "said"), [(timedelta(days=3650), ["freeze"]), (timedelta(0), [])])
def test_a_clock_that_is_years_ahead_refuses_and_one_that_is_right_takes(
    workspace: Workspace, catalog: Catalog, tiny_model: Model, ahead: timedelta, said: list[str]
) -> None:
    version = publish(workspace, tiny_model).release.version
    told: list[tuple[str, object]] = []
    with serving(workspace) as address:
        device = asyncio.run(_joined(workspace, address, ahead, told))
    assert [value for what, value in told if what == "error"] == said
    assert device.memory.release == (None if said else version)


async def _joined(
    workspace: Workspace, address: str, ahead: timedelta, told: list[tuple[str, object]]
) -> VirtualDevice:
    fleet = Fleet(workspace.sessions())
    code = fleet.new_code(signing.fingerprint(workspace.metadata))
    id_, token = fleet.enroll(code, DeviceInfo("virtual", "kiosk", "1"))
    device = VirtualDevice(
        id_,
        token,
        address,
        character=Character(FAST, ahead, 0, (0, 0)),
        chance=random.Random(1),
        tell=lambda _device, what, value: told.append((what, value)),
    )
    await device.visit()
    return device


def test_shares_of_the_fleet_are_told_only_where_they_were_reached() -> None:
    wave = Wave(devices=10, began=0.0, offered=5.0, ended=30.0)
    wave.installed = {f"d{number}": 6.0 + number for number in range(9)}
    figures = wave.figures()
    assert figures.to_fleet_s == {"50": 5.0, "90": 9.0, "99": None, "100": None}
