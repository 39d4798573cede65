"""Unpacks what a device sends packed, into bounded memory: a small body may hide an endless one."""

import zlib
from importlib import import_module
from typing import Any, Final

from edge.errors import BadSetting, Oversize

_GZIP: Final = 16 + zlib.MAX_WBITS  # with its header and checksum, and nothing else


def _zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):  # Python's own from 3.14 on
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    return None


_ZSTD: Final = _zstd()
_BROKEN: Final[tuple[type[Exception], ...]] = (zlib.error, *((_ZSTD.ZstdError,) if _ZSTD is not None else ()))
ENCODINGS: Final = ("gzip", "zstd") if _ZSTD is not None else ("gzip",)
"""What is understood here, as `Accept-Encoding` names it (RFC 7694)."""


def unpack(data: bytes, encoding: str, most: int) -> bytes:
    """Return what `data` is, packed by one of `ENCODINGS`.

    Raises:
        Oversize: it is more than `most` bytes; no more than these were ever unpacked.
        BadSetting: it is not packed so, ends early, or something follows it.
    """
    try:
        unpacker = _ZSTD.ZstdDecompressor() if encoding == "zstd" else zlib.decompressobj(_GZIP)
        unpacked: bytes = unpacker.decompress(data, most + 1)
    except _BROKEN as error:
        raise BadSetting(f"the request is not packed by {encoding} ({error}): pack it again") from error
    if len(unpacked) > most:
        raise Oversize(f"the request is more than {most} bytes when it is unpacked: send less at once")
    if not unpacker.eof or unpacker.unused_data:
        raise BadSetting(f"the request is not one whole stream of {encoding}: send it again")
    return unpacked
