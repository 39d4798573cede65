"""What devices send packed is unpacked into bounded memory."""

import gzip
import tracemalloc
import zlib
from importlib import import_module

import pytest

from cloud.unpacking import ENCODINGS, unpack
from edge.errors import BadSetting, Oversize

WORDS = b'{"events": [' + b'{"kind": "searched"}, ' * 500 + b"{}]}"


def packed(data: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.compress(data)
    compressed: bytes = import_module("backports.zstd").compress(data)
    return compressed


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_was_packed_is_unpacked(encoding: str) -> None:
    assert unpack(packed(WORDS, encoding), encoding, len(WORDS)) == WORDS


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_is_refused_and_never_unpacked(encoding: str) -> None:
    bomb = packed(bytes(200_000_000), encoding)
    assert len(bomb) < 300_000
    tracemalloc.start()
    with pytest.raises(Oversize, match="more than 1000000 bytes"):
        unpack(bomb, encoding, 1_000_000)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 5_000_000


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("spoil", ["cut", "flipped", "followed", "empty", "plain"])
def test_what_is_not_one_whole_stream_is_refused(encoding: str, spoil: str) -> None:
    data = packed(WORDS, encoding)
    spoiled = {
        "cut": data[:-5],
        "flipped": bytes([data[0] ^ 1]) + data[1:],
        "followed": data + data,
        "empty": b"",
        "plain": WORDS,
    }[spoil]
    with pytest.raises(BadSetting, match=r"packed by|one whole stream"):
        unpack(spoiled, encoding, len(WORDS))


def test_a_stream_of_deflate_without_a_header_is_no_gzip() -> None:
    with pytest.raises(BadSetting, match="packed by gzip"):
        unpack(zlib.compress(WORDS), "gzip", len(WORDS))
