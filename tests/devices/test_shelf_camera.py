"""The shelf camera: slots of a frame, states that hold, events told once."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from devices.camera import Frame
from devices.device import Device
from devices.shelf_camera.watch import ShelfWatch, read_planogram
from edge.errors import BadSetting
from edge.image import Picture, encode_jpeg
from edge.planogram import Planogram, Slot
from tests.devices.conftest import SKUS, Shelfsight, events_of, pack

PLANOGRAM = Planogram(
    "dairy", (Slot("left", SKUS[0], (0.0, 0.0, 0.5, 1.0)), Slot("right", SKUS[1], (0.5, 0.0, 1.0, 1.0)))
)
BOARD = np.full((64, 64, 3), (150, 120, 90), np.uint8)


def frame(*parts: Picture) -> Frame:
    return Frame(np.concatenate(parts, axis=1), datetime(2026, 11, 23, tzinfo=UTC), "shelf.jpg")


FULL = frame(pack(SKUS[0]), pack(SKUS[1]))


def test_a_state_is_told_once_and_only_when_it_holds(device: Device, data: Path) -> None:
    watch = ShelfWatch(device, PLANOGRAM, hold=2)
    assert watch.look(FULL).changes == ()
    told = watch.look(FULL)
    assert [(change.slot.id, change.after.value) for change in told.changes] == [
        ("left", "ok"),
        ("right", "ok"),
    ]
    assert watch.look(FULL).changes == ()
    assert [event.kind for event in events_of(data)] == ["slot_changed", "slot_changed"]


def test_a_wrong_product_is_misplaced_and_an_arm_is_not_told(device: Device, data: Path) -> None:
    watch = ShelfWatch(device, PLANOGRAM, hold=2)
    for seen in (FULL, FULL, frame(BOARD, BOARD), FULL):
        watch.look(seen)
    swapped = frame(pack(SKUS[0]), pack(SKUS[2]))
    watch.look(swapped)
    change = watch.look(swapped).changes[0]
    assert (change.slot.id, change.before, change.after, change.seen) == ("right", "ok", "misplaced", SKUS[2])
    assert events_of(data)[-1].data == {
        "planogram": "dairy",
        "slot": "right",
        "sku": SKUS[1],
        "before": "ok",
        "state": "misplaced",
        "seen": SKUS[2],
    }


def test_an_empty_place_is_known_from_a_picture_of_the_empty_shelf(device: Device) -> None:
    watch = ShelfWatch(device, PLANOGRAM, hold=1, empty=np.concatenate([BOARD, BOARD], axis=1))
    look = watch.look(frame(BOARD, pack(SKUS[1])))
    assert [(each.slot.id, each.observation.state.value) for each in look.slots] == [
        ("left", "empty"),
        ("right", "ok"),
    ]


def test_a_restart_tells_nothing_twice(device: Device, data: Path) -> None:
    ShelfWatch(device, PLANOGRAM, hold=1).look(FULL)
    again = ShelfWatch(device, PLANOGRAM, hold=1).look(FULL)
    assert again.changes == ()
    assert len(events_of(data)) == 2
    (data / "slots.json").write_text("[not what it was")
    assert len(ShelfWatch(device, PLANOGRAM, hold=1).look(FULL).changes) == 2, "a lost memory costs a telling"


def test_products_that_no_release_holds_are_named(device: Device) -> None:
    plan = Planogram("dairy", (Slot("left", "toaster", (0.0, 0.0, 0.5, 1.0)),))
    assert ShelfWatch(device, plan, hold=1).unknown_skus() == ["toaster"]


@pytest.mark.parametrize("written", ["", "{}", '{"format": 2, "name": "x", "slots": []}', "\udcff"])
def test_a_file_that_is_no_planogram_is_refused_by_its_name(written: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(written.encode(errors="surrogateescape"))
    with pytest.raises(BadSetting, match=r"plan\.json"):
        read_planogram(path)
    with pytest.raises(BadSetting, match="cannot be read"):
        read_planogram(tmp_path / "nowhere.json")


def test_the_command_looks_at_each_photo_of_a_folder(
    shelfsight: Shelfsight, data: Path, tmp_path: Path
) -> None:
    plan, shelf = tmp_path / "plan.json", tmp_path / "shelf"
    plan.write_bytes(PLANOGRAM.to_bytes())
    shelf.mkdir()
    for number in range(3):
        (shelf / f"{number}.jpg").write_bytes(encode_jpeg(FULL.picture))
    (shelf / "1.jpg").write_text("spoiled")
    options = ("--planogram", plan, "--frames", shelf, "--once", "--hold", 2, "--data", data)
    said = shelfsight("shelf-camera", *options, "--json")
    assert said.exit_code == 0
    looks = [json.loads(line) for line in said.stdout.splitlines()]
    assert [look["frame"] for look in looks] == ["0.jpg", "2.jpg"], "a spoiled photo is passed over"
    assert [change["slot"] for change in looks[1]["changes"]] == ["left", "right"]
    assert "error: " in said.stderr
    table = shelfsight("shelf-camera", *options).stdout
    assert "left" in table
    assert SKUS[0] in table
