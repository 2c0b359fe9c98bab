"""Properties that a container's annotations ask for its unit: `org.systemd.property.NAME`, a value in GVariant's text.

The format is https://docs.gtk.org/glib/gvariant-text-format.html: all of it that a unit's property can be made of, so
no maybe types, dictionaries and floating numbers. As with runc and crun `NAMESec` is in seconds and becomes `NAMEUSec`.
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan.step import key, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from knarr.plan.unit_limits import Property

PREFIX = "org.systemd.property."
_TYPES = {
    "boolean": "b",
    "byte": "y",
    "int16": "n",
    "uint16": "q",
    "int32": "i",
    "uint32": "u",
    "int64": "x",
    "uint64": "t",
    "handle": "h",
    "string": "s",
    "objectpath": "o",
    "signature": "g",
}
_BITS = {
    "y": (0, 8),
    "n": (1, 16),
    "q": (0, 16),
    "i": (1, 32),
    "u": (0, 32),
    "x": (1, 64),
    "t": (0, 64),
    "h": (0, 32),
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def annotated_properties(annotations: Mapping[str, str]) -> tuple[Property, ...]:
    """Raises `UsageError` naming the annotation."""
    return tuple(_property(name, text) for name, text in annotations.items() if name.startswith(PREFIX))


def _property(annotation: str, text: str) -> Property:
    name = annotation.removeprefix(PREFIX)
    if len(name) < 3 or not (name.isascii() and name.isalpha()):
        raise UsageError(f"annotations: {key(annotation)}: is not the name of a property")
    try:
        signature, value = _Reader(text).all()
    except ValueError as e:
        raise UsageError(f"annotations: {key(annotation)}: {quoted(text)}: {e}") from None
    if name.endswith("Sec") and not name.endswith("USec"):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise UsageError(f"annotations: {key(annotation)}: {quoted(text)} is not a number of seconds")
        return f"{name[:-3]}USec", ("t", value * 1_000_000)
    return name, (signature, value)


class _Reader:
    """One value. Raises `ValueError`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def all(self) -> tuple[str, object]:
        found = self.value("")
        if self.peek():
            raise ValueError(f"more behind the value: {self.text[self.at :]!r}")
        return found

    def peek(self) -> str:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, character: str) -> bool:
        found = self.peek() == character
        self.at += found
        return found

    def word(self) -> str:
        """Up to the next separator."""
        self.peek()
        begin = self.at
        while (
            self.at < len(self.text)
            and not self.text[self.at].isspace()
            and self.text[self.at] not in ",)]<>"
        ):
            self.at += 1
        return self.text[begin : self.at]

    def value(self, wanted: str) -> tuple[str, object]:
        """`wanted` is a signature when the type is known from outside."""
        first = self.peek()
        if first == "@":
            signature = self.text[self.at + 1 :].partition(" ")[0]
            self.at += 1 + len(signature)
            return self.value(signature)
        if first and first in "'\"":
            return self.typed(wanted or "s", self.string(first))
        if first == "[":
            return self.array(wanted)
        if first == "(":
            return self.tuple(wanted)
        if self.take("<"):
            inner = self.value("")
            if not self.take(">"):
                raise ValueError("a variant is not closed")
            return self.typed(wanted or "v", inner)
        word = self.word()
        if word in _TYPES:
            return self.value(_TYPES[word])
        if word in ("true", "false"):
            return self.typed(wanted or "b", word == "true")
        return self.number(wanted or "i", word)

    def typed(self, wanted: str, value: object) -> tuple[str, object]:
        kinds: dict[str, type] = {"s": str, "o": str, "g": str, "b": bool, "v": tuple}
        if not isinstance(value, kinds.get(wanted, int)):
            raise ValueError(f"is not of type {wanted}")
        return wanted, value

    def number(self, wanted: str, word: str) -> tuple[str, object]:
        digits = word.removeprefix("-").removeprefix("+")
        if wanted not in _BITS or not digits:
            raise ValueError(
                f"{word!r} is no value" if not wanted or wanted in _BITS else f"is not of type {wanted}"
            )
        try:
            number = int(word, 0) if digits[:1] != "0" or digits[:2].lower() == "0x" else int(word, 8)
        except ValueError:
            raise ValueError(f"{word!r} is no value") from None
        signed, bits = _BITS[wanted]
        if not -(signed << bits - 1) <= number < 1 << bits - signed:
            raise ValueError(f"{word} is out of the range of its type")
        return wanted, number

    def string(self, quote: str) -> str:
        self.at += 1
        out = ""
        while self.at < len(self.text):
            character = self.text[self.at]
            self.at += 1
            if character == quote:
                return out
            if character == "\\":
                character = self.escaped()
            out += character
        raise ValueError("a string is not closed")

    def escaped(self) -> str:
        character = self.text[self.at : self.at + 1]
        self.at += 1
        if character and character in "uU":
            length = 4 if character == "u" else 8
            digits = self.text[self.at : self.at + length]
            self.at += length
            return chr(int(digits, 16))
        return _ESCAPES.get(character, character)

    def array(self, wanted: str) -> tuple[str, object]:
        self.at += 1
        if wanted and wanted[0] != "a":
            raise ValueError(f"is not of type {wanted}")
        inner = wanted[1:]
        items: list[object] = []
        while not self.take("]"):
            if items and not self.take(","):
                raise ValueError("an array is not closed")
            inner, item = self.value(inner)
            items.append(item)
        if not inner:
            raise ValueError("an empty array has no type: write @as []")
        return f"a{inner}", tuple(items)

    def tuple(self, wanted: str) -> tuple[str, object]:
        self.at += 1
        given = _members(wanted[1:-1]) if wanted else None
        kinds: list[str] = []
        items: list[object] = []
        while not self.take(")"):
            if items and not self.take(","):
                raise ValueError("a tuple is not closed")
            if self.take(")"):
                break  # "(1,)"
            if given is not None and len(items) == len(given):
                raise ValueError("a tuple has too many members")
            kind, item = self.value(given[len(items)] if given else "")
            kinds.append(kind)
            items.append(item)
        return f"({''.join(kinds)})", tuple(items)


def _members(signature: str) -> list[str]:
    """The single complete types in a tuple's signature, of the simple kinds and arrays of them."""
    found: list[str] = []
    prefix = ""
    for character in signature:
        if character == "a":
            prefix += "a"
        else:
            found.append(prefix + character)
            prefix = ""
    return found
