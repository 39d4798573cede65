"""A device: what it sees, and how it leaves a release that does not work."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from devices.config import Settings
from devices.device import Device
from devices.status import device_status
from edge.errors import BadSetting, NoRelease, PhotoUnreadable, StepBack, TrialSlow
from edge.image import decode
from edge.installation import Installation
from edge.model import Model
from edge.release import Release
from tests.devices.conftest import SKUS, answered_by, events_of, install_release, pack, spoil
from tests.edge.drawn_release import photograph
from tests.edge.release_maker import Made, make_release, pack_photo


def test_a_device_answers_photos_and_pictures_alike(device: Device) -> None:
    photo = photograph(pack(SKUS[1]), seed=5)
    of_photo, of_picture = device.see(photo), device.see(decode(photo))
    assert of_photo.candidates[0].product.sku == of_picture.candidates[0].product.sku == SKUS[1]
    assert of_photo.release == 1
    assert len(device.see(photo, top=2).candidates) == 2


def test_many_pictures_at_once_are_answered_as_one_after_the_other(device: Device) -> None:
    pictures = [pack(sku) for sku in SKUS] * 3 + [photograph(pack(SKUS[0]))]
    for some in (pictures, pictures[:1], []):
        together, alone = device.see_all(some), [device.see(picture) for picture in some]
        assert [answer.candidates for answer in together] == [answer.candidates for answer in alone]
        assert [answer.verdict for answer in together] == [answer.verdict for answer in alone]


def test_one_bad_photo_among_many_is_said(device: Device) -> None:
    with pytest.raises(PhotoUnreadable):
        device.see_all([pack(SKUS[0]), b"no photo", pack(SKUS[1])])
    assert device.see(pack(SKUS[0])).candidates[0].product.sku == SKUS[0], "the device goes on"


def test_a_device_without_a_release_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoRelease, match="shelfsight sync"):
        Device(Settings(data=tmp_path / "nothing")).see(photograph(pack(SKUS[0])))
    assert not (tmp_path / "nothing").exists(), "looking changes nothing"


def test_a_new_release_answers_as_soon_as_it_is_open(
    device: Device, data: Path, release_folder: Path
) -> None:
    photo = photograph(pack(SKUS[0]))
    assert device.see(photo).release == 1
    install_release(data, release_folder, version=2)
    assert answered_by(device, 2, photo).candidates[0].product.sku == SKUS[0]


def test_a_spoiled_release_gives_way_to_the_last_good_one(data: Path, release_folder: Path) -> None:
    install_release(data, release_folder, version=2)
    spoil(data / "releases" / "2" / "index.ann")
    device = Device(Settings(data=data))
    assert device.see(photograph(pack(SKUS[0]))).release == 1
    told = [event for event in events_of(data) if event.kind == "rolled_back"]
    assert [(event.data["release"], event.data["to"], event.data["error"]) for event in told] == [
        (2, 1, "index_broken")
    ]


def test_with_no_release_to_go_back_to_the_reason_is_said(device: Device, data: Path) -> None:
    (data / "releases" / "1" / "index.json").write_text("{}")
    with pytest.raises(StepBack):
        device.see(photograph(pack(SKUS[0])))
    assert [event.kind for event in events_of(data)] == ["rolled_back"]


def test_a_mistyped_variant_is_the_settings_fault_and_not_the_releases(data: Path) -> None:
    settings = replace(Settings(data=data), variant="int9")
    with pytest.raises(BadSetting, match="int9"):
        Device(settings).see(photograph(pack(SKUS[0])))
    assert Device(Settings(data=data)).see(photograph(pack(SKUS[0]))).release == 1


@pytest.fixture
def made(several_model: Model) -> Made:
    """Give a release that has a file for a GPU beside that for the CPU."""
    network = several_model.path(several_model.variant("float16")).read_bytes()
    return make_release(several_model, 1, {"a": 1, "b": 2, "c": 3}, networks={"gpu": network})


@pytest.fixture
def on_cpu(made: Made, tmp_path: Path) -> Settings:
    """Give the settings of a device that took of that release what it runs on its CPU."""
    installation = Installation(tmp_path / "on-cpu")
    needed = made.release.needed_files(frozenset({"cpu"}))
    for entry in needed:
        (installation.staging(1) / entry.sha256).write_bytes(made.files[entry.sha256])
    installation.install(made.release, made.manifest, needed)
    installation.try_out(1, lambda _folder: None)
    return Settings(data=installation.folder)


def test_a_variant_whose_file_was_not_fetched_leaves_it_to_the_cpu_and_condemns_no_release(
    on_cpu: Settings,
) -> None:
    device = Device(replace(on_cpu, variant="gpu"))
    assert device.see(pack_photo(2, 5)).candidates[0].product.sku == "b"
    status = device_status(device)
    assert (status.variant, status.error) == ("int8", None)
    assert "variant gpu is not on this device: sync to fetch it" in str(status.why)
    assert device.installation.set_aside() == frozenset()


def test_a_file_that_comes_to_the_release_in_use_is_run_soon(on_cpu: Settings, made: Made) -> None:
    device = Device(replace(on_cpu, variant="gpu"))
    device.see(pack_photo(2, 5))
    assert device.matcher().variant.name == "int8"
    other = Installation(on_cpu.data)  # as if another program synced
    network = made.release.variants[1].sha256
    (other.staging(1) / network).write_bytes(made.files[network])
    other.complete(made.release, made.release.files)
    deadline = time.monotonic() + 20
    while device.matcher().variant.name != "gpu":
        assert device.see(pack_photo(2, 5)).candidates[0].product.sku == "b"
        assert time.monotonic() < deadline
    status = device_status(device)
    assert (status.variant, status.why) == ("gpu", None)


def test_an_event_is_kept_under_the_name_the_server_knows(device: Device, data: Path) -> None:
    (data / "device.json").write_text('{"url": "http://127.0.0.1:1", "device_id": "d-7", "token": "t"}')
    device.record("searched", {"verdict": "unknown"})
    assert device.waiting() == 1
    assert [(event.kind, event.device) for event in events_of(data)] == [("searched", "d-7")]


def test_a_release_whose_trial_was_cut_short_three_times_is_set_aside_and_told_at_the_next_start(
    device: Device, data: Path
) -> None:
    for count in (1, 2):
        (data / "tried").write_text(json.dumps({"release": 2, "count": count}))
        assert device.recover() is None
        assert events_of(data) == []
    (data / "tried").write_text(json.dumps({"release": 2, "count": 3}))
    assert device.recover() == 2
    assert device.installation.set_aside() == {2}
    assert device.see(photograph(pack(SKUS[0]))).release == 1
    told = [event for event in events_of(data) if event.kind == "rolled_back"]
    assert [(event.data["release"], event.data["to"], event.data["error"]) for event in told] == [
        (2, 1, "trial_crashed")
    ]
    assert device.recover() is None


def test_a_status_says_which_releases_were_refused_and_why_and_what_answers_in_the_shadow(
    device: Device, data: Path, release_folder: Path
) -> None:
    installation = Installation(data)
    for version in (2, 3):
        release = replace(Release.from_bytes((release_folder / "release.json").read_bytes()), version=version)
        for entry in release.files:
            (installation.staging(version) / entry.sha256).hardlink_to(release_folder / entry.sha256)
        installation.install(release, release.to_bytes())
    with pytest.raises(TrialSlow):
        installation.try_out(2, _find_slow)
    installation.prove(3, lambda _folder: None)
    status = device_status(device)
    assert (status.release, status.proven, status.set_aside) == (1, 3, (2,))
    assert list(status.refused) == ["2"]
    assert "too slow for this test" in status.refused["2"]


def _find_slow(_folder: Path) -> None:
    raise TrialSlow("too slow for this test")
