"""The only socket: asks the sync server, and downloads files, going on where a cut download ended.

Nothing that comes back is believed: a body has a byte budget, a rate it must keep, and a range it must state
exactly; redirects are not followed; a path is spelled with few letters; what the bytes *are* is decided by
whoever holds their hash (`edge.updater`). Every failure of the network, of TLS or of urllib3 leaves here as
an error of `edge.errors`.
"""

import gzip
import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from edge.errors import (
    AccessDenied,
    BadSetting,
    CutShort,
    Oversize,
    Packed,
    Redirected,
    ServerBusy,
    ServerUnreachable,
    Slow,
    TransferBroken,
    TryLater,
    WrongRange,
)
from edge.pace import Pace, paced
from edge.partfile import PartFile

_CHUNK = 64 * 1024
_JSON_BYTES = 4 * 1024 * 1024
_WORDS_BYTES = 4096  # of an error's body: enough for its sentence
_LONGEST_RETRY_S = 24 * 3600.0
_GZIP_LEVEL = 5  # of what a device sends: it is small, and a slow CPU packs it
_PATH = re.compile(r"/?([A-Za-z0-9_-][A-Za-z0-9._-]*/?){1,16}")

Progress = Callable[[int], None]
"""Told how many bytes arrived, after each piece."""


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What a server answered: the HTTP status, the headers by their names in small letters, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Talk to one sync server, `base_url`, and to nothing else.

    `token` is sent as a bearer token. `timeout_s` bounds connecting and every silence; an answer, its head
    too, that brings fewer than `least_rate` bytes a second over `rate_window_s` seconds of waiting is given
    up, so that a server that drips cannot hold the device, and so is one other than a file that keeps it
    waiting for more than `answer_s` seconds in all. `bytes_received` counts the bytes of all bodies.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout_s: float = 10,
        least_rate: float = 1024.0,
        rate_window_s: float = 20.0,
        answer_s: float = 60.0,
    ) -> None:
        """Remember the address; nothing is sent yet.

        Raises:
            BadSetting: The address is not one of an HTTP server.
        """
        self.base_url = _checked_address(base_url)
        self.bytes_received = 0
        self._timeout_s = timeout_s
        self._answer_s = answer_s
        self._kept = False
        self._pace = Pace(timeout_s, least_rate, rate_window_s)
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "shelfsight"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._pool = urllib3.PoolManager(
            num_pools=1, timeout=urllib3.Timeout(connect=timeout_s, read=timeout_s), retries=False
        )
        self._pool.pool_classes_by_scheme = _paced_pools(self._pace)

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def __enter__(self) -> "Transport":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get_json(self, path: str) -> Any:
        """Ask for the JSON at `path`.

        Raises:
            ServerUnreachable, ServerBusy, TransferBroken, AccessDenied: as for every request.
        """
        with self._open("GET", path) as response:
            return self._json(response, path)

    def post_json(self, path: str, body: Mapping[str, object], *, packed: bool = False) -> Any:
        """Send `body` as JSON to `path`, `packed` by gzip or not, and return the JSON that comes back.

        Raises:
            TryLater: The server refuses the request; `status` is 415 where it does not unpack.
            ServerUnreachable, ServerBusy, TransferBroken, AccessDenied: as for every request.
        """
        data = json.dumps(body, allow_nan=False).encode()
        headers = {"Content-Type": "application/json"}
        if packed:
            data = gzip.compress(data, _GZIP_LEVEL, mtime=0)
            headers["Content-Encoding"] = "gzip"
        with self._open("POST", path, headers, data) as response:
            return self._json(response, path)

    def exchange(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes | None, max_bytes: int
    ) -> Exchanged:
        """Pass somebody's request on to `path`, and give what the server answers, whatever its status.

        Raises:
            Oversize, CutShort, Slow: The body is longer than `max_bytes`, ended early, or dripped.
            ServerUnreachable: No answer.
        """
        with self._open(method, path, headers, body, judged=False) as response:
            answered = {name.lower(): value for name, value in response.headers.items()}
            return Exchanged(response.status, answered, self._body(response, path, max_bytes))

    def put_bytes(self, path: str, data: bytes, *, content_type: str) -> Any:
        """Send `data` to be kept at `path`, and return the JSON that comes back.

        Raises:
            ServerUnreachable, ServerBusy, TransferBroken, AccessDenied: as for every request.
        """
        with self._open("PUT", path, {"Content-Type": content_type}, data) as response:
            return self._json(response, path)

    def get_bytes(self, path: str, *, max_bytes: int) -> bytes | None:
        """Return the body at `path`, or None where the server has nothing there (404).

        Raises:
            Oversize, CutShort, Slow: The body is longer than `max_bytes`, ended early, or dripped.
            ServerUnreachable, ServerBusy, AccessDenied: as for every request.
        """
        with self._open("GET", path, may_be_absent=True) as response:
            if response.status == 404:
                return None
            return self._body(response, path, max_bytes)

    def listen(self, path: str, *, silence_s: float) -> Iterator[bytes]:
        """Give the pieces of a body that has no end as they arrive, such as server-sent events.

        It may drip; a silence of more than `silence_s` seconds ends it.

        Raises:
            Slow, CutShort: The server fell silent, or went away.
            ServerUnreachable, ServerBusy, AccessDenied: as for every request.
        """
        with self._open("GET", path, limit_s=None, silence_s=silence_s) as response:
            yield from self._pieces(response, path)

    def download(self, path: str, part: Path, *, size: int, progress: Progress | None = None) -> int:
        """Bring the file at `path`, of `size` bytes, into `part`, going on where an earlier try ended.

        The file at `part` is appended to and brought to the disk as it grows, and kept when the transfer
        breaks, so that the next call asks only for the rest. Its content is not judged here.

        Returns:
            The bytes received over the wire.

        Raises:
            CutShort, Slow, Oversize, WrongRange, Packed: What comes is not what was asked for, or too slow.
            NoSpace, StorageUnusable: `part` cannot be written.
            ServerUnreachable, ServerBusy, AccessDenied: as for every request.
        """
        with PartFile(part, size) as file:
            if file.held == size:
                return 0
            asked = {"Range": f"bytes={file.held}-"} if file.held else {}
            with self._open("GET", path, asked, limit_s=None) as response:
                self._check_range(response, path, file, size)
                return self._append(response, path, file, size, progress)

    def certificate_end(self) -> datetime | None:
        """Return when the server's TLS certificate runs out (UTC); None where the address is plain HTTP.

        Raises:
            ServerUnreachable: No answer, or a certificate that this device does not trust.
        """
        url = urllib3.util.parse_url(self.base_url)
        if url.scheme != "https" or url.host is None:
            return None
        connection = HTTPSConnection(
            url.host.strip("[]"), url.port, timeout=self._timeout_s, cert_reqs="CERT_REQUIRED"
        )
        try:
            with _said_clearly(self.base_url):
                connection.connect()
            shown = connection.sock.getpeercert() if isinstance(connection.sock, ssl.SSLSocket) else None
        finally:
            connection.close()
        end = shown.get("notAfter") if shown else None
        if not isinstance(end, str):
            raise ServerUnreachable(f"{self.base_url} shows no certificate: look at its TLS settings.")
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(end), UTC)

    # The parts of one request ---------------------------------------------------------------------------

    def _url(self, path: str) -> str:
        # Names come from metadata too: none may lead out of the server's own paths.
        if not _PATH.fullmatch(path):
            raise ServerUnreachable(f"{path[:80]!r} is no name that a sync server has: publish again.")
        return f"{self.base_url}/{path.lstrip('/')}"

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        may_be_absent: bool = False,
        judged: bool = True,
        limit_s: float | None = 0.0,
        silence_s: float | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Send one request and give the response once its status is one that can be used.

        All waits for it may take `limit_s` seconds; 0: as many as an answer may, None: as many as it likes.
        """
        limit_s = self._answer_s if limit_s == 0 else limit_s
        self._pace.begin(self._url(path), limit_s, silence_s=silence_s)
        response = self._ask(method, path, headers or {}, body)
        done = False
        try:
            absent = response.status == 404 and may_be_absent
            beyond = response.status == 416
            if judged and not (absent or beyond):
                self._check_status(response, path)
            yield response
            done = response.length_remaining == 0
        finally:
            # Only a connection whose body was read to its end can carry the next request.
            self._kept = done
            if done:
                response.release_conn()
            else:
                response.close()

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        """Send a request; once more, where a kept connection turns out to be closed by the server."""
        again, self._kept = self._kept and method == "GET", False
        with _said_clearly(self.base_url):
            while True:
                try:
                    return self._pool.request(
                        method,
                        self._url(path),
                        headers={**self._headers, **headers},
                        body=body,
                        preload_content=False,
                        decode_content=False,
                        redirect=False,
                    )
                except ProtocolError:
                    if not again:
                        raise
                    again = False

    def _check_status(self, response: urllib3.BaseHTTPResponse, path: str) -> None:
        status = response.status
        if 200 <= status < 300:
            coding = response.headers.get("Content-Encoding", "identity")
            if coding != "identity":
                raise Packed(
                    f"{self._url(path)} came packed as {coding}, which was not asked for: "
                    "let no proxy pack it."
                )
            return
        if 300 <= status < 400:
            raise Redirected(
                f"{self.base_url} sends this device on to {response.headers.get('Location', 'nowhere')!r}, "
                "and redirects are not followed: give the address of the sync server itself."
            )
        said = self._words(response, path)
        if status in (401, 403):
            raise AccessDenied(f"{self.base_url} refuses this device ({status}{said}): enroll it again.")
        if status == 429 or status >= 500:
            raise ServerBusy(
                f"{self.base_url} cannot answer now ({status}{said}): try again later.",
                retry_after=_retry_after(response.headers.get("Retry-After"), response.headers.get("Date")),
                status=status,
            )
        if status == 404:
            raise ServerUnreachable(
                f"{self._url(path)} is not there (404{said}): check that {self.base_url} is the sync server."
            )
        raise TryLater(
            f"{self._url(path)} refuses the request ({status}{said}): look at the server's log.",
            status=status,
        )

    def _words(self, response: urllib3.BaseHTTPResponse, path: str) -> str:
        """Return what the server says about its refusal as `, sentence`, or nothing."""
        try:
            record = json.loads(self._body(response, path, _WORDS_BYTES))
        except (TransferBroken, ValueError, RecursionError):
            return ""
        said = record.get("error") if isinstance(record, dict) else None
        if not isinstance(said, str):
            return ""
        printable = "".join(letter for letter in said[:200] if letter.isprintable())
        return f", {printable}" if printable else ""

    def _json(self, response: urllib3.BaseHTTPResponse, path: str) -> Any:
        body = self._body(response, path, _JSON_BYTES)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ServerUnreachable(
                f"what answers at {self._url(path)} does not speak JSON: "
                f"check that {self.base_url} is the sync server."
            ) from error

    def _body(self, response: urllib3.BaseHTTPResponse, path: str, max_bytes: int) -> bytes:
        body = bytearray()
        for piece in self._pieces(response, path):
            body += piece
            if len(body) > max_bytes:
                raise Oversize(f"{self._url(path)} sends more than the {max_bytes} bytes it may have.")
        return bytes(body)

    def _pieces(self, response: urllib3.BaseHTTPResponse, path: str) -> Iterator[bytes]:
        """Give the body as it arrives, as long as it arrives fast enough."""
        while True:
            with _said_clearly(self.base_url, during=self._url(path)):
                # read1 returns what is there; read would wait for a whole chunk, however slowly it drips.
                piece = response.read1(_CHUNK)
            if not piece:
                return
            self.bytes_received += len(piece)
            yield piece

    def _check_range(self, response: urllib3.BaseHTTPResponse, path: str, file: PartFile, size: int) -> None:
        """Check every length that the response states, and put `file` where its body begins."""
        if response.status == 206:
            stated = response.headers.get("Content-Range", "")
            wanted = f"bytes {file.held}-{size - 1}/{size}"
            if not file.held or stated != wanted:
                file.restart()  # so that a server that cannot do ranges is next asked for the whole
                raise WrongRange(
                    f"{self._url(path)} sent the range {stated!r} where {wanted!r} was asked for: try again."
                )
        elif response.status == 200:
            file.restart()
        else:
            file.restart()
            kind = WrongRange if response.status == 416 else TransferBroken
            raise kind(f"{self._url(path)} answered {response.status} to a download: try again.")
        length = response.headers.get("Content-Length")
        if length is not None and length != str(size - file.held):
            more = length.isdecimal() and int(length) > size - file.held
            raise (Oversize if more else CutShort)(
                f"{self._url(path)} has {length} bytes to send where {size - file.held} were signed: "
                "the server holds another file; publish it again."
            )

    def _append(
        self,
        response: urllib3.BaseHTTPResponse,
        path: str,
        file: PartFile,
        size: int,
        progress: Progress | None,
    ) -> int:
        received = 0
        for piece in self._pieces(response, path):
            if file.held + len(piece) > size:
                raise Oversize(
                    f"{self._url(path)} sends more than the {size} bytes signed: publish it again."
                )
            file.append(piece)
            received += len(piece)
            if progress is not None:
                progress(len(piece))
        if file.held < size:
            raise CutShort(
                f"{self._url(path)} ended after {file.held} of {size} bytes: try again for the rest."
            )
        return received


def _paced_pools(pace: Pace) -> dict[str, type[HTTPConnectionPool]]:
    """Return the pools of connections, by scheme, in which every answer is read at a pace."""

    class Plain(HTTPConnection):
        response_class = staticmethod(paced(pace, HTTPConnection.response_class))  # type: ignore[assignment]

    class Secure(HTTPSConnection):
        response_class = staticmethod(paced(pace, HTTPSConnection.response_class))  # type: ignore[assignment]

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _checked_address(address: str) -> str:
    try:
        url = urllib3.util.parse_url(address)
    except LocationParseError:
        url = urllib3.util.Url()
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise BadSetting(
            f"{address!r} is not the address of a sync server: "
            "write it as https://HOST or http://HOST:PORT, such as https://shelfsight.example.com."
        )
    return address.rstrip("/")


@contextmanager
def _said_clearly(base_url: str, during: str | None = None) -> Iterator[None]:
    """Turn what urllib3, TLS and the sockets raise into one sentence; `during` names a body being read."""
    try:
        yield
    except NameResolutionError as error:
        raise ServerUnreachable(
            f"no machine goes by the name in {base_url}: check the address and the network."
        ) from error
    except (SSLError, ssl.SSLError) as error:
        raise ServerUnreachable(
            f"no trusted TLS connection to {base_url} ({error}): check the address, the server's certificate "
            "and this device's clock."
        ) from error
    except NewConnectionError as error:  # which urllib3 counts among the time-outs
        reason = (getattr(error.__cause__, "strerror", None) or str(error)).lower()
        raise ServerUnreachable(
            f"no HTTP server answers at {base_url} ({reason}): check the address and that the server is up."
        ) from error
    except (ConnectTimeoutError, ReadTimeoutError) as error:
        if during is not None:
            raise Slow(f"{during} fell silent: try again later.") from error
        raise ServerUnreachable(f"{base_url} does not answer in time: check that it is up.") from error
    except (HTTPError, OSError) as error:
        if during is not None:
            raise CutShort(f"{during} was cut off ({error}): try again later.") from error
        raise ServerUnreachable(
            f"no HTTP server answers at {base_url} ({error}): check the address and that the server is up."
        ) from error


def _retry_after(value: str | None, sent: str | None = None) -> float | None:
    """Read Retry-After (RFC 9110, 10.2.3), seconds or a date, as seconds from now, a day at most.

    A date counts from the server's own, `sent`, where it said one: this device's clock may stand anywhere.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until, since = _http_date(value), _http_date(sent)
        if until is None:
            return None
        seconds = (until - (since or datetime.now(UTC))).total_seconds()
    return min(max(0.0, seconds), _LONGEST_RETRY_S)  # in this order, NaN becomes 0


def _http_date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        return parsedate_to_datetime(value).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
