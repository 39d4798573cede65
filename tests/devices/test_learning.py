"""A product that the staff teach a device: known at once, told to the cloud, let go when a release has it."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices.config import Settings, load_settings
from devices.device import Device
from devices.execution import Execution
from devices.kiosk.app import create_app
from devices.kiosk.station import Station
from devices.learning import learn, settle, tell_proposals, waiting_proposals
from edge.errors import BadProduct, BadSetting, PhotoUnreadable
from edge.heartbeat import Settled
from edge.image import decode, encode_jpeg
from edge.local_products import MOST_PHOTOS, LocalProducts
from edge.model import Model
from edge.products import Product
from edge.reference import embed_reference
from edge.segments import quantize_rows
from tests.devices.conftest import PACKS, SKUS, Shelfsight, events_of, install_release, pack
from tests.edge.drawn_release import ReleaseMaker, draw_pack, photograph

NEW = Product("new", "A New Thing", "novelties", price="3.49")
PHOTOS = [(f"{seed}.jpg", photograph(draw_pack(77), seed=seed)) for seed in range(3)]
ASKED = photograph(draw_pack(77), seed=99)


def best(device: Device, photo: bytes = ASKED) -> tuple[str, str]:
    answer = device.see(photo)
    return answer.verdict, answer.candidates[0].product.sku


def test_a_product_is_answered_at_once_and_by_every_program_of_the_device(device: Device) -> None:
    other_program = Device(device.settings)
    assert best(other_program)[1] != "new"
    began = time.perf_counter()
    learned = learn(device, NEW, PHOTOS)
    assert best(device) == ("match", "new")
    assert time.perf_counter() - began < 5
    assert learned.added
    assert learned.concerns == ()
    assert best(other_program) == ("match", "new"), "a program that runs notices it"
    answer = other_program.see(ASKED)
    assert answer.candidates[0].product == NEW
    assert best(device, photograph(pack(SKUS[1])))[1] == SKUS[1]


def test_its_rows_are_those_that_the_cloud_would_make_of_the_kept_photos(device: Device) -> None:
    learn(device, NEW, PHOTOS)
    matcher = device.matcher()
    local = LocalProducts(device.settings.data)
    (entry,) = local.all()
    made = {
        quantize_rows(
            embed_reference(matcher.embedder, _fitted(local.photo(photo), matcher.release.input_size))[None],
            matcher.stack.scale,
        ).tobytes()
        for photo in entry.photos
    }
    assert {row.tobytes() for row in matcher.stack.raw(matcher.stack.rows_of("new"))} == made


def _fitted(photo: bytes, size: int) -> np.ndarray:
    from edge.image import decode_to_fit

    return decode_to_fit(photo, size)


def test_kept_photos_are_small_and_say_nothing_of_where_they_were_taken(device: Device) -> None:
    from io import BytesIO

    from PIL import Image

    exif = Image.Exif()
    exif[0x010E] = "Main street 1"
    buffer = BytesIO()
    large = np.kron(draw_pack(77, 96), np.ones((16, 20, 1), np.uint8))
    Image.fromarray(large).save(buffer, "JPEG", exif=exif)
    learn(device, NEW, [("large.jpg", buffer.getvalue())])
    local = LocalProducts(device.settings.data)
    (photo,) = local.all()[0].photos
    kept = local.photo(photo)
    assert b"Main street" in buffer.getvalue()
    assert b"Main street" not in kept
    assert decode(kept).shape == (448, 560, 3)


def test_a_product_too_close_to_a_known_one_needs_a_second_word(device: Device) -> None:
    twin = [(f"{seed}.jpg", photograph(pack(SKUS[1]), seed=seed)) for seed in (5, 6)]
    refused = learn(device, NEW, twin)
    assert not refused.added
    assert {(each.kind, each.sku) for each in refused.concerns} == {("look_alike", SKUS[1])}
    assert "Bean Soup" in refused.concerns[0].sentence
    assert LocalProducts(device.settings.data).all() == ()
    assert learn(device, NEW, twin, anyway=True).added
    assert LocalProducts(device.settings.data).all()[0].look_alikes == (SKUS[1],)


def test_a_product_too_close_to_one_that_was_taught_here_needs_a_second_word(device: Device) -> None:
    learn(device, NEW, PHOTOS)
    again = [("again.jpg", photograph(draw_pack(77), seed=50))]
    refused = learn(device, Product("newer"), again)
    assert [(each.kind, each.sku) for each in refused.concerns] == [("look_alike", "new")]


def test_the_same_photo_and_the_same_gtin_are_told_by_the_sku_that_has_them(device: Device) -> None:
    learn(device, replace(NEW, gtin="4006381333931"), PHOTOS)
    refused = learn(device, Product("other", gtin="4006381333931"), PHOTOS[:1])
    kinds = {(each.kind, each.sku) for each in refused.concerns}
    assert {("same_gtin", "new"), ("same_photo", "new")} <= kinds
    with pytest.raises(PhotoUnreadable, match="already"):
        learn(device, NEW, PHOTOS[:1])


def test_a_photo_of_something_else_and_a_bad_photo_are_named(device: Device) -> None:
    gray = encode_jpeg(np.full((64, 64, 3), 128, np.uint8))
    stray = ("stray.jpg", photograph(draw_pack(31), seed=1))
    refused = learn(device, NEW, [*PHOTOS, stray, ("gray.jpg", gray)])
    assert not refused.added
    said = {(each.kind, each.photo) for each in refused.concerns}
    assert ("quality", "gray.jpg") in said
    assert "stray.jpg" in {photo for _, photo in said}
    assert not {photo for _, photo in said} & {"0.jpg", "1.jpg", "2.jpg"}


def test_more_photos_of_a_product_of_the_release_leave_its_record_alone(device: Device) -> None:
    side = [("side.jpg", photograph(draw_pack(78)))]
    learned = learn(device, Product(SKUS[0], "Wrong title"), side, anyway=True)
    assert learned.product.title == "Apple Juice"
    answer = device.see(side[0][1])
    assert answer.candidates[0].product.title == "Apple Juice"
    assert len(device.matcher().stack.rows_of(SKUS[0])) == 2


def test_without_photos_or_with_too_many_nothing_is_added(device: Device) -> None:
    with pytest.raises(BadProduct, match="no photo"):
        learn(device, NEW, [])
    with pytest.raises(BadProduct, match=str(MOST_PHOTOS)):
        learn(device, NEW, PHOTOS * 10)


def test_it_is_proposed_once_unless_it_is_to_stay_here(device: Device) -> None:
    learn(device, NEW, PHOTOS)
    learn(device, Product("private"), [("p.jpg", photograph(draw_pack(80)))], propose=False, anyway=True)
    (event,) = [each for each in events_of(device.settings.data) if each.kind == "proposed"]
    assert event.data["sku"] == "new"
    assert event.data["price"] == "3.49"
    assert event.data["proposal"] == event.id
    local = LocalProducts(device.settings.data)
    assert waiting_proposals(device) == [event.id]
    assert [each.state for each in local.all()] == ["proposed", "kept"]
    assert len(local.all()[0].unsent) == 3
    assert local.all()[1].unsent == ()


def test_an_event_that_the_outbox_lost_is_told_again_until_the_photos_are_there(device: Device) -> None:
    learn(device, NEW, PHOTOS)
    (event,) = events_of(device.settings.data)
    with device.outbox() as outbox:
        outbox.acknowledge([event.id])
    tell_proposals(device)
    tell_proposals(device)
    assert events_of(device.settings.data) == [event]
    local = LocalProducts(device.settings.data)
    local.update(event.id, lambda now: replace(now, sent=frozenset(now.photos)))
    with device.outbox() as outbox:
        outbox.acknowledge([event.id])
    tell_proposals(device)
    assert events_of(device.settings.data) == []


def test_a_product_is_let_go_by_the_release_that_has_it_and_never_before(device: Device) -> None:
    learn(device, NEW, PHOTOS)
    local = LocalProducts(device.settings.data)
    id_ = local.all()[0].id
    settle(device, {id_: Settled("accepted", None)})
    settle(device, {id_: Settled("accepted", 2)})
    assert best(device) == ("match", "new"), "release 1 does not have it"
    assert waiting_proposals(device) == [id_]


def test_a_release_with_its_rows_takes_it_over_without_a_word_from_the_server(
    device: Device, tiny_model: Model, tmp_path: Path
) -> None:
    learn(device, NEW, PHOTOS)
    behind = Device(device.settings)
    assert best(behind) == ("match", "new")
    before = behind._live.current()
    with_new = ReleaseMaker(tiny_model).write(tmp_path / "two", {**PACKS, "new": draw_pack(77)})
    install_release(device.settings.data, with_new, version=2)
    settle(device, {})
    while (answer := device.see(ASKED)).release == 1:
        assert answer.candidates[0].product.sku == "new"
    assert (answer.verdict, answer.candidates[0].product.sku) == ("match", "new")
    assert [segment.kind for segment in device.matcher().stack.segments] == ["base"], (
        "nothing local is searched"
    )
    before.take_local()  # a program that has not come to the new release yet
    assert len(before.matcher.stack.rows_of("new")), "the release before still needs it"
    device.installation.step_back("a test")
    assert best(Device(device.settings)) == ("match", "new"), "whoever steps back still knows it"
    for version in (3, 4):
        install_release(device.settings.data, with_new, version=version)
        settle(device, {})
    assert LocalProducts(device.settings.data).all() == ()
    assert list((device.settings.data / "local" / "photos").iterdir()) == []


def test_a_refused_product_is_forgotten_at_once_and_its_photos_too(device: Device) -> None:
    learn(device, NEW, PHOTOS)
    local = LocalProducts(device.settings.data)
    settle(device, {local.all()[0].id: Settled("refused", None)})
    assert best(device)[1] != "new"
    assert [(each.state, each.photos) for each in local.all()] == [("refused", ())]
    assert list((local.folder / "photos").iterdir()) == []


def test_what_was_taught_comes_along_into_another_embedding_space(
    device: Device, tiny_model: Model, tmp_path: Path
) -> None:
    learn(device, NEW, PHOTOS)
    other = replace(tiny_model, space="00112233445566aa")
    folder = ReleaseMaker(other).write(tmp_path / "other", PACKS, [photograph(pack(SKUS[0]))])
    install_release(device.settings.data, folder, version=2)
    while (answer := device.see(ASKED)).release == 1:
        assert answer.candidates[0].product.sku == "new", "the old pair knows it until the new one does"
    assert (answer.release, answer.candidates[0].product.sku) == (2, "new")
    assert device.matcher().stack.space == "00112233445566aa"


def test_many_photos_in_another_space_come_along_while_answers_go_on(
    device: Device, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn(device, NEW, PHOTOS)
    monkeypatch.setattr("devices.execution.Running.take_local.__defaults__", (1,))
    monkeypatch.setattr("devices.execution.AT_ONCE", 1)
    other = replace(tiny_model, space="00112233445566aa")
    install_release(device.settings.data, ReleaseMaker(other).write(tmp_path / "other", PACKS), version=2)
    fresh = Device(device.settings)
    known = [len(fresh.matcher().stack.rows_of("new")) for _ in range(5)]
    assert known == sorted(known)
    assert known[0] < known[-1] == 3


def test_a_trial_is_of_the_release_alone(device: Device) -> None:
    learn(device, NEW, PHOTOS)
    alone = Execution(device.settings).open(device.installation.current())
    assert len(alone.matcher.stack.rows_of("new")) == 0
    alone.close()


def test_what_is_taught_while_the_next_release_is_opened_is_known_there_too(
    device: Device, tiny_model: Model, tmp_path: Path
) -> None:
    assert best(device)[1] != "new"
    with_more = ReleaseMaker(tiny_model).write(tmp_path / "two", {**PACKS, "more": draw_pack(90)})
    install_release(device.settings.data, with_more, version=2)
    device._live.open_next()
    learn(device, NEW, PHOTOS)
    while (answer := device.see(ASKED)).release == 1:
        assert answer.candidates[0].product.sku == "new"
    assert answer.candidates[0].product.sku == "new"


def test_golden_photos_are_answered_without_what_was_taught(device: Device, release_folder: Path) -> None:
    twin = [(f"{seed}.jpg", photograph(pack(SKUS[0]), seed=seed)) for seed in range(8)]
    learn(device, NEW, twin, anyway=True)
    assert Device(device.settings).see(ASKED).release == 1, "the release is not condemned for it"


def test_files_that_have_rotted_keep_nobody_from_an_answer(device: Device) -> None:
    learn(device, NEW, PHOTOS)
    folder = device.settings.data / "local"
    for path in folder.iterdir():
        if path.is_file() and path.name != "products.json":
            path.write_bytes(b"rot")
    assert best(Device(device.settings)) == ("match", "new"), "the vectors are made again from the photos"
    photo, *others = LocalProducts(device.settings.data).all()[0].photos
    (folder / "photos" / f"{photo}.jpg").write_bytes(b"rot")
    for path in folder.iterdir():
        if path.is_file() and path.name != "products.json":
            path.write_bytes(b"rot")
    assert best(Device(device.settings)) == ("match", "new"), "the other photos stand for it"
    assert LocalProducts(device.settings.data).all()[0].photos == tuple(others)
    (folder / "products.json").write_bytes(b"{")
    assert best(Device(device.settings), photograph(pack(SKUS[2])))[1] == SKUS[2]


CHILD = """
import sys
from pathlib import Path
from devices.config import Settings
from devices.device import Device
from devices.learning import learn
from edge.products import Product
device = Device(Settings(data=Path(sys.argv[1])), tells=False)
photos = [(path.name, path.read_bytes()) for path in sorted(Path(sys.argv[2]).iterdir())]
device.matcher()
print("ready", flush=True)
for number in range(40):
    learn(device, Product(f"{sys.argv[3]}-{number}"), [photos[number % len(photos)]], anyway=True)
