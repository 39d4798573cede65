from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import Oversize
from edge.event_stream import LONGEST_DATA, LONGEST_LINE, ServerEvent, read_events

STREAM = (
    b': hello\r\n\r\nevent: release\r\ndata: {"version": 7}\r\n\r\n'
    b"data:one\ndata: two\nid: 5\nretry: 9\n\n"
    b"event: empty\n\n: sign of life\n\nevent:release\rdata\r\r\nevent: cut\ndata: short"
)
EVENTS = [
    ServerEvent("release", '{"version": 7}'),
    ServerEvent("message", "one\ntwo"),
    ServerEvent("release", ""),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20).map(sorted))
def test_events_are_the_same_however_the_stream_is_cut(cuts: list[int]) -> None:
    edges = [0, *cuts, len(STREAM)]
    pieces = [STREAM[begin:end] for begin, end in pairwise(edges)]
    assert list(read_events(pieces)) == EVENTS


def test_a_line_and_an_event_have_an_end() -> None:
    with pytest.raises(Oversize):
        list(read_events([b"data: x"] + [b"x" * 1000] * (LONGEST_LINE // 1000 + 1)))
    with pytest.raises(Oversize):
        list(read_events([b"data: " + b"x" * 4000 + b"\n"] * (LONGEST_DATA // 4000 + 1)))
