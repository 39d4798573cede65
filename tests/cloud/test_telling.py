"""How events read on the console."""

from collections.abc import Mapping
from typing import Any

import pytest

from cloud.events import KeptEvent
from cloud.telling import size, told
from cloud.times import now
from edge.events import KINDS

FIELDS = ("verdict", "sku", "was", "candidates", "slot", "state", "release", "bytes", "seconds", "message")


def event(kind: str, data: Mapping[str, Any]) -> KeptEvent:
    return KeptEvent("id", "d-1", kind, now(), now(), data)


@pytest.mark.parametrize(
    ("kind", "data", "line"),
    [
        ("searched", {"verdict": "match", "sku": "tea", "candidates": [{"sku": "tea"}]}, "match: tea"),
        (
            "searched",
            {"verdict": "unsure", "sku": None, "candidates": [{"sku": "a"}, {"sku": "b"}]},
            "unsure: a, b",
        ),
        ("searched", {"verdict": "unknown", "candidates": [{"sku": "a"}]}, "unknown, nearest a"),
        ("searched", {"verdict": "unknown", "candidates": []}, "unknown"),
        ("confirmed", {"sku": "tea"}, "it is tea"),
        ("corrected", {"was": "tea", "sku": "salt", "candidates": ["tea", "salt"]}, "it is salt, not tea"),
        ("corrected", {"was": "tea", "sku": None, "candidates": ["tea", "salt"]}, "none of tea, salt"),
        ("enrolled", {"name": "Kiosk 1", "url": "http://x"}, "as Kiosk 1"),
        ("slot_changed", {"slot": "A1", "before": None, "state": "ok"}, "A1: first look → ok"),
        ("slot_changed", {"slot": "A1", "before": "ok", "state": "empty"}, "A1: ok → empty"),
        ("installed", {"release": 2, "bytes": 3498, "seconds": 0.812}, "release 2 · 3.5 kB · 0.8 s"),
        (
            "rolled_back",
            {"release": 2, "to": 1, "message": "spoiled"},
            "from release 2 to release 1 · spoiled",
        ),
        (
            "rolled_back",
            {"release": 2, "to": None, "message": "spoiled"},
            "from release 2 to no release · spoiled",
        ),
        (
            "fell_back",
            {"wanted": "edgetpu", "used": "xnnpack", "message": "no Edge TPU"},
            "xnnpack runs the network, not edgetpu · no Edge TPU",
        ),
        ("failed", {"release": 2, "error": "no_space", "message": "disk full"}, "release 2 · disk full"),
        ("failed", {"error": "no_space"}, "no_space"),
        ("scanned", {"sku": "tea", "answered": "tea", "agrees": True}, "it is tea, as answered"),
        ("scanned", {"sku": "tea", "answered": "salt", "agrees": False}, "it is tea, not salt"),
        ("scanned", {"sku": "tea", "answered": None, "agrees": False}, "it is tea, which was not answered"),
        (
            "shadowed",
            {"release": 3, "against": 2, "same_sku": 97, "answers": 100},
            "release 3 as release 2 in 97 of 100 answers",
        ),
        ("teleported", {"from_shop": 1, "to": "2", "list": [1], "flag": True}, "from shop 1 · to 2"),
    ],
)
def test_an_event_reads_as_a_line(kind: str, data: Mapping[str, Any], line: str) -> None:
    assert told(event(kind, data)) == line


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("data", [{}, {name: [{}] for name in FIELDS}])
def test_an_event_with_gaps_is_still_a_line(kind: str, data: Mapping[str, Any]) -> None:
    assert isinstance(told(event(kind, data)), str)


def test_a_line_has_an_end() -> None:
    assert len(told(event("failed", {"message": "x" * 5000}))) == 160


def test_sizes_read_as_people_write_them() -> None:
    assert [size(count) for count in (999, 3498, 1_048_576)] == ["999 B", "3.5 kB", "1.0 MB"]
