"""Looks at every slot of a planogram in a frame, and remembers what was told of each."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devices.camera import Frame
from devices.device import Device
from edge.disk import storage_error, write_atomically
from edge.errors import BadSetting
from edge.image import Picture
from edge.planogram import Observation, Planogram, Slot, SlotChange, SlotState, SlotWatch, observe
from edge.regions import crop, is_bare

SLOTS_FILE = "slots.json"


@dataclass(frozen=True, slots=True)
class SlotLook:
    """What one look saw in one slot, and the state that was told of it last, if any was."""

    slot: Slot
    observation: Observation
    told: SlotState | None


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the whole shelf: every slot, and the changes that held long enough to be told."""

    at: str
    frame: str
    slots: tuple[SlotLook, ...]
    changes: tuple[SlotChange, ...]

    def to_record(self) -> dict[str, object]:
        """Return the JSON object that `shelfsight shelf-camera --json` prints."""
        return {
            "at": self.at,
            "frame": self.frame,
            "slots": [
                {
                    "slot": look.slot.id,
                    "sku": look.slot.sku,
                    "seen": look.observation.sku,
                    "observed": look.observation.state.value,
                    "state": look.told.value if look.told else None,
                    "similarity": round(look.observation.similarity, 4),
                }
                for look in self.slots
            ],
            "changes": [change.to_record() for change in self.changes],
        }


class ShelfWatch:
    """Watches one shelf: each new state is written to the outbox once, and survives a restart.

    `hold` looks in a row must agree before a state is told. `empty` is a picture of the empty shelf from the
    same camera, when somebody has taken one.
    """

    def __init__(
        self, device: Device, planogram: Planogram, *, hold: int, empty: Picture | None = None
    ) -> None:
        """Open the release and recall what was told before.

        Raises:
            NoRelease, RuntimeMissing, StepBack: nothing can answer.
            PhotoTooSmall: a slot is too small a part of `empty`.
        """
        self._device = device
        self._planogram = planogram
        self._watch = SlotWatch(planogram, hold, told=_recall(device.settings.data, planogram))
        self._empty = (
            {slot.id: self._embed(crop(empty, slot.box)) for slot in planogram.slots}
            if (empty is not None)
            else {}
        )

    def unknown_skus(self) -> list[str]:
        """Name the products of the planogram that the release on this device does not hold."""
        known = self._device.matcher().stack.products
        return sorted({slot.sku for slot in self._planogram.slots} - known.keys())

    def look(self, frame: Frame) -> Look:
        """Look at every slot in `frame`, and write what changed to the outbox.

        Raises:
            PhotoTooSmall: a slot is too few pixels of the frame.
            NoRelease, RuntimeMissing, StepBack: nothing can answer.
            StorageUnusable, NoSpace: the outbox cannot be written.
        """
        looks: list[SlotLook] = []
        changes: list[SlotChange] = []
        parts = [crop(frame.picture, slot.box) for slot in self._planogram.slots]
        answers = self._device.see_all(parts)
        for slot, part, answer in zip(self._planogram.slots, parts, answers, strict=True):
            seen = observe(slot, answer, bare=is_bare(part), empty=self._empty.get(slot.id))
            change = self._watch.see(slot.id, seen)
            if change is not None:
                self._device.record("slot_changed", change.to_record())
                changes.append(change)
            looks.append(SlotLook(slot, seen, self._watch.told.get(slot.id)))
        if changes:
            _remember(self._device.settings.data, self._planogram, self._watch)
        at = frame.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return Look(at, frame.name, tuple(looks), tuple(changes))

    def _embed(self, picture: Picture) -> NDArray[np.float32]:
        embedding = self._device.see(picture).embedding
        assert embedding is not None, "a matcher always says what its network saw"
        return embedding.vector


def read_planogram(path: Path) -> Planogram:
    """Read the planogram in the file at `path`.

    Raises:
        BadSetting: the file is missing, unreadable, or no planogram.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or "no reason").lower()
        raise BadSetting(f"planogram {path} cannot be read ({reason}): check the path") from error
    try:
        return Planogram.from_bytes(data)
    except BadSetting as error:
        raise BadSetting(f"{path}: {error}") from error


def _recall(data: Path, planogram: Planogram) -> dict[str, SlotState]:
    """Recall what was told of this planogram's slots; what cannot be read was never told."""
    try:
        states = json.loads((data / SLOTS_FILE).read_bytes())[planogram.name]
        return {str(slot): SlotState(state) for slot, state in states.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise storage_error(error, data / SLOTS_FILE) from error
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _remember(data: Path, planogram: Planogram, watch: SlotWatch) -> None:
    states = {slot: state.value for slot, state in sorted(watch.told.items())}
    write_atomically(data / SLOTS_FILE, json.dumps({planogram.name: states}).encode())
