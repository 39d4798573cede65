"""What a device tells the cloud: one thing that happened, with an id that makes telling it twice harmless."""

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from edge.errors import SkipRecord
from edge.fields import Fields, canonical_json, parse_json

EVENT_FORMAT = 1
"""The newest `format` of an event that this Shelfsight reads, and the one it writes."""

KINDS = frozenset(
    {
        "searched",
        "confirmed",
        "corrected",
        "enrolled",
        "slot_changed",
        "proposed",
        "scanned",
        "installed",
        "repaired",
        "shadowed",
        "rolled_back",
        "fell_back",
        "failed",
    }
)
"""The kinds that this Shelfsight tells; a reader takes others too, since devices may be newer than it."""

MOST_BYTES = 64 * 1024
"""The longest event, as JSON."""

_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_KIND = re.compile(r"[a-z][a-z0-9_]{0,39}")
_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@dataclass(frozen=True, slots=True)
class Event:
    """Tell one thing that happened on a device.

    `id` is a UUIDv7, `at` the device's time (RFC 3339, UTC, milliseconds), `data` whatever belongs to this
    kind, `extra` the fields that this version does not know.
    """

    id: str
    at: str
    device: str
    kind: str
    data: Mapping[str, object]
    format: int = EVENT_FORMAT
    extra: Mapping[str, object] = field(default_factory=dict)

    def to_record(self) -> dict[str, object]:
        """Return the JSON object that travels and is kept."""
        return {
            **self.extra,
            "id": self.id,
            "at": self.at,
            "device": self.device,
            "kind": self.kind,
            "data": dict(self.data),
            "format": self.format,
        }

    def to_bytes(self) -> bytes:
        """Return the record as canonical JSON, at most `MOST_BYTES` long.

        Raises:
            SkipRecord: `data` cannot be written as JSON, or is too long.
        """
        try:
            data = canonical_json(self.to_record())
        except (TypeError, ValueError, RecursionError) as error:
            raise SkipRecord(f"event {self.kind} cannot be written as JSON: {error}.") from error
        if len(data) > MOST_BYTES:
            raise SkipRecord(
                f"event {self.kind} takes {len(data)} bytes: keep its data under {MOST_BYTES} bytes."
            )
        return data

    @classmethod
    def from_record(cls, record: object) -> "Event":
        """Read a JSON object that somebody else wrote, checking every field.

        Raises:
            SkipRecord: A field is missing or malformed, or the format is newer than this Shelfsight.
        """
        fields = Fields("event", record, SkipRecord)
        written_format = fields.integer("format", least=1)
        if written_format > EVENT_FORMAT:
            raise SkipRecord(
                f"an event has format {written_format}, and this Shelfsight reads formats up to "
                f"{EVENT_FORMAT}: update Shelfsight here."
            )
        event = cls(
            id=fields.matching("id", _UUID7, "a UUID of version 7"),
            at=fields.matching("at", _AT, "a time such as 2026-11-23T10:10:00.000Z"),
            device=fields.text("device"),
            kind=fields.matching("kind", _KIND, "a word of small letters"),
            data=fields.inner("data").rest(),
            format=written_format,
            extra=fields.rest(),
        )
        event.to_bytes()  # refuses what could not be kept
        return event

    @classmethod
    def from_bytes(cls, data: bytes) -> "Event":
        """Read what `to_bytes` wrote.

        Raises:
            SkipRecord: It is not an event.
        """
        return cls.from_record(parse_json(data, "event", SkipRecord))


def new_event(device: str, kind: str, data: Mapping[str, object]) -> Event:
    """Make an event that happens now.

    Raises:
        SkipRecord: The kind is not one of `KINDS`, or `data` cannot be written as JSON.
    """
    if kind not in KINDS:
        raise SkipRecord(f"{kind!r} is no kind of event: use one of {', '.join(sorted(KINDS))}.")
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = Event(id=uuid7(), at=at, device=device, kind=kind, data=dict(data))
    event.to_bytes()
    return event


def uuid7() -> str:
    """Make a UUID that sorts by time (RFC 9562, sections 5.7 and 6.2, method 3)."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000  # 12 bits of the millisecond
    value = (milliseconds & (2**48 - 1)) << 80 | 7 << 76 | fraction << 64 | 2 << 62 | secrets.randbits(62)
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
