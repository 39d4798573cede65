import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ServerUnreachable
from edge.heartbeat import HeartbeatAnswer, Settled

ANSWERS = st.builds(
    HeartbeatAnswer,
    offered=st.none() | st.integers(1, 2**40),
    assortment=st.just("") | st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True),
    shadow=st.booleans(),
    next_poll_s=st.floats(1, 86_400),
    server_time=st.none() | st.just("2026-11-23T10:10:00Z"),
    hints=st.sampled_from([{}, {"sse": "/v1/devices/d/hints"}]),
    settled=st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.builds(
            Settled, st.sampled_from(["accepted", "merged", "refused"]), st.none() | st.integers(1, 2**40)
        ),
        max_size=3,
    ),
)


@given(ANSWERS)
def test_an_answer_survives_the_wire(answer: HeartbeatAnswer) -> None:
    assert HeartbeatAnswer.from_record(answer.to_record()) == answer


@pytest.mark.parametrize("record", [None, [], "ok", {}, {"offered_release": -1}, {"offered_release": True}])
def test_what_is_no_answer_is_refused(record: object) -> None:
    with pytest.raises(ServerUnreachable):
        HeartbeatAnswer.from_record(record)


@pytest.mark.parametrize("assortment", ["../x", "A", 7, "a/b", None])
def test_an_assortment_that_is_no_name_is_refused(assortment: object) -> None:
    with pytest.raises(ServerUnreachable, match="assortment"):
        HeartbeatAnswer.from_record({"offered_release": 1, "assortment": assortment})


@pytest.mark.parametrize(
    ("said", "kept"),
    [(5, 5.0), (0, 1.0), (1e9, 86_400.0), (math.nan, 60.0), (math.inf, 60.0), ("5", 60.0), (True, 60.0)],
)
def test_when_to_come_again_is_kept_within_bounds(said: object, kept: float) -> None:
    record = {"offered_release": None, "next_poll_s": said}
    assert HeartbeatAnswer.from_record(record).next_poll_s == kept


def test_what_became_of_proposals_is_read_where_it_can_be() -> None:
    settled = {"a": {"state": "accepted", "release": 3}, "b": {"state": "eaten"}, "c": 7}
    answer = HeartbeatAnswer.from_record({"offered_release": None, "settled": settled})
    assert answer.settled == {"a": Settled("accepted", 3)}
