"""`--detach-keys`: docker's words for key sequences, to the bytes the terminal sends."""

from __future__ import annotations

from knarr.errors import UsageError

_NAMED = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def to_hex(text: str) -> str:
    """`ctrl-p,ctrl-q` as `1011`; empty for no keys. Raises `UsageError`."""
    out = []
    for word in text.split(",") if text else ():
        key = word.removeprefix("ctrl-")
        if word == key and len(word) == 1 and word.isascii():
            out.append(ord(word))
        elif word != key and len(key) == 1 and "a" <= key <= "z":
            out.append(ord(key) - ord("a") + 1)
        elif word != key and key in _NAMED:
            out.append(_NAMED[key])
        else:
            raise UsageError(f"invalid detach keys {text!r}: {word!r} is no key", hint="as in ctrl-p,ctrl-q")
    return bytes(out).hex()
