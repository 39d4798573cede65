"""What should stand where on a shelf, what was seen there, and when that is worth telling.

A camera looks at each slot again and again. `observe` is the pure rule from one look to a state; `SlotWatch`
waits until the same state was seen several times in a row, so that a shopper's arm is not an empty shelf.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadSetting
from edge.fields import Fields, canonical_json, parse_json
from edge.regions import Box, check_box

if TYPE_CHECKING:
    from edge.matcher import Answer

PLANOGRAM_FORMAT = 1

# From here on a look may count as the empty place of the reference picture, provided that it is also nearer
# to that picture than to any product. Measured with the bundled model on 40 drawn places: the same empty
# place in half to one and a third of the light 0.53 to 0.96 (median 0.88), a pack in it at most 0.56, a photo
# of a real product at most 0.26.
EMPTY_SIMILARITY = 0.6


class SlotState(StrEnum):
    """What is known of a slot: its product stands there, nothing does, another one does, or cannot say."""

    OK = "ok"
    EMPTY = "empty"
    MISPLACED = "misplaced"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Slot:
    """A place on a shelf for one product: `box` is its part of the camera's frame, in fractions 0 to 1."""

    id: str
    sku: str
    box: Box


@dataclass(frozen=True, slots=True)
class Planogram:
    """The slots that one camera sees, each with an id of its own."""

    name: str
    slots: tuple[Slot, ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> "Planogram":
        """Read a planogram from JSON: `{"format": 1, "name", "slots": [{"id", "sku", "box": [l, t, r, b]}]}`.

        Fields of other names are passed over.

        Raises:
            BadSetting: Not such JSON, a newer format, a box outside the frame, an id twice, or no slot.
        """
        fields = Fields("the planogram", parse_json(data, "the planogram", BadSetting), BadSetting)
        version = fields.integer("format", least=1)
        if version > PLANOGRAM_FORMAT:
            raise BadSetting(
                f"the planogram has format {version}, and this Shelfsight reads format {PLANOGRAM_FORMAT}; "
                "update Shelfsight on this device"
            )
        planogram = cls(name=fields.text("name"), slots=fields.each("slots", _read_slot))
        ids = [slot.id for slot in planogram.slots]
        if not ids or len(set(ids)) != len(ids):
            raise BadSetting(
                f"planogram {planogram.name!r} needs slots, each with an id of its own; not {ids}"
            )
        return planogram

    def to_bytes(self) -> bytes:
        """Write the planogram as canonical JSON."""
        slots = [{"id": slot.id, "sku": slot.sku, "box": list(slot.box)} for slot in self.slots]
        return canonical_json({"format": PLANOGRAM_FORMAT, "name": self.name, "slots": slots})


@dataclass(frozen=True, slots=True)
class Observation:
    """What one look at a slot says; `sku` is the product that was recognized there, or None."""

    state: SlotState
    sku: str | None
    similarity: float


@dataclass(frozen=True, slots=True)
class SlotChange:
    """A slot's state that held long enough to be told; `before` is None when it is the first one told.

    `seen` is the sku that was recognized in the slot, or None.
    """

    planogram: str
    slot: Slot
    before: SlotState | None
    after: SlotState
    seen: str | None

    def to_record(self) -> dict[str, object]:
        """Return the data of a `slot_changed` event."""
        return {
            "planogram": self.planogram,
            "slot": self.slot.id,
            "sku": self.slot.sku,
            "before": None if self.before is None else self.before.value,
            "state": self.after.value,
            "seen": self.seen,
        }


def observe(
    slot: Slot, answer: "Answer", *, bare: bool, empty: NDArray[np.float32] | None = None
) -> Observation:
    """Judge one look at a slot by the answer to its crop.

    `bare` is `edge.regions.is_bare` of that crop; `empty` is the embedding, float32 (dimension,) of unit
    length, of the same crop while the place was empty, when somebody has taken such a picture. In order:

    - too dark or too bright to see anything: unknown, whatever the network makes of it;
    - nearer to the picture of the empty place than to any product, and similar enough to it: empty;
    - the slot's product is the best candidate of a match or of an unsure answer: ok, because a camera that
      expects a product needs less proof than one that does not;
    - another product matches: misplaced;
    - the crop is bare, and the answer is unknown or finds nothing, or next to nothing, in view: empty;
    - anything else (a hand, a product that is not in the catalog, a blurred picture): unknown.
    """
    # A price tag on a bare wall is too small a thing to be recognized, and no product.
    nothing_in_view = answer.reason in ("nothing_in_view", "too_far")
    # Where there is nothing to be seen, the nearest product is still the nearest, and says nothing.
    best = answer.candidates[0] if answer.candidates and not nothing_in_view else None
    similarity = best.similarity if best is not None else 0.0
    if answer.reason in ("too_dark", "too_bright"):
        return Observation(SlotState.UNKNOWN, None, similarity)
    to_empty = _similarity_to(empty, answer)
    if to_empty >= EMPTY_SIMILARITY and (best is None or to_empty > similarity):
        return Observation(SlotState.EMPTY, None, to_empty)
    if best is not None and answer.verdict in ("match", "unsure") and best.product.sku == slot.sku:
        return Observation(SlotState.OK, slot.sku, similarity)
    if best is not None and answer.verdict == "match":
        return Observation(SlotState.MISPLACED, best.product.sku, similarity)
    if bare and (answer.verdict == "unknown" or nothing_in_view):
        return Observation(SlotState.EMPTY, None, similarity)
    return Observation(SlotState.UNKNOWN, None, similarity)


class SlotWatch:
    """Remember what was told of each slot, and tell a new state only after `hold` equal looks in a row.

    `told` restores what an earlier watch had told, so that a restart of the camera tells nothing twice.

    Raises:
        BadSetting: A hold under 1.
    """

    def __init__(
        self, planogram: Planogram, hold: int = 3, *, told: Mapping[str, SlotState] | None = None
    ) -> None:
        if hold < 1:
            raise BadSetting(f"a hold of {hold} looks cannot be; set it to 1 or more")
        self._planogram = planogram.name
        self._slots = {slot.id: slot for slot in planogram.slots}
        self._hold = hold
        self._told = {slot: state for slot, state in (told or {}).items() if slot in self._slots}
        self._running: dict[str, tuple[SlotState, int]] = {}

    @property
    def told(self) -> Mapping[str, SlotState]:
        """The state last told of each slot, by its id; a slot of which nothing was told is missing."""
        return dict(self._told)

    def see(self, slot_id: str, observation: Observation) -> SlotChange | None:
        """Take one look at a slot into account; a change when a new state has now held long enough.

        Raises:
            BadSetting: A slot that is not in the planogram.
        """
        slot = self._slots.get(slot_id)
        if slot is None:
            raise BadSetting(f"the planogram has no slot {slot_id!r}; it has {sorted(self._slots)}")
        state, looks = self._running.get(slot_id, (observation.state, 0))
        looks = looks + 1 if state == observation.state else 1
        self._running[slot_id] = (observation.state, looks)
        before = self._told.get(slot_id)
        if looks < self._hold or observation.state == before:
            return None
        self._told[slot_id] = observation.state
        return SlotChange(self._planogram, slot, before, observation.state, observation.sku)


def _read_slot(fields: Fields) -> Slot:
    slot_id, sku, corners = fields.text("id"), fields.text("sku"), fields.items("box")
    if len(corners) != 4 or not all(type(corner) in (int, float) for corner in corners):
        raise fields.bad("box", corners, "four numbers: left, top, right, bottom")
    left, top, right, bottom = (float(cast(float, corner)) for corner in corners)
    return Slot(slot_id, sku, check_box((left, top, right, bottom)))


def _similarity_to(empty: NDArray[np.float32] | None, answer: "Answer") -> float:
    if empty is None or answer.embedding is None:
        return -1.0
    return float(np.dot(answer.embedding.vector, empty))
