"""A fleet that is not there, with a server that is: real processes, real signatures, real hints."""

import asyncio
import random
import socket
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from cloud import signing
from cloud.catalog import Catalog
from cloud.commands.simulate import _tell
from cloud.fleet import DeviceInfo, Fleet
from cloud.publishing import publish
from cloud.simulation.link import FAST, LineDown, Link, Quality, Traffic
from cloud.simulation.picture import draw_wave
from cloud.simulation.run import Plan, simulate
from cloud.simulation.scene import add_again, catalog_of, copy_workspace, hold_back
from cloud.simulation.virtual import Character, VirtualDevice
from cloud.simulation.wave import KINDS, Sample, Wave
from cloud.workspace import Workspace
from edge.errors import CutShort, NoRelease, ServerUnreachable
from edge.model import Model
from edge.products import Product
from tests.cloud.conftest import serving
from tests.edge.loopback_server import loopback_server

QUIET = Plan(
    devices=6,
    real=1,
    slow=0,
    lossy=0,
    wrong_clocks=0.3,  # the seed deals two that are ahead
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
    assert figures.clock_wrong == 2
    assert figures.installed == 4
    assert figures.real[0] is not None, "the real device checked every signature and took it"
    cost = figures.bytes_per_device
    assert 500 < cost["received"]["p50"] < 40_000, "a delta, not a catalog"
    assert all(cost[kind]["p50"] > 0 for kind in KINDS), "each part has its share, the hint too"
    assert cost["received"]["p50"] <= sum(cost[kind]["p95"] for kind in KINDS)
    assert figures.listening == 6
    assert figures.rest == {"refuses: freeze": 2}, "nobody is missing without a word"
    assert figures.server_cpu is None or 0 < figures.server_cpu["peak"] < 64
    assert figures.to_fleet_s["can"] is not None
    assert figures.to_fleet_s["100"] is None
    assert set(figures.errors) == {"freeze"}
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
    held = bytearray()
    with loopback_server() as server:
        server.files["/v1/files/x"] = body

        async def fetch() -> tuple[bytes, bytes | None]:
            with Link(server.url, "t", bad, random.Random(3)) as link:
                while not held:  # a lost request is as likely as a cut body
                    with suppress(CutShort, LineDown):
                        await link.get("/v1/files/x", "files", held)
            partial = bytes(held)
            with Link(server.url, "t", FAST, random.Random(3)) as link:
                whole = await link.get("/v1/files/x", "files", held)
                assert link.traffic.received["files"] < len(body), "only the rest came again"
                return partial, whole

        partial, whole = asyncio.run(fetch())
    assert 0 < len(partial) < len(body)
    assert body.startswith(partial)
    assert whole == body


def test_a_connection_that_the_server_closed_meanwhile_is_made_anew(
    workspace: Workspace, catalog: Catalog
) -> None:
    with serving(workspace) as address:

        async def ask_twice() -> tuple[bytes | None, bytes | None]:
            with Link(address, "t", FAST, random.Random(1)) as link:
                first = await link.get("/v1/metadata/1.root.json", "metadata")
                assert link._streams is not None
                link._streams[1].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
                return first, await link.get("/v1/metadata/1.root.json", "metadata")

        first, second = asyncio.run(ask_twice())
    assert first is not None
    assert first == second


def test_nobody_there_is_a_failure_of_the_server_and_not_of_the_line() -> None:
    async def ask() -> None:
        with Link("http://127.0.0.1:9", "t", FAST, random.Random(1)) as link:
            await link.get("/v1/metadata/timestamp.json", "metadata")

    with pytest.raises(ServerUnreachable, match=r"timestamp\.json") as refused:
        asyncio.run(ask())
    assert refused.value.code == "server_unreachable"


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
    device = _enrolled(workspace, address, ahead, told, FAST)
    await device.visit()
    return device


def _enrolled(
    workspace: Workspace, address: str, ahead: timedelta, told: list[tuple[str, object]], line: Quality
) -> VirtualDevice:
    fleet = Fleet(workspace.sessions())
    code = fleet.new_code(signing.fingerprint(workspace.metadata))
    id_, token = fleet.enroll(code, DeviceInfo("virtual", "kiosk", "1"))
    return VirtualDevice(
        id_,
        token,
        address,
        character=Character(line, ahead, 0, (0, 0)),
        chance=random.Random(1),
        tell=lambda _device, what, value: told.append((what, value)),
    )


def test_shares_of_the_fleet_are_told_only_where_they_were_reached() -> None:
    wave = Wave(devices=10, began=0.0, offered=5.0, ended=30.0, clock_wrong=1)
    wave.installed = {f"d{number}": 6.0 + number for number in range(9)}
    figures = wave.figures()
    assert figures.to_fleet_s == {"50": 5.0, "90": 9.0, "99": None, "100": None, "can": 9.0}


def test_the_table_says_how_far_each_device_came_and_whose_the_failures_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wave = Wave(devices=10, began=0.0, offered=5.0, ended=30.0, clock_wrong=1)
    wave.installed = {f"d{number}": 6.0 + number for number in range(8)}
    wave.rest.update(["refuses: freeze", "waits after line_down"])
    wave.errors = [(6.0, "line_down"), (7.0, "line_down"), (8.0, "freeze")]
    wave.polls = [(6.0, 0.04), (6.1, 0.06)]
    wave.real = [7.5, None]
    _tell(wave.figures(), None)
    told = capsys.readouterr().out
    for words in (
        "8 of 10 devices have the new release",
        "50 % of the fleet   after 5.0 s",
        "all that can        not reached",
        "1 without it: waits after line_down",
        "1 have a clock years ahead",
        "every signature checked: after 7.5 s, not reached",
        "0.1 (mean), 2 (peak)",
        "50 ms (median)",
        "of the lines, as planned: 2 × line down.",
        "of all else: 1 × freeze.",
    ):
        assert words in told


def test_the_cost_of_a_device_ends_when_it_has_the_release() -> None:
    wave = Wave(devices=1, began=0.0)
    wave.went("d", 1.0, Traffic(Counter(heartbeat=100), 10))
    wave.offered = 2.0
    wave.went("d", 3.0, Traffic(Counter(heartbeat=7, files=50), 20))
    wave.installed["d"] = 4.0
    wave.went("d", 4.0, Traffic(Counter(files=30), 5))
    wave.went("d", 9.0, Traffic(Counter(heartbeat=1000), 50))
    cost = wave.figures().bytes_per_device
    assert (cost["received"]["p50"], cost["files"]["p50"], cost["sent"]["p50"]) == (87, 80, 25)


def test_the_load_of_the_server_is_told_before_and_in_the_wave() -> None:
    wave = Wave(devices=1, began=0.0, offered=10.0, ended=20.0)
    wave.installed["d"] = 20.0
    wave.samples = [Sample(at, 0.1 * min(at, 10) + 0.9 * max(0, at - 10), at / 4, 0.0) for at in range(21)]
    figures = wave.figures()
    assert figures.server_cpu is not None
    assert figures.server_cpu["before"] == pytest.approx(0.1)
    assert figures.server_cpu["peak"] == pytest.approx(0.9)
    assert figures.simulator["cpu"] == pytest.approx(0.25)


def test_a_restart_in_the_middle_of_a_download_keeps_what_came(
    workspace: Workspace, catalog: Catalog, tiny_model: Model
) -> None:
    version = publish(workspace, tiny_model).release.version
    thin = Quality(loss=0, bytes_per_s=150e3, round_trip_s=0)
    with serving(workspace) as address:

        async def cut_and_go_on() -> tuple[int, VirtualDevice]:
            device = _enrolled(workspace, address, timedelta(0), [], thin)
            visit = asyncio.create_task(device.visit())
            while not any(device.memory.parts.values()):
                await asyncio.sleep(0.01)
            visit.cancel()
            with suppress(asyncio.CancelledError):
                await visit
            held = sum(map(len, device.memory.parts.values()))
            await device.visit()
            return held, device

        held, device = asyncio.run(cut_and_go_on())
    assert held > 0
    assert device.memory.release == version
    assert device.memory.parts == {}
