"""Take checked fields out of JSON that somebody else wrote, and write JSON that is equal for equal content.

Every manifest and record of Shelfsight keeps the fields that it does not know: read with `Fields`, what was
not taken is `rest()`, and goes back into the record that is written.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

from edge.errors import ShelfsightError

T = TypeVar("T")

_SHA256 = re.compile(r"[0-9a-f]{64}")


def canonical_json(record: Mapping[str, object]) -> bytes:
    """Write one JSON object with sorted keys, no spaces, UTF-8.

    Raises:
        ValueError: A value that JSON or UTF-8 cannot hold.
        TypeError: A value of a kind that JSON does not have.
    """
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def parse_json(data: bytes, what: str, refuse: type[ShelfsightError]) -> object:
    """Read JSON strictly: a field twice, NaN, an endless number, a lone surrogate are refused.

    Raises:
        ShelfsightError: of the kind `refuse`, naming `what`: these bytes could not be written again.
    """
    try:
        parsed: object = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        json.dumps(parsed, ensure_ascii=False).encode("utf-8")  # finds lone surrogates
    except (ValueError, RecursionError) as error:
        raise refuse(f"{what} is not JSON that can be read: {error}; write it again.") from error
    return parsed


class Fields:
    """Hand out the fields of one JSON object, each checked, and keep what was not asked for.

    `where` names the object in messages; every failure is raised as `refuse`.
    """

    def __init__(self, where: str, value: object, refuse: type[ShelfsightError]) -> None:
        self.where = where
        self._refuse = refuse
        if not isinstance(value, dict):
            raise refuse(f"{where} must be an object, not {_brief(value)}; write it again.")
        self._left: dict[str, object] = dict(value)

    def __contains__(self, name: str) -> bool:
        """Tell whether a field is there and was not taken yet."""
        return name in self._left

    def bad(self, name: str, value: object, wanted: str) -> ShelfsightError:
        """Return the refusal of a value, to be raised."""
        return self._refuse(f"{self.where}: {name} must be {wanted}, not {_brief(value)}; write it again.")

    def take(self, name: str) -> object:
        """Take a field of any kind."""
        if name not in self._left:
            raise self._refuse(f"{self.where} has no field {name!r}; write it again.")
        return self._left.pop(name)

    def integer(self, name: str, *, least: int = 0, most: int = 2**53) -> int:
        """Take a whole number from `least` to `most`."""
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.bad(name, value, f"a whole number from {least} to {most}")
        return value

    def number(self, name: str, *, least: float = -1e30, most: float = 1e30, above: float = -1e31) -> float:
        """Take a number from `least` to `most` that is greater than `above`."""
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.bad(name, value, "a number")
        if not least <= value <= most or value <= above:
            raise self.bad(name, value, f"a number from {max(least, above):g} to {most:g}")
        return float(value)

    def text(self, name: str) -> str:
        """Take a text that is not empty."""
        value = self.take(name)
        if not isinstance(value, str) or not value:
            raise self.bad(name, value, "a text that is not empty")
        return value

    def optional_text(self, name: str) -> str | None:
        """Take a text that is not empty, or null."""
        if name in self._left and self._left[name] is None:
            del self._left[name]
            return None
        return self.text(name)

    def one_of(self, name: str, choices: tuple[str, ...]) -> str:
        """Take one of the words in `choices`."""
        value = self.text(name)
        if value not in choices:
            raise self.bad(name, value, "one of " + ", ".join(choices))
        return value

    def matching(self, name: str, pattern: re.Pattern[str], wanted: str) -> str:
        """Take a text that matches `pattern` as a whole; `wanted` says so in words."""
        value = self.text(name)
        if not pattern.fullmatch(value):
            raise self.bad(name, value, wanted)
        return value

    def sha256(self, name: str) -> str:
        """Take a sha256 of 64 lower-case hex digits."""
        return self.matching(name, _SHA256, "a sha256 in hex")

    def timestamp(self, name: str) -> str:
        """Take an RFC 3339 date and time with a zone, as it is written."""
        value = self.text(name)
        try:
            zone = datetime.fromisoformat(value).tzinfo
        except ValueError:
            zone = None
        if zone is None:
            raise self.bad(name, value, "a date and time with a zone, such as 2026-11-23T10:10:00Z")
        return value

    def inner(self, name: str) -> "Fields":
        """Take an object inside this one."""
        return Fields(f"{self.where}: {name}", self.take(name), self._refuse)

    def items(self, name: str) -> list[object]:
        """Take a list of anything."""
        value = self.take(name)
        if not isinstance(value, list):
            raise self.bad(name, value, "a list")
        return value

    def each(self, name: str, read: Callable[["Fields"], T]) -> tuple[T, ...]:
        """Take a list of objects, each read by `read`."""
        items = self.items(name)
        return tuple(
            read(Fields(f"{self.where}: {name}[{i}]", item, self._refuse)) for i, item in enumerate(items)
        )

    def texts(self, name: str) -> tuple[str, ...]:
        """Take a list of texts, none empty."""
        taken: list[str] = []
        for item in self.items(name):
            if not isinstance(item, str) or not item:
                raise self.bad(f"{name}[{len(taken)}]", item, "a text that is not empty")
            taken.append(item)
        return tuple(taken)

    def sha256s(self, name: str) -> tuple[str, ...]:
        """Take a list of sha256, 64 lower-case hex digits each."""
        texts = self.texts(name)
        for i, text in enumerate(texts):
            if not _SHA256.fullmatch(text):
                raise self.bad(f"{name}[{i}]", text, "a sha256 in hex")
        return texts

    def rest(self) -> Mapping[str, object]:
        """Return the fields that were not taken: what this version does not know."""
        return self._left


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # Two readers that disagree on which of two equal keys counts would disagree on what was signed.
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a field appears twice")
    return record


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large a number")
    return value


def _brief(value: object) -> str:
    try:
        text = repr(value)
    except RecursionError:
        return "something nested too deep"
    return text if len(text) <= 60 else text[:57] + "..."
