"""Planograms, the rule from a look to a state, and the hold-off before a state is told."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.embedder import Embedding
from edge.errors import BadSetting
from edge.matcher import Answer, Candidate, Timings
from edge.planogram import Observation, Planogram, Slot, SlotState, SlotWatch, observe
from edge.products import Product

TEA = Slot("shelf-1-left", "tea", (0.0, 0.1, 0.25, 0.9))
PLANOGRAM = Planogram("drinks", (TEA, Slot("shelf-1-right", "milk", (0.25, 0.1, 0.5, 0.9))))
EMPTY_PLACE = np.array([0, 0, 1], dtype=np.float32)


def answer(
    verdict: str,
    *skus: str,
    similarity: float = 0.8,
    vector: NDArray[np.float32] | None = None,
    reason: str = "clear",
) -> Answer:
    """An answer as a matcher gives it, each candidate a little less similar than the one before."""
    candidates = tuple(
        Candidate(Product(sku), similarity=similarity - 0.01 * place, confidence=0.5)
        for place, sku in enumerate(skus)
    )
    embedding = None if vector is None else Embedding(vector, np.zeros((1, 1, 3), np.float32))
    return Answer(verdict, candidates, 1, reason, Timings(0, 0, 0, 0), embedding)


# --- the rule ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "bare", "state"),
    [
        (answer("match", "tea", "milk"), False, "ok"),
        (answer("unsure", "tea", "milk"), False, "ok"),
        (answer("match", "tea"), True, "ok"),
        (answer("match", "milk", "tea"), False, "misplaced"),
        (answer("match", "milk", "tea"), True, "misplaced"),
        (answer("unsure", "milk", "tea"), False, "unknown"),
        (answer("unsure", "milk", "tea"), True, "unknown"),
        (answer("unknown", "milk"), True, "empty"),
        (answer("unknown", "tea"), True, "empty"),
        (answer("unknown"), True, "empty"),
        (answer("unknown", "milk"), False, "unknown"),
        (answer("unknown", "tea"), False, "unknown"),
        (answer("unknown"), False, "unknown"),
        (answer("unsure", "tea", reason="nothing_in_view"), True, "empty"),
        (answer("unsure", "tea", reason="nothing_in_view"), False, "unknown"),
        (answer("unsure", "tea", reason="too_far"), True, "empty"),
        (answer("unsure", "tea", reason="too_far"), False, "unknown"),
        (answer("unsure", "tea", reason="blurred"), False, "ok"),
        (answer("unsure", "milk", reason="blurred"), True, "unknown"),
        (answer("unsure", "tea", reason="too_dark"), False, "unknown"),
        (answer("unsure", "tea", reason="too_bright"), False, "unknown"),
    ],
)
def test_a_look_becomes_a_state(seen: Answer, bare: bool, state: str) -> None:
    assert observe(TEA, seen, bare=bare).state == state


@pytest.mark.parametrize(
    ("to_empty", "similarity", "state"),
    [
        (0.95, 0.5, "empty"),  # the empty place again
        (0.95, 0.97, "ok"),  # the product before the same wall
        (0.55, 0.5, "ok"),  # like neither: the answer decides
    ],
)
def test_a_picture_of_the_empty_place_competes_with_the_products(
    to_empty: float, similarity: float, state: str
) -> None:
    vector = np.array([0, np.sqrt(1 - to_empty**2), to_empty], dtype=np.float32)
    seen = answer("unsure", "tea", similarity=similarity, vector=vector)
    assert observe(TEA, seen, bare=False, empty=EMPTY_PLACE).state == state


def test_darkness_is_not_the_empty_place() -> None:
    seen = answer("unsure", "tea", similarity=0.1, vector=EMPTY_PLACE, reason="too_dark")
    assert observe(TEA, seen, bare=False, empty=EMPTY_PLACE).state is SlotState.UNKNOWN


def test_an_answer_without_an_embedding_is_judged_without_the_empty_place() -> None:
    assert observe(TEA, answer("unknown"), bare=False, empty=EMPTY_PLACE).state is SlotState.UNKNOWN


def test_a_misplaced_product_is_named() -> None:
    seen = observe(TEA, answer("match", "milk"), bare=False)
    assert (seen.sku, seen.similarity) == ("milk", 0.8)


answers = st.builds(
    lambda verdict, skus, similarity, vector, reason: answer(
        verdict, *skus, similarity=similarity, vector=vector, reason=reason
    ),
    st.sampled_from(["match", "unsure", "unknown"]),
    st.lists(st.sampled_from(["tea", "milk", "soap"]), max_size=3, unique=True),
    st.floats(-1, 1),
    st.sampled_from([None, EMPTY_PLACE, -EMPTY_PLACE, np.array([0.6, 0, 0.8], dtype=np.float32)]),
    st.sampled_from(["clear", "low_similarity", "nothing_in_view", "too_dark"]),
)


@given(answers, st.booleans(), st.sampled_from([None, EMPTY_PLACE]))
def test_no_state_is_told_without_its_evidence(
    seen: Answer, bare: bool, empty: NDArray[np.float32] | None
) -> None:
    observation = observe(TEA, seen, bare=bare, empty=empty)
    best = seen.candidates[0].product.sku if seen.candidates else None
    match observation.state:
        case SlotState.OK:
            assert best == observation.sku == TEA.sku
            assert seen.verdict != "unknown"
            assert seen.reason not in ("nothing_in_view", "too_dark")
        case SlotState.MISPLACED:
            assert best == observation.sku != TEA.sku
            assert seen.verdict == "match"
        case SlotState.EMPTY:
            assert observation.sku is None
            assert bare or (empty is not None and seen.embedding is not None)
        case SlotState.UNKNOWN:
            assert observation.sku is None


# --- the watch ---------------------------------------------------------------------------------------------

states = st.sampled_from(list(SlotState))


def looked(state: SlotState) -> Observation:
    return Observation(state, None, 0.5)


def told(looks: list[SlotState], hold: int) -> list[tuple[int, SlotState]]:
    """Feed looks of one slot to a watch: which look told what."""
    watch = SlotWatch(PLANOGRAM, hold)
    changes = [(place, watch.see(TEA.id, looked(state))) for place, state in enumerate(looks)]
    return [(place, change.after) for place, change in changes if change is not None]


def test_a_state_is_told_once_when_it_has_held() -> None:
    ok, empty = SlotState.OK, SlotState.EMPTY
    assert told([ok, ok, ok, ok, empty, ok, empty, empty, empty, empty, ok, ok, ok], 3) == [
        (2, ok),
        (8, empty),
        (12, ok),
    ]


def test_a_change_says_where_it_comes_from() -> None:
    watch = SlotWatch(PLANOGRAM, 1)
    first = watch.see(TEA.id, looked(SlotState.OK))
    second = watch.see(TEA.id, Observation(SlotState.MISPLACED, "milk", 0.9))
    assert first is not None
    assert second is not None
    assert first.to_record()["before"] is None
    assert json.loads(json.dumps(second.to_record())) == {
        "planogram": "drinks",
        "slot": "shelf-1-left",
        "sku": "tea",
        "before": "ok",
        "state": "misplaced",
        "seen": "milk",
    }
    assert watch.told == {TEA.id: SlotState.MISPLACED}


@given(st.lists(states, max_size=40), st.integers(1, 5))
def test_only_what_held_is_told_and_never_twice_in_a_row(looks: list[SlotState], hold: int) -> None:
    changes = told(looks, hold)
    for place, state in changes:
        assert looks[place - hold + 1 : place + 1] == [state] * hold
    assert all(before != after for (_, before), (_, after) in pairwise(changes))


@given(st.lists(states, max_size=40), st.integers(1, 5))
def test_a_state_that_holds_is_always_told(looks: list[SlotState], hold: int) -> None:
    changes = dict(told(looks, hold))
    current = None
    for place in range(len(looks)):
        current = changes.get(place, current)
        if place + 1 >= hold and len(set(looks[place + 1 - hold : place + 1])) == 1:
            assert current == looks[place]


@given(st.lists(states, min_size=2, max_size=40), st.integers(2, 5))
def test_flapping_is_never_told(looks: list[SlotState], hold: int) -> None:
    flapping = [looks[0], *(b for a, b in pairwise(looks) if a != b)]
    assert told(flapping, hold) == []


def test_slots_do_not_disturb_each_other() -> None:
    watch = SlotWatch(PLANOGRAM, 2)
    assert watch.see("shelf-1-left", looked(SlotState.EMPTY)) is None
    assert watch.see("shelf-1-right", looked(SlotState.OK)) is None
    change = watch.see("shelf-1-left", looked(SlotState.EMPTY))
    assert change is not None
    assert change.slot == TEA


def test_a_restart_tells_nothing_twice() -> None:
    watch = SlotWatch(PLANOGRAM, 1, told={TEA.id: SlotState.EMPTY, "a slot of last year": SlotState.OK})
    assert watch.see(TEA.id, looked(SlotState.EMPTY)) is None
    assert watch.told == {TEA.id: SlotState.EMPTY}


def test_a_slot_that_is_not_in_the_planogram_is_refused() -> None:
    with pytest.raises(BadSetting, match="no slot 'shelf-9'"):
        SlotWatch(PLANOGRAM).see("shelf-9", looked(SlotState.OK))


def test_a_hold_of_nothing_is_refused() -> None:
    with pytest.raises(BadSetting, match="hold of 0"):
        SlotWatch(PLANOGRAM, 0)


# --- the file ----------------------------------------------------------------------------------------------


def test_a_planogram_survives_its_file() -> None:
    assert Planogram.from_bytes(PLANOGRAM.to_bytes()) == PLANOGRAM


def test_fields_of_a_later_version_are_passed_over() -> None:
    record = json.loads(PLANOGRAM.to_bytes())
    record["camera"] = "aisle 3"
    record["slots"][0]["facings"] = 4
    assert Planogram.from_bytes(json.dumps(record).encode()) == PLANOGRAM


SLOT = {"id": "a", "sku": "tea", "box": [0, 0, 1, 1]}


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"format": 2, "name": "n", "slots": [SLOT]}, "format 2"),
        ({"name": "n", "slots": [SLOT]}, "no field 'format'"),
        ({"format": 1, "name": "", "slots": [SLOT]}, "name"),
        ({"format": 1, "name": "n", "slots": []}, "needs slots"),
        ({"format": 1, "name": "n", "slots": [SLOT, SLOT]}, "an id of its own"),
        ({"format": 1, "name": "n", "slots": [{**SLOT, "sku": ""}]}, "sku"),
        ({"format": 1, "name": "n", "slots": [{**SLOT, "box": [0, 0, 1]}]}, "four numbers"),
        ({"format": 1, "name": "n", "slots": [{**SLOT, "box": [0, 0, 1, True]}]}, "four numbers"),
        ({"format": 1, "name": "n", "slots": [{**SLOT, "box": [0, 0, 1, "1"]}]}, "four numbers"),
        ({"format": 1, "name": "n", "slots": [{**SLOT, "box": [0, 0, 1, 2]}]}, "fractions of the frame"),
        ({"format": 1, "name": "n", "slots": ["a"]}, "must be an object"),
        ([], "must be an object"),
    ],
)
def test_a_planogram_that_cannot_be_is_refused_with_the_reason(record: object, why: str) -> None:
    with pytest.raises(BadSetting, match=why):
        Planogram.from_bytes(json.dumps(record).encode())


@given(st.binary(max_size=60))
def test_bytes_that_are_no_planogram_are_refused(data: bytes) -> None:
    with pytest.raises(BadSetting):
        Planogram.from_bytes(data)
