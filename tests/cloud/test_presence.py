"""Who came by is written down for all at once."""

import pytest

from cloud.fleet import DeviceInfo, Fleet
from cloud.presence import Presence
from cloud.workspace import Workspace
from edge.errors import StorageUnusable

ON_BOTH = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def fleet(workspace: Workspace) -> Fleet:
    return Fleet(workspace.sessions())


def enroll(fleet: Fleet) -> str:
    return fleet.enroll(fleet.new_code("ABCDEFGHIJ"), DeviceInfo("Kiosk 1", "kiosk", "0.1.0"))[0]


def releases(fleet: Fleet) -> dict[str, int | None]:
    return {device.id: device.release for device in fleet.devices()}


@ON_BOTH
def test_who_came_by_is_written_down_together_and_the_last_word_counts(fleet: Fleet) -> None:
    first, second, gone = enroll(fleet), enroll(fleet), enroll(fleet)
    presence = Presence(fleet, every_s=3600)
    presence.start()
    for release in (1, 2):
        presence.seen(first, release, {"free_mb": release})
    presence.seen(second, 3, {})
    presence.seen(gone, 3, {})
    fleet.remove(gone)
    assert releases(fleet) == {first: None, second: None}
    presence.stop()
    assert releases(fleet) == {first: 2, second: 3}


def test_it_is_written_down_every_second(fleet: Fleet) -> None:
    device = enroll(fleet)
    presence = Presence(fleet, every_s=0.05)
    presence.start()
    presence.seen(device, 1, {})
    while releases(fleet)[device] is None:
        pass
    presence.stop()


def test_without_a_thread_it_is_written_at_once(fleet: Fleet) -> None:
    device = enroll(fleet)
    Presence(fleet).seen(device, 5, {})
    assert releases(fleet)[device] == 5


def test_what_the_database_refused_is_kept_for_the_next_time(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, other = enroll(fleet), enroll(fleet)
    presence = Presence(fleet)

    with monkeypatch.context() as patch:
        patch.setattr(Fleet, "saw", refuse_all)
        with pytest.raises(StorageUnusable):
            presence.seen(device, 5, {})
    presence.seen(other, 6, {})
    assert releases(fleet) == {device: 5, other: 6}


def refuse_all(_fleet: Fleet, _sighted: object) -> None:
    raise StorageUnusable("the database refused")
