"""Digest: the content address of a blob, `algorithm:encoded` (image-spec descriptor.md, Digests)."""

from __future__ import annotations

from knarr.errors import DataError

_HEX = frozenset("0123456789abcdef")
_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}


class Digest(str):
    """A checked digest. Safe as a path component by `hex`; `str(d)` is its text form."""

    __slots__ = ()

    def __new__(cls, text: str) -> Digest:
        algorithm, _, encoded = text.partition(":")
        if len(encoded) != _LENGTHS.get(algorithm, -1) or not _HEX.issuperset(encoded):
            raise DataError(f"not a digest knarr supports: {text[:160]!r}")
        return super().__new__(cls, text)

    @property
    def algorithm(self) -> str:
        """`sha256`, `sha384` or `sha512`."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The encoded part."""
        return self.partition(":")[2]
