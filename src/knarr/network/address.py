"""Addresses and subnets as numbers: the little of `ipaddress` that a start needs (importing it costs 12 ms)."""

from __future__ import annotations

import _socket

from knarr.errors import UsageError
from knarr.record import Record


class Subnet(Record):
    """`base` is the network address with the host bits zero; `bits` is 32 or 128."""

    base: int
    prefix: int
    bits: int

    def __str__(self) -> str:
        return f"{unpack(self.base, self.bits)}/{self.prefix}"

    @property
    def size(self) -> int:
        return 1 << (self.bits - self.prefix)

    def at(self, offset: int) -> str:
        """The address `offset` above the base, as text."""
        return unpack(self.base + offset, self.bits)

    def overlaps(self, other: Subnet) -> bool:
        if self.bits != other.bits:
            return False
        shift = self.bits - min(self.prefix, other.prefix)
        return self.base >> shift == other.base >> shift

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self.base <= number < self.base + self.size


def subnet(text: str) -> Subnet:
    """`10.77.0.0/16`, `fd00::/64`; host bits are cut off. Raises UsageError."""
    ip, _, length = text.partition("/")
    number, bits = parse(ip)
    if not length.isdecimal() or int(length) > bits:
        raise UsageError(f"invalid subnet: {text}", hint="write it like 10.77.0.0/16")
    prefix = int(length)
    return Subnet(number >> (bits - prefix) << (bits - prefix), prefix, bits)


def parse(text: str) -> tuple[int, int]:
    """The address as a number, and 32 or 128. Raises UsageError."""
    family, bits = (_socket.AF_INET6, 128) if ":" in text else (_socket.AF_INET, 32)
    try:
        return int.from_bytes(_socket.inet_pton(family, text), "big"), bits
    except (OSError, ValueError) as e:  # ValueError: a NUL in it
        raise UsageError(f"invalid ip address: {text}") from e


def unpack(number: int, bits: int) -> str:
    family = _socket.AF_INET if bits == 32 else _socket.AF_INET6
    return _socket.inet_ntop(family, number.to_bytes(bits // 8, "big"))


def is_address(text: str) -> bool:
    try:
        parse(text)
    except UsageError:
        return False
    return True


def canonical(text: str) -> str:
    """One spelling per address. Raises UsageError."""
    return unpack(*parse(text))


def mac_of(ip: str) -> str:
    """A locally administered MAC that follows from an IPv4 address: a container that gets an address again
    finds its neighbours' entries for it still true."""
    number, _ = parse(ip)
    return ":".join(f"{byte:02x}" for byte in b"\x02\x6b" + number.to_bytes(4, "big"))
