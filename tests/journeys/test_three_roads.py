"""The three roads from end to end: real commands, a real server process, real signatures, a real device."""

import json
import sqlite3
from pathlib import Path

import pytest

from tests.journeys.shop import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    assert shop.cloud("init").code == 0
    assert shop.cloud("catalog", "import", shop.draw([1, 2, 3, 4, 5])).code == 0
    return shop


def test_a_reference_photo_reaches_a_device_that_answers_a_frame_and_tells_the_cloud(shop: Shop) -> None:
    assert shop.publish()["version"] == 1
    with shop.server() as url:
        assert shop.enroll(url).code == 0
        synced = shop.device("sync", "--once")
        assert synced.code == 0, synced.err
        answered = shop.device("match", "--json", shop.photo(4))
        assert answered.code == 0, answered.err
        answer = answered.json()
        assert (answer["verdict"], answer["candidates"][0]["sku"]) == ("match", "pack-4")
        assert answer["release"] == 1
        assert set(answer) >= {"photo", "verdict", "candidates", "release", "reason", "timings_ms"}
        devices = shop.cloud("fleet", "--json").json()
    with sqlite3.connect(shop.cloud_data / "shelfsight.db") as database:
        kinds = [kind for (kind,) in database.execute("select kind from events")]
    database.close()
    assert kinds.count("installed") == 1
    assert "pack-4" not in json.dumps(devices), "an answer is the shopper's, not the fleet list's"


def test_a_product_added_in_the_morning_travels_as_a_small_delta(shop: Shop) -> None:
    first = shop.publish()
    with shop.server() as url:
        shop.enroll(url)
        shop.device("sync", "--once")
        before = shop.device("match", "--json", shop.photo(9)).json()
        assert "pack-9" not in [candidate["sku"] for candidate in before["candidates"]]
        photos = shop.photo(9, 1), shop.photo(9, 2)
        added = shop.cloud("catalog", "add", "pack-9", "--title", "Pack nine", *photos)
        assert added.code == 0, added.err
        second = shop.publish()
        assert second["version"] == 2
        assert second["new_bytes"] < first["new_bytes"] / 4
        assert shop.device("sync", "--once").code == 0
        answer = shop.device("match", "--json", shop.photo(9)).json()
        assert (answer["candidates"][0]["sku"], answer["verdict"]) == ("pack-9", "match")
        assert answer["release"] == 2
        assert shop.publish()["changed"] is False


def test_a_file_that_rotted_on_the_server_is_refused_and_the_old_release_answers_on(shop: Shop) -> None:
    shop.publish()
    with shop.server() as url:
        shop.enroll(url)
        shop.device("sync", "--once")
        known = {path.name for path in (shop.cloud_data / "repository" / "files").iterdir()}
        shop.cloud("catalog", "add", "pack-9", shop.photo(9, 1))
        shop.publish()
        for path in (shop.cloud_data / "repository" / "files").iterdir():
            if path.name not in known:
                damaged = bytearray(path.read_bytes())
                damaged[len(damaged) // 2] ^= 1
                path.write_bytes(damaged)
        refused = shop.device("sync", "--once")
        assert refused.code == 1
        assert refused.err.startswith("error: ")
        assert refused.err.count("\n") == 1, refused.err
        status = shop.device("status", "--json").json()
        assert (status["release"], status["last_error"]) == (1, "hash_mismatch")
        assert shop.device("match", "--json", shop.photo(2)).json()["candidates"][0]["sku"] == "pack-2"


def test_without_a_server_a_device_answers_and_says_in_one_sentence_what_it_misses(shop: Shop) -> None:
    shop.publish()
    with shop.server() as url:
        shop.enroll(url)
        shop.device("sync", "--once")
    offline = shop.device("sync", "--once")
    assert (offline.code, offline.err.count("\n")) == (1, 1)
    assert url in offline.err
    assert shop.device("match", shop.photo(1)).code == 0


def test_a_wrong_code_enrolls_nobody_and_leaves_nothing_behind(shop: Shop) -> None:
    shop.publish()
    with shop.server() as url:
        refused = shop.device("enroll", url, "AAAA-AAAA-AAAAAAAAAA")
        assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert not (shop.device_data / "device.json").exists()
    unreachable = shop.device("enroll", "http://127.0.0.1:9", "AAAA-AAAA-AAAAAAAAAA")
    assert (unreachable.code, unreachable.err.count("\n")) == (1, 1)
    assert "127.0.0.1:9" in unreachable.err


def test_a_code_of_another_cloud_cannot_plant_its_root_of_trust(shop: Shop, tmp_path: Path) -> None:
    """The fingerprint in the code decides which root a device believes, not the server that it talks to."""
    shop.publish()
    code = shop.cloud("fleet", "code", "--json").json()["code"]
    forged = f"{code[:-10]}{'A' * 10 if not code.endswith('A' * 10) else 'B' * 10}"
    with shop.server() as url:
        refused = shop.device("enroll", url, forged)
    assert refused.code == 1
    assert not (shop.device_data / "device.json").exists()


def test_a_bad_photo_is_one_object_with_an_error_and_the_rest_go_on(shop: Shop, tmp_path: Path) -> None:
    shop.publish()
    with shop.server() as url:
        shop.enroll(url)
        shop.device("sync", "--once")
    text = tmp_path / "text.jpg"
    text.write_text("not a photo")
    finished = shop.device("match", "--json", text, tmp_path / "gone.jpg", shop.photo(4))
    answers = [json.loads(line) for line in finished.out.splitlines()]
    assert ["error" in answer for answer in answers] == [True, True, False]
    assert answers[2]["candidates"][0]["sku"] == "pack-4"
    assert finished.code == 1
