"""Decompress a stream of unknown compression, with a ceiling on what may come out of it.

The first bytes say what it is, whatever a media type claims (so do docker and containerd). Layers are plain, gzip
or zstd; archives to load may be bzip2 or xz as well. Several members or frames behind one another are one stream.
"""

from __future__ import annotations

from knarr.errors import DataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Decoder(Protocol):
        """What bz2, lzma, isal and zstd have in common."""

        @property
        def eof(self) -> bool: ...
        @property
        def needs_input(self) -> bool: ...
        @property
        def unused_data(self) -> bytes: ...
        def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


CHUNK = 1 << 20
_INPUT = 1 << 18
_MAGIC_BYTES = 6
_GZIP, _BZIP2, _XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = range(0x184D2A50, 0x184D2A60)  # RFC 8878, section 3.1.2
_LIBRARIES_ERRORS = ("error", "IsalError", "ZstdError", "LZMAError")
_WINDOW_LOG_MAX = 27  # 128 MiB: what a frame may make us allocate


class Decompressed:
    """`read(n)` over what `read` delivers compressed: up to n bytes, b"" at the end.

    `ceiling`: how many bytes may come out. Raises `DataError` naming `what` for damage, truncation and bombs.
    """

    def __init__(
        self, read: Callable[[int], bytes], what: str, *, ceiling: int, archives: bool = False
    ) -> None:
        self._source = read
        self._what = what
        self._left = ceiling
        self._ceiling = ceiling
        self._archives = archives
        self._decoder: Decoder | None = None
        self._pending = b""
        self._ended = False
        self._make: Callable[[], Decoder] | None = None
        self.compression: str | None = None  # "", "gzip", "zstd", "bzip2", "xz" once the first bytes are read

    def read(self, size: int = CHUNK) -> bytes:
        """The next bytes."""
        self.recognise()
        chunk = self._plain(size) if self._make is None else self._inflate(size)
        self._left -= len(chunk)
        if self._left < 0:
            raise DataError(f"{self._what}: unpacks to more than {self._ceiling} bytes")
        return chunk

    def recognise(self) -> str:
        """Which compression it is, "" for none; reads no more than its first bytes."""
        if self.compression is None:
            self._recognise()
        return self.compression or ""

    def _plain(self, size: int) -> bytes:
        if self._pending:
            chunk, self._pending = self._pending[:size], self._pending[size:]
            return chunk
        return self._source(size)

    def _inflate(self, size: int) -> bytes:
        while not self._ended:
            if self._decoder is None or self._decoder.eof:
                self._decoder = self._next_member()
            if self._decoder is not None and (chunk := self._decode(self._decoder, size)):
                return chunk
        return b""

    def _decode(self, decoder: Decoder, size: int) -> bytes:
        if decoder.needs_input and not self._pending:
            self._pending = self._source(_INPUT)
            if not self._pending:
                raise DataError(f"{self._what}: the {self.compression} data is cut off")
        data, self._pending = self._pending, b""
        try:
            chunk = decoder.decompress(data, size)
        except Exception as e:
            if (
                not isinstance(e, (OSError, ValueError, EOFError))
                and type(e).__name__ not in _LIBRARIES_ERRORS
            ):
                raise
            raise DataError(f"{self._what}: the {self.compression} data is damaged: {str(e).lower()}") from e
        if decoder.eof:
            self._pending = decoder.unused_data
        return chunk

    def _next_member(self) -> Decoder | None:
        """For the next member, if there is one. Zeros behind the last are padding, all else is refused."""
        self._fill(_MAGIC_BYTES)
        while self._pending and not self._pending.strip(b"\0"):
            self._pending = self._source(_INPUT)
        if not self._pending:
            self._ended = True
            return None
        if _recognise(self._pending) != self.compression or self._make is None:
            raise DataError(f"{self._what}: garbage behind the {self.compression} data")
        return self._make()

    def _recognise(self) -> None:
        self._fill(_MAGIC_BYTES)
        self.compression = _recognise(self._pending)
        if self.compression in ("bzip2", "xz") and not self._archives:
            raise DataError(f"{self._what}: {self.compression} is no compression of layers")
        self._make = _makers().get(self.compression)

    def _fill(self, size: int) -> None:
        while len(self._pending) < size:
            more = self._source(_INPUT)
            if not more:
                return
            self._pending += more


def _recognise(head: bytes) -> str:
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(_ZSTD) or (len(head) >= 4 and int.from_bytes(head[:4], "little") in _ZSTD_SKIPPABLE):
        return "zstd"
    if head.startswith(_BZIP2):
        return "bzip2"
    return "xz" if head.startswith(_XZ) else ""


def _makers() -> dict[str, Callable[[], Decoder]]:
    return {"gzip": _gzip, "zstd": _zstd, "bzip2": _bzip2, "xz": _xz}


def _gzip() -> Decoder:
    try:
        from isal import igzip_lib
    except ImportError:
        return _ZlibDecoder()
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _zstd() -> Decoder:
    import sys

    if sys.version_info >= (3, 14):
        from compression.zstd import DecompressionParameter, ZstdDecompressor
    else:
        from backports.zstd import DecompressionParameter, ZstdDecompressor
    return ZstdDecompressor(options={DecompressionParameter.window_log_max: _WINDOW_LOG_MAX})


def _bzip2() -> Decoder:
    import bz2

    return bz2.BZ2Decompressor()


def _xz() -> Decoder:
    import lzma

    return lzma.LZMADecompressor(memlimit=1 << 28)


class _ZlibDecoder:
    """zlib in the shape of the others, for a machine without isal."""

    def __init__(self) -> None:
        import zlib

        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max(max_length, 0))
