"""Decompression: what is recognised, many members, damage, bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import DataError, RemoteError
from knarr.store import decompress
from knarr.store.decompress import Decompressed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DATA = b"".join(b"%d," % i for i in range(300_000))


def skippable(data: bytes) -> bytes:
    return b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + zstd.compress(data)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": zstd.compress,
    "zstd with a skippable frame": skippable,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def unpack(data: bytes, *, step: int = 1 << 20, size: int = 1 << 16, ceiling: int = 1 << 40) -> bytes:
    stream = io.BytesIO(data)
    source = Decompressed(lambda n: stream.read(min(n, step)), "it", ceiling=ceiling, archives=True)
    chunks = list(iter(lambda: source.read(size), b""))
    assert source.read(size) == b"", "an end stays an end"
    assert all(len(chunk) <= size for chunk in chunks)
    return b"".join(chunks)


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_all_kinds(kind: str, step: int) -> None:
    data = DATA if step > 1 else DATA[:5000]
    packed = PACKERS[kind](data)
    source = Decompressed(io.BytesIO(packed).read, "it", ceiling=1 << 30, archives=True)
    assert source.recognise() == kind.split(" ")[0]
    assert unpack(packed, step=step) == data


@pytest.mark.parametrize("kind", [k for k in PACKERS if k])
def test_several_members_are_one_stream(kind: str) -> None:
    pack = PACKERS[kind]
    assert unpack(pack(b"one") + pack(b"") + pack(b"two")) == b"onetwo"


@pytest.mark.parametrize("kind", [k for k in PACKERS if k])
def test_zeros_behind_are_padding(kind: str) -> None:
    assert unpack(PACKERS[kind](b"one") + bytes(70_000)) == b"one"


@pytest.mark.parametrize("kind", [k for k in PACKERS if k])
@pytest.mark.parametrize("tail", [b"garbage", b"\0\0x", b"\x1f"])
def test_garbage_behind_is_refused(kind: str, tail: bytes) -> None:
    with pytest.raises(DataError, match="it: "):
        unpack(PACKERS[kind](b"one") + tail)


@pytest.mark.parametrize("kind", [k for k in PACKERS if k])
def test_every_cut_is_noticed(kind: str) -> None:
    packed = PACKERS[kind](DATA[:3000])
    for cut in {1, 2, 7, 12, len(packed) // 2, len(packed) - 5, len(packed) - 1}:
        if len(packed[:cut]) > 5 and not (kind.startswith("zstd with") and cut == 12):
            with pytest.raises(DataError, match="it: "):
                unpack(packed[:cut])


@given(st.integers(10, 1000), st.integers(1, 255))
def test_damage_is_noticed(at: int, flip: int) -> None:
    """gzip has a checksum of its own; a flipped bit in its header's harmless fields changes nothing."""
    packed = bytearray(gzip.compress(DATA[:3000], 6, mtime=0))
    packed[10 + at % (len(packed) - 10)] ^= flip
    with pytest.raises(DataError, match="it: the gzip data is"):
        unpack(bytes(packed))


def test_a_bomb_ends_at_the_ceiling() -> None:
    bomb = gzip.compress(bytes(50 << 20), 9)
    with pytest.raises(DataError, match=r"it: unpacks to more than 1048576 bytes"):
        unpack(bomb, ceiling=1 << 20)


def test_a_zstd_frame_cannot_ask_for_all_memory() -> None:
    """Magic, a frame without its size, a window of 2 TiB."""
    with pytest.raises(DataError, match="it: the zstd data is damaged"):
        unpack(b"\x28\xb5\x2f\xfd" + bytes([0x00, 0xFF]) + b"\x01\0\0")


def test_layers_are_gzip_or_zstd() -> None:
    with pytest.raises(DataError, match="bzip2 is no compression of layers"):
        Decompressed(io.BytesIO(bz2.compress(b"x")).read, "it", ceiling=9).read(1)


def test_what_the_source_raises_is_not_translated() -> None:
    parts = [gzip.compress(DATA)[:1000]]

    def read(size: int) -> bytes:
        if parts:
            return parts.pop()
        raise RemoteError("the line is cut")

    source = Decompressed(read, "it", ceiling=1 << 40)
    with pytest.raises(RemoteError):
        list(iter(lambda: source.read(100), b""))


def test_without_isal_zlib_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)
    assert isinstance(decompress._gzip(), decompress._ZlibDecoder)
    assert unpack(gzip.compress(DATA, 1) + gzip.compress(b"x"), step=999, size=1000) == DATA + b"x"
    with pytest.raises(DataError):
        unpack(zlib.compress(DATA, wbits=31)[:-2])
