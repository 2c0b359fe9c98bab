"""JSON by the interpreter's C scanner and encoder alone.

Importing the `json` package costs 9 ms, nearly all of it `re`; the two C functions under it cost 0.8.
Behaviour is the standard library's: strict strings, no NaN or Infinity, ASCII output.
"""

from __future__ import annotations

import _json

from knarr.errors import DataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def _no_constant(name: str) -> NoReturn:
    raise DataError(f"JSON: {name} is not a number")


class _Context:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_no_constant)
    memo: dict[str, str] = {}


_scan = _json.make_scanner(_Context())  # type: ignore[arg-type]  # typeshed asks for what it returns
_BLANK = " \t\n\r"


def loads(text: str | bytes) -> Any:
    """The value of a JSON text (RFC 8259). Raises `DataError` naming the offset of the fault."""
    try:
        source = text if isinstance(text, str) else str(text, "utf-8")
    except UnicodeDecodeError as e:
        raise DataError(f"JSON: not UTF-8 at byte {e.start}") from e
    start = len(source) - len(source.lstrip(_BLANK))
    try:
        value, end = _scan(source, start)
    except StopIteration as e:
        raise DataError(f"JSON: no value at offset {e.value}") from None
    except RecursionError:
        raise DataError("JSON: nested too deeply") from None
    except ValueError as e:
        raise DataError(f"JSON: {e}") from None
    except SystemError:
        raise DataError(f"JSON: {_fault(source, start)}") from None
    if source[end:].strip(_BLANK):
        raise DataError(f"JSON: more than one value, at offset {end}")
    return value


def _fault(source: str, start: int) -> str:
    """CPython 3.11 fails without a word when nobody has imported the module that has its error's class."""
    __import__("json.decoder")
    try:
        _scan(source, start)
    except ValueError as e:
        return str(e)
    raise AssertionError("the scanner has changed its mind")


def check_characters(text: bytes, value: object) -> None:
    """A \\uXXXX that is half a character can be in a string of JSON, and in nothing that a kernel is told. `value` is
    what `text` was read as. Raises `DataError`."""
    if b"\\ud" not in text and b"\\uD" not in text:
        return
    encode = _json.make_encoder(None, _refuse, _json.encode_basestring, None, ":", ",", False, False, False)
    try:
        "".join(encode(value, 0)).encode()
    except UnicodeEncodeError as e:
        raise DataError(f"JSON: \\u{ord(e.object[e.start]):04x} is not a character") from None


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"not a JSON value: {type(value).__name__}")


def dumps(value: object, *, sort_keys: bool = False) -> str:
    """Compact JSON text of dicts, lists, tuples, strings, numbers, booleans and None."""
    encode = _json.make_encoder(
        None, _refuse, _json.encode_basestring_ascii, None, ":", ",", sort_keys, False, False
    )
    return "".join(encode(value, 0))
