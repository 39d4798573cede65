"""Which device is offered which release."""

import pytest

from cloud.offers import Offers
from cloud.releases import PublishedRelease, Releases
from cloud.rollout_rules import Plan
from cloud.rollouts import Rollouts, in_share
from cloud.times import now
from cloud.workspace import Workspace
from edge.errors import BadSetting, NoRelease

DEVICES = [f"d-{number:012x}" for number in range(2000)]


@pytest.fixture
def rollouts(workspace: Workspace) -> Rollouts:
    sessions = workspace.sessions()
    for version in (1, 2, 3):
        Releases(sessions).record(
            PublishedRelease(version, now(), "0" * 64, "tiny", "0" * 16, 6, 18, 4, 5000, 400)
        )
    return Rollouts(sessions)


@pytest.fixture
def offers(workspace: Workspace) -> Offers:
    return Offers(workspace.sessions())


def offered(offers: Offers, device: str, current: int | None) -> int | None:
    return offers.offer(device, None, current).version


def test_nothing_is_offered_before_a_rollout(rollouts: Rollouts, offers: Offers) -> None:
    assert offered(offers, "d-1", None) is None


def test_a_full_rollout_reaches_every_device(rollouts: Rollouts, offers: Offers) -> None:
    rollouts.start(1, 100)
    assert all(offered(offers, device, None) == 1 for device in DEVICES[:50])
    assert offered(offers, "d-1", 1) == 1


def test_a_rollout_of_no_percent_reaches_none(rollouts: Rollouts, offers: Offers) -> None:
    rollouts.start(1, 0)
    assert all(offered(offers, device, None) is None for device in DEVICES[:50])


def test_a_staged_rollout_reaches_its_share_and_leaves_the_rest_on_the_release_before(
    rollouts: Rollouts, offers: Offers
) -> None:
    rollouts.start(1, 100)
    rollouts.start(2, 20)
    reached = [device for device in DEVICES[:500] if offered(offers, device, 1) == 2]
    assert 60 < len(reached) < 140  # of 500
    assert all(offered(offers, device, 1) in (1, 2) for device in DEVICES[:50])


def test_widening_a_rollout_keeps_the_devices_that_were_reached() -> None:
    for narrow, wide in ((1, 5), (5, 50), (50, 99.9), (99.9, 100)):
        first = {device for device in DEVICES if in_share(7, device, narrow)}
        assert first <= {device for device in DEVICES if in_share(7, device, wide)}


def test_another_release_starts_with_other_devices() -> None:
    first = {device for device in DEVICES if in_share(7, device, 10)}
    second = {device for device in DEVICES if in_share(8, device, 10)}
    assert len(first & second) < len(first) / 2


def test_a_device_is_never_offered_an_older_release(rollouts: Rollouts, offers: Offers) -> None:
    rollouts.start(1, 100)
    assert offered(offers, "d-1", 2) is None


def test_a_paused_rollout_reaches_no_further_device_until_it_is_resumed(
    rollouts: Rollouts, offers: Offers
) -> None:
    rollouts.start(1, 100)
    rollouts.start(2, 100)
    assert rollouts.pause().version == 2
    assert offered(offers, "d-1", 1) == 1
    assert offered(offers, "d-2", 2) is None
    rollouts.resume(2)
    assert offered(offers, "d-1", 1) == 2


def test_an_aborted_rollout_is_over_for_good(rollouts: Rollouts, offers: Offers) -> None:
    rollouts.start(1, 100)
    rollouts.start(2, 100)
    rollouts.abort(2)
    assert offered(offers, "d-1", 1) == 1
    assert offered(offers, "d-1", 2) is None
    with pytest.raises(BadSetting, match="aborted for good"):
        rollouts.resume(2)
    with pytest.raises(BadSetting, match="aborted for good"):
        rollouts.start(2, 100)
    assert [rollout.state for rollout in rollouts.newest()] == ["aborted", "active"]


def test_a_release_that_was_never_published_cannot_be_offered(rollouts: Rollouts) -> None:
    with pytest.raises(NoRelease, match="release 9 was never published"):
        rollouts.start(9, 100)
    with pytest.raises(NoRelease, match="no release was ever offered"):
        rollouts.pause()


@pytest.mark.parametrize("percent", [-1, 101, float("nan")])
def test_a_share_is_a_percentage(rollouts: Rollouts, percent: float) -> None:
    with pytest.raises(BadSetting, match="is not a percentage"):
        rollouts.start(1, percent)


def test_each_step_of_a_person_is_recorded(rollouts: Rollouts) -> None:
    rollouts.start(2, plan=Plan.parse("5,100"))
    rollouts.pause()
    rollouts.resume()
    rollouts.abort()
    steps = rollouts.steps()
    assert [step.action for step in steps] == ["abort", "resume", "pause", "start"]
    assert {step.by for step in steps} == {"person"}
    assert steps[-1].reason == "in stages: 5 %, 100 %"


def test_resuming_lets_a_release_in_shadow_speak(rollouts: Rollouts) -> None:
    rollouts.start(2, plan=Plan.parse(percent=10, shadow=True))
    assert rollouts.pause().shadow
    assert rollouts.resume().shadow, "it was paused: it goes on as it was"
    assert not rollouts.resume().shadow


def test_a_canary_that_is_no_store_is_refused(rollouts: Rollouts) -> None:
    with pytest.raises(BadSetting, match="no store 'mitte'"):
        rollouts.start(2, plan=Plan.parse("canary,100", ["mitte"]))
    assert rollouts.get(2) is None