"""


def test_killed_at_any_moment_it_keeps_whole_products_and_two_programs_lose_none(
    data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "taken"
    folder.mkdir()
    for seed in range(40):
        (folder / f"{seed:02}.jpg").write_bytes(photograph(draw_pack(200 + seed), seed=seed))
    command = [sys.executable, "-c", CHILD, str(data), str(folder)]
    processes = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for name in ("one", "two")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    local = LocalProducts(data)
    while len(local.all()) < 7:
        time.sleep(0.005)
    processes[0].send_signal(signal.SIGKILL)
    for process in processes:
        process.wait(timeout=60)
        assert process.stdout is not None
        process.stdout.close()
    taught = [each.product.sku for each in local.all()]
    assert {sku for sku in taught if sku.startswith("two")} == {f"two-{number}" for number in range(40)}
    ones = [sku for sku in taught if sku.startswith("one")]
    assert ones == [f"one-{number}" for number in range(len(ones))]
    for each in local.all():
        assert all(local.photo(photo) for photo in each.photos)
    stack = Device(Settings(data=data)).matcher().stack
    assert all(len(stack.rows_of(sku)) == 1 for sku in taught)


def test_the_command_says_what_it_did_and_what_speaks_against_it(
    shelfsight: Shelfsight, data: Path, tmp_path: Path
) -> None:
    for number, (name, photo) in enumerate([*PHOTOS, ("twin.jpg", photograph(pack(SKUS[1]), seed=5))]):
        (tmp_path / name).write_bytes(photo)
        assert number < 4
    taught = [tmp_path / name for name, _ in PHOTOS]
    added = shelfsight("--data", data, "add", "new", *taught, "--title", "New", "--gtin", "4006381333931")
    assert (added.exit_code, added.stdout.partition(" (")[0]) == (0, "new is known here from 3 photos")
    shown = shelfsight("status", "--data", data)
    assert "new (proposed, 3 photos)" in shown.stdout
    out = tmp_path / "alike.png"
    refused = shelfsight("add", "twin", tmp_path / "twin.jpg", "--explain", out, "--json", "--data", data)
    assert refused.exit_code == 1
    record = json.loads(refused.stdout)
    assert (record["added"], record["concerns"][0]["sku"]) == (False, SKUS[1])
    assert out.read_bytes().startswith(b"\x89PNG")
    said = shelfsight("add", "twin", tmp_path / "twin.jpg", "--data", data)
    assert "would be answered as bean soup" in said.stderr
    assert "--anyway" in said.stderr
    kept = shelfsight("add", "twin", tmp_path / "twin.jpg", "--data", data, "--anyway", "--keep")
    assert "kept on this device" in kept.stdout
    assert shelfsight("add", "x", tmp_path / "no.jpg", "--data", data).exit_code == 1
    assert shelfsight("add", "x", "--data", data).exit_code == 2
    assert shelfsight("add", "x", *taught, "--explain", "o.jpg", "--data", data).exit_code == 2
    bad = shelfsight("add", "x", *taught, "--gtin", "4006381333930", "--data", data)
    assert (bad.exit_code, "check digit" in bad.stderr) == (1, True)
    gone = shelfsight("forget", "new", "--data", data)
    assert gone.stdout == "forgot new and 3 photos of it\n"
    assert shelfsight("forget", "new", "--data", data).exit_code == 1


def test_photos_stay_here_where_the_settings_say_so(device: Device) -> None:
    private = Device(replace(device.settings, propose=False))
    assert learn(private, NEW, PHOTOS).state == "kept"
    assert [event for event in events_of(device.settings.data) if event.kind == "proposed"] == []
    told = {"SHELFSIGHT_PROPOSE": "false"}
    assert load_settings(device.settings.data, environment=told).propose is False
    with pytest.raises(BadSetting, match="true or false"):
        load_settings(device.settings.data, environment={"SHELFSIGHT_PROPOSE": "perhaps"})


def test_the_staff_page_answers_its_own_machine_and_its_own_page_alone(device: Device) -> None:
    page = create_app(Station(device, None), device.settings).test_client()
    far = {"environ_base": {"REMOTE_ADDR": "192.168.1.20"}}
    assert page.get("/staff").status_code == 200
    assert page.get("/staff", **far).status_code == 403
    assert page.get("/staff", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 403
    assert page.get("/", **far).status_code == 200, "the shopper's page is as it was"
    taken = page.post("/staff/photos", data=PHOTOS[0][1])
    assert taken.json is not None
    body = {"sku": "new", "photos": [taken.json["id"]]}
    foreign = page.post("/staff/products", json=body, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert page.post("/staff/products", json=body, **far).status_code == 403
    assert page.post("/staff/products", json={"sku": "", "photos": []}).status_code == 422
    assert page.post("/staff/products", json=[]).status_code == 422
    gone = page.post("/staff/products", json={"sku": "new", "photos": ["0" * 64]})
    assert (gone.status_code, "take it again" in gone.text) == (422, True)
    assert page.get(f"/staff/kept/{taken.json['id']}.jpg").status_code == 404
    assert page.post("/staff/products", json=body).json["added"] is True
    assert page.get(f"/staff/kept/{taken.json['id']}.jpg").status_code == 200
    assert page.post("/staff/try", data=ASKED).json["sku"] == "new"
    assert [event.kind for event in events_of(device.settings.data)] == ["proposed"]
