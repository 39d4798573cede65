"""A product that one shop teaches its kiosk, and all devices know in the end; never unknown in between."""

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cloud.commands import main as cloud_commands
from devices.commands import main as device_commands
from devices.config import Settings
from devices.device import Device
from edge.image import load_photo
from tests.journeys.shop import Finished
from tests.journeys.shop import Shop as ShopOfProcesses

TITLE = "Grandma's jam"


class Shop(ShopOfProcesses):
    """A shop whose commands run in this process, for there are many; its server has one of its own."""

    def cloud(self, *arguments: object) -> Finished:
        return finished(cloud_commands, ["--data", self.cloud_data, *arguments])

    def device(self, *arguments: object) -> Finished:
        return finished(device_commands, ["--data", self.device_data, *arguments])


def finished(command: click.Command, arguments: list[object]) -> Finished:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Finished(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    assert shop.cloud("init").code == 0
    assert shop.cloud("catalog", "import", shop.draw([1, 2, 3, 4, 5])).code == 0
    shop.publish()
    return shop


def best(shop: Shop, photo: Path) -> tuple[str, str, int]:
    answered = shop.device("match", "--json", photo)
    assert answered.code == 0, answered.err
    answer = answered.json()
    return answer["verdict"], answer["candidates"][0]["sku"], answer["release"]


class Looking:
    """A program of the device that looks at one product again and again, as a kiosk does."""

    def __init__(self, data: Path, photo: Path) -> None:
        self._device = Device(Settings(data=data), tells=False)
        self._photo = load_photo(photo)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.seen: list[tuple[int, str, str]] = []

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            answer = self._device.see(self._photo)
            self.seen.append((answer.release, answer.verdict, answer.candidates[0].product.sku))

    def __enter__(self) -> "Looking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def local_files(shop: Shop) -> list[str]:
    return sorted(path.name for path in (shop.device_data / "local").rglob("*") if path.suffix == ".jpg")


def test_a_product_taught_offline_is_proposed_accepted_published_and_taken_over(
    shop: Shop, tmp_path: Path
) -> None:
    other = replace(shop, folder=tmp_path / "other")
    other.folder.mkdir()
    jam, photos = shop.photo(9), [shop.photo(9, seed) for seed in (1, 2, 3)]
    with shop.server() as url:
        assert shop.enroll(url).code == 0
        assert enroll(shop, other, url).code == 0
        for each in (shop, other):
            assert each.device("sync", "--once").code == 0
    taught = shop.device("add", "jam", "--title", TITLE, "--price", "4.20", "--json", *photos)
    assert taught.code == 0, taught.err
    assert taught.json()["concerns"] == []
    assert best(shop, jam) == ("match", "jam", 1), "at once, with no network"
    assert best(other, jam)[1] != "jam"
    with Looking(shop.device_data, jam) as looking, shop.server() as url:
        point(shop, url)
        point(other, url)
        assert shop.device("sync", "--once").code == 0
        (waiting,) = shop.cloud("proposals", "list", "--json").json()
        assert (waiting["sku"], waiting["title"], waiting["here"]) == ("jam", TITLE, 3)
        picture = tmp_path / "waiting.png"
        shown = shop.cloud("proposals", "show", waiting["id"], "--picture", picture, "--json")
        assert shown.code == 0, shown.err
        assert shown.json()["alike"]
        assert picture.read_bytes().startswith(b"\x89PNG")
        accepted = shop.cloud("proposals", "accept", waiting["id"])
        assert accepted.code == 0, accepted.err
        assert shop.device("sync", "--once").code == 0
        assert [each["state"] for each in local(shop)] == ["accepted"]
        assert shop.publish()["version"] == 2
        assert len(local_files(shop)) == 3, "no release of this device has it yet"
        for each in (other, shop):
            sync_until(each, lambda each=each: best(each, jam)[2] == 2)  # type: ignore[misc]
        sync_until(shop, lambda: local(shop) == [])
    seen_by_releases = {release for release, _, _ in looking.seen}
    assert {(verdict, sku) for _, verdict, sku in looking.seen} == {("match", "jam")}, "never unknown"
    assert 1 in seen_by_releases
    for each in (shop, other):
        assert best(each, jam) == ("match", "jam", 2)
    answer = other.device("match", "--json", jam).json()
    assert answer["candidates"][0]["title"] == TITLE
    assert local(shop) == []
    with sqlite3.connect(shop.cloud_data / "shelfsight.db") as database:
        kinds = [kind for (kind,) in database.execute("select kind from events")]
    database.close()
    assert kinds.count("proposed") == 1
    assert not list((shop.cloud_data / "proposed").rglob("*.jpg"))


def test_a_refused_product_is_forgotten_by_its_device_and_its_photos_by_the_cloud(shop: Shop) -> None:
    with shop.server() as url:
        assert shop.enroll(url).code == 0
        assert shop.device("sync", "--once").code == 0
        kept = shop.device("add", "secret", "--keep", "--anyway", shop.photo(8, 1))
        assert kept.code == 0, kept.err
        assert shop.device("add", "jam", shop.photo(9, 1), shop.photo(9, 2)).code == 0
        assert shop.device("sync", "--once").code == 0
        (waiting,) = shop.cloud("proposals", "list", "--json").json()
        assert waiting["sku"] == "jam", "what is kept leaves the device in no way"
        assert shop.cloud("proposals", "refuse", waiting["id"][:13]).code == 0
        assert shop.device("sync", "--once").code == 0
    assert best(shop, shop.photo(9))[1] != "jam"
    assert best(shop, shop.photo(8))[1] == "secret"
    assert {(each["sku"], each["state"]) for each in local(shop)} == {("jam", "refused"), ("secret", "kept")}
    assert [path for path in (shop.cloud_data / "proposed").rglob("*") if path.is_file()] == []


def enroll(shop: Shop, other: Shop, url: str) -> Finished:
    code = shop.cloud("fleet", "code", "--json").json()["code"]
    return other.device("enroll", url, code)


def sync_until(shop: Shop, done: Callable[[], bool]) -> None:
    """Visit the server until it has told what it knows: what it offers, it looks up once a second."""
    for _ in range(50):
        synced = shop.device("sync", "--once")
        assert synced.code == 0, synced.err
        if done():
            return
        time.sleep(0.1)
    raise AssertionError("the device never heard of it")


def point(shop: Shop, url: str) -> None:
    """Let a device find its server, which has another port after every start of these tests."""
    path = shop.device_data / "device.json"
    record = json.loads(path.read_bytes())
    record["url"] = url
    path.write_text(json.dumps(record))


def local(shop: Shop) -> list[dict[str, object]]:
    status = shop.device("status", "--json")
    assert status.code == 0, status.err
    found: list[dict[str, object]] = status.json()["local"]
    return found
