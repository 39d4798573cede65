"""The signed metadata that a relay has seen: asked for again as it ages, and given when the server is away.

Nothing here is verified, and nothing has to be: the devices verify every byte by their own keys.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.disk import storage_error, write_atomically
from edge.errors import NoSpace, ServerUnreachable, ShelfsightError, StorageUnusable
from edge.transport import Exchanged

ABSENT_FRESH_S = 1.0
NUMBERED_FRESH_S = 60.0
"""A numbered file never changes; it is asked for again all the same, or a wrong one would stay for ever."""

AWAY_S = 2.0
"""After it did not answer, the server is left alone for so long: ten devices are not to wait one by one."""

MOST_FILES = 200
MOST_BYTES = 16 * 1024 * 1024

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    """What the server said of one name: the body, None for nothing there, its ETag, and when (monotonic)."""

    body: bytes | None
    etag: str | None
    at: float


class Metadata:
    """Keep metadata in `folder`; `ask(name, etag)` asks the server, conditionally where an ETag is known."""

    def __init__(self, folder: Path, ask: Callable[[str, str | None], Exchanged]) -> None:
        """Make the folder.

        Raises:
            StorageUnusable, NoSpace: The folder cannot be used.
        """
        self._folder = folder / "metadata"
        self._ask = ask
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, threading.Lock] = {}
        self._away_until = 0.0
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, folder) from error

    def get(self, name: str) -> bytes | None:
        """Give the metadata called `name`, None where the server has none.

        Raises:
            ServerUnreachable: The server is away or busy, and it was never here.
        """
        with self._lock:
            if len(self._asking) > MOST_FILES * 10:  # names that nobody has
                self._asking.clear()
                self._known.clear()
            asking = self._asking.setdefault(name, threading.Lock())
        with asking:  # ten devices that come at once are one question
            known = self._known.get(name)
            if known is not None and time.monotonic() - known.at < _fresh_s(name, known):
                return known.body
            try:
                return self._ask_again(name, known)
            except ServerUnreachable:
                if known is not None and known.body is not None:
                    return known.body
                return self._from_disk(name)

    def _ask_again(self, name: str, known: _Known | None) -> bytes | None:
        if time.monotonic() < self._away_until:
            raise ServerUnreachable("the server was away a moment ago")
        try:
            said = self._ask(name, known.etag if known else None)
        except ShelfsightError as error:
            self._away_until = time.monotonic() + AWAY_S
            raise ServerUnreachable(str(error)) from error
        if said.status == 304 and known is not None:
            body, etag = known.body, known.etag
        elif said.status == 200:
            body, etag = said.body, said.headers.get("etag")
            if known is None or known.body != body:
                try:
                    self._keep(name, body)
                except (NoSpace, StorageUnusable) as error:
                    _log.warning("%s is passed on and not kept: %s", name, error)
        elif said.status in (403, 404):
            body, etag = None, None
        else:
            raise ServerUnreachable(f"the server answers {said.status} to {name}")
        self._known[name] = _Known(body, etag, time.monotonic())
        return body

    def _keep(self, name: str, body: bytes) -> None:
        write_atomically(self._folder / name, body)
        kept = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in kept[:-MOST_FILES]:
            path.unlink(missing_ok=True)

    def _from_disk(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError:
            raise ServerUnreachable(f"the server is away, and {name} was never here") from None


def _fresh_s(name: str, known: _Known) -> float:
    """Say for how long an answer is as good as a new one.

    The timestamp's is not at all: a device that was just told of a release would find nobody who signed it.
    """
    if not name[0].isdigit():
        return 0.0
    return ABSENT_FRESH_S if known.body is None else NUMBERED_FRESH_S
