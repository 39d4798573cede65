"""The road of a release in stages: real server, real devices, real releases."""

import time
from pathlib import Path

import pytest

from cloud.conductor import Conducting
from cloud.publishing import publish
from cloud.rollout_rules import Plan, Rule
from cloud.rollouts import Rollouts, in_share
from cloud.workspace import Workspace
from devices.config import Settings
from devices.device import Device
from devices.enrollment import enroll
from edge.model import Model
from tests.devices.conftest import SKUS, answered_by, events_of, pack
from tests.edge.drawn_release import draw_pack, photograph
from tests.journeys.test_device_sync import add, new_code, url, workspace

__all__ = ["url", "workspace"]  # fixtures

PHOTO = photograph(pack(SKUS[0]), seed=5)


@pytest.fixture
def devices(workspace: Workspace, url: str, tmp_path: Path) -> tuple[Device, Device]:
    """Give two devices on release 1: one in the first half of release 2's share, one outside of it."""
    found: dict[bool, Device] = {}
    while len(found) < 2:
        settings = Settings(data=tmp_path / f"device-{len(list(tmp_path.iterdir()))}")
        enroll(settings, url, new_code(workspace))
        device = Device(settings)
        found.setdefault(in_share(2, device.device_id() or "", 50), device)
    for device in found.values():
        assert device.sync().installed == 1
    return found[True], found[False]


def next_step(conducting: Conducting, device: Device) -> str:
    """Let a device come by until the rollout is moved on; who runs what is noted once a second."""
    deadline = time.monotonic() + 20
    while not (steps := conducting.once()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
        device.sync()
    return steps[0].decision.action


def test_a_release_is_in_shadow_first_and_then_speaks_without_another_download(
    devices: tuple[Device, Device], workspace: Workspace, tiny_model: Model
) -> None:
    inside, outside = devices
    sessions = workspace.sessions()
    add(workspace, "egg noodles", photograph(draw_pack(40)))
    rule = Rule(min_devices=1, min_seconds=0.0)
    publish(workspace, tiny_model, plan=Plan.parse("50,100", shadow=True, rule=rule))

    report = inside.sync()
    assert (report.offered, report.shadow, report.installed) == (2, True, None)
    assert inside.installation.proven_version() == 2
    assert outside.sync().offered == 1
    assert inside.see(PHOTO).release == 1, "nobody sees it"
    deadline = time.monotonic() + 20
    while inside._shadow._photos.qsize() or inside._shadow._thread is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    inside.close_shadow()
    assert [event.kind for event in events_of(inside.settings.data)] == ["shadowed"]
    inside.sync()

    conducting, rollouts = Conducting(sessions), Rollouts(sessions)
    conducting.once()
    rollout = rollouts.get(2)
    assert rollout is not None
    assert (
        rollout.says
        == "in shadow it gave the same product in 100.0% of 1 answers; `rollout resume` lets it speak"
    )

    rollouts.resume(2)
    spoken = inside.sync()
    assert (spoken.installed, spoken.files, spoken.current) == (2, 0, 2)
    assert answered_by(inside, 2, PHOTO).release == 2
    assert outside.sync().current == 1

    assert next_step(conducting, inside) == "advance"
    assert outside.sync().installed == 2
    assert next_step(conducting, outside) == "finish"


def test_a_device_outside_of_the_share_cannot_get_the_release_by_asking(
    devices: tuple[Device, Device], workspace: Workspace, tiny_model: Model
) -> None:
    from devices.enrollment import read_enrollment
    from edge.errors import ServerUnreachable
    from edge.transport import Transport
    from edge.updater import Updater

    inside, outside = devices
    add(workspace, "egg noodles", photograph(draw_pack(40)))
    publish(workspace, tiny_model, percent=50)
    for device, gets_it in ((inside, True), (outside, False)):
        enrollment = read_enrollment(device.settings.data)
        with Transport(enrollment.url, token=enrollment.token) as transport:
            updater = Updater(device.installation, transport)
            if gets_it:
                assert updater.update(2).installed == 2
            else:
                with pytest.raises(ServerUnreachable, match="lacks the manifest of release 2"):
                    updater.update(2)
