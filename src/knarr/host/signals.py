"""Signal names and numbers, without the `signal` module and the `enum` it brings."""

from __future__ import annotations

import _signal

from knarr.errors import UsageError

NUMBERS = {
    name[3:]: int(getattr(_signal, name))
    for name in dir(_signal)
    if name[:3] == "SIG" and name[3:4].isalpha() and name not in ("SIG_DFL", "SIG_IGN")
}


def number(text: str) -> int:
    """`15`, `TERM`, `SIGTERM`, `SIGRTMIN+3`, `rtmax-2`. Raises `UsageError`."""
    name = text.upper().removeprefix("SIG")
    if name.isdecimal() and name.isascii() and len(name) < 10:
        value = int(name)
        if 0 < value <= NUMBERS["RTMAX"]:
            return value
    for sign in "+-":
        base, found, offset = name.partition(sign)
        if found and base in ("RTMIN", "RTMAX") and offset.isdecimal() and len(offset) < 10:
            value = NUMBERS[base] + (int(offset) if sign == "+" else -int(offset))
            if NUMBERS["RTMIN"] <= value <= NUMBERS["RTMAX"]:
                return value
    if name in NUMBERS:
        return NUMBERS[name]
    raise UsageError(f"invalid signal: {text}")
