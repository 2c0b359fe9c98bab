"""Sizes, processor counts, durations and ulimits as people write them."""

from __future__ import annotations

from knarr.engine.options import UlimitRequest
from knarr.errors import UsageError

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_NANO = 1_000_000_000
_LARGEST = (1 << 63) - 1
_DIGITS = 40  # more are no number that anything here takes, and Python refuses to read thousands of them


def size(text: str, what: str) -> int:
    """Bytes of `512`, `64m`, `1.5g`, `10MiB`. Raises `UsageError` naming `what`."""
    lower = text.strip().lower()
    number = lower.rstrip("abcdefghijklmnopqrstuvwxyz")
    suffix = lower[len(number) :].removesuffix("ib") if lower.endswith("ib") else lower[len(number) :]
    unit = _UNITS.get(suffix if len(suffix) < 2 else suffix.removesuffix("b"))
    value = _decimal(number.strip())
    if unit is None or value is None or value * unit > _LARGEST:
        raise UsageError(f"invalid size {text!r} for {what}")
    return int(value * unit)


def size_or_unlimited(text: str, what: str) -> int:
    """As `size`, and -1 for unlimited."""
    return -1 if text.strip() == "-1" else size(text, what)


def nano_cpus(text: str) -> int:
    """`1.5` processors as 1500000000."""
    value = _decimal(text.strip())
    if value is None or not 0 <= value * _NANO <= _LARGEST:
        raise UsageError(f"invalid number of processors {text!r} for --cpus")
    return round(value * _NANO)


def _decimal(text: str) -> float | None:
    """A plain decimal number; no exponent, no sign, no `nan`: `float` takes too much."""
    if (
        len(text) > _DIGITS
        or text.count(".") > 1
        or not text.replace(".", "", 1).isdecimal()
        or not text.isascii()
    ):
        return None
    return float(text) if "." in text else int(text)


def ulimit(text: str) -> UlimitRequest:
    """`nofile=1024:2048`, `core=-1`, `nproc=unlimited`."""
    name, equals, values = text.partition("=")
    soft, colon, hard = values.partition(":")
    if not equals or name not in ULIMITS:
        raise UsageError(
            f"invalid ulimit {text!r}", hint=f"as NAME=SOFT[:HARD]; names: {' '.join(sorted(ULIMITS))}"
        )
    low, high = _limit(soft, text), _limit(hard if colon else soft, text)
    if high != -1 and (low == -1 or low > high):
        raise UsageError(f"invalid ulimit {text!r}: the soft limit exceeds the hard one")
    return UlimitRequest(name, low, high)


def _limit(text: str, whole: str) -> int:
    if text in ("-1", "unlimited", "infinity"):
        return -1
    if not (text.isascii() and text.isdecimal()) or len(text) > _DIGITS or int(text) >= 1 << 64:
        raise UsageError(f"invalid ulimit {whole!r}")
    return int(text)


ULIMITS = frozenset(
    "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack as".split()
)

_DURATION = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str, what: str) -> float:
    """`90`, `1h30m`, `1.5s` as seconds."""
    if (plain := _decimal(text)) is not None:
        return plain
    total, number, i = 0.0, "", 0
    while i < len(text):
        if text[i].isdecimal() or text[i] == ".":
            number += text[i]
            i += 1
            continue
        unit = "ms" if text[i : i + 2] == "ms" else text[i]
        value = _decimal(number)
        if value is None or unit not in _DURATION:
            break
        total, number, i = total + value * _DURATION[unit], "", i + len(unit)
    if number or i < len(text) or not text:
        raise UsageError(f"invalid duration {text!r} for {what}")
    return total
