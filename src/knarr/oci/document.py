"""JSON documents to records and back, checked field by field at the border.

One definition of a document serves the start-up path and the border: a `Record` whose annotations are
the schema. `decode` refuses a value of the wrong type with its path (`$.mounts[0].destination`), ignores
fields it does not know (the specifications ask for that) and treats `null` as absent.

Types understood: str int float bool object, `X | None`, `tuple[X, ...]`, `Mapping[str, X]`, and records
named in the defining module. JSON names are the field's name in camelCase unless `@document` says else.
"""

from __future__ import annotations

import sys

from knarr.errors import DataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    R = TypeVar("R", bound=tuple[object, ...])
    Decoder = Callable[[object, str], Any]

_styles: dict[type, tuple[str, dict[str, str]]] = {}
_names: dict[type, dict[str, str]] = {}
_fields: dict[type, tuple[tuple[str, str, Decoder], ...]] = {}
_SCALARS: dict[str, type] = {"str": str, "int": int, "bool": bool}


def document(style: str = "camel", **renamed: str) -> Callable[[type[R]], type[R]]:
    """Class decorator: how field names map to JSON. `style` is camel, pascal or snake; `renamed` are exceptions."""

    def register(cls: type[R]) -> type[R]:
        # Kept for later: most records a command imports are never read from JSON by it.
        _styles[cls] = (style, renamed)
        return cls

    return register


def decode(cls: type[R], value: object, path: str = "$") -> R:
    """A record of type `cls` from a JSON value; raises `DataError` with the path of the first fault."""
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected an object, not {_kind(value)}")
    plan = _fields.get(cls) or _compile(cls)
    given: dict[str, Any] = {}
    for field, name, decoder in plan:
        item = value.get(name)
        if item is not None:
            given[field] = decoder(item, f"{path}.{name}")
    defaults = cls._field_defaults  # type: ignore[attr-defined]  # a Record
    for field, name, _ in plan:
        if field not in given and field not in defaults:
            raise DataError(f"{path}.{name}: is required")
    return cls(**given)


def encode(record: tuple[object, ...]) -> dict[str, Any]:
    """The JSON object of a record; fields that hold their default are left out."""
    cls = type(record)
    names = _json_names(cls)
    defaults = cls._field_defaults  # type: ignore[attr-defined]  # a Record
    out: dict[str, Any] = {}
    for field, item in zip(cls._fields, record, strict=True):  # type: ignore[attr-defined]
        if field not in defaults or item != defaults[field]:
            out[names[field]] = _plain(item)
    return out


def _plain(item: Any) -> Any:
    if isinstance(item, tuple):
        return encode(item) if hasattr(item, "_fields") else [_plain(i) for i in item]
    if isinstance(item, dict):
        return {k: _plain(v) for k, v in item.items()}
    return item


def _styled(field: str, style: str) -> str:
    if style == "snake":
        return field
    head, *rest = field.split("_")
    return (head if style == "camel" else head.capitalize()) + "".join(w.capitalize() for w in rest)


def _json_names(cls: type) -> dict[str, str]:
    names = _names.get(cls)
    if names is None:
        style, renamed = _styles.get(cls, ("camel", {}))
        names = {f: renamed.get(f) or _styled(f, style) for f in cls._fields}  # type: ignore[attr-defined]
        _names[cls] = names
    return names


def _compile(cls: type) -> tuple[tuple[str, str, Decoder], ...]:
    names = _json_names(cls)
    scope = sys.modules[cls.__module__].__dict__
    plan = tuple(
        (field, names[field], _decoder(cls.__annotations__[field], scope))
        for field in cls._fields  # type: ignore[attr-defined]  # a Record
    )
    _fields[cls] = plan
    return plan


def _decoder(annotation: str, scope: dict[str, Any]) -> Decoder:
    text = annotation.removesuffix("| None").strip()
    if text in _SCALARS:
        return _scalar(_SCALARS[text])
    if text == "float":
        return _number
    if text == "object":
        return lambda value, path: value
    if text.startswith("tuple["):
        return _sequence(_decoder(text[6:-1].removesuffix(", ..."), scope))
    if text.startswith("Mapping[str, "):
        return _mapping(_decoder(text[13:-1], scope))
    cls = scope[text]
    return lambda value, path: decode(cls, value, path)


def _scalar(kind: type) -> Decoder:
    def take(value: object, path: str) -> object:
        if type(value) is not kind:
            raise DataError(f"{path}: expected {_NAMES[kind]}, not {_kind(value)}")
        return value

    return take


def _number(value: object, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"{path}: expected a number, not {_kind(value)}")
    return value


def _sequence(item: Decoder) -> Decoder:
    def take(value: object, path: str) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise DataError(f"{path}: expected an array, not {_kind(value)}")
        return tuple(item(v, f"{path}[{i}]") for i, v in enumerate(value))

    return take


def _mapping(item: Decoder) -> Decoder:
    def take(value: object, path: str) -> dict[str, object]:
        if not isinstance(value, dict):
            raise DataError(f"{path}: expected an object, not {_kind(value)}")
        return {k: item(v, f"{path}.{k}") for k, v in value.items()}

    return take


_NAMES = {
    str: "a string", int: "an integer", bool: "a boolean", float: "a number",
    list: "an array", dict: "an object", type(None): "null",
}  # fmt: skip


def _kind(value: object) -> str:
    return _NAMES.get(type(value), type(value).__name__)
