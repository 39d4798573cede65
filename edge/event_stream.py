"""Server-sent events as they arrive (WHATWG HTML, 9.2): told pieces of a body, gives events. No socket."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from edge.errors import Oversize

LONGEST_LINE = 8 * 1024
LONGEST_DATA = 64 * 1024
_END_OF_LINE = re.compile(rb"\r\n|\n|\r(?!$)")  # a CR that comes last may be half of a CRLF


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: its kind, `message` where it says none, and its data."""

    kind: str
    data: str


def read_events(pieces: Iterable[bytes]) -> Iterator[ServerEvent]:
    """Give the events of a stream whose body arrives in `pieces`; what means nothing here is passed over.

    Raises:
        Oversize: A line or the data of one event is longer than any that means something here.
    """
    kind, data, size = "", list[str](), 0
    for line in _lines(pieces):
        if not line:
            if data:
                yield ServerEvent(kind or "message", "\n".join(data))
            kind, data, size = "", [], 0
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data":
            size += len(value) + 1
            if size > LONGEST_DATA:
                raise Oversize(
                    f"a server sends an event of more than {LONGEST_DATA} letters: look at its log."
                )
            data.append(value)


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    held = b""
    for piece in pieces:
        *lines, held = _END_OF_LINE.split(held + piece)
        for line in lines:
            yield line.decode(errors="replace")
        if len(held) > LONGEST_LINE:
            raise Oversize(f"a server sends a line of more than {LONGEST_LINE} bytes: look at its log.")
